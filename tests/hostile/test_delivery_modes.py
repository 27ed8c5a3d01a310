"""Publishers at every QoS, DUP, and retained messages, through a real broker."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

from tests.hostile.rig import client_of, scripted, write_config
from tests.support.checker import envelopes, nats_client
from tests.support.gateway import gateway
from tests.support.generator import device, publish_packet
from tests.support.proxy import proxy
from tests.support.server import mosquitto, nats_server, needs_mosquitto
from tests.support.wait import eventually
from tidegate.core import Envelope

BRIDGE = '  - {name: all, mqtt: "sensors/{all...}", nats: "plant.{all...}", qos: 2}'


@needs_mosquitto
async def test_b24_qos_0_1_and_2_are_each_stored_exactly_once(tmp_path: Path) -> None:
    """And so is one that its device marks as sent before (DUP)."""
    async with mosquitto(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, broker.port, server.port, BRIDGE)
        async with gateway(config, http) as running, nats_client(server.port) as client:
            for qos in (0, 1, 2):
                async with device(broker.port, f"q{qos}") as sensor:
                    await sensor.send(range(200), qos)
            async with client_of(broker.port) as publisher, asyncio.timeout(15):
                await publisher.send(publish_packet(b"sensors/dup", b'{"device":"dup","seq":0}', 1, 7, 8, b""))
                assert (await publisher.read_packet())[0] == 0x40
            await eventually(lambda: _delivered(running, 601), "everything is delivered")
            events = await envelopes(client, "EVENTS")
            numbers = [(event.data["device"], event.data["seq"]) for event in events]
            assert sorted(numbers) == sorted([("dup", 0), *((f"q{q}", n) for q in (0, 1, 2) for n in range(200))])


async def test_b24_a_qos_2_message_that_the_broker_sends_again_is_stored_once(tmp_path: Path) -> None:
    """Until its PUBREL it is the same message (MQTT 5 §4.3.3)."""
    async with scripted(tmp_path) as rig, asyncio.timeout(30):
        for flags in (0, 8, 8):
            await rig.connection.send(publish_packet(b"twice", b"x", 2, 50, flags, b""))
            first, body = await rig.connection.read_packet()
            assert (first, body[:2]) == (0x50, b"\x00\x32")
        await rig.connection.send(b"\x62\x02\x00\x32")
        assert (await rig.connection.read_packet())[0] == 0x70
        await rig.good()
        assert [message.subject for message in rig.seen] == ["plant.twice", "plant.good.n1"]


@needs_mosquitto
async def test_b24_retained_messages_are_flagged_and_not_sent_again_at_a_reconnect(tmp_path: Path) -> None:
    """An empty payload deletes what was retained (B11): an event too, and flagged as empty."""
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(mosquitto(tmp_path / "mqtt"))
        server = await stack.enter_async_context(nats_server(tmp_path / "nats"))
        async with proxy(broker.port) as line, client_of(broker.port) as publisher, nats_client(server.port) as client:
            for number in range(20):
                await publisher.send(_retained(number, b"%d" % number))
                await publisher.read_packet()
            config, http = write_config(tmp_path, line.port, server.port, BRIDGE)
            async with gateway(config, http) as running:
                await eventually(lambda: _delivered(running, 20), "retained messages arrive")
                for count in (1, 2):
                    line.cut()
                    await eventually(lambda count=count: _connected_again(running, count), "it connects again")
                await publisher.send(_retained(0, b""))
                await publisher.send(publish_packet(b"sensors/good", b"1", 1, 60, 0, b""))
                await eventually(lambda: _delivered(running, 22), "what came after the reconnects arrives")
                events = await envelopes(client, "EVENTS")
    assert [event.retained for event in events[:20]] == [True] * 20
    assert [event.subject for event in events[20:]] == ["sensors/kept/0", "sensors/good"]
    assert _extension(events[20], "emptypayload") is True
    assert events[21].retained is None


def _extension(event: Envelope, name: str) -> object:
    return json.loads(event.to_json()).get(name)


def _retained(number: int, payload: bytes) -> bytes:
    return publish_packet(f"sensors/kept/{number}".encode(), payload, 1, number + 1, 1, b"")


async def _delivered(running, count: int) -> bool:
    return await running.total("tidegate_messages_delivered_total") >= count


async def _connected_again(running, count: int) -> bool:
    return await running.total("tidegate_reconnects_total") >= count and await running.ready()
