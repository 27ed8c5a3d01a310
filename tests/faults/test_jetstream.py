"""JetStream dies, is full, or its stream is gone: the spool takes over, and gives back in order."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.faults.observe import gateway, until_settled, verdict
from tests.support.checker import balance, envelopes, nats_client
from tests.support.gateway import write_config
from tests.support.generator import device
from tests.support.server import any_broker, nats_server
from tests.support.wait import eventually

SEED = 7


@pytest.mark.slow
async def test_f7_nats_killed_again_and_again_in_mid_publish_loses_and_doubles_nothing(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    print(f"seed {SEED}")
    async with any_broker(tmp_path / "mqtt") as port, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, port, server.port)
        async with gateway(config, http) as running, device(port) as sensor:
            for cycle in range(6):
                sending = asyncio.create_task(sensor.send(range(cycle * 1500, cycle * 1500 + 1500)))
                await asyncio.sleep(chance.uniform(0.02, 0.3))  # the moment is what varies; nothing depends on it
                await server.kill()
                await server.start()
                await sending
            result = await verdict(running, server.port, sensor)
            assert (result.stored, result.lost, result.doubled) == (9000, set(), {})


@pytest.mark.slow
async def test_f20_a_full_stream_is_spooled_without_a_busy_loop_and_drains_in_order_after_a_purge(
    tmp_path: Path,
) -> None:
    async with any_broker(tmp_path / "mqtt") as port, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, port, server.port)
        small = config.read_text().replace(
            'subjects: ["plant.sensors.>"]', 'subjects: ["plant.sensors.>"], max_bytes: 256KiB, discard: new'
        )
        config.write_text(small)
        async with gateway(config, http) as running, device(port) as sensor, nats_client(server.port) as client:
            await sensor.send(range(1000))
            await eventually(lambda: _total(running, "spooled", 1), "the spool takes over", 30)
            await eventually(lambda: _settled(running), "everything is settled to MQTT")
            assert await running.ready()
            before = await running.total("process_cpu_seconds_total")
            await asyncio.sleep(4)  # what is measured is how little it does meanwhile
            assert await running.total("process_cpu_seconds_total") - before < 0.2
            seen: list[int] = []
            for _ in range(20):  # the stream holds some hundreds at once
                seen += [event.data["seq"] for event in await envelopes(client)]
                if len(seen) >= 1000:
                    break
                await client.jetstream().purge_stream("SENSORS")
                await eventually(lambda: _stored(client, 1), "it goes on by itself", 40)
                await eventually(lambda: _full_again_or_done(running), "the stream is full again", 40)
            assert seen == list(range(1000))
            await until_settled(running)


@pytest.mark.slow
async def test_f21_a_stream_deleted_while_running_is_filled_from_the_spool_once_it_is_back(tmp_path: Path) -> None:
    async with any_broker(tmp_path / "mqtt") as port, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, port, server.port)
        async with gateway(config, http) as running, device(port) as sensor, nats_client(server.port) as client:
            await sensor.send(range(200))
            await until_settled(running)
            info = await client.jetstream().stream_info("SENSORS")
            first = await envelopes(client)
            await client.jetstream().delete_stream("SENSORS")
            await sensor.send(range(200, 1200))
            await eventually(lambda: _total(running, "spooled", 1), "the spool takes over")
            await eventually(lambda: _settled(running), "everything is settled to MQTT")
            assert "no stream" in running.log_text()
            await client.jetstream().add_stream(info.config)
            await until_settled(running)
            events = await envelopes(client)
            assert [event.data["seq"] for event in events] == list(range(200, 1200))
            result = balance(first + events, sensor.name, sensor.acknowledged)
            assert (result.stored, result.lost, result.doubled) == (1200, set(), {})


async def _total(running, name: str, least: int) -> bool:
    return await running.total(f"tidegate_messages_{name}") >= least


async def _settled(running) -> bool:
    return await running.total("tidegate_messages_in_flight") == 0


async def _stored(client, least: int) -> bool:
    return (await client.jetstream().stream_info("SENSORS")).state.messages >= least


async def _full_again_or_done(running) -> bool:
    """Whether the drain stands still: twice the same count, a while apart."""
    left = await running.total("tidegate_messages_spooled")
    await asyncio.sleep(0.3)
    return left == await running.total("tidegate_messages_spooled")
