"""A bridge: one source, one sink, and what happens in between."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple, Protocol

from tidegate.bridge.convert import Converted
from tidegate.bridge.dead_letter import DeadLetters, Rejected
from tidegate.core import Batch, BridgeCounters, Encoded, Message, Outcome, Sink, Source

MAX_BATCHES = 1024
"""Batches on their way at once. The source's window is the bound that counts; this one holds for tiny batches."""


NOTHING = Outcome()
"""What is to be said where there was nothing to bury."""


class Conversion(Protocol):
    """What a bridge makes of messages: `Converter` on the way up, `DownConverter` on the way down."""

    def convert(self, messages: Sequence[Message]) -> Converted:
        """Return what becomes of messages that came together: of all, or of the first where all are much work."""
        ...


class _Sent(NamedTuple):
    """Messages on their way, nearly always a whole batch: what was made of them, and what will become of that.

    batch: the one that is finished with these messages, if it is.
    """

    converted: Converted
    outcome: asyncio.Future[Outcome]
    batch: Batch | None


class _Settled(NamedTuple):
    """What became of messages, in numbers: law 6. dead_lettered: the reasons."""

    messages: int
    delivered: int
    delivered_bytes: int
    filtered: int
    dropped: int
    spooled: int
    dead_lettered: list[str]


class Bridge:
    """Moves messages from a source to a sink, and settles each batch once every message of it is durable.

    Two loops share the work, so that batches overlap: one takes, converts and sends; the other waits for the oldest
    batch, stores its dead letters and settles it.
    """

    def __init__(self, name: str, source: Source, converter: Conversion, sink: Sink, dead_letters: DeadLetters) -> None:
        self.name = name
        self.counters = BridgeCounters()
        self._source = source
        self._converter = converter
        self._sink = sink
        self._dead_letters = dead_letters
        self._sent: asyncio.Queue[_Sent] = asyncio.Queue(MAX_BATCHES)
        self._receipts: deque[float] = deque()
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

    @property
    def oldest_unsettled(self) -> float | None:
        """Return when the oldest message that is not settled was received, in seconds since 1970, or None."""
        return self._receipts[0] if self._receipts else None

    @property
    def dead_letters(self) -> DeadLetters:
        """Where it puts what can't be delivered."""
        return self._dead_letters

    def stop(self) -> None:
        """Take no more messages. What is in flight goes on."""
        self._stopping.set()

    async def _forward(self) -> None:
        while not self._stopping.is_set():
            self._waiting = True
            batch = await self._source.receive()
            self._waiting = False
            self._count_received(batch)
            await self._send(batch)

    async def _send(self, batch: Batch) -> None:
        """Convert and send a batch, in portions where that is much work."""
        rest = batch.messages
        while True:
            converted = self._converter.convert(rest)
            rest = rest[len(converted.messages) :] if len(converted.messages) < len(rest) else ()
            outcome = await self._sink.send(converted.events)
            await self._sent.put(_Sent(converted, outcome, None if rest else batch))
            await asyncio.sleep(0)  # what was sent leaves before the next is worked on
            if not rest:
                return

    async def _settle(self) -> None:
        settled: list[_Settled] = []
        while True:
            sent = await self._sent.get()
            outcome = await sent.outcome
            rejected = sent.converted.rejected
            if outcome.refused:
                rejected = rejected + _refused(outcome)
            buried = await self._dead_letters.store(rejected) if rejected else NOTHING
            settled.append(self._settled(sent.converted, outcome, rejected, buried))
            if sent.batch is not None:
                sent.batch.settle()
                self._receipts.popleft()
                for one in settled:  # with the batch, because until then its source counts them too
                    self._count_settled(one)
                settled.clear()
            self._sent.task_done()

    def _count_received(self, batch: Batch) -> None:
        counters = self.counters
        self._receipts.append(batch.messages[0].received)
        counters.received += len(batch.messages)
        counters.received_bytes += sum(map(_SIZE, batch.messages))
        counters.in_flight += len(batch.messages)

    def _settled(self, converted: Converted, outcome: Outcome, rejected: list[Rejected], buried: Outcome) -> _Settled:
        """Count each message once, whatever became of its events: as spooled if one was, because all of them come again
        from there; else as dead-lettered, as dropped, or as delivered."""
        messages, events, _, filtered = converted
        dropped: set[int] = set()
        spooled: set[int] = set()
        if outcome.refused or outcome.spooled or outcome.dropped:
            spooled = {id(event.message) for event in outcome.spooled}
            refused = {id(event.message) for event, _ in outcome.refused} - spooled
            dropped = {id(event.message) for event in outcome.dropped} - spooled - refused
            elsewhere = spooled | refused | dropped
            events = [event for event in events if id(event.message) not in elsewhere]
        if events:
            _observe(self.counters, events)
        not_dead = {event.id for event in (*buried.spooled, *buried.dropped)}
        return _Settled(
            len(messages),
            len(messages) - len(rejected) - len(dropped) - len(spooled) - filtered,
            sum(map(len, map(_BODY, events))),
            filtered,
            len(dropped) + len(buried.dropped),
            len(spooled) + len(buried.spooled),
            [one.error.reason for one in rejected if one.message.id not in not_dead],
        )

    def _count_settled(self, settled: _Settled) -> None:
        counters = self.counters
        counters.delivered += settled.delivered
        counters.delivered_bytes += settled.delivered_bytes
        counters.filtered += settled.filtered
        counters.spooled += settled.spooled
        counters.in_flight -= settled.messages
        if settled.dropped:
            counters.dropped["spool_full"] += settled.dropped
        if settled.dead_lettered:
            counters.dead_lettered.update(settled.dead_lettered)


def _refused(outcome: Outcome) -> list[Rejected]:
    """Return the messages that had an event refused, each once, but for those that come again from the spool."""
    spooled = {id(event.message) for event in outcome.spooled}
    refused = {id(event.message): (event.message, error) for event, error in outcome.refused}
    return [Rejected(message, error, "deliver") for key, (message, error) in refused.items() if key not in spooled]


_SIZE = attrgetter("size")
_BODY = attrgetter("body")
_TIME = attrgetter("time")


def _observe(counters: BridgeCounters, delivered: list[Encoded]) -> None:
    """Count the time from receipt, and from the event's own time, until now. What came together was received at the
    same time."""
    now = time.time()
    first = delivered[0].message.received
    came_together = first == delivered[-1].message.received
    if came_together:
        counters.delivery_duration.observe(max(0.0, now - first), len(delivered))
        if not any(map(_TIME, delivered)):
            counters.event_lag.observe(max(0.0, now - first), len(delivered))
            return
    for event in delivered:
        received = event.message.received
        if not came_together:
            counters.delivery_duration.observe(max(0.0, now - received))
        counters.event_lag.observe(max(0.0, now - (event.time or received)))
