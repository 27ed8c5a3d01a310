"""The bridge between in-process ends: what is settled when (laws 1, 2, 6 and 8)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from tests.bridge.messages import converter, dead_letters, shaped
from tests.support.wait import eventually
from tidegate.bridge import Bridge, Converter
from tidegate.core import BridgeCounters, DeliveryError, Encoded, Outcome, Refused
from tidegate.memory import MemorySink, MemorySource


class Setup:
    """A bridge with its ends, and its task."""

    def __init__(self, window: int = 1000, sink: MemorySink | None = None, some: Converter | None = None) -> None:
        self.source = MemorySource(window)
        self.sink = sink or MemorySink()
        self.dead = MemorySink()
        self.bridge = Bridge("b", self.source, some or converter(), self.sink, dead_letters(self.dead))
        self.task = asyncio.create_task(self.bridge.run())

    @property
    def counters(self) -> BridgeCounters:
        """The bridge's counters."""
        return self.bridge.counters

    def put(self, count: int, payload: bytes = b"1") -> list[str]:
        """Hand in messages; return their ids."""
        return [self.source.put(f"a/{n}", payload).id for n in range(count)]

    async def stopped(self) -> None:
        """Stop in order."""
        self.bridge.stop()
        async with asyncio.timeout(10):
            await self.task

    async def settled(self, count: int) -> None:
        """Return once that many messages are settled."""
        await eventually(lambda: len(self.source.settled) >= count, f"{count} messages are settled")


async def _watch(counters: BridgeCounters) -> None:
    while True:
        assert counters.balanced
        await asyncio.sleep(0)


@asynccontextmanager
async def running(
    window: int = 1000, sink: MemorySink | None = None, some: Converter | None = None
) -> AsyncIterator[Setup]:
    """Run a bridge. Its counters must balance whenever anyone looks, until the end."""
    setup = Setup(window, sink, some)
    watch = asyncio.create_task(_watch(setup.counters))
    try:
        yield setup
        assert not watch.done()
        assert setup.counters.balanced
    finally:
        for task in (watch, setup.task):
            task.cancel()
        await asyncio.wait([watch, setup.task])


async def settle_all_that_can() -> None:
    """Let every task run that can, so that what should not happen would have."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_messages_arrive_in_order_and_are_settled() -> None:
    async with running(window=7) as setup:
        ids = setup.put(500)
        await setup.settled(500)
        assert list(setup.sink.stored) == ids == [message.id for message in setup.source.settled]
        await setup.stopped()
        counters = setup.counters
        assert (counters.received, counters.delivered, counters.in_flight) == (500, 500, 0)
        assert counters.received_bytes == 500
        assert counters.delivered_bytes == sum(len(event.body) for event in setup.sink.stored.values())
        assert sum(counters.delivery_duration.counts) == 500


async def test_law_1_nothing_is_settled_before_the_sink_says_that_it_is_durable() -> None:
    async with running() as setup:
        setup.sink.holding = True
        setup.put(10)
        await eventually(lambda: setup.sink.in_flight == 10, "the sink has taken them")
        await settle_all_that_can()
        assert setup.source.settled == []
        assert (setup.counters.in_flight, setup.counters.delivered) == (10, 0)
        setup.sink.release()
        await setup.settled(10)
        await eventually(lambda: setup.counters.delivered == 10)


async def test_law_1_nothing_is_settled_before_its_dead_letter_is_durable() -> None:
    """And the good messages of its batch wait with it, because a batch is settled as one."""
    async with running() as setup:
        setup.dead.holding = True
        setup.put(3)
        setup.put(1, b"{bad")
        await eventually(lambda: setup.dead.in_flight == 1, "the dead letter is on its way")
        await settle_all_that_can()
        assert len(setup.sink.stored) == 3
        assert setup.source.settled == []
        setup.dead.release()
        await setup.settled(4)


async def test_law_2_each_message_is_settled_once() -> None:
    async with running(window=10) as setup:
        ids = setup.put(200) + setup.put(20, b"bad")
        await setup.settled(220)
        await setup.stopped()
        assert Counter(message.id for message in setup.source.settled) == Counter(ids)
        assert setup.source.unsettled == 0


async def test_law_6_what_is_refused_becomes_a_dead_letter_and_is_counted_by_its_reason() -> None:
    async with running(window=50) as setup:

        def refuse(event: Encoded) -> DeliveryError | None:
            number = int(event.message.payload)
            return {1: DeliveryError("too_large", "x"), 2: DeliveryError("refused", "y")}.get(number % 10)

        setup.sink.refuse = refuse
        ids = [setup.source.put("a", str(n).encode()).id for n in range(100)]
        bad = setup.put(5, b"NaN")
        bad_topic = setup.source.put("a/+", b"1").id
        await setup.settled(106)
        await setup.stopped()
        assert setup.counters.dead_lettered == {"too_large": 10, "refused": 10, "decode_failed": 5, "topic_invalid": 1}
        assert setup.counters.delivered == len(setup.sink.stored) == 80
        assert set(setup.dead.stored) == {*ids[1::10], *ids[2::10], *bad, bad_topic}
        assert not setup.dead.stored.keys() & setup.sink.stored.keys()


async def test_law_8_one_bad_message_never_stops_a_good_one() -> None:
    async with running(window=1) as setup:
        for _ in range(50):
            setup.put(1, b"{bad")
            setup.put(1, b"1")
        await setup.settled(100)
        await setup.stopped()
        assert (len(setup.sink.stored), len(setup.dead.stored)) == (50, 50)


async def test_a_window_full_of_unsettled_messages_stops_the_reading() -> None:
    """Law 3: back-pressure."""
    async with running(window=20) as setup:
        setup.sink.holding = True
        setup.put(100)
        await eventually(lambda: setup.sink.in_flight == 20)
        await settle_all_that_can()
        assert (setup.counters.received, setup.source.unsettled) == (20, 20)
        setup.sink.release()
        await setup.settled(100)


async def test_stop_settles_what_is_in_flight_and_takes_no_more() -> None:
    async with running(window=10) as setup:
        setup.sink.holding = True
        ids = setup.put(10)
        await eventually(lambda: setup.sink.in_flight == 10)
        setup.bridge.stop()
        setup.put(5)
        await settle_all_that_can()
        assert not setup.task.done()
        setup.sink.release()
        await setup.stopped()
        assert [message.id for message in setup.source.settled] == ids
        assert (setup.counters.received, setup.counters.in_flight) == (10, 0)


async def test_stop_settles_also_what_waits_for_room_in_the_sink() -> None:
    async with running(window=100, sink=MemorySink(window=10)) as setup:
        setup.sink.holding = True
        setup.put(10)
        await eventually(lambda: setup.sink.in_flight == 10)
        setup.put(5)
        await eventually(lambda: setup.counters.received == 15, "the second batch waits for room")
        setup.bridge.stop()
        await settle_all_that_can()
        setup.sink.release()
        await setup.stopped()
        assert len(setup.source.settled) == 15
        assert (setup.counters.delivered, setup.counters.in_flight) == (15, 0)


@pytest.mark.parametrize("early", [True, False])
async def test_stop_without_messages_ends_the_bridge(early: bool) -> None:
    async with running() as setup:
        if not early:
            await settle_all_that_can()
        await setup.stopped()
        setup.bridge.stop()
        assert setup.counters.received == 0


async def test_law_2_cancelling_settles_nothing_and_all_of_it_comes_again() -> None:
    async with running() as setup:
        setup.sink.holding = True
        ids = setup.put(10)
        await eventually(lambda: setup.sink.in_flight == 10)
        setup.task.cancel()
        await asyncio.wait([setup.task])
        setup.sink.release()
        await settle_all_that_can()
        assert setup.source.settled == []
        assert setup.counters.in_flight == 10
        setup.source.reconnect()
        assert [message.id for message in (await setup.source.receive()).messages] == ids


async def test_law_5_what_comes_again_after_a_reconnect_is_stored_once_and_settled_in_its_own_epoch() -> None:
    async with running(window=100) as setup:
        setup.sink.holding = True
        ids = setup.put(10)
        await eventually(lambda: setup.sink.in_flight == 10)
        setup.source.reconnect()
        await eventually(lambda: setup.sink.in_flight == 20, "they came again")
        setup.sink.release()
        await setup.settled(10)
        await setup.stopped()
        assert [message.id for message in setup.source.settled] == ids
        assert setup.source.stale == 10
        assert list(setup.sink.stored) == ids
        assert setup.sink.duplicates == 10


async def test_law_6_a_message_that_becomes_many_events_or_none_is_counted_once() -> None:
    async with running(window=50, some=shaped(each="@", filter="@ < `90`")) as setup:

        def refuse(event: Encoded) -> DeliveryError | None:
            return DeliveryError("too_large", "x") if event.body.endswith(b'"data":7}') else None

        setup.sink.refuse = refuse
        whole = [setup.source.put("a", b"[1,2,3]").id for _ in range(20)]
        partly = [setup.source.put("a", b"[1,91,7,7]").id for _ in range(3)]
        for _ in range(4):
            setup.source.put("a", b"[91,92]")
        bad = setup.source.put("a", b"{}").id
        await setup.settled(28)
        await setup.stopped()
        counters = setup.counters
        assert (counters.received, counters.delivered, counters.filtered, counters.in_flight) == (28, 20, 4, 0)
        assert counters.dead_lettered == {"too_large": 3, "normalise_failed": 1}
        assert set(setup.dead.stored) == {*partly, bad}
        assert {event.message.id for event in setup.sink.stored.values()} == {*whole, *partly}
        assert len(setup.sink.stored) == 20 * 3 + 3


async def test_law_1_a_message_that_becomes_many_events_is_settled_after_the_last_of_them() -> None:
    async with running(sink=MemorySink(window=4), some=shaped(each="@")) as setup:
        setup.sink.holding = True
        for payload in (b"[1,2]", b"[" + b" " * 70_000 + b"3]", b"[4,5]"):
            setup.source.put("a", payload)
        await eventually(lambda: setup.sink.in_flight >= 2, "the first are on their way")
        await settle_all_that_can()
        assert setup.source.settled == []
        setup.sink.release()
        await setup.settled(3)
        assert [event.body[-2:] for event in setup.sink.stored.values()] == [b"%d}" % n for n in range(1, 6)]


class SplitSink(MemorySink):
    """A sink that refuses the first event of a send and spools the others."""

    async def send(self, events: Sequence[Encoded]) -> asyncio.Future[Outcome]:
        """See `Sink.send`."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        refused = [Refused(event, DeliveryError("too_large", "x")) for event in events[:1]]
        future.set_result(Outcome(refused, spooled=events[1:]))
        return future


async def test_law_6_a_message_of_which_one_part_is_refused_and_another_spooled_is_spooled() -> None:
    """All of its parts come again from there, and what is refused then becomes a dead letter: one, and not two."""
    async with running(sink=SplitSink(), some=shaped(each="@")) as setup:
        setup.source.put("a", b"[1,2]")
        await setup.settled(1)
        await setup.stopped()
        counters = setup.counters
        assert (counters.received, counters.spooled, counters.delivered, counters.in_flight) == (1, 1, 0, 0)
        assert not counters.dead_lettered
        assert not setup.dead.stored


class BrokenSink(MemorySink):
    """A sink with a defect."""

    async def send(self, events: Sequence[Encoded]) -> asyncio.Future[list[Refused]]:
        """Fail."""
        raise RuntimeError(f"a defect with {len(events)} events")


async def test_a_defect_ends_the_bridge_with_its_error_and_settles_nothing() -> None:
    async with running(sink=BrokenSink()) as setup:
        setup.put(1)
        with pytest.raises(ExceptionGroup) as raised:
            async with asyncio.timeout(10):
                await asyncio.shield(setup.task)
        assert raised.group_contains(RuntimeError, match="a defect")
        assert setup.source.settled == []
