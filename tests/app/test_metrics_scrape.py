"""A scrape of a busy gateway: clean text, the same series whatever devices send, bounded memory, and little time."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path

import pytest

from tests.benchmarks.load import connect, send
from tests.deploy.plant import outage, plant, recovery, work
from tests.faults.observe import books, resources, until_received, until_settled
from tests.hostile.rig import scripted
from tests.support.gateway import GatewayProcess, gateway, get, write_config
from tests.support.generator import publish_packet
from tests.support.prometheus import needs_promtool, promtool
from tests.support.server import any_broker, nats_server

MIB = 1024 * 1024
_WRITE = 100  # packets in one write, as the load's sender counts them

SPECIAL = [b'a"b', b"a\\b", b"a\nb", b'{bridge="x"}', b"a b 1", b"# HELP x", "\u2028é日本".encode()]
"""What would be something else in the text format of metrics, were it written there."""

REFUSED = [b"\xff\xfe", b"a/+/b", b"#", b"x" * 5000, b"/".join([b"l"] * 300)]
"""What becomes a dead letter by its topic alone."""


def _packets(numbers: range) -> list[bytes]:
    """Return readings, each on a topic of its own; the last of each write is a dead letter."""

    def one(number: int) -> bytes:
        payload = b"{not json" if number % _WRITE == _WRITE - 1 else b'{"seq":%d}' % number
        topic = b"sensors/s%d/d%d/reading" % (number % 97, number)
        return publish_packet(topic, payload, 1, number % 65_535 + 1, 0, b"")

    return [b"".join(map(one, numbers[first : first + _WRITE])) for first in range(0, len(numbers), _WRITE)]


async def _send(port: int, name: str, numbers: range) -> None:
    """Publish as fast as the broker takes it."""

    def run() -> None:
        with connect(port, "5", name) as sock:
            send(sock, _packets(numbers), len(numbers), 1)

    await asyncio.to_thread(run)


@pytest.mark.slow
async def test_messages_on_100_000_topics_add_no_series_and_no_memory(tmp_path: Path) -> None:
    """Both are compared with what they were after as many others, when every cache of topics has long been full, and
    the allocator has what it takes: 100 bytes kept for each topic would be 10 MiB."""
    async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, broker, server.port)
        async with gateway(config, http) as running:
            await _send(broker, "first", range(150_000))
            await until_received(running, 150_000)
            await until_settled(running)
            before, series = resources(running), (await running.metrics()).keys()
            await _send(broker, "others", range(150_000, 250_000))
            await until_received(running, 250_000)
            await until_settled(running)
            after = resources(running)
            print(
                f"resident: {before.memory / MIB:.1f} MiB after 150,000 topics, {after.memory / MIB:.1f} after 250,000"
            )
            assert (await books(running)).received == 250_000
            assert (await running.metrics()).keys() == series
            assert after.memory < before.memory + 8 * MIB, (before, after)


async def test_hostile_topics_add_no_series_after_the_first_of_each_reason(tmp_path: Path) -> None:
    async with scripted(tmp_path) as rig:
        for topic in (*SPECIAL, *REFUSED):
            await rig.send(topic)
        await rig.good()
        await until_settled(rig.running)
        series = (await rig.running.metrics()).keys()
        for number in range(100):
            for topic in (*SPECIAL, *REFUSED):
                await rig.send(topic + b"/%d" % number)
        await rig.good()
        await until_settled(rig.running)
        assert (await books(rig.running)).received == 2 + 101 * len(SPECIAL + REFUSED)
        assert (await rig.running.metrics()).keys() == series


@needs_promtool
@pytest.mark.slow
async def test_promtool_has_no_complaint_of_a_busy_gateway(tmp_path: Path) -> None:
    """At work, and in an outage: each has series that the other has not."""
    async with plant(tmp_path) as running:
        await work(running, range(2000))
        assert await promtool("check", "metrics", stdin=await _page(running.gateway)) == (0, "")
        await outage(running, range(2000, 5000))
        assert await promtool("check", "metrics", stdin=await _page(running.gateway)) == (0, "")
        await recovery(running)


async def _page(running: GatewayProcess) -> bytes:
    return (await get(running.http, "/metrics"))[1]


@pytest.mark.slow
async def test_a_scrape_under_load_waits_for_the_loop_and_not_for_itself(tmp_path: Path) -> None:
    """Its time is compared with that of a page that costs nothing, asked for in turn with it under the same load.

    What both wait for is the work of the loop on messages, which differs between machines, and with whatever else runs
    on them, by more than a scrape costs: so no absolute time is asserted, and the times are printed.
    """
    async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, broker, server.port)
        async with gateway(config, http) as running:
            await _send(broker, "first", range(1000))
            sending = asyncio.create_task(_send(broker, "load", range(100_000)))
            await until_received(running, 10_000)
            scrapes, others = [], []
            for _ in range(20):
                scrapes.append(await _time(running, "/metrics"))
                others.append(await _time(running, "/-/healthy"))
            received = (await books(running)).received
            await sending
            await until_settled(running)
        scrape, other = statistics.median(scrapes), statistics.median(others)
        print(f"median under load: /metrics {scrape * 1000:.1f} ms, /-/healthy {other * 1000:.1f} ms")
        assert received < 101_000, "the load ended before the scrapes did"
        assert scrape < 10 * other


async def _time(running: GatewayProcess, path: str) -> float:
    """Return the seconds that a page takes, with its connection."""
    began = time.perf_counter()
    status, _ = await get(running.http, path)
    assert status == 200
    return time.perf_counter() - began
