"""Publishing, against a broker that a test scripts: what real ones rarely do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.fake_broker import FakeBroker, FakeConnection, fake_broker
from tests.support.generator import packet
from tests.support.wait import eventually
from tidegate.core import Encoded, Message, Outcome, header_lines
from tidegate.mqtt import CODECS, Publisher, PublisherOptions
from tidegate.mqtt.publisher import HOPELESS

PUBACK, PUBREC, PUBREL, PUBCOMP = 0x40, 0x50, 0x62, 0x70
NOT_AUTHORIZED, QUOTA_EXCEEDED, NO_SUBSCRIBERS = 0x87, 0x97, 0x10


def event(number: int, topic: str = "a/b", **headers: str) -> Encoded:
    body = b"%d" % number
    return Encoded(f"id-{number}", topic, header_lines(headers), body, Message(b"n.a", body, f"id-{number}"))


def answer(kind: int, packet_id: int, reason: int = 0) -> bytes:
    return packet(kind, packet_id.to_bytes(2, "big") + (bytes((reason, 0)) if reason else b""))


class Rig:
    """A publisher, and the broker."""

    def __init__(self, broker: FakeBroker, publisher: Publisher, protocol: str) -> None:
        self.broker = broker
        self.publisher = publisher
        self.protocol = protocol

    async def accept(self, properties: bytes = b"") -> FakeConnection:
        """Let the publisher connect. properties: of the CONNACK."""
        connection = await self.broker.connection()
        first, _ = await connection.read_packet()
        assert first == 0x10
        more = bytes((len(properties),)) + properties if self.protocol == "5" else b""
        await connection.send(packet(0x20, b"\x00\x00" + more))
        return connection

    async def published(self, connection: FakeConnection) -> tuple[int, bytes]:
        """Return the next PUBLISH, as its packet identifier and its payload."""
        async with asyncio.timeout(10):
            first, body = await connection.read_packet()
        assert first >> 4 == 3, hex(first)
        after = 2 + int.from_bytes(body[:2], "big")
        packet_id = int.from_bytes(body[after : after + 2], "big")
        return packet_id, body[after + 2 + (1 + body[after + 2] if self.protocol == "5" else 0) :]


@asynccontextmanager
async def rig(protocol: str = "5", **options: Any) -> AsyncIterator[Rig]:
    async with fake_broker() as broker:
        given = PublisherOptions(
            host="127.0.0.1",
            port=broker.port,
            codec=CODECS[protocol],
            client_id="c",
            **options,
        )
        async with Publisher(given, "under-test") as publisher:
            try:
                yield Rig(broker, publisher, protocol)
            finally:
                broker.close()


async def outcome(future: asyncio.Future[Outcome]) -> Outcome:
    return await asyncio.wait_for(future, 10)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_an_event_is_delivered_with_its_puback_and_not_before(protocol: str) -> None:
    async with rig(protocol) as ends:
        connection = await ends.accept()
        future = await ends.publisher.send([event(1), event(2)])
        first, second = await ends.published(connection), await ends.published(connection)
        assert [first[1], second[1]] == [b"1", b"2"]
        await connection.send(answer(PUBACK, second[0]) + answer(PUBACK, 4711))
        await eventually(lambda: ends.publisher.in_flight == 1, "one is answered for")
        assert not future.done()
        await connection.send(answer(PUBACK, first[0]))
        assert await outcome(future) == Outcome([])


async def test_at_qos_2_an_event_is_delivered_with_its_pubcomp() -> None:
    async with rig(qos=2) as ends:
        connection = await ends.accept()
        future = await ends.publisher.send([event(1)])
        packet_id, _ = await ends.published(connection)
        await connection.send(answer(PUBREC, packet_id))
        assert await connection.read_packet() == (PUBREL, packet_id.to_bytes(2, "big"))
        assert not future.done()
        await connection.send(answer(PUBCOMP, packet_id))
        assert await outcome(future) == Outcome([])


async def test_at_qos_0_an_event_is_delivered_once_the_broker_has_read_it() -> None:
    async with rig(qos=0) as ends:
        connection = await ends.accept()
        future = await ends.publisher.send([event(1)])
        assert not future.done()
        first, _ = await connection.read_packet()
        assert first == 0x30
        reading = asyncio.create_task(connection.read_packet())  # which answers the PINGREQ
        assert await outcome(future) == Outcome([])
        reading.cancel()


@pytest.mark.parametrize(("qos", "kind"), [(1, PUBACK), (2, PUBREC)])
async def test_what_the_broker_refuses_is_refused_and_the_next_flows(qos: int, kind: int) -> None:
    """A negative PUBACK is final for the broker; that nobody subscribes is none."""
    async with rig(qos=qos) as ends:
        connection = await ends.accept()
        future = await ends.publisher.send([event(1), event(2)])
        first, second = [(await ends.published(connection))[0] for _ in range(2)]
        await connection.send(answer(kind, first, NOT_AUTHORIZED) + answer(kind, second, NO_SUBSCRIBERS))
        if qos == 2:
            assert await connection.read_packet() == (PUBREL, second.to_bytes(2, "big"))
            await connection.send(answer(PUBCOMP, second))
        (refused,) = (await outcome(future)).refused
        assert refused.event.id == "id-1"
        assert refused.error.reason == "refused"
        assert "not authorized" in refused.error.detail


async def test_what_a_quota_stops_is_published_again_in_order() -> None:
    async with rig() as ends:
        connection = await ends.accept()
        future = await ends.publisher.send([event(1), event(2)])
        packet_id, _ = await ends.published(connection)
        await ends.published(connection)
        await connection.send(answer(PUBACK, packet_id, QUOTA_EXCEEDED))
        connection = await ends.accept()
        again = [await ends.published(connection) for _ in range(2)]
        assert [payload for _, payload in again] == [b"1", b"2"]
        for packet_id, _ in again:
            await connection.send(answer(PUBACK, packet_id))
        assert await outcome(future) == Outcome([])


async def test_no_more_are_in_flight_than_the_broker_takes() -> None:
    """Receive Maximum of 2 (MQTT 5 §3.2.2.3.3)."""
    async with rig() as ends:
        connection = await ends.accept(b"\x21\x00\x02")
        future = await ends.publisher.send([event(number) for number in range(5)])
        for number in range(5):
            packet_id, payload = await ends.published(connection)
            assert payload == b"%d" % number
            waiting = asyncio.create_task(connection.read_packet())
            if number in (1, 2, 3):
                done, _ = await asyncio.wait([waiting], timeout=0.05)
                assert not done
            waiting.cancel()
            await asyncio.wait([waiting])
            if number:
                await connection.send(answer(PUBACK, packet_id))
            if number == 3:
                await connection.send(answer(PUBACK, 1))
        assert await outcome(future) == Outcome([])


async def test_what_is_over_the_maximum_packet_size_is_refused_without_being_sent() -> None:
    async with rig() as ends:
        connection = await ends.accept(b"\x27\x00\x00\x00\x40")
        future = await ends.publisher.send([event(1, topic="a" * 100), event(2)])
        packet_id, payload = await ends.published(connection)
        assert payload == b"2"
        await connection.send(answer(PUBACK, packet_id))
        assert [one.error.reason for one in (await outcome(future)).refused] == ["too_large"]


async def test_text_that_mqtt_can_not_carry_is_refused_without_being_sent() -> None:
    async with rig() as ends:
        connection = await ends.accept()
        bad = event(1, **{"ce-note": "a%0Ab"})
        future = await ends.publisher.send([bad, event(2)])
        packet_id, payload = await ends.published(connection)
        assert payload == b"2"
        await connection.send(answer(PUBACK, packet_id))
        assert [one.error.reason for one in (await outcome(future)).refused] == ["refused"]


async def test_a_broker_without_retained_messages_is_told_as_a_problem() -> None:
    async with rig(retain=True) as ends:
        await ends.accept(b"\x25\x00")
        await eventually(lambda: ends.publisher.last_error, "it says so")
        assert "use retain: false" in str(ends.publisher.last_error)
        assert not ends.publisher.up


@pytest.mark.slow
async def test_a_message_over_which_the_broker_closes_connections_does_not_stop_the_others() -> None:
    """Law 8. The poison is in the middle: what is before it and behind it gets there."""
    async with rig("3.1.1") as ends:
        future = await ends.publisher.send([event(number) for number in range(4)])
        taken: list[bytes] = []
        connections = 0
        while not future.done():
            connection = await ends.accept()
            connections += 1
            while not future.done():
                packet_id, payload = await ends.published(connection)
                if payload == b"2":
                    break
                taken.append(payload)
                await connection.send(answer(PUBACK, packet_id))
                if payload == b"3":
                    await outcome(future)
            connection.cut()
        assert taken == [b"0", b"1", b"3"]
        assert [one.event.id for one in (await outcome(future)).refused] == ["id-2"]
        assert connections <= HOPELESS + 2


async def test_a_broker_that_answers_pings_and_nothing_else_is_left_and_that_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tidegate.mqtt.publisher.ANSWER_TIMEOUT", 0.2)
    async with rig(keep_alive=1) as ends:
        connection = await ends.accept()
        future = await ends.publisher.send([event(1)])
        await ends.published(connection)
        reading = asyncio.create_task(connection.read_packet())  # which answers each PINGREQ
        await eventually(lambda: ends.publisher.overdue is not None, "it is told")
        second = await ends.accept()
        assert ends.publisher.trouble is not None
        assert "has not answered for" in ends.publisher.trouble.text
        reading.cancel()
        await asyncio.wait([reading])
        packet_id, body = await ends.published(second)
        assert body == b"1"
        await second.send(answer(PUBACK, packet_id))
        assert not (await outcome(future)).refused
        assert ends.publisher.overdue is None
