"""What every bridge must keep, whatever lies at its ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.conformance.conftest import Ends
from tests.conformance.driver import turns
from tests.conformance.sinks import TOO_LONG, SinkHarness
from tests.support.wait import eventually
from tidegate.bridge import Bridge, Converter, DeadLetters, Shape, new_decoder
from tidegate.core import BridgeCounters, Mapping, Sink, Source

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVENT_SOURCE = "urn:tidegate:test:law"


def _good_or_bad(number: int) -> bytes:
    """Return JSON, but for each seventh number what is none."""
    return b"not JSON: %d" % number if number % 7 == 3 else b"%d" % number


def _bad(numbers: range) -> set[int]:
    return {number for number in numbers if number % 7 == 3}


def _bridge(ends: Ends, source: Source, sink: Sink) -> Bridge:
    name = ends.sink.name
    mapping = Mapping("sensors/{site}/{device}/reading", f"{name}.event.{{device}}")
    shape = Shape(bridge="b", mapping=mapping, source=EVENT_SOURCE, type="com.example.law.v1")
    converter = Converter(shape, new_decoder("json"))
    letters = DeadLetters(sink, "law", EVENT_SOURCE, f"{name}.dead", converter.correlation_of)
    return Bridge("law", source, converter, sink, letters)


@asynccontextmanager
async def _running(ends: Ends, window: int = 64) -> AsyncIterator[Bridge]:
    """Run a bridge whose counters balance at every turn of the loop. It is stopped in order."""
    bridge = _bridge(ends, await ends.source.open(window), await ends.sink.open(window))
    running = asyncio.create_task(bridge.run())
    watching = asyncio.create_task(_watch(bridge.counters, running))
    try:
        yield bridge
        bridge.stop()
        await asyncio.wait_for(running, 20)
    finally:
        running.cancel()
        await asyncio.wait([running])
    await watching


async def _watch(counters: BridgeCounters, running: asyncio.Task[None]) -> None:
    """Look at the counters at every turn of the loop (law 6)."""
    while not running.done():
        assert counters.balanced
        assert counters.in_flight >= 0
        assert counters.spooled == 0
        await asyncio.sleep(0)
    assert counters.balanced


def _finished(counters: BridgeCounters) -> int:
    return counters.delivered + counters.dead_lettered.total()


async def _finish(bridge: Bridge, count: int) -> None:
    await eventually(lambda: _finished(bridge.counters) >= count, f"{count} messages are finished", 20)


async def _delivered(sink: SinkHarness) -> list[int]:
    """Return the numbers of the delivered events, in order, each copy of them."""
    return [json.loads(one.body)["data"] for one in await sink.stored() if not one.subject.endswith(".dead")]


async def _dead_letters(sink: SinkHarness) -> list[dict]:
    return [json.loads(one.body) for one in await sink.stored() if one.subject.endswith(".dead")]


async def test_everything_is_delivered_once_in_order_and_acknowledged(ends: Ends) -> None:
    async with _running(ends) as bridge:
        await ends.source.publish(range(200))
        await _finish(bridge, 200)
        assert (bridge.counters.received, bridge.counters.delivered) == (200, 200)
    assert await _delivered(ends.sink) == list(range(200))
    assert await ends.source.unacknowledged() == set()


async def test_one_bad_message_never_stops_a_good_one(ends: Ends) -> None:
    """Law 8: it is dead-lettered and acknowledged, and the connection stays."""
    sent = range(50)
    async with _running(ends) as bridge:
        await ends.source.publish(sent, _good_or_bad)
        await _finish(bridge, 50)
        assert bridge.counters.delivered == 50 - len(_bad(sent))
        assert bridge.counters.dead_lettered == {"decode_failed": len(_bad(sent))}
        assert ends.source.stale() == 0
    assert await _delivered(ends.sink) == [number for number in sent if number not in _bad(sent)]
    letters = await _dead_letters(ends.sink)
    assert [letter["size"] for letter in letters] == [len(_good_or_bad(number)) for number in sorted(_bad(sent))]
    assert {(letter["reason"], letter["stage"]) for letter in letters} == {("decode_failed", "convert")}
    assert await ends.source.unacknowledged() == set()


async def test_what_the_sink_refuses_becomes_a_dead_letter_and_the_rest_is_delivered(ends: Ends) -> None:
    """The dead letter would be refused too, so it is stored with less of the payload."""
    async with _running(ends) as bridge:
        await ends.source.publish(range(10), lambda n: b"%d" % n if n != 5 else b"5" + b" " * TOO_LONG)
        await _finish(bridge, 10)
        assert (bridge.counters.delivered, bridge.counters.dead_lettered) == (9, {"too_large": 1})
    assert await _delivered(ends.sink) == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    (letter,) = await _dead_letters(ends.sink)
    assert (letter["reason"], letter["stage"], letter["size"]) == ("too_large", "deliver", TOO_LONG + 1)
    assert letter["truncated"]
    assert await ends.source.unacknowledged() == set()


async def test_nothing_is_acknowledged_that_is_not_durable(ends: Ends) -> None:
    """Law 1 and law 2: a bridge that is cancelled settles nothing more."""
    bridge = _bridge(ends, await ends.source.open(), await ends.sink.open())
    ends.sink.hold()
    running = asyncio.create_task(bridge.run())
    await ends.source.publish(range(6), _good_or_bad)
    await eventually(lambda: bridge.counters.in_flight == 6, "the bridge has them in flight")
    await turns(20)
    running.cancel()
    await asyncio.wait([running])
    assert (bridge.counters.in_flight, _finished(bridge.counters)) == (6, 0)
    assert bridge.counters.balanced
    assert await ends.source.unacknowledged() == set(range(6))


async def test_while_the_sink_hangs_the_bridge_holds_its_window_and_loses_nothing(ends: Ends) -> None:
    async with _running(ends, window=8) as bridge:
        ends.sink.hold()
        await ends.source.publish(range(40), _good_or_bad)
        await eventually(lambda: bridge.counters.in_flight == 8, "the window is full")
        await turns(50)
        assert (bridge.counters.in_flight, bridge.counters.received) == (8, 8)
        ends.sink.release()
        await _finish(bridge, 40)
    assert await _delivered(ends.sink) == [number for number in range(40) if number not in _bad(range(40))]
    assert await ends.source.unacknowledged() == set()


async def test_stopped_with_messages_in_flight_it_finishes_them(ends: Ends) -> None:
    async with _running(ends, window=8) as bridge:
        ends.sink.hold()
        await ends.source.publish(range(20))
        await eventually(lambda: bridge.counters.in_flight == 8, "the window is full")
        bridge.stop()
        await turns(20)
        ends.sink.release()
    taken = bridge.counters.received
    assert (bridge.counters.in_flight, bridge.counters.delivered) == (0, taken)
    assert await _delivered(ends.sink) == list(range(taken))
    assert await ends.source.unacknowledged() == set(range(taken, 20))


async def test_through_a_cut_and_a_hanging_sink_everything_arrives(ends: Ends) -> None:
    """Nothing is settled at the cut, so that what comes again is known by its id and is stored once."""
    sent = range(30)
    async with _running(ends) as bridge:
        ends.sink.hold()
        await ends.source.publish(sent, _good_or_bad)
        await eventually(lambda: bridge.counters.in_flight == 30, "everything is in flight")
        await ends.source.cut()
        ends.sink.release()
        await _finish(bridge, 60)
        assert ends.source.stale() == 30
    delivered = await _delivered(ends.sink)
    assert set(delivered) == set(sent) - _bad(sent)
    if ends.source.keeps_ids:
        assert len(delivered) == len(set(delivered))
        assert len(await _dead_letters(ends.sink)) == len(_bad(sent))
    assert await ends.source.unacknowledged() == set()


async def test_through_the_death_of_the_sinks_server_everything_is_stored_once(ends: Ends) -> None:
    sent = range(120)
    async with _running(ends) as bridge:
        publishing = asyncio.create_task(ends.source.publish(sent, _good_or_bad))
        await _finish(bridge, 10)
        await ends.sink.crash()
        await publishing
        await _finish(bridge, len(sent))
    assert sorted(await _delivered(ends.sink)) == sorted(set(sent) - _bad(sent))
    assert len(await _dead_letters(ends.sink)) == len(_bad(sent))
    assert await ends.source.unacknowledged() == set()
