"""The HTTP port under attack: the intake must not notice, and a good scraper is served."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
import pytest_asyncio

from tests.faults.observe import resources, set_option
from tests.hostile.rig import Rig, scripted
from tests.support.fake_broker import FakeConnection, fake_broker
from tests.support.gateway import GatewayProcess, gateway, get, write_config
from tests.support.generator import publish_packet, reading
from tests.support.server import nats_server
from tests.support.wait import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

PUBACK = 0x40
CLIENTS = 2000
MIB = 1024 * 1024
SCRAPE_TIMEOUT = 10.0
"""Seconds: what Prometheus gives a scrape by default."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """A running gateway."""
    async with scripted(tmp_path_factory.mktemp("http")) as running:
        yield running


class Feed(NamedTuple):
    """A running gateway, and the broker's end of its connection."""

    running: GatewayProcess
    connection: FakeConnection

    async def throughput(self, seconds: float = 1.5) -> float:
        """Return how many messages a second the gateway acknowledges, each after its PubAck."""
        count, begun = 0, time.monotonic()
        while time.monotonic() - begun < seconds:
            numbers = range(count, count + 200)
            packets = [
                publish_packet(b"sensors/hall/d1/reading", reading("d1", n), 1, n % 200 + 1, 0, b"") for n in numbers
            ]
            await self.connection.send(b"".join(packets))
            async with asyncio.timeout(30):
                for _ in numbers:
                    assert (await self.connection.read_packet())[0] == PUBACK
            count += len(numbers)
        return count / (time.monotonic() - begun)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def feed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Feed]:
    """A running gateway that can be fed at its own pace."""
    folder = tmp_path_factory.mktemp("feed")
    async with fake_broker() as broker, nats_server(folder / "nats") as server:
        config, http = write_config(folder, broker.port, server.port)
        set_option(config, "mqtt", "keep_alive: 1h")  # its pings are not answered while nothing is read
        async with gateway(config, http, ready=False) as running:
            connection = await broker.connection(30)
            await connection.accept()
            await eventually(running.delivering, "it delivers")
            yield Feed(running, connection)
            connection.cut()


@asynccontextmanager
async def attack(port: int, behaviour: str, clients: int) -> AsyncIterator[None]:
    """Keep so many bad clients at it, in a process of their own. Returns once all have been there."""
    command = (sys.executable, "-m", "tests.hostile.http_attacker", str(port), behaviour, str(clients))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"at it\n"
        yield
    finally:
        process.kill()
        await process.wait()


ATTACKS = [
    ("slow_headers", CLIENTS),
    ("silence", CLIENTS),
    ("half_open", 500),
    ("idle_after_an_answer", 300),
    ("never_reading", 50),
    ("pipelining", 50),
    ("pipelining", 200),
    ("asking_again", 200),
    ("asking_anew", 140),
    ("endless_body", 50),
    ("reconnecting", 50),
    ("reconnecting", 200),
]


@pytest.mark.slow
@pytest.mark.parametrize(("behaviour", "clients"), ATTACKS, ids=str)
async def test_b29_an_attack_leaves_intake_scrapers_memory_and_descriptors_alone(
    feed: Feed, behaviour: str, clients: int
) -> None:
    port = feed.running.http
    await get(port, "/metrics")
    quiet = await feed.throughput()
    before = resources(feed.running)
    async with attack(port, behaviour, clients):
        attacked = await feed.throughput()
        scrapes = [await _scrape(port) for _ in range(5)]
        during = resources(feed.running)
    print(f"{behaviour}: {quiet:.0f} messages/s, attacked {attacked:.0f}, slowest scrape {max(scrapes):.3f} s")
    assert attacked > quiet / 10
    assert max(scrapes) < SCRAPE_TIMEOUT / 2
    assert during.memory < before.memory + 32 * MIB
    await eventually(
        lambda: resources(feed.running).descriptors <= before.descriptors + 2, "the connections are gone", 30
    )
    assert "Traceback" not in feed.running.log_text()


async def _scrape(port: int) -> float:
    """Return how long a scraper waited that connects, asks once, and does not try again."""
    begun = time.monotonic()
    status, body = await asyncio.wait_for(get(port, "/metrics"), SCRAPE_TIMEOUT)
    assert status == 200
    assert b"tidegate_build_info" in body
    return time.monotonic() - begun


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/%252e%252e%252fetc/passwd",
        "/..%c0%af..%c0%afetc/passwd",
        "/..\\..\\etc\\passwd",
        "/..%5c..%5cetc/passwd",
        "//etc/passwd",
        "/./etc/passwd",
        "/metrics/../../etc/passwd",
        "/metrics%00/etc/passwd",
        "/METRICS",
        "/metrics;a=b",
        "file:///etc/passwd",
        "http://127.0.0.1/etc/passwd",
        "/" + "a" * 8000,
    ],
    ids=lambda path: path[:30],
)
async def test_b29_no_path_leads_to_a_file(rig: Rig, path: str) -> None:
    status, body = await get(rig.running.http, path)
    assert status == 404
    assert b"root:" not in body


async def test_b29_huge_headers_are_refused_and_cost_no_memory(rig: Rig) -> None:
    before = rig.memory()
    for line in (b"X-Pad: " + b"x" * 20_000 + b"\r\n", b"X: y\r\n" * 3000):
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", rig.running.http)
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n")
            with contextlib.suppress(OSError):
                for _ in range(50):
                    writer.write(line)
                    await writer.drain()
                answer = await reader.read()
                assert b" 200 " not in answer[:20]
            writer.transport.abort()
    await rig.good()
    assert rig.memory() - before < 16 * MIB
    assert (await get(rig.running.http, "/metrics"))[0] == 200


SMUGGLED = b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "answers"),
    [
        (b"\x16\x03\x01\x00\xff\x01\r\n\r\n", 1),
        (b"GET\r\n\r\n", 1),
        (b"GET /metrics\r\n\r\n", 1),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 2),
        (bytes(20_000), 1),
        (b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n" + SMUGGLED, 1),
        (b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n"
         b"0\r\n\r\n" + SMUGGLED, 1),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n" + SMUGGLED, 1),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n" + SMUGGLED, 1),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: x\r\n\r\n" + SMUGGLED, 1),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding : chunked\r\n\r\n" + SMUGGLED, 1),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n" + SMUGGLED, 1),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n" + SMUGGLED, 1),
        (b"GET /metrics\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n" + SMUGGLED, 1),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n" + SMUGGLED, 1),
        (b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" + SMUGGLED, 1),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" + SMUGGLED, 1),
        (b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nConnection: close, upgrade\r\n\r\n", 1),
        (b"GET /-/healthy HTTP/1.1\nHost: localhost\nConnection: close\n\n", 1),
    ],
    ids=lambda value: repr(value)[2:60] if isinstance(value, bytes) else "",
)  # fmt: skip
async def test_b29_what_is_no_plain_request_gets_one_answer_and_ends_its_connection(
    rig: Rig, request_bytes: bytes, answers: int
) -> None:
    """So nothing can be hidden in it from what stands before this port."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.running.http)
    writer.write(request_bytes)
    said = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(5):
            while data := await reader.read(65536):
                said += data
    writer.transport.abort()
    assert said.count(b"HTTP/1.1 ") <= answers
    assert b"SSH" not in said
    assert (await get(rig.running.http, "/-/healthy"))[0] == 200
    assert "Traceback" not in rig.running.log_text()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("LOCALHOST:9883", 200), ("127.0.0.1:1", 200), ("[::1]:9883", 200), ("192.0.2.7", 200),
        ("evil.example", 421), ("localhost.evil.example:9883", 421), ("127.0.0.1.evil.example", 421), ("[::1", 421),
        ("[evil.example]", 421), ("127.1", 421), ("evil.example:localhost", 421),
    ],
)  # fmt: skip
async def test_b29_a_page_of_a_foreign_site_can_t_read_ours_by_a_name_that_resolves_here(
    rig: Rig, host: str, status: int
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.running.http)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % host.encode())
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert int(answer.split()[1]) == status
    assert (b"tidegate_build_info" in answer) == (status == 200)


async def test_b29_head_has_no_body_and_http_1_0_needs_no_host(rig: Rig) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.running.http)
    writer.write(b"HEAD /metrics HTTP/1.0\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n")
