"""The gateway is killed at random moments under load; and what makes a redelivery, or a new reading, an event."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest
from nats.js.errors import NotFoundError

from tests.faults.observe import gateway, verdict
from tests.support.checker import envelopes, nats_client
from tests.support.fake_broker import FakeConnection, fake_broker
from tests.support.gateway import write_config
from tests.support.generator import device, publish_packet
from tests.support.server import mosquitto, nats_server, needs_mosquitto
from tests.support.wait import eventually

SEED = 20
CYCLES = 8
COUNT = 4000
"""Messages of a cycle: they take longer than the latest moment of a kill, or nearly so."""
PUBACK = 0x40
EQUAL = b'{"device": "d1", "seq": 1, "temperature": 21.5}'


@needs_mosquitto
@pytest.mark.slow
@pytest.mark.parametrize("qos", [1, 2])
async def test_f1_killed_at_random_moments_it_loses_and_doubles_nothing(tmp_path: Path, qos: int) -> None:
    """In every other cycle NATS is away too, so that the spool is in use when the gateway dies."""
    chance = random.Random(SEED + qos)
    print(f"seed {SEED + qos}")
    async with mosquitto(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, broker.port, server.port, qos=qos)
        async with gateway(config, http) as running, device(broker.port) as sensor:
            for cycle in range(CYCLES):
                if cycle % 2:
                    await server.stop()
                sending = asyncio.create_task(sensor.send(range(cycle * COUNT, cycle * COUNT + COUNT), qos))
                await asyncio.sleep(chance.uniform(0.0, 0.4))  # the moment is what varies; nothing depends on it
                await running.kill()
                before = time.monotonic()
                await running.start(ready=False)
                await eventually(running.ready, "it delivers or spools")
                assert time.monotonic() - before < 5
                await sending
                if cycle % 2:
                    await server.start()
            result = await verdict(running, server.port, sensor)
            assert (result.stored, result.lost, result.doubled) == (CYCLES * COUNT, set(), {})


async def test_f1_equal_readings_are_events_of_their_own_and_a_redelivery_is_not(tmp_path: Path) -> None:
    """Two at once; one more under an identifier whose PUBACK the broker has; and after a kill, one without DUP."""
    async with fake_broker() as broker, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, broker.port, server.port)
        async with gateway(config, http, ready=False) as running, nats_client(server.port) as client:
            connection = await broker.connection()
            await connection.accept()
            await eventually(running.ready, "the gateway is ready")
            await connection.send(_equal(1) + _equal(2))
            assert [await _puback(connection), await _puback(connection)] == [1, 2]
            await connection.send(_equal(1))
            assert await _puback(connection) == 1
            await eventually(lambda: _stored(client, 3), "each is an event of its own")
            server.pause()
            await connection.send(_equal(3))
            await eventually(lambda: _in_flight(running, 1), "the gateway holds it")
            await running.kill()
            server.resume()
            await running.start(ready=False)
            connection = await broker.connection()
            await connection.accept(session_present=True)
            await connection.send(_equal(3, again=True) + _equal(4))
            assert [await _puback(connection), await _puback(connection)] == [3, 4]
            await eventually(lambda: _stored(client, 5), "the two are stored")
            ids = [event.id for event in await envelopes(client)]
            assert len(ids) == len(set(ids)) == 5


def _equal(packet_id: int, *, again: bool = False) -> bytes:
    return publish_packet(b"sensors/hall/d1/reading", EQUAL, 1, packet_id, 8 if again else 0, b"")


async def _puback(connection: FakeConnection) -> int:
    """Return the packet identifier of the next packet, which must be a PUBACK."""
    first, body = await asyncio.wait_for(connection.read_packet(), 20)
    assert first == PUBACK
    return int.from_bytes(body[:2], "big")


async def _stored(client, count: int) -> bool:
    try:
        return (await client.jetstream().stream_info("SENSORS")).state.messages == count
    except NotFoundError:  # it is made while the spool already takes messages
        return False


async def _in_flight(running, least: int) -> bool:
    return await running.total("tidegate_messages_in_flight") >= least
