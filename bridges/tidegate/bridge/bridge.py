"""A bridge: one source, one sink, and what happens in between."""

from __future__ import annotations

import asyncio
import time
from operator import attrgetter
from typing import NamedTuple

from tidegate.bridge.convert import Converter
from tidegate.bridge.dead_letter import DeadLetters, Rejected
from tidegate.core import Batch, BridgeCounters, Encoded, Histogram, Outcome, Sink, Source

MAX_BATCHES = 1024
"""Batches on their way at once. The source's window is the bound that counts; this one holds for tiny batches."""


NOTHING = Outcome()
"""What is to be said where there was nothing to bury."""


class _Sent(NamedTuple):
    """A batch on its way: its events, what could not become one, and what will become of them."""

    batch: Batch
    events: list[Encoded]
    rejected: list[Rejected]
    outcome: asyncio.Future[Outcome]


class Bridge:
    """Moves messages from a source to a sink, and settles each batch once every message of it is durable.

    Two loops share the work, so that batches overlap: one takes, converts and sends; the other waits for the oldest
    batch, stores its dead letters and settles it.
    """

    def __init__(self, name: str, source: Source, converter: Converter, sink: Sink, dead_letters: DeadLetters) -> None:
        self.name = name
        self.counters = BridgeCounters()
        self._source = source
        self._converter = converter
        self._sink = sink
        self._dead_letters = dead_letters
        self._sent: asyncio.Queue[_Sent] = asyncio.Queue(MAX_BATCHES)
        self._stopping = asyncio.Event()
        self._waiting = False

    async def run(self) -> None:
        """Work until `stop`, then return once everything in flight is settled. Cancelling settles nothing more."""
        async with asyncio.TaskGroup() as tasks:
            forward = tasks.create_task(self._forward(), name=f"bridge {self.name} forward")
            settle = tasks.create_task(self._settle(), name=f"bridge {self.name} settle")
            await self._stopping.wait()
            if self._waiting:
                forward.cancel()
            await asyncio.wait([forward])  # to await it itself would take our own cancellation for its
            await self._sent.join()
            settle.cancel()

    def stop(self) -> None:
        """Take no more messages. What is in flight goes on."""
        self._stopping.set()

    async def _forward(self) -> None:
        while not self._stopping.is_set():
            self._waiting = True
            batch = await self._source.receive()
            self._waiting = False
            self._count_received(batch)
            events, rejected = self._converter.convert(batch)
            outcome = await self._sink.send(events)
            await self._sent.put(_Sent(batch, events, rejected, outcome))
            await asyncio.sleep(0)  # what was sent leaves before the next batch is worked on

    async def _settle(self) -> None:
        while True:
            sent = await self._sent.get()
            outcome = await sent.outcome
            rejected = sent.rejected + [Rejected(event.message, error, "deliver") for event, error in outcome.refused]
            buried = await self._dead_letters.store(rejected) if rejected else NOTHING
            sent.batch.settle()
            self._count_settled(sent, outcome, rejected, buried)
            self._sent.task_done()

    def _count_received(self, batch: Batch) -> None:
        counters = self.counters
        counters.received += len(batch.messages)
        counters.received_bytes += sum(map(_SIZE, batch.messages))
        counters.in_flight += len(batch.messages)

    def _count_settled(self, sent: _Sent, outcome: Outcome, rejected: list[Rejected], buried: Outcome) -> None:
        counters = self.counters
        delivered = sent.events
        if outcome.refused or outcome.spooled or outcome.dropped:
            elsewhere = {id(event) for event in (*outcome.spooled, *outcome.dropped)}
            elsewhere |= {id(event) for event, _ in outcome.refused}
            delivered = [event for event in sent.events if id(event) not in elsewhere]
        counters.delivered += len(delivered)
        counters.delivered_bytes += sum(map(len, map(_BODY, delivered)))
        not_dead = {event.id for event in (*buried.spooled, *buried.dropped)}
        for one in rejected:
            if one.message.id not in not_dead:
                counters.dead_lettered[one.error.reason] += 1
        counters.spooled += len(outcome.spooled) + len(buried.spooled)
        if dropped := len(outcome.dropped) + len(buried.dropped):
            counters.dropped["spool_full"] += dropped
        counters.in_flight -= len(sent.batch.messages)
        if delivered:
            _observe(counters.delivery_duration, delivered)


_SIZE = attrgetter("size")
_BODY = attrgetter("body")


def _observe(durations: Histogram, delivered: list[Encoded]) -> None:
    """Count the time from receipt until now. What came together was received at the same time."""
    now = time.time()
    first = delivered[0].message.received
    if first == delivered[-1].message.received:
        durations.observe(max(0.0, now - first), len(delivered))
        return
    for event in delivered:
        durations.observe(max(0.0, now - event.message.received))
