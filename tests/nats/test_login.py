"""Every way to log in, against servers that demand it; a wrong one is refused, and its secret never shown."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import nkeys
import pytest

from tests.nats.helpers import connection, refusal
from tests.nats.keys import Key, Operator, credentials
from tests.support.server import nats_server
from tests.support.wait import eventually
from tidegate.nats import Login

SECRET = "s3cret-Value-42"


async def _connects(login: Login, port: int) -> None:
    async with connection(port, login=login) as link:
        await (await asyncio.wait_for(link.ready(), 15)).flushed(5)
        assert link.last_error is None


def password(user: str, secret: str) -> Login:
    return Login(username=user, password=lambda: secret)


async def test_with_user_and_password(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with nats_server(tmp_path, f"authorization {{user: edge, password: {SECRET}}}") as server:
        await _connects(password("edge", SECRET), server.port)
        for login in (password("edge", f"{SECRET}x"), password("other", SECRET), Login()):
            reason = await refusal(login, server.port)
            assert "authorization violation" in reason.lower()
            assert SECRET not in reason
    assert SECRET not in caplog.text


async def test_with_a_token(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with nats_server(tmp_path, f"authorization {{token: {SECRET}}}") as server:
        await _connects(Login(token=lambda: SECRET), server.port)
        for login in (Login(token=lambda: f"{SECRET}x"), password("edge", SECRET), Login()):
            reason = await refusal(login, server.port)
            assert "authorization violation" in reason.lower()
            assert SECRET not in reason
    assert SECRET not in caplog.text


async def test_with_an_nkey_seed_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key, stranger = Key(nkeys.PREFIX_BYTE_USER), Key(nkeys.PREFIX_BYTE_USER)
    seed_file = tmp_path / "edge.nk"
    login = Login(nkey_seed_file=seed_file)
    async with nats_server(tmp_path / "nats", f"authorization {{users: [{{nkey: {key.public}}}]}}") as server:
        seed_file.write_text(f"  {key.seed}\n\n")
        await _connects(login, server.port)
        seed_file.write_text(stranger.seed)
        reason = await refusal(login, server.port)
        assert "authorization violation" in reason.lower()
        assert stranger.seed not in reason
    assert key.seed not in caplog.text


async def test_with_a_credentials_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    operator = Operator()
    jwt, key = operator.user()
    foreign_jwt, foreign_key = Operator().user()
    async with nats_server(tmp_path / "nats", operator.server_config) as server:
        for end in ("\n", "\r\n"):
            await _connects(Login(credentials_file=credentials(tmp_path, jwt, key.seed, end)), server.port)
        for wrong_jwt, wrong_seed in ((foreign_jwt, foreign_key.seed), (jwt, foreign_key.seed)):
            file = credentials(tmp_path, wrong_jwt, wrong_seed)
            reason = await refusal(Login(credentials_file=file), server.port)
            assert "authorization violation" in reason.lower()
            assert wrong_seed not in reason
            assert wrong_jwt not in reason
    assert key.seed not in caplog.text
    assert jwt not in caplog.text


async def test_a_secret_is_read_again_for_each_connection(tmp_path: Path) -> None:
    secret = "wrong"
    async with (
        nats_server(tmp_path, f"authorization {{token: {SECRET}}}") as server,
        connection(server.port, login=Login(token=lambda: secret)) as link,
    ):
        await eventually(lambda: link.last_error, "it is refused")
        secret = SECRET
        await asyncio.wait_for(link.ready(), 15)


@pytest.mark.parametrize("form", ["nkey_seed_file", "credentials_file"])
async def test_a_file_that_is_no_key_is_named_and_a_mended_one_is_taken(tmp_path: Path, form: str) -> None:
    """It must neither end the connection's task nor hang the process."""
    file = tmp_path / "edge.key"
    text = SECRET.encode()
    jwt, key = Operator().user()
    good = key.seed.encode() if form == "nkey_seed_file" else credentials(tmp_path, jwt, key.seed).read_bytes()
    async with nats_server(tmp_path / "nats") as server:
        for content in (None, b"", b"\xff\xfe\x00", text, b"SUAMISSING", text * 1000):
            if content is None:
                file.unlink(missing_ok=True)
            else:
                file.write_bytes(content)
            async with connection(server.port, login=Login(**{form: file})) as link:
                await eventually(lambda: link.last_error, "it says why")
                assert "edge.key" in str(link.last_error)
                assert SECRET not in str(link.last_error)
                file.write_bytes(good)
                await asyncio.wait_for(link.ready(), 15)


@pytest.mark.parametrize("left_out", ["jwt", "seed", "end"])
async def test_credentials_that_are_cut_short_are_refused_with_what_is_missing(tmp_path: Path, left_out: str) -> None:
    jwt, key = Operator().user()
    file = credentials(tmp_path, jwt, key.seed)
    text = file.read_text()
    cut = {"jwt": text.replace(jwt, ""), "seed": text.replace(key.seed, ""), "end": text[: len(jwt) // 2]}[left_out]
    file.write_text(cut)
    reason = await refusal(Login(credentials_file=file), 1)
    assert str(file) in reason
    assert {"jwt": "JWT", "seed": "seed", "end": "JWT"}[left_out] in reason
    assert key.seed not in reason
