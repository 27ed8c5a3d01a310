"""Links that break in the ways that a TCP stack does not report."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.observe import (
    books,
    gateway,
    link,
    resources,
    set_option,
    until_in_flight,
    until_link,
    until_received,
    until_settled,
    verdict,
)
from tests.support.checker import nats_client
from tests.support.gateway import GatewayProcess, write_config
from tests.support.generator import Device, device
from tests.support.proxy import Proxy, proxy
from tests.support.server import any_broker, nats_server
from tests.support.wait import eventually

MIB = 1024 * 1024


@pytest.mark.slow
async def test_f9_a_half_open_nats_link_is_noticed_and_the_spool_takes_over(tmp_path: Path) -> None:
    """Nothing is reset and nothing answers; devices go on being served, and what was in flight is not stuck."""
    async with (
        any_broker(tmp_path / "mqtt") as broker,
        nats_server(tmp_path / "nats") as server,
        proxy(server.port) as nats_link,
    ):
        config, http = write_config(tmp_path, broker, nats_link.port)
        async with gateway(config, http) as running, device(broker) as sensor:
            await sensor.send(range(300))
            await until_settled(running)
            nats_link.black_hole()
            broken = time.monotonic()
            await sensor.send(range(300, 800))
            await until_received(running, 800)
            await until_link(running, "nats", up=False)
            await eventually(lambda: _all_spooled(running, 500), "the spool has what was in flight")
            assert time.monotonic() - broken < 30
            assert await running.ready()
            await sensor.send(range(800, 1000))
            nats_link.restore()
            await until_received(running, 1000)
            result = await verdict(running, server.port, sensor)
            assert (result.stored, result.lost, result.doubled) == (1000, set(), {})
            assert await link(running, "reconnects_total", "nats") >= 1


@pytest.mark.slow
async def test_f10_a_half_open_mqtt_link_is_noticed_by_the_keep_alive_and_what_was_lost_comes_again(
    tmp_path: Path,
) -> None:
    """PUBACKs on their way are lost too: the broker sends those messages again, and they are stored once."""
    async with (
        any_broker(tmp_path / "mqtt") as broker,
        nats_server(tmp_path / "nats") as server,
        proxy(broker) as mqtt_link,
    ):
        config, http = write_config(tmp_path, mqtt_link.port, server.port)
        set_option(config, "mqtt", "keep_alive: 2s")
        async with gateway(config, http) as running, device(broker) as sensor:
            mqtt_link.up = False
            await sensor.send(range(300))
            await until_received(running, 300)
            mqtt_link.black_hole()
            await sensor.send(range(300, 1000))
            await until_link(running, "mqtt", up=False)
            assert not await running.ready()
            mqtt_link.restore()
            await until_link(running, "mqtt", up=True)
            result = await verdict(running, server.port, sensor)
            assert len(sensor.acknowledged) == 1000
            assert (result.lost, result.doubled) == (set(), {})
            assert await running.total("tidegate_sessions_lost_total") == 0


@pytest.mark.slow
async def test_f11_a_flapping_uplink_makes_progress_and_leaks_nothing(tmp_path: Path) -> None:
    """Cut again and again under load, the gateway delivers between the cuts, and holds no more than it did at first."""
    async with (
        any_broker(tmp_path / "mqtt") as broker,
        nats_server(tmp_path / "nats") as server,
        proxy(server.port) as nats_link,
    ):
        config, http = write_config(tmp_path, broker, nats_link.port)
        async with gateway(config, http) as running, device(broker) as sensor:
            cuts = _cut_times(seconds=9)
            await _flap(running, nats_link, sensor, cuts[:3])
            before, delivered = resources(running), await running.total("tidegate_messages_delivered_total")
            await _flap(running, nats_link, sensor, cuts[3:])
            after = resources(running)
            assert await running.total("tidegate_messages_delivered_total") > delivered
            assert after.descriptors <= before.descriptors + 3, (before, after)
            assert after.threads <= before.threads + 1, (before, after)
            assert after.memory < before.memory + 24 * MIB, (before, after)
            assert 3 <= await link(running, "reconnects_total", "nats") <= nats_link.connections
            result = await verdict(running, server.port, sensor)
            assert (result.lost, result.doubled) == (set(), {})


def _cut_times(seconds: float) -> list[float]:
    """Return the pauses between cuts."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance, pauses = random.Random(seed), []
    while sum(pauses) < seconds:
        pauses.append(chance.uniform(0.3, 1.5))
    return pauses


async def _flap(running: GatewayProcess, nats_link: Proxy, sensor: Device, pauses: list[float]) -> None:
    """Cut the link after each pause, with a device that never rests."""
    numbers = _chunks(len(sensor.acknowledged), 200)
    for pause in pauses:
        end = asyncio.get_running_loop().time() + pause
        while asyncio.get_running_loop().time() < end:
            await sensor.send(next(numbers))
            await asyncio.sleep(0.05)
        nats_link.cut()
        await books(running)
    await until_settled(running)


def _chunks(first: int, size: int) -> Iterator[range]:
    while True:
        yield range(first, first + size)
        first += size


@pytest.mark.slow
async def test_f12_an_uplink_slower_than_the_devices_holds_the_devices_back_not_memory(tmp_path: Path) -> None:
    """In flight stays within the window, and everything arrives once the link is fast again."""
    window = 200
    async with (
        any_broker(tmp_path / "mqtt") as broker,
        nats_server(tmp_path / "nats") as server,
        proxy(server.port) as nats_link,
    ):
        config, http = write_config(tmp_path, broker, nats_link.port)
        set_option(config, "mqtt", f"receive_maximum: {window}")
        async with gateway(config, http) as running, device(broker) as sensor:
            await sensor.send(range(2000))
            await until_settled(running)
            before = resources(running)
            nats_link.rate = 200_000
            await sensor.send(range(2000, 12_000))
            await until_in_flight(running, 1)
            received = (await books(running)).received
            highest = 0.0
            end = time.monotonic() + 4
            while time.monotonic() < end:
                found = await books(running)
                highest = max(highest, found.in_flight)
                assert found.in_flight <= window
                assert found.received < 12_000
                await asyncio.sleep(0.05)
            assert (await books(running)).received > received
            assert highest > window / 2
            assert resources(running).memory < before.memory + 24 * MIB
            nats_link.rate = None
            await until_received(running, 12_000)
            result = await verdict(running, server.port, sensor)
            assert (result.stored, result.lost, result.doubled) == (12_000, set(), {})


@pytest.mark.slow
@pytest.mark.parametrize("spooled", [False, True], ids=["published again", "through the spool"])
async def test_f23_a_lost_puback_of_jetstream_makes_the_same_event_come_again_and_be_stored_once(
    tmp_path: Path, spooled: bool
) -> None:
    """The stream has the messages; only its answers do not arrive."""
    async with (
        any_broker(tmp_path / "mqtt") as broker,
        nats_server(tmp_path / "nats") as server,
        proxy(server.port) as nats_link,
        nats_client(server.port) as client,
    ):
        config, http = write_config(tmp_path, broker, nats_link.port)
        async with gateway(config, http) as running, device(broker) as sensor:
            nats_link.down = False
            await sensor.send(range(500))

            async def all_stored() -> bool:
                return (await client.jetstream().stream_info("SENSORS")).state.messages >= 500

            await eventually(all_stored, "the stream has every message")
            assert (await books(running)).settled == 0
            if spooled:
                await eventually(lambda: _all_spooled(running, 500), "the spool has every message")
            nats_link.restore()
            result = await verdict(running, server.port, sensor)
            assert (result.stored, result.lost, result.doubled) == (500, set(), {})
            assert await running.total("tidegate_duplicates_total") >= 500


async def _all_spooled(running: GatewayProcess, least: int) -> bool:
    found = await books(running)
    return found.spooled >= least and not found.in_flight
