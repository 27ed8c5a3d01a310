"""A gateway that dies at the worst moment."""

from __future__ import annotations

import asyncio
from pathlib import Path

import nats
import pytest

from tests.support.checker import balance, envelopes, nats_client
from tests.support.fake_broker import FakeConnection, fake_broker
from tests.support.gateway import gateway, write_config
from tests.support.generator import device, publish_packet, reading
from tests.support.server import any_broker, nats_server
from tests.support.wait import eventually

PUBACK = 0x40


async def test_a_message_is_acknowledged_to_the_broker_only_after_its_puback_from_jetstream(tmp_path: Path) -> None:
    """Law 1, on the wire: while NATS hangs no PUBACK is sent; once it goes on, each message gets its one."""
    async with fake_broker() as broker, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, broker.port, server.port)
        async with gateway(config, http, ready=False) as running:
            connection = await broker.connection()
            await connection.accept()
            await eventually(running.delivering, "the gateway delivers")
            server.pause()
            for number in range(1, 51):
                await connection.send(_publish(number))
            await eventually(lambda: _in_flight(running, 50), "the gateway holds every message")
            acknowledged = asyncio.create_task(_packet_ids(connection, 50))
            done, _ = await asyncio.wait([acknowledged], timeout=1.0)
            assert not done
            server.resume()
            assert await asyncio.wait_for(acknowledged, 30) == list(range(1, 51))


async def test_killed_between_pubacks_of_jetstream_and_of_mqtt_it_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """The messages are stored, the broker was not told: it sends them again to the next gateway."""
    async with fake_broker() as broker, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, broker.port, server.port)
        async with gateway(config, http, ready=False) as running, nats_client(server.port) as client:
            connection = await broker.connection()
            await connection.accept()
            await eventually(running.delivering, "the gateway delivers")
            await connection.send(b"".join(map(_publish, range(1, 101))))
            await eventually(lambda: _stored(client, 1), "the stream has something")
            await running.kill()
            await running.start(ready=False)
            connection = await broker.connection()
            await connection.accept(session_present=True)
            await connection.send(b"".join(_publish(number, again=True) for number in range(1, 101)))
            assert await asyncio.wait_for(_packet_ids(connection, 100), 30) == list(range(1, 101))
            events = await envelopes(client)
            assert [event.data["seq"] for event in events] == list(range(1, 101))


@pytest.mark.slow
async def test_killed_again_and_again_under_load_it_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Event ids outlive the process, so what the broker sends again is the same event to the stream."""
    async with any_broker(tmp_path / "mqtt") as port, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, port, server.port)
        async with gateway(config, http) as running, nats_client(server.port) as client, device(port) as sensor:
            for cycle in range(5):
                sending = asyncio.create_task(sensor.send(range(cycle * 10_000, cycle * 10_000 + 10_000)))
                await eventually(lambda: _has_received(running), "it is at work")
                await running.kill()
                await running.start()
                await sending
            await eventually(lambda: _in_flight(running, 0, most=0), "everything is settled", 30)
            await eventually(lambda: _none_lost(client, sensor.acknowledged), "nothing is lost", 30)
            result = balance(await envelopes(client), sensor.name, sensor.acknowledged)
            assert len(sensor.acknowledged) == 50_000
            assert (result.lost, result.doubled) == (set(), {})


def _publish(number: int, *, again: bool = False) -> bytes:
    """Return an MQTT 5 PUBLISH whose packet identifier is the number of its reading."""
    return publish_packet(
        b"sensors/hall/d1/reading", reading("d1", number), 1, number, flags=8 if again else 0, properties=b""
    )


async def _packet_ids(connection: FakeConnection, count: int) -> list[int]:
    """Return the packet identifiers of the next PUBACKs."""
    found = []
    while len(found) < count:
        first, body = await connection.read_packet()
        assert first == PUBACK
        found.append(int.from_bytes(body[:2], "big"))
    return found


async def _in_flight(running, least: int, most: int | None = None) -> bool:
    count = await running.total("tidegate_messages_in_flight")
    return count >= least and (most is None or count <= most)


async def _has_received(running) -> bool:
    return await running.total("tidegate_messages_received_total") > 0


async def _stored(client: nats.NATS, least: int) -> bool:
    return (await client.jetstream().stream_info("SENSORS")).state.messages >= least


async def _none_lost(client: nats.NATS, acknowledged: set[int]) -> bool:
    return not balance(await envelopes(client), "d1", acknowledged).lost
