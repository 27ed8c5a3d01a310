"""Brokers that forget, that use packet identifiers again, and that do not listen."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults.observe import (
    books,
    gateway,
    resources,
    set_option,
    until_in_flight,
    until_link,
    until_received,
    until_settled,
    verdict,
)
from tests.support.checker import envelopes, nats_client
from tests.support.fake_broker import FakeConnection, fake_broker
from tests.support.gateway import write_config
from tests.support.generator import device, publish_packet, reading
from tests.support.server import mosquitto, nats_server, needs_mosquitto
from tests.support.wait import eventually

PUBACK = 0x40
MIB = 1024 * 1024


@needs_mosquitto
@pytest.mark.slow
async def test_f13_a_broker_that_lost_the_session_is_subscribed_to_again_and_the_loss_is_counted(
    tmp_path: Path,
) -> None:
    """What the gateway holds of the old session is delivered all the same; the new one begins with the same ids."""
    async with mosquitto(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, broker.port, server.port)
        async with gateway(config, http) as running:
            async with device(broker.port) as sensor:
                await sensor.send(range(100))
                await until_received(running, 100)
                await until_settled(running)
                server.pause()
                await sensor.send(range(100, 300))
                await until_in_flight(running, 200)
                await broker.kill()
            await until_link(running, "mqtt", up=False)
            await broker.start()
            await until_link(running, "mqtt", up=True)
            async with device(broker.port, "d2") as other:
                await other.send(range(150))
                server.resume()
                await until_received(running, 450)
                result = await verdict(running, server.port, other)
            assert (result.stored, result.lost, result.doubled) == (150, set(), {})
            result = await verdict(running, server.port, sensor)
            assert (result.stored, result.lost, result.doubled) == (300, set(), {})
            assert await running.total("tidegate_sessions_lost_total") == 1


@pytest.mark.slow
@pytest.mark.parametrize("session_present", [True, False], ids=["F14", "F13"])
async def test_f14_no_puback_of_an_earlier_connection_reaches_the_wire(tmp_path: Path, session_present: bool) -> None:
    """Messages are settled after their connection is gone; their packet identifiers mean other messages by then."""
    new_ids = [7, 3, 9, 1]
    async with fake_broker() as broker, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, broker.port, server.port)
        async with gateway(config, http, ready=False) as running:
            old = await broker.connection()
            await old.accept()
            await eventually(running.ready, "the gateway is ready")
            server.pause()
            await old.send(b"".join(_publish(number, number) for number in range(1, 21)))
            await until_in_flight(running, 20)
            old.cut()
            new = await broker.connection()
            await new.accept(session_present=session_present)
            await new.send(b"".join(_publish(packet_id, 100 + packet_id) for packet_id in new_ids))
            await until_in_flight(running, 24)
            server.resume()
            await until_settled(running)
            assert await _packet_ids(new, len(new_ids)) == new_ids
            await new.send(_publish(2, 200))
            assert await _packet_ids(new, 1) == [2]  # nothing came in between
            async with nats_client(server.port) as client:
                numbers = [event.data["seq"] for event in await envelopes(client)]
            assert sorted(numbers) == sorted([*range(1, 21), *(100 + packet_id for packet_id in new_ids), 200])


@pytest.mark.slow
async def test_f15_a_broker_that_ignores_the_receive_maximum_fills_neither_memory_nor_the_spool(
    tmp_path: Path,
) -> None:
    """Ten times the window comes while nothing can be delivered: the rest stays in the socket, and none is lost."""
    window, count, size = 100, 1000, 20_000
    async with fake_broker() as broker, nats_server(tmp_path / "nats") as server:
        config, http = write_config(
            tmp_path, broker.port, server.port, more="spool: {max_bytes: 256KiB, when_full: block}\n"
        )
        set_option(config, "mqtt", f"receive_maximum: {window}")
        async with gateway(config, http, ready=False) as running:
            connection = await broker.connection()
            await connection.accept()
            await eventually(running.ready, "the gateway is ready")
            before = resources(running)
            await server.stop()
            await until_link(running, "nats", up=False)
            acknowledged: list[int] = []
            reading_acks = asyncio.create_task(_collect(connection, acknowledged))
            connection.write(b"".join(_publish(number, number, size) for number in range(1, count + 1)))
            await until_in_flight(running, window)
            await eventually(lambda: _full(running), "the spool is full", 30)
            await eventually(lambda: _at_rest(running, connection), "the socket is not read")
            found = await books(running)
            assert found.in_flight <= window
            assert len(acknowledged) <= found.spooled
            assert await running.total("tidegate_spool_bytes") <= 256 * 1024 + window * size
            assert connection.unsent > count * size / 4  # the kernel's buffers of both ends take up to 10 MB
            assert resources(running).memory < before.memory + 24 * MIB
            await server.start()
            await eventually(lambda: len(acknowledged) == count, "every message is acknowledged", 60)
            await until_settled(running)
            assert acknowledged == list(range(1, count + 1))
            reading_acks.cancel()
            async with nats_client(server.port) as client:
                numbers = [event.data["seq"] for event in await envelopes(client)]
            assert numbers == list(range(1, count + 1))


async def _full(running) -> bool:
    return any("full" in problem for problem in await running.problems())


async def _at_rest(running, connection: FakeConnection) -> bool:
    """Whether nothing moves between two looks some time apart."""
    before = await books(running), connection.unsent
    await asyncio.sleep(0.3)
    return before == (await books(running), connection.unsent)


def _publish(packet_id: int, number: int, size: int = 0) -> bytes:
    payload = reading("d1", number)
    payload += b" " * (size - len(payload))
    return publish_packet(b"sensors/hall/d1/reading", payload, 1, packet_id, properties=b"")


async def _packet_ids(connection: FakeConnection, count: int) -> list[int]:
    """Return the packet identifiers of the next PUBACKs."""
    found: list[int] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            first, body = await connection.read_packet()
            assert first == PUBACK
            found.append(int.from_bytes(body[:2], "big"))
    return found


async def _collect(connection: FakeConnection, acknowledged: list[int]) -> None:
    while True:
        acknowledged += await _packet_ids(connection, 1)
