"""MQTT over TLS with a real broker: the peer's name and certificate are always checked (B30)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.generator import device
from tests.support.server import mosquitto, needs_mosquitto
from tests.support.wait import eventually
from tidegate.app.config import Tls
from tidegate.app.embedded import free_port
from tidegate.app.tls import client_context
from tidegate.mqtt import CODECS, Session, SessionOptions

AUTHORITY, STRANGER = trustme.CA(), trustme.CA()


def write_server(folder: Path, authority: trustme.CA, name: str, expired: bool = False) -> str:
    """Write a server's certificate; return mosquitto's options for a listener with it."""
    past = datetime.now(UTC) - timedelta(days=1)
    leaf = authority.issue_cert(name, not_before=past - timedelta(days=1), not_after=past if expired else None)
    leaf.private_key_pem.write_to_path(str(folder / "server.key"))
    for pem in leaf.cert_chain_pems:
        pem.write_to_path(str(folder / "server.pem"), append=True)
    AUTHORITY.cert_pem.write_to_path(str(folder / "ca.pem"))
    return f"cafile {folder}/ca.pem\ncertfile {folder}/server.pem\nkeyfile {folder}/server.key\n"


def write_self_signed(folder: Path, address: str) -> None:
    """Replace a server's certificate by one that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, address)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "server.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def write_client(folder: Path, authority: trustme.CA = AUTHORITY) -> Tls:
    """Write a client's certificate; return the configuration that uses it."""
    leaf = authority.issue_cert("edge@plant.example")
    leaf.private_key_pem.write_to_path(str(folder / "client.key"))
    leaf.cert_chain_pems[0].write_to_path(str(folder / "client.pem"))
    AUTHORITY.cert_pem.write_to_path(str(folder / "ca.pem"))
    return Tls(ca=folder / "ca.pem", cert=folder / "client.pem", key=folder / "client.key")


def session(port: int, tls: Tls | None, protocol: str = "5", host: str = "127.0.0.1") -> Session:
    """Return a session over TLS, with the context that the gateway itself makes."""
    return Session(
        SessionOptions(
            host=host,
            port=port,
            codec=CODECS[protocol],
            client_id="c",
            topic_filter="sensors/#",
            tls=None if tls is None else lambda: client_context(tls),
        )
    )


@asynccontextmanager
async def tls_broker(folder: Path, listener: str) -> AsyncIterator[int]:
    """Run mosquitto with a TLS listener. As root it would give up the rights to read the certificates."""
    async with mosquitto(folder / "b", "allow_anonymous true\nuser root", listener) as server:
        yield server.port


async def refusal(source: Session) -> str:
    """Return why a session is refused."""
    await eventually(lambda: source.last_error, "the connection is refused")
    assert not source.up
    assert source.connects == 0
    return str(source.last_error)


@needs_mosquitto
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_messages_come_over_tls_with_a_checked_name_and_a_client_certificate(
    protocol: str, host: str, tmp_path: Path
) -> None:
    listener = write_server(tmp_path, AUTHORITY, host) + "require_certificate true"
    plain = free_port()
    extra = f"allow_anonymous true\nuser root\nlistener {plain} 127.0.0.1"
    async with (
        mosquitto(tmp_path / "b", extra, listener) as server,
        session(server.port, write_client(tmp_path), protocol, host) as source,
    ):
        receiving = asyncio.create_task(source.receive())
        await eventually(lambda: source.up, "it is connected")
        async with device(plain) as sensor:
            await sensor.send(range(1))
        batch = await receiving
        assert len(batch.messages) == 1
        batch.settle()


@needs_mosquitto
@pytest.mark.parametrize(
    ("authority", "name", "expired", "words"),
    [
        (AUTHORITY, "elsewhere.example", False, "not valid for '127.0.0.1'"),
        (STRANGER, "127.0.0.1", False, "unable to get local issuer certificate"),
        (AUTHORITY, "127.0.0.1", True, "expired"),
    ],
    ids=["wrong host", "unknown authority", "expired"],
)
async def test_a_broker_with_a_wrong_certificate_is_refused_by_name(
    authority: trustme.CA, name: str, expired: bool, words: str, tmp_path: Path
) -> None:
    listener = write_server(tmp_path, authority, name, expired)
    async with tls_broker(tmp_path, listener) as port, session(port, write_client(tmp_path)) as source:
        reason = await refusal(source)
        assert "certificate" in reason
        assert words in reason


@needs_mosquitto
async def test_a_broker_with_a_self_signed_certificate_is_refused_by_name(tmp_path: Path) -> None:
    listener = write_server(tmp_path, AUTHORITY, "127.0.0.1")
    write_self_signed(tmp_path, "127.0.0.1")
    async with tls_broker(tmp_path, listener) as port, session(port, write_client(tmp_path)) as source:
        assert "certificate is not valid: self-signed certificate" in await refusal(source)


@needs_mosquitto
@pytest.mark.parametrize("stranger", [False, True], ids=["no certificate", "certificate of a stranger"])
async def test_a_broker_that_wants_another_client_certificate_is_named(stranger: bool, tmp_path: Path) -> None:
    tls = write_client(tmp_path, STRANGER) if stranger else Tls(ca=tmp_path / "ca.pem")
    listener = write_server(tmp_path, AUTHORITY, "127.0.0.1") + "require_certificate true"
    async with tls_broker(tmp_path, listener) as port, session(port, tls) as source:
        receiving = asyncio.create_task(source.receive())
        reason = await refusal(source)
        assert "certificate" in reason  # the alert that says more can be lost to the broker's reset
        receiving.cancel()


@needs_mosquitto
async def test_a_broker_without_tls_is_named(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as server, session(server.port, write_client(tmp_path)) as source:
        assert "TLS" in await refusal(source)


async def _greets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 welcome, plainly\r\n")
    await reader.read()
    writer.close()


async def _hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.transport.abort()


async def _ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10_000)
    writer.close()


@pytest.mark.parametrize("peer", [_greets, _hangs_up, _ends])
async def test_a_peer_that_does_not_speak_tls_is_named_and_tried_again(
    peer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], tmp_path: Path
) -> None:
    tries = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        await peer(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, session(server.sockets[0].getsockname()[1], write_client(tmp_path)) as source:
        assert "TLS" in await refusal(source)
        await eventually(lambda: tries >= 2, "it is tried again")


async def test_nothing_is_sent_in_clear_where_tls_fails(tmp_path: Path) -> None:
    """Not even the user name: every byte that leaves is a TLS record."""
    heard = bytearray()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read(100_000))
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with server, session(server.sockets[0].getsockname()[1], write_client(tmp_path)) as source:
        await refusal(source)
        assert heard[:2] == b"\x16\x03"
        assert b"MQTT" not in heard


@needs_mosquitto
async def test_a_client_without_tls_at_a_tls_port_is_refused(tmp_path: Path) -> None:
    listener = write_server(tmp_path, AUTHORITY, "127.0.0.1")
    async with tls_broker(tmp_path, listener) as port, session(port, None) as source:
        assert "CONNACK" in await refusal(source)
