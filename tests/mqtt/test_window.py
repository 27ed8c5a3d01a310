"""What is in flight is bounded by the session itself, in messages and in bytes (law 3)."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.mqtt.rig import DUP, PROTOCOLS, PUBACK, Rig, rig, sent, sent_until_fence
from tests.support.fake_broker import FakeConnection
from tests.support.wait import eventually

BUFFERS = 20 << 20
"""More than the two sockets' buffers and what is read ahead can hold."""


async def stands_still(connection: FakeConnection) -> int:
    """Return how many bytes the broker could not write, once that number does not change any more."""
    last, same = -1, 0

    def unchanged() -> bool:
        nonlocal last, same
        now = connection.unsent
        same = same + 1 if now == last else 0
        last = now
        return same >= 20

    await eventually(unchanged, "the broker's writing stops")
    return last


@PROTOCOLS
async def test_a_broker_that_ignores_receive_maximum_is_held_back_and_nothing_is_lost(protocol: str) -> None:
    """F15: ten times as many. Reading stops, so its bytes stay with it, and go on when there is room."""
    window, count, size = 40, 400, 100_000
    async with rig(protocol, receive_maximum=window) as ends:
        connection = await ends.accept()
        for number in range(count):
            connection.write(ends.publish(number + 1, b"%d" % number + bytes(size)))
        await ends.handed_out(window)
        assert await stands_still(connection) > count * size - window * size - BUFFERS > 0
        assert ends.session.unsettled == len(ends.messages) == window
        acks = asyncio.create_task(_settle_all(ends, count, window))
        assert await sent(connection, count) == [(PUBACK, number + 1) for number in range(count)]
        await acks
        assert [int(message.payload.rstrip(b"\0")) for message in ends.messages] == list(range(count))
        assert ends.session.reconnects == 0


async def _settle_all(ends: Rig, count: int, window: int) -> None:
    """Settle batch by batch; the window must hold at every moment that can be seen."""
    done = 0
    while len(ends.messages) < count or done < len(ends.batches):
        assert ends.session.unsettled <= window
        if done < len(ends.batches):
            ends.batches[done].settle()
            done += 1
        await asyncio.sleep(0)


async def test_payload_bytes_in_flight_are_bounded() -> None:
    """By `max_bytes`, and the one message that crosses it."""
    size, bound = 30_000, 100_000
    async with rig(max_bytes=bound) as ends:
        connection = await ends.accept()
        connection.write(b"".join(ends.publish(number + 1, bytes(size)) for number in range(30)))
        for settled in range(0, 30, 4):  # the fourth crosses the bound
            await ends.handed_out(min(settled + 4, 30))
            assert sum(len(message.payload) for message in ends.messages[settled:]) < bound + size
            for batch in ends.batches:
                batch.settle()
        assert ends.session.unsettled == 0


async def test_a_message_larger_than_the_whole_byte_window_still_passes() -> None:
    async with rig(max_bytes=1000) as ends:
        connection = await ends.accept()
        await connection.send(ends.publish(1, bytes(50_000)) + ends.publish(2, b"next"))
        for number in (1, 2):
            await ends.handed_out(number)
            ends.batches[-1].settle()
            assert await sent(connection, 1) == [(PUBACK, number)]


@PROTOCOLS
async def test_the_window_counts_what_ended_connections_left_unsettled(protocol: str) -> None:
    """They are still in memory; each reconnect would add a window otherwise."""
    async with rig(protocol, receive_maximum=3) as ends:
        connection = await ends.accept()
        for number in (1, 2):
            await connection.send(ends.publish(number))
            await ends.handed_out(number)
        connection = await ends.reconnect(connection)
        await connection.send(b"".join(ends.publish(number, flags=DUP) for number in (1, 2)) + ends.publish(3))
        await ends.handed_out(3)
        assert ends.session.unsettled == 3
        ends.batches[0].settle()
        ends.batches[1].settle()
        await ends.handed_out(5)
        assert ends.session.unsettled == 3


@PROTOCOLS
async def test_a_session_with_a_full_window_comes_up_again_and_answers_what_is_no_message(protocol: str) -> None:
    """Nothing can be settled while NATS is away for hours; that must not look as if the broker was away."""
    async with rig(protocol, receive_maximum=2) as ends:
        connection = await ends.accept()
        await connection.send(ends.publish(1) + ends.publish(2))
        await ends.handed_out(2)
        assert await sent_until_fence(connection) == []
        connection = await ends.reconnect(connection)
        assert ends.session.last_error is None
        await connection.send(ends.publish(3))
        ends.batches[0].settle()
        await eventually(lambda: len(ends.messages) > 2, "there is room again")


async def test_cancelling_receive_loses_nothing() -> None:
    """Whatever the moment: a message is either handed out or still there."""
    count, moments, found = 300, random.Random(5), []
    async with rig(taking=False, receive_maximum=7) as ends:
        connection = await ends.broker.connection()
        await connection.accept()
        for number in range(count):
            connection.write(ends.publish(number + 1, b"%d" % number))
        async with asyncio.timeout(20):
            while len(found) < count:
                receiving = asyncio.create_task(ends.session.receive())
                for _ in range(moments.randrange(4)):
                    await asyncio.sleep(0)
                receiving.cancel()
                await asyncio.wait([receiving])
                if not receiving.cancelled():
                    batch = receiving.result()
                    found += [int(message.payload) for message in batch.messages]
                    batch.settle()
        assert found == list(range(count))


@pytest.mark.slow
async def test_a_broker_that_can_not_be_heard_while_reading_is_paused_is_not_taken_for_dead() -> None:
    """Its PINGRESPs wait in the socket behind messages that there is no room for."""
    async with rig(keep_alive=1, receive_maximum=1) as ends:
        connection = await ends.accept()
        count = 300
        for number in range(count):
            connection.write(ends.publish(number + 1, bytes(100_000)))
        reading = asyncio.create_task(sent(connection, count + 1000))  # answers PINGREQ
        await eventually(lambda: connection.pings >= 6, "pings for three times the keep-alive")
        assert ends.session.up
        assert len(ends.messages) == 1
        settling = asyncio.create_task(_settle_all(ends, count, 1))
        await ends.handed_out(count)
        await settling
        assert ends.session.reconnects == 0
        reading.cancel()
        await asyncio.wait([reading])
