"""TLS: only the right server is talked to, and where TLS is configured nothing secret is ever sent in clear."""

from __future__ import annotations

import asyncio
import datetime
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import nkeys
import pytest
import trustme

from tests.nats.helpers import connection, events, refusal, refused
from tests.nats.keys import Key, Operator, credentials
from tests.support.server import nats_server
from tests.support.wait import eventually
from tidegate.nats import Login, NatsOptions, Publisher, StreamSpec, ensure_stream
from tidegate.nats.connection import Connection
from tidegate.nats.jetstream import call


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def trusting(authority: trustme.CA, client: trustme.LeafCert | None = None) -> Callable[[], ssl.SSLContext]:
    """Return what makes a context that trusts one authority, and shows a certificate if there is one."""

    def context() -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(made)
        if client is not None:
            client.configure_cert(made)
        return made

    return context


def tls_config(folder: Path, authority: trustme.CA, certificate: trustme.LeafCert, more: str = "") -> str:
    """Write the files and return the server's configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    files = f'cert_file: "{folder}/cert.pem", key_file: "{folder}/key.pem", ca_file: "{folder}/ca.pem"'
    return f"tls {{{files}, {more}}}"


async def test_a_right_server_is_talked_to_over_tls(tmp_path: Path, authority: trustme.CA) -> None:
    config = tls_config(tmp_path, authority, authority.issue_cert("127.0.0.1"))
    async with nats_server(tmp_path / "nats", f"{config}\nauthorization {{token: tok}}") as server:
        login = Login(token=lambda: "tok")
        async with (
            connection(server.port, tls=trusting(authority), login=login) as link,
            Publisher(link, "up") as publisher,
        ):
            await asyncio.wait_for(link.ready(), 15)
            future = await publisher.send(events(100))
            await eventually(lambda: publisher.blocked, "there is no stream")
            await ensure_stream(await link.ready(), StreamSpec(name="SENSORS", subjects=("plant.>",)))
            assert await refused([future]) == []
            stored = await call(await link.ready(), "STREAM.INFO.SENSORS")
            assert stored["state"]["messages"] == 100


async def test_without_a_login_tls_alone_is_enough(tmp_path: Path, authority: trustme.CA) -> None:
    config = tls_config(tmp_path, authority, authority.issue_cert("localhost"))
    async with nats_server(tmp_path / "nats", config) as server:
        options = NatsOptions(servers=(f"tls://localhost:{server.port}",), name="t", tls=trusting(authority))
        async with Connection(options) as link:
            await asyncio.wait_for(link.ready(), 15)


async def test_every_login_works_over_tls_too(tmp_path: Path, authority: trustme.CA) -> None:
    config = tls_config(tmp_path, authority, authority.issue_cert("127.0.0.1"))
    operator = Operator()
    jwt, user = operator.user()
    key = Key(nkeys.PREFIX_BYTE_USER)
    (tmp_path / "edge.nk").write_text(key.seed)
    for login, access in (
        (Login(credentials_file=credentials(tmp_path, jwt, user.seed)), operator.server_config),
        (Login(nkey_seed_file=tmp_path / "edge.nk"), f"authorization {{users: [{{nkey: {key.public}}}]}}"),
        (Login(username="u", password=lambda: "p"), "authorization {user: u, password: p}"),
    ):
        async with (
            nats_server(tmp_path / key.public, f"{config}\n{access}") as server,
            connection(server.port, tls=trusting(authority), login=login) as link,
        ):
            await asyncio.wait_for(link.ready(), 15)


async def test_a_server_for_another_host_is_refused(tmp_path: Path, authority: trustme.CA) -> None:
    config = tls_config(tmp_path, authority, authority.issue_cert("elsewhere.example"))
    async with nats_server(tmp_path / "nats", config) as server:
        reason = await refusal(Login(), server.port, tls=trusting(authority))
        assert "certificate" in reason
        assert "mismatch" in reason


async def test_a_server_of_an_unknown_authority_is_refused(tmp_path: Path, authority: trustme.CA) -> None:
    """A self-signed certificate among them."""
    stranger = trustme.CA()
    config = tls_config(tmp_path, stranger, stranger.issue_cert("127.0.0.1"))
    async with nats_server(tmp_path / "nats", config) as server:
        reason = await refusal(Login(), server.port, tls=trusting(authority))
        assert "certificate" in reason
        assert "unable to get local issuer" in reason or "self" in reason


async def test_an_expired_certificate_is_refused(tmp_path: Path, authority: trustme.CA) -> None:
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    config = tls_config(tmp_path, authority, authority.issue_cert("127.0.0.1", not_after=yesterday))
    async with nats_server(tmp_path / "nats", config) as server:
        reason = await refusal(Login(), server.port, tls=trusting(authority))
        assert "certificate" in reason
        assert "expired" in reason


async def test_a_server_that_wants_a_client_certificate_gets_it(tmp_path: Path, authority: trustme.CA) -> None:
    config = tls_config(tmp_path, authority, authority.issue_cert("127.0.0.1"), "verify: true")
    client = authority.issue_cert("edge@plant")
    stranger = trustme.CA().issue_cert("edge@plant")
    async with nats_server(tmp_path / "nats", config) as server:
        async with connection(server.port, tls=trusting(authority, client)) as link:
            await asyncio.wait_for(link.ready(), 15)
        for wrong in (None, stranger):
            reason = await refusal(Login(), server.port, tls=trusting(authority, wrong))
            assert "certificate" in reason or "unknown ca" in reason, reason


async def test_a_file_that_can_not_be_used_is_named_and_tried_again(tmp_path: Path, authority: trustme.CA) -> None:
    config = tls_config(tmp_path, authority, authority.issue_cert("127.0.0.1"))
    file = tmp_path / "trusted.pem"

    def context() -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.load_verify_locations(file)
        return made

    async with nats_server(tmp_path / "nats", config) as server, connection(server.port, tls=context) as link:
        await eventually(lambda: link.last_error, "it says why")
        assert "No such file" in str(link.last_error)
        authority.cert_pem.write_to_path(file)
        await asyncio.wait_for(link.ready(), 15)


async def test_a_server_without_tls_is_refused_where_tls_is_configured(tmp_path: Path, authority: trustme.CA) -> None:
    async with nats_server(tmp_path) as server:
        reason = await refusal(Login(), server.port, tls=trusting(authority))
        assert "TLS" in reason


@asynccontextmanager
async def plain_server(nonce: bool) -> AsyncIterator[tuple[int, bytearray]]:
    """Greet as a server without TLS does, and record what comes."""
    received = bytearray()
    info = {"server_id": "x", "version": "2.10.0", "headers": True, "auth_required": True, "max_payload": 1048576}
    if nonce:
        info["nonce"] = "a-nonce-to-sign"

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"INFO %b\r\n" % json.dumps(info).encode())
        while data := await reader.read(4096):
            received.extend(data)
            if b"PING" in data:
                writer.write(b"PONG\r\n")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], received
    finally:
        server.close()


@pytest.mark.parametrize("nonce", [False, True], ids=["", "nonce"])
@pytest.mark.parametrize("form", ["none", "password", "token", "nkey", "credentials"])
async def test_a_server_without_tls_gets_not_one_byte(
    tmp_path: Path, authority: trustme.CA, form: str, nonce: bool
) -> None:
    """Not the password, the token, the JWT or a signature, and not even the name."""
    jwt, key = Operator().user()
    (tmp_path / "edge.nk").write_text(key.seed)
    login = {
        "none": Login(),
        "password": Login(username="edge", password=lambda: "s3cret"),
        "token": Login(token=lambda: "s3cret"),
        "nkey": Login(nkey_seed_file=tmp_path / "edge.nk"),
        "credentials": Login(credentials_file=credentials(tmp_path, jwt, key.seed)),
    }[form]
    async with plain_server(nonce) as (port, received):
        reason = await refusal(login, port, tls=trusting(authority))
        assert "does not offer TLS" in reason
        assert bytes(received) == b""


async def test_the_fake_server_would_see_a_secret() -> None:
    """Without TLS configured the same login is sent: so the test above can fail."""
    async with (
        plain_server(nonce=False) as (port, received),
        connection(port, login=Login(token=lambda: "s3cret")) as link,
    ):
        await asyncio.wait_for(link.ready(), 15)
        assert b"s3cret" in received
