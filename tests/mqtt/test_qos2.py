"""QoS 2: exactly once between broker and session (MQTT 5 §4.3.3)."""

from __future__ import annotations

from tests.mqtt.rig import DUP, PROTOCOLS, PUBACK, PUBCOMP, PUBREC, Rig, release, rig, sent, sent_until_fence
from tests.support.fake_broker import FakeConnection


async def unreleased(ends: Rig, packet_id: int = 5) -> FakeConnection:
    """Connect and get a message as far as PUBREC."""
    connection = await ends.accept(qos=2)
    await connection.send(ends.publish(packet_id, b"once", qos=2))
    await ends.handed_out(1)
    ends.batches[0].settle()
    assert await sent(connection, 1) == [(PUBREC, packet_id)]
    return connection


@PROTOCOLS
async def test_pubrec_leaves_only_after_the_message_is_settled(protocol: str) -> None:
    async with rig(protocol, qos=2) as ends:
        connection = await ends.accept(qos=2)
        await connection.send(ends.publish(5, qos=2))
        await ends.handed_out(1)
        assert await sent_until_fence(connection) == []
        ends.batches[0].settle()
        assert await sent_until_fence(connection) == [(PUBREC, 5)]
        await connection.send(release(5))
        assert await sent(connection, 1) == [(PUBCOMP, 5)]


@PROTOCOLS
async def test_a_repeated_publish_before_pubrel_gets_pubrec_again_and_is_not_handed_out(protocol: str) -> None:
    async with rig(protocol, qos=2) as ends:
        connection = await unreleased(ends)
        await connection.send(ends.publish(5, b"once", qos=2, flags=DUP))
        assert await sent_until_fence(connection) == [(PUBREC, 5)]
        assert len(ends.messages) == 1


@PROTOCOLS
async def test_a_repeated_publish_that_is_not_settled_waits_for_its_pubrec(protocol: str) -> None:
    async with rig(protocol, qos=2) as ends:
        connection = await ends.accept(qos=2)
        await connection.send(ends.publish(5, b"once", qos=2))
        await ends.handed_out(1)
        await connection.send(ends.publish(5, b"once", qos=2, flags=DUP))
        assert await sent_until_fence(connection) == []
        ends.batches[0].settle()
        assert await sent_until_fence(connection) == [(PUBREC, 5)]
        assert len(ends.messages) == 1


@PROTOCOLS
async def test_a_repeated_publish_after_a_reconnect_is_not_handed_out(protocol: str) -> None:
    """The PUBREC was lost with the connection; the session was not."""
    async with rig(protocol, qos=2) as ends:
        connection = await ends.reconnect(await unreleased(ends))
        await connection.send(ends.publish(5, b"once", qos=2, flags=DUP))
        assert await sent_until_fence(connection) == [(PUBREC, 5)]
        await connection.send(release(5))
        assert await sent(connection, 1) == [(PUBCOMP, 5)]
        assert len(ends.messages) == 1


async def test_an_unsettled_message_comes_again_after_a_reconnect_with_the_same_id() -> None:
    async with rig(qos=2) as ends:
        connection = await ends.accept(qos=2)
        await connection.send(ends.publish(5, b"once", qos=2))
        await ends.handed_out(1)
        connection = await ends.reconnect(connection)
        await connection.send(ends.publish(5, b"once", qos=2, flags=DUP))
        await ends.handed_out(2)
        assert ends.messages[0].id == ends.messages[1].id
        for batch in ends.batches:
            batch.settle()
        assert await sent_until_fence(connection) == [(PUBREC, 5)]


@PROTOCOLS
async def test_pubrel_always_gets_pubcomp(protocol: str) -> None:
    """Known or not, and as often as it comes: the broker must be able to let go."""
    async with rig(protocol, qos=2) as ends:
        connection = await unreleased(ends)
        await connection.send(release(5) + release(5) + release(99))
        assert await sent(connection, 3) == [(PUBCOMP, 5), (PUBCOMP, 5), (PUBCOMP, 99)]


@PROTOCOLS
async def test_a_released_packet_id_brings_a_new_message(protocol: str) -> None:
    async with rig(protocol, qos=2) as ends:
        connection = await unreleased(ends)
        await connection.send(release(5) + ends.publish(5, b"once", qos=2))
        assert await sent(connection, 1) == [(PUBCOMP, 5)]
        await ends.handed_out(2)
        assert ends.messages[0].id != ends.messages[1].id


@PROTOCOLS
async def test_a_lost_session_forgets_what_was_not_released(protocol: str) -> None:
    async with rig(protocol, qos=2) as ends:
        connection = await ends.reconnect(await unreleased(ends), session_present=False)
        await connection.send(ends.publish(5, b"once", qos=2))
        await ends.handed_out(2)
        assert ends.messages[0].id != ends.messages[1].id
        ends.batches[1].settle()
        assert await sent_until_fence(connection) == [(PUBREC, 5)]


async def test_pubacks_and_pubrecs_leave_in_arrival_order() -> None:
    """[MQTT-4.6.0-2], [MQTT-4.6.0-3]"""
    async with rig(qos=2) as ends:
        connection = await ends.accept(qos=2)
        kinds = [1, 2, 2, 1, 0, 2, 1]
        await connection.send(b"".join(ends.publish(at + 1, qos=qos) for at, qos in enumerate(kinds)))
        await ends.handed_out(len(kinds))
        for batch in reversed(ends.batches):
            batch.settle()
        expected = [({1: PUBACK, 2: PUBREC}[qos], at + 1) for at, qos in enumerate(kinds) if qos]
        sent = await sent_until_fence(connection)
        for kind in (PUBACK, PUBREC):
            assert [ack for ack in sent if ack[0] == kind] == [ack for ack in expected if ack[0] == kind]
