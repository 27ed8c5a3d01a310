"""/-/ready and /-/healthy tell the truth under each fault, name it, and take it back once it is gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio
import trustme
from nats.aio.client import Client
from nats.js.api import StreamConfig

from tests.faults.observe import gateway
from tests.hostile.rig import client_of
from tests.support.checker import nats_client
from tests.support.gateway import GatewayProcess, get
from tests.support.generator import device
from tests.support.proxy import Proxy, proxy
from tests.support.server import Server, mosquitto, nats_server, needs_mosquitto
from tests.support.wait import eventually
from tidegate.app.embedded import free_port

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow, needs_mosquitto]

CONFIG = """\
gateway: test
state_dir: state
mqtt: {{url: "mqtt://127.0.0.1:{mqtt}", client_id: {name}, keep_alive: 2s, session_expiry: 0s}}
nats: {{servers: ["nats://127.0.0.1:{nats}"]}}
streams:
  - {{name: SENSORS, subjects: ["plant.>"]}}
  - {{name: NOTICES, subjects: ["notices.>"]}}
spool: {{max_bytes: 64KiB, when_full: {when_full}}}
bridges:
  - {bridge}
http: {{listen: 127.0.0.1:{http}}}
"""
UP = '{name: one, mqtt: "sensors/{site}/{device}/reading", nats: "plant.{site}.{device}"}'
CORE = '{name: one, mqtt: "sensors/{site}/{device}/reading", nats: "plain.{site}.{device}", deliver: core}'
NUMBER = '{name: one, mqtt: "sensors/{site}/{device}/reading", nats: "plant.{site}.{device}", decode: number}'
DOWN = '{name: one, direction: down, nats: "notices.{c}", mqtt: "customers/{c}/notice"}'

DEADLINE = 45.0
"""Seconds for a fault to be noticed and for the way back, on a busy machine: back-off included."""


class Site(NamedTuple):
    """Servers that all tests share, and a way to each that can be broken."""

    broker: Server
    server: Server
    mqtt_link: Proxy
    nats_link: Proxy
    client: Client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """Real servers."""
    folder = tmp_path_factory.mktemp("site")
    async with (
        mosquitto(folder / "mqtt") as broker,
        nats_server(folder / "nats") as server,
        proxy(broker.port) as mqtt_link,
        proxy(server.port) as nats_link,
        nats_client(server.port) as client,
    ):
        yield Site(broker, server, mqtt_link, nats_link, client)


# Faults: each is there until the context is left, and mended then.


@asynccontextmanager
async def _broker_away(site: Site) -> AsyncIterator[None]:
    async with _away(site.mqtt_link):
        yield


@asynccontextmanager
async def _nats_away(site: Site) -> AsyncIterator[None]:
    async with _away(site.nats_link):
        yield


@asynccontextmanager
async def _away(link: Proxy) -> AsyncIterator[None]:
    link.accepting = False
    link.cut()
    try:
        yield
    finally:
        link.restore()


@asynccontextmanager
async def _broker_dark(site: Site) -> AsyncIterator[None]:
    site.mqtt_link.black_hole()
    try:
        yield
    finally:
        site.mqtt_link.restore()


@asynccontextmanager
async def _nats_dark(site: Site) -> AsyncIterator[None]:
    site.nats_link.black_hole()
    try:
        yield
    finally:
        site.nats_link.restore()


@asynccontextmanager
async def _nats_hangs(site: Site) -> AsyncIterator[None]:
    site.server.pause()
    async with device(site.broker.port) as sensor:
        await sensor.send(range(5))
    try:
        yield
    finally:
        site.server.resume()


@asynccontextmanager
async def _stream_gone(site: Site) -> AsyncIterator[None]:
    stream = site.client.jetstream()
    config = (await stream.stream_info("SENSORS")).config
    await stream.delete_stream("SENSORS")
    async with device(site.broker.port) as sensor:
        await sensor.send(range(5))
    try:
        yield
    finally:
        await stream.add_stream(config)


@asynccontextmanager
async def _notices_gone(site: Site) -> AsyncIterator[None]:
    stream = site.client.jetstream()
    config = (await stream.stream_info("NOTICES")).config
    await stream.delete_stream("NOTICES")
    try:
        yield
    finally:
        await stream.add_stream(config)


@asynccontextmanager
async def _stream_full(site: Site) -> AsyncIterator[None]:
    async with _changed(site, "SENSORS", max_msgs=1, discard="new"), device(site.broker.port) as sensor:
        await sensor.send(range(5))
        yield


@asynccontextmanager
async def _dead_letters_refused(site: Site) -> AsyncIterator[None]:
    """No dead letter is small enough; the messages are not numbers, as the bridge wants them."""
    async with _changed(site, "DEAD_LETTERS", max_msg_size=10), device(site.broker.port) as sensor:
        await sensor.send(range(5))
        yield


@asynccontextmanager
async def _changed(site: Site, name: str, **options: object) -> AsyncIterator[None]:
    stream = site.client.jetstream()
    before: StreamConfig = (await stream.stream_info(name)).config
    await stream.update_stream(before.evolve(**options))
    try:
        yield
    finally:
        await stream.purge_stream(name)
        await stream.update_stream(before)


@asynccontextmanager
async def _nats_away_with_a_full_spool(site: Site) -> AsyncIterator[None]:
    async with _away(site.nats_link), device(site.broker.port) as sensor:
        await sensor.send(range(2000))
        yield


@asynccontextmanager
async def _session_stolen(site: Site) -> AsyncIterator[None]:
    """Another client has our id, and comes again whenever it is thrown out."""

    async def steal() -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                async with client_of(site.broker.port, "test-one") as thief:
                    await thief.until_closed(60)

    task = asyncio.create_task(steal())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


class Case(NamedTuple):
    """What is to be said during a fault. problem: a part of the one problem that is told; None: it is ready.

    away: a part of what is told of NATS; None: it takes messages.
    """

    name: str
    fault: Callable[[Site], AbstractAsyncContextManager[None]]
    bridge: str
    problem: str | None
    away: str | None
    when_full: str = "block"


CASES = [
    Case("broker away", _broker_away, UP, "one: mqtt: ", None),
    Case("broker away, down", _broker_away, DOWN, "one: mqtt: ", None),
    Case("broker dark", _broker_dark, UP, "one: mqtt: no sign of life", None),
    Case("broker dark, down", _broker_dark, DOWN, "one: mqtt: no sign of life", None),
    Case("session stolen", _session_stolen, UP, "one: mqtt: ", None),
    Case("NATS away", _nats_away, UP, None, "127.0.0.1"),
    Case("NATS away, core", _nats_away, CORE, "one: nats: ", "127.0.0.1"),
    Case("NATS away, down", _nats_away, DOWN, "one: nats: ", "127.0.0.1"),
    Case("NATS dark", _nats_dark, UP, None, ""),
    Case("NATS dark, core", _nats_dark, CORE, "one: nats: ", ""),
    Case("NATS dark, down", _nats_dark, DOWN, "one: nats: ", ""),
    Case("NATS hangs", _nats_hangs, UP, None, ""),
    Case("stream gone", _stream_gone, UP, None, "no stream"),
    Case("stream gone, down", _notices_gone, DOWN, "one: nats: ", None),
    Case("stream full", _stream_full, UP, None, "maximum messages"),
    Case("NATS away, spool full, block", _nats_away_with_a_full_spool, UP, "one: spool: ", "127.0.0.1"),
    Case("NATS away, spool full, drop", _nats_away_with_a_full_spool, UP, None, "127.0.0.1", "drop_newest"),
    Case("NATS away, spool full, drop oldest", _nats_away_with_a_full_spool, UP, None, "127.0.0.1", "drop_oldest"),
    Case("dead letters refused", _dead_letters_refused, NUMBER, "one: ", None),
    Case("dead letters refused, core", _dead_letters_refused,
         CORE.replace("deliver: core", "deliver: core, decode: number"), "one: ", None),
]  # fmt: skip


@pytest.mark.parametrize("case", [pytest.param(one, id=one.name) for one in CASES])
async def test_a_fault_is_told_as_what_it_is_and_taken_back_when_it_is_gone(
    tmp_path: Path, site: Site, case: Case
) -> None:
    http = free_port()
    config = tmp_path / "tidegate.yaml"
    config.write_text(
        CONFIG.format(
            mqtt=site.mqtt_link.port,
            nats=site.nats_link.port,
            http=http,
            bridge=case.bridge,
            when_full=case.when_full,
            name="test",
        )
    )
    async with gateway(config, http) as running:
        await eventually(lambda: _says(running, None, None), "it is ready, and NATS takes messages")
        async with case.fault(site):
            await _until_said(running, case.problem, case.away)
        await _until_said(running, None, None)


async def _until_said(running: GatewayProcess, problem: str | None, away: str | None) -> None:
    try:
        await eventually(lambda: _says(running, problem, away), timeout=DEADLINE)
    except AssertionError:
        found = (await get(running.http, "/-/ready"))[1].decode()
        raise AssertionError(f"wanted the problem {problem!r} and NATS away {away!r}, found {found}") from None


async def _says(running: GatewayProcess, problem: str | None, away: str | None) -> bool:
    """Whether /-/ready says just this; that the gateway is healthy must hold at every look."""
    assert (await get(running.http, "/-/healthy"))[0] == 200
    status, body = await get(running.http, "/-/ready")
    found = json.loads(body)
    problems, said = found["problems"], found["nats_away"]
    assert (status == 200) == found["ready"] == (not problems), (status, found)
    if (away is None) != (said is None) or (away and away not in said):
        return False
    if problem is None:
        return not problems
    return len(problems) == 1 and problem in problems[0]


# What is wrong from the start, until a file is mended: each connection reads it again.


@asynccontextmanager
async def _secured(folder: Path) -> AsyncIterator[tuple[int, int, trustme.CA]]:
    """Run a broker and a NATS server that want TLS and a login; gives their ports, and who vouches for them."""
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    leaf.private_key_pem.write_to_path(str(folder / "server.key"))
    leaf.cert_chain_pems[0].write_to_path(str(folder / "server.pem"))
    (folder / "passwords").write_text("edge:right\n")
    process = await asyncio.create_subprocess_exec("mosquitto_passwd", "-U", folder / "passwords")
    assert await process.wait() == 0
    listener = f"certfile {folder}/server.pem\nkeyfile {folder}/server.key"
    nats = f'tls {{cert_file: "{folder}/server.pem", key_file: "{folder}/server.key"}}\nauthorization {{token: right}}'
    async with AsyncExitStack() as stack:
        access = f"allow_anonymous false\npassword_file {folder}/passwords\nuser root"
        broker = await stack.enter_async_context(mosquitto(folder / "mqtt", access, listener))
        server = await stack.enter_async_context(nats_server(folder / "nats", nats))
        yield broker.port, server.port, authority


SECURED = """\
gateway: test
state_dir: state
mqtt: {{url: "mqtts://127.0.0.1:{mqtt}", username: edge, password_file: mqtt-password, tls: {{ca: mqtt-ca.pem}}}}
nats: {{servers: ["tls://127.0.0.1:{nats}"], token_file: nats-token, tls: {{ca: nats-ca.pem}}}}
streams:
  - {{name: SENSORS, subjects: ["plant.>"]}}
bridges:
  - {bridge}
http: {{listen: 127.0.0.1:{http}}}
"""


async def test_a_wrong_certificate_and_a_refused_login_are_told_and_mended_without_a_restart(tmp_path: Path) -> None:
    async with _secured(tmp_path) as (mqtt, nats, authority):
        http = free_port()
        config = tmp_path / "tidegate.yaml"
        config.write_text(SECURED.format(mqtt=mqtt, nats=nats, http=http, bridge=UP))
        for name in ("mqtt", "nats"):
            trustme.CA().cert_pem.write_to_path(str(tmp_path / f"{name}-ca.pem"))
        (tmp_path / "mqtt-password").write_text("wrong")
        (tmp_path / "nats-token").write_text("wrong")
        async with gateway(config, http, ready=False) as running:
            await _until_said(running, "one: mqtt: ", "certificate is not valid")
            assert "certificate" in (await running.problems())[0]
            authority.cert_pem.write_to_path(str(tmp_path / "nats-ca.pem"))
            await _until_said(running, "one: mqtt: ", "Authorization")
            authority.cert_pem.write_to_path(str(tmp_path / "mqtt-ca.pem"))
            await _until_said(running, "ot authori", "Authorization")
            (tmp_path / "mqtt-password").write_text("right")
            await _until_said(running, None, "Authorization")
            (tmp_path / "nats-token").write_text("right")
            await _until_said(running, None, None)
