"""What every source must keep."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.conformance.driver import CANCELLED, MOMENTS, cancel_after, cancel_at, turns
from tests.conformance.sources import WINDOW, SourceHarness, numbers, take
from tidegate.core import Batch, Source

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def _one_by_one(source: SourceHarness, opened: Source, wanted: range) -> list[Batch]:
    """Publish and receive numbers so that each is a batch of its own."""
    batches = []
    for number in wanted:
        await source.publish([number])
        batches += await take(opened, 1)
    assert numbers(batches) == list(wanted)
    return batches


def _ids(batches: list[Batch]) -> dict[int, str]:
    return {int(message.payload): message.id for batch in batches for message in batch.messages}


async def _nothing_comes(opened: Source) -> bool:
    """Whether `receive` waits. What must not come can't be awaited, so this gives it a moment."""
    receiving = asyncio.create_task(opened.receive())
    done, _ = await asyncio.wait([receiving], timeout=0.1)
    receiving.cancel()
    await asyncio.wait([receiving])
    return not done


async def test_everything_published_is_received_once_in_order_and_settled(source: SourceHarness) -> None:
    opened = await source.open()
    publishing = asyncio.create_task(source.publish(range(WINDOW * 5)))
    received: list[int] = []
    while len(received) < WINDOW * 5:
        for batch in await take(opened, 1):
            received += numbers([batch])
            batch.settle()
    await publishing
    assert received == list(range(WINDOW * 5))
    assert await _nothing_comes(opened)
    assert await source.unacknowledged() == set()


async def test_what_was_published_while_the_source_was_closed_comes_when_it_opens(source: SourceHarness) -> None:
    await source.open()
    await source.close()
    await source.publish(range(4))
    assert numbers(await take(await source.open(), 4)) == list(range(4))


async def test_nothing_is_acknowledged_before_it_is_settled(source: SourceHarness) -> None:
    opened = await source.open()
    await source.publish(range(4))
    await take(opened, 4)
    await source.close()
    again = await take(await source.open(), 4)
    assert sorted(numbers(again)) == list(range(4))
    assert await source.unacknowledged() == set(range(4))


async def test_what_is_settled_does_not_come_again(source: SourceHarness) -> None:
    opened = await source.open()
    batches = await _one_by_one(source, opened, range(4))
    for batch in batches[:3]:
        batch.settle()
    await source.close()
    again = await take(await source.open(), 1)
    assert numbers(again) == [3]
    assert await source.unacknowledged() == {3}


async def test_cut_in_the_middle_everything_unsettled_comes_again_with_its_id(source: SourceHarness) -> None:
    opened = await source.open()
    first = await _one_by_one(source, opened, range(3))
    await source.cut()
    again = await take(opened, 3)
    assert sorted(numbers(again)) == [0, 1, 2]
    if source.keeps_ids:
        assert _ids(again) == _ids(first)
    for batch in again:
        batch.settle()
    assert await source.unacknowledged() == set()


async def test_messages_flow_through_many_cuts_and_none_is_lost(source: SourceHarness) -> None:
    """Every other batch is settled, so that each cut finds some settled and some not."""
    opened = await source.open()
    received: set[int] = set()
    for life in range(3):
        fresh = set(range(life * 4, life * 4 + 4))
        await source.publish(sorted(fresh))
        batches = []
        while not fresh <= received:
            batches += await take(opened, 1)
            received |= set(numbers(batches))
            batches[0].settle()
        await source.cut()
        for batch in batches:
            batch.settle()
    await source.publish([12])
    received |= await _settle_until(source, opened, 12)
    assert received == set(range(13))
    assert await source.unacknowledged() == set()


async def _settle_until(source: SourceHarness, opened: Source, last: int) -> set[int]:
    """Receive and settle everything up to the last number, and whatever a broker sends again after that."""
    received: set[int] = set()

    async def settle_next() -> None:
        (batch,) = await take(opened, 1)
        batch.settle()
        received.update(numbers([batch]))

    while last not in received:
        await settle_next()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(source.resend_delay):
            while source.resend_delay:
                await settle_next()
    return received


async def test_a_source_hands_out_its_window_and_no_more_until_it_is_settled(source: SourceHarness) -> None:
    opened = await source.open()
    await source.publish(range(WINDOW * 3))
    held = await take(opened, WINDOW)
    received = numbers(held)
    assert received == list(range(WINDOW))
    assert await _nothing_comes(opened)
    while held:
        held.pop(0).settle()
        if len(received) < WINDOW * 3:
            fresh = await take(opened, 1)
            received += numbers(fresh)
            held += fresh
            assert sum(len(batch.messages) for batch in held) <= WINDOW
    assert received == list(range(WINDOW * 3))
    assert await source.unacknowledged() == set()


async def test_batches_can_be_settled_in_any_order(source: SourceHarness) -> None:
    opened = await source.open()
    batches = await _one_by_one(source, opened, range(6))
    for position in (5, 0, 3, 1, 4, 2):
        batches[position].settle()
    assert await source.unacknowledged() == set()


async def test_settling_a_later_batch_does_not_acknowledge_an_earlier_one(source: SourceHarness) -> None:
    opened = await source.open()
    batches = await _one_by_one(source, opened, range(4))
    for batch in batches[2:]:
        batch.settle()
    assert {0, 1} <= await source.unacknowledged()


async def test_settling_twice_acknowledges_nothing_else(source: SourceHarness) -> None:
    opened = await source.open()
    batches = await _one_by_one(source, opened, range(3))
    for _ in range(3):
        batches[0].settle()
    assert batches[0].settled
    assert source.stale() == 0
    assert await source.unacknowledged() == {1, 2}


async def test_settling_twice_makes_no_room_for_more_than_the_window(source: SourceHarness) -> None:
    opened = await source.open()
    batches = await _one_by_one(source, opened, range(WINDOW))
    await source.publish(range(WINDOW, WINDOW * 2))
    for _ in range(3):
        batches[0].settle()
    assert numbers(await take(opened, 1)) == [WINDOW]
    assert await _nothing_comes(opened)


async def test_a_batch_from_before_a_cut_acknowledges_nothing_after_it(source: SourceHarness) -> None:
    """Law 5: packet identifiers are used again, so an old acknowledgement could hit a new message."""
    opened = await source.open()
    old = await _one_by_one(source, opened, range(3))
    await source.cut()
    for batch in old:
        batch.settle()
    assert source.stale() == 3
    again = await take(opened, 3)
    assert sorted(numbers(again)) == [0, 1, 2]
    for batch in old:
        batch.settle()
    assert source.stale() == 3
    assert await source.unacknowledged() == {0, 1, 2}


async def test_a_window_full_of_stale_batches_opens_once_they_are_settled(source: SourceHarness) -> None:
    """They are still in somebody's hands, so they count; but they must not stop the source for ever."""
    opened = await source.open()
    old = await _one_by_one(source, opened, range(WINDOW))
    await source.cut()
    assert await _nothing_comes(opened)
    for batch in old:
        batch.settle()
    again = await take(opened, WINDOW)
    assert sorted(numbers(again)) == list(range(WINDOW))


@pytest.mark.parametrize("moment", MOMENTS)
async def test_receive_cancelled_at_any_await_loses_no_message(source: SourceHarness, moment) -> None:
    """Each round starts with nothing waiting, so that `receive` comes past each of its suspensions."""
    opened = await source.open(window=64)
    suspension, outcome = 0, CANCELLED
    while outcome is CANCELLED:
        suspension += 1
        assert suspension < 30
        receiving = asyncio.create_task(cancel_at(opened.receive(), suspension, moment))
        await turns(3)
        await source.publish([suspension])
        outcome = await asyncio.wait_for(receiving, 20)
        received = await take(opened, 1) if outcome is CANCELLED else [outcome]
        assert numbers(received) == [suspension]
    assert suspension > 1, "it was cancelled at least once"
    assert await _nothing_comes(opened)


async def test_receive_cancelled_at_any_turn_of_the_loop_loses_no_message(source: SourceHarness) -> None:
    opened = await source.open(window=64)
    for turn in range(0, 60, 2):
        publishing = asyncio.create_task(source.publish([turn]))
        outcome = await cancel_after(opened.receive(), turn)
        received = await take(opened, 1) if outcome is CANCELLED else [outcome]
        await publishing
        assert numbers(received) == [turn]
    assert await _nothing_comes(opened)
