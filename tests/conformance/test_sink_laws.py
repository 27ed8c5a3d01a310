"""What every sink must keep."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from tests.conformance.driver import CANCELLED, MOMENTS, cancel_after, cancel_at, turns
from tests.conformance.sinks import WINDOW, SinkHarness, event, events, refusable, stored_numbers
from tests.support.wait import eventually
from tidegate.core import Outcome

pytestmark = pytest.mark.asyncio(loop_scope="module")

Result = asyncio.Future[Outcome]


async def _all_stored(futures: list[Result]) -> None:
    """Wait until every future is done; none may have refused anything."""
    async with asyncio.timeout(30):
        assert [list((await future).refused) for future in futures] == [[]] * len(futures)


async def _waits(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Start something that must wait, and see that it does: what must not happen is given a moment."""
    task = asyncio.create_task(coroutine)
    done, _ = await asyncio.wait([task], timeout=0.1)
    assert not done
    return task


async def test_everything_sent_is_stored_once_in_order(sink: SinkHarness) -> None:
    opened = await sink.open(window=64)
    await _all_stored([await opened.send(events(sink, range(n, n + 10))) for n in range(0, 200, 10)])
    assert await stored_numbers(sink) == list(range(200))


async def test_a_future_is_not_done_before_its_events_are_durable(sink: SinkHarness) -> None:
    opened = await sink.open()
    sink.hold()
    futures = [await opened.send(events(sink, range(2))), await opened.send(events(sink, range(2, 4)))]
    done, _ = await asyncio.wait(futures, timeout=0.1)
    assert not done
    sink.release()
    await _all_stored(futures)
    assert await stored_numbers(sink) == list(range(4))


async def test_sending_nothing_is_done_at_once(sink: SinkHarness) -> None:
    """A batch of which nothing became an event is settled like any other."""
    opened = await sink.open()
    await _all_stored([await opened.send([])])


async def test_an_event_sent_again_is_stored_once(sink: SinkHarness) -> None:
    opened = await sink.open()
    for _ in range(3):
        await _all_stored([await opened.send(events(sink, range(3)))])
    assert await stored_numbers(sink) == [0, 1, 2]


async def test_one_refused_event_stops_no_other_and_is_listed(sink: SinkHarness) -> None:
    opened = await sink.open()
    good = events(sink, range(5))
    bad = refusable(sink, 5)
    refused = (await asyncio.wait_for(await opened.send([*good[:2], bad, *good[2:]]), 20)).refused
    assert [one.event for one in refused] == [bad]
    assert refused[0].error.reason == "too_large"
    await _all_stored([await opened.send([event(sink, 6)])])
    assert await stored_numbers(sink) == [0, 1, 2, 3, 4, 6]


async def test_a_batch_of_refused_events_alone_is_done(sink: SinkHarness) -> None:
    opened = await sink.open()
    bad = [refusable(sink, number) for number in range(3)]
    refused = (await asyncio.wait_for(await opened.send(bad), 20)).refused
    assert [one.event for one in refused] == bad
    assert await sink.stored() == []


async def test_with_a_full_window_send_waits_and_then_goes_on_in_order(sink: SinkHarness) -> None:
    opened = await sink.open()
    sink.hold()
    futures = [await opened.send(events(sink, range(WINDOW)))]

    async def send_rest() -> None:
        for number in range(WINDOW, WINDOW * 3):
            futures.append(await opened.send([event(sink, number)]))

    sending = await _waits(send_rest())
    assert len(futures) == 1
    sink.release()
    await asyncio.wait_for(sending, 20)
    await _all_stored(futures)
    assert await stored_numbers(sink) == list(range(WINDOW * 3))


async def test_more_events_than_the_window_are_taken_when_nothing_else_is_in_flight(sink: SinkHarness) -> None:
    """A source's batch may be larger than a sink's window; waiting for room would be waiting for ever."""
    opened = await sink.open()
    async with asyncio.timeout(20):
        futures = [await opened.send(events(sink, range(n, n + WINDOW * 2))) for n in (0, WINDOW * 2)]
    await _all_stored(futures)
    assert await stored_numbers(sink) == list(range(WINDOW * 4))


async def test_killed_in_the_middle_the_server_has_everything_once_in_the_end(sink: SinkHarness) -> None:
    """Once with a full window that nothing of is durable, once in full flow."""
    opened = await sink.open(window=64)
    futures: list[Result] = []

    async def send_all() -> None:
        for first in range(0, 600, 10):
            futures.append(await opened.send(events(sink, range(first, first + 10))))

    sink.hold()
    sending = await _waits(send_all())
    await sink.crash()
    await eventually(lambda: len(futures) > 20, "events flow again")
    await sink.crash()
    await asyncio.wait_for(sending, 30)
    await _all_stored(futures)
    assert sorted(await stored_numbers(sink)) == list(range(600))


async def test_a_future_that_its_caller_cancelled_stops_no_other(sink: SinkHarness) -> None:
    opened = await sink.open()
    sink.hold()
    futures = [await opened.send([event(sink, number)]) for number in range(4)]
    futures[1].cancel()
    sink.release()
    await _all_stored(futures[:1] + futures[2:])
    await _all_stored([await opened.send(events(sink, range(4, 4 + WINDOW)))])
    assert await stored_numbers(sink) == list(range(4 + WINDOW))


async def test_closing_cancels_what_is_in_flight_and_leaves_no_task(sink: SinkHarness) -> None:
    before = asyncio.all_tasks()
    opened = await sink.open()
    await _all_stored([await opened.send([event(sink, 0)])])
    sink.hold()
    futures = [await opened.send([event(sink, number)]) for number in range(1, 4)]
    await turns(10)
    await sink.close()
    assert all(future.cancelled() for future in futures)
    sink.release()
    # What the sink's connection does for itself, such as a ping, comes and goes; a task left behind stays.
    await eventually(lambda: not asyncio.all_tasks() - before, "no task is left")


async def test_what_a_closed_sink_had_not_finished_can_be_sent_by_the_next(sink: SinkHarness) -> None:
    """Under the same id it is stored once, whether the first try got there or not."""
    opened = await sink.open()
    sink.hold()
    await opened.send(events(sink, range(4)))
    await sink.close()
    sink.release()
    opened = await sink.open()
    await _all_stored([await opened.send(events(sink, range(6)))])
    assert sorted(await stored_numbers(sink)) == list(range(6))


@pytest.mark.parametrize("moment", MOMENTS)
async def test_send_cancelled_at_any_await_takes_nothing(sink: SinkHarness, moment) -> None:
    """Each round finds the window full and another send in the queue before it, and behind it a third, which must get
    its turn all the same."""
    opened = await sink.open()
    wanted: list[int] = []
    suspension, outcome = 0, CANCELLED
    while outcome is CANCELLED:
        suspension += 1
        first = suspension * 100
        sink.hold()
        futures = [await opened.send(events(sink, range(first, first + WINDOW)))]
        before = asyncio.create_task(opened.send([event(sink, first + 20)]))
        await turns(3)
        sending = asyncio.create_task(cancel_at(opened.send([event(sink, first + 21)]), suspension, moment))
        await turns(3)
        behind = asyncio.create_task(opened.send([event(sink, first + 22)]))
        await turns(3)
        sink.release()
        async with asyncio.timeout(20):
            outcome, *others = await asyncio.gather(sending, before, behind)
        futures += others if outcome is CANCELLED else [others[0], outcome, others[1]]
        await _all_stored(futures)
        wanted += [*range(first, first + WINDOW), first + 20, first + 21, first + 22]
        if outcome is CANCELLED:
            wanted.remove(first + 21)
        assert suspension < 30
    assert suspension > 1, "it was cancelled at least once"
    assert sorted(await stored_numbers(sink)) == sorted(wanted)


async def test_send_cancelled_at_any_turn_of_the_loop_takes_all_or_nothing(sink: SinkHarness) -> None:
    opened = await sink.open()
    wanted: list[int] = []
    for turn in range(30):
        mine = range(turn * 10, turn * 10 + 5)
        outcome = await cancel_after(opened.send(events(sink, mine)), turn % 10)
        if outcome is not CANCELLED:
            wanted += mine
            if turn % 2:
                await _all_stored([outcome])
    await _all_stored([await opened.send([event(sink, 1000)])])
    assert await stored_numbers(sink) == [*wanted, 1000]
