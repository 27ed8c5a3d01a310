"""When a PUBACK leaves, in which order, and what becomes of one whose connection is gone."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.mqtt.rig import DUP, PROTOCOLS, PUBACK, Rig, rig, sent, sent_until_fence
from tests.support.fake_broker import FakeConnection
from tests.support.wait import eventually


async def in_batches(ends: Rig, connection: FakeConnection, packet_ids: list[int]) -> None:
    """Publish each message so that it comes out as a batch of its own."""
    start = len(ends.messages)
    for count, packet_id in enumerate(packet_ids, start + 1):
        await connection.send(ends.publish(packet_id, b"%d" % packet_id))
        await ends.handed_out(count)


@PROTOCOLS
async def test_no_puback_leaves_before_the_message_is_settled(protocol: str) -> None:
    async with rig(protocol) as ends:
        connection = await ends.accept()
        await in_batches(ends, connection, [1, 2])
        assert await sent_until_fence(connection) == []
        ends.batches[0].settle()
        assert await sent_until_fence(connection) == [(PUBACK, 1)]
        ends.batches[1].settle()
        assert await sent_until_fence(connection) == [(PUBACK, 2)]
        assert ends.session.unsettled == 0


async def test_qos_0_is_never_acknowledged() -> None:
    async with rig() as ends:
        connection = await ends.accept()
        await connection.send(ends.publish(0, qos=0))
        await ends.handed_out(1)
        ends.batches[0].settle()
        assert await sent_until_fence(connection) == []


@PROTOCOLS
async def test_pubacks_leave_in_arrival_order_however_batches_are_settled(protocol: str) -> None:
    """[MQTT-4.6.0-2]"""
    async with rig(protocol) as ends:
        connection = await ends.accept()
        packet_ids = random.Random(7).sample(range(1, 50_000), 20)
        await in_batches(ends, connection, packet_ids)
        *others, first = [*random.Random(8).sample(ends.batches[1:], 19), ends.batches[0]]
        for batch in others:
            batch.settle()
        assert await sent_until_fence(connection) == []
        first.settle()
        assert await sent(connection, 20) == [(PUBACK, packet_id) for packet_id in packet_ids]


async def test_settling_twice_acknowledges_once() -> None:
    async with rig() as ends:
        connection = await ends.accept()
        await in_batches(ends, connection, [1])
        ends.batches[0].settle()
        ends.batches[0].settle()
        assert await sent_until_fence(connection) == [(PUBACK, 1)]
        assert ends.session.unsettled == 0


@PROTOCOLS
@pytest.mark.parametrize("session_present", [True, False])
async def test_settling_after_a_reconnect_sends_nothing_and_is_counted(protocol: str, session_present: bool) -> None:
    """The packet identifiers may stand for other messages by now."""
    async with rig(protocol) as ends:
        connection = await ends.accept()
        await in_batches(ends, connection, [1, 2])
        connection = await ends.reconnect(connection, session_present=session_present)
        await in_batches(ends, connection, [1])
        for batch in ends.batches[:2]:
            batch.settle()
        assert await sent_until_fence(connection) == []
        assert ends.session.stale_acks == 2
        ends.batches[2].settle()
        assert await sent_until_fence(connection) == [(PUBACK, 1)]
        assert ends.session.unsettled == 0


async def test_settling_between_two_connections_is_counted_and_the_redelivery_keeps_its_id() -> None:
    async with rig() as ends:
        connection = await ends.accept()
        await in_batches(ends, connection, [1])
        connection.cut()
        await eventually(lambda: not ends.session.up, "the cut is noticed")
        ends.batches[0].settle()
        assert ends.session.stale_acks == 1
        connection = await ends.accept(session_present=True)
        await connection.send(ends.publish(1, b"1", flags=DUP))
        await ends.handed_out(2)
        assert ends.messages[0].id == ends.messages[1].id


async def test_settling_while_a_broken_connection_ends_keeps_the_id_for_the_redelivery() -> None:
    """The PUBACK can't leave any more, so the broker sends again, and that must not become a second event."""
    async with rig(taking=False) as ends:
        connection = await ends.broker.connection()
        await connection.accept()
        await connection.send(ends.publish(1, b"1") + b"\x36\x05\x00\x01a\x00\x01")
        batch = await ends.session.receive()
        batch.settle()
        connection = await ends.broker.connection()
        await connection.accept(session_present=True)
        await connection.send(ends.publish(1, b"1", flags=DUP))
        again = await ends.session.receive()
        assert [message.id for message in again.messages] == [message.id for message in batch.messages]
        assert ends.session.stale_acks == 1


@PROTOCOLS
async def test_a_redelivery_after_a_reconnect_has_the_same_id(protocol: str) -> None:
    async with rig(protocol) as ends:
        connection = await ends.accept()
        await in_batches(ends, connection, [1, 2])
        for count in (4, 6):
            connection = await ends.reconnect(connection)
            await connection.send(ends.publish(1, b"1", flags=DUP) + ends.publish(2, b"2", flags=DUP))
            await ends.handed_out(count)
        first, second = ends.messages[0].id, ends.messages[1].id
        assert [message.id for message in ends.messages] == [first, second] * 3
        assert first != second
        assert ends.messages[-1].duplicate


async def test_a_redelivery_with_other_content_has_a_new_id() -> None:
    async with rig() as ends:
        connection = await ends.accept()
        await in_batches(ends, connection, [1])
        connection = await ends.reconnect(connection)
        await connection.send(ends.publish(1, b"other", flags=DUP))
        await ends.handed_out(2)
        assert ends.messages[0].id != ends.messages[1].id


async def test_an_equal_message_without_dup_after_a_reconnect_has_a_new_id() -> None:
    """Two equal readings are two."""
    async with rig() as ends:
        connection = await ends.accept()
        await in_batches(ends, connection, [1])
        connection = await ends.reconnect(connection)
        await connection.send(ends.publish(1, b"1"))
        await ends.handed_out(2)
        assert ends.messages[0].id != ends.messages[1].id


@PROTOCOLS
async def test_an_equal_message_on_a_packet_id_whose_puback_the_broker_has_gets_a_new_id(protocol: str) -> None:
    """Also with DUP: its first sending may have been lost with a connection. A PINGRESP proves what the broker has."""
    async with rig(protocol, keep_alive=1) as ends:
        connection = await ends.accept()
        await in_batches(ends, connection, [1])
        ends.batches[0].settle()
        assert await sent(connection, 1) == [(PUBACK, 1)]
        reading = asyncio.create_task(connection.read_packet())  # answers PINGREQ
        await eventually(lambda: connection.pings, "a PINGREQ is answered")
        reading.cancel()
        await asyncio.wait([reading])
        assert await sent_until_fence(connection) == []
        connection = await ends.reconnect(connection)
        await connection.send(ends.publish(1, b"1", flags=DUP))
        await ends.handed_out(2)
        assert ends.messages[0].id != ends.messages[1].id


@PROTOCOLS
async def test_a_redelivery_on_a_live_connection_is_not_handed_out_twice_and_gets_one_puback(protocol: str) -> None:
    """nats-server sends again after a while what is not acknowledged."""
    async with rig(protocol) as ends:
        connection = await ends.accept()
        await in_batches(ends, connection, [1, 2])
        await connection.send(ends.publish(1, b"1", flags=DUP) * 3)
        assert await sent_until_fence(connection) == []
        assert len(ends.messages) == 2
        assert ends.session.duplicates == 3
        for batch in ends.batches:
            batch.settle()
        assert await sent_until_fence(connection) == [(PUBACK, 1), (PUBACK, 2)]


async def test_a_packet_id_is_free_again_once_its_puback_left() -> None:
    async with rig() as ends:
        connection = await ends.accept()
        for count in range(3):
            await in_batches(ends, connection, [9])
            ends.batches[count].settle()
            assert await sent(connection, 1) == [(PUBACK, 9)]
        assert len({message.id for message in ends.messages}) == 3


@PROTOCOLS
async def test_two_messages_on_one_packet_id_at_once_are_a_protocol_error(protocol: str) -> None:
    async with rig(protocol) as ends:
        connection = await ends.accept()
        await in_batches(ends, connection, [7])
        await connection.send(ends.publish(7, b"another"))
        await eventually(lambda: "packet identifier 7" in str(ends.session.last_error), "it is a protocol error")
        await ends.accept(session_present=True)
        assert [message.payload for message in ends.messages] == [b"7"]


async def test_a_lost_session_is_counted_and_its_ids_are_forgotten() -> None:
    async with rig() as ends:
        connection = await ends.accept()
        await in_batches(ends, connection, [1])
        assert ends.session.sessions_lost == 0
        connection = await ends.reconnect(connection, session_present=False)
        assert ends.session.sessions_lost == 1
        await connection.send(ends.publish(1, b"1", flags=DUP))
        await ends.handed_out(2)
        assert ends.messages[0].id != ends.messages[1].id


@pytest.mark.parametrize(("expiry", "clean"), [(0, True), (3600, False)])
async def test_a_session_that_is_not_to_be_kept_is_asked_for_clean_and_never_lost(expiry: int, clean: bool) -> None:
    async with rig("3.1.1", session_expiry=expiry) as ends:
        connection = await ends.broker.connection()
        connect = await connection.accept(protocol="3.1.1")
        assert bool(connect[7] & 0x02) == clean
        await ends.reconnect(connection, session_present=False)
        assert ends.session.sessions_lost == (0 if clean else 1)
