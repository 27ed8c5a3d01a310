"""A bridge: one source, one sink, and what happens in between."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import NamedTuple

from tidegate.bridge.convert import Converter
from tidegate.bridge.dead_letter import DeadLetters, Rejected
from tidegate.core import Batch, BridgeCounters, Encoded, Refused, Sink, Source

MAX_BATCHES = 1024
"""Batches on their way at once. The source's window is the bound that counts; this one holds for tiny batches."""


class _Sent(NamedTuple):
    """A batch on its way: its events, what could not become one, and the future of those that the sink refused."""

    batch: Batch
    events: list[Encoded]
    rejected: list[Rejected]
    outcome: asyncio.Future[list[Refused]]


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
            with contextlib.suppress(asyncio.CancelledError):
                await forward
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

    async def _settle(self) -> None:
        while True:
            batch, events, rejected, outcome = await self._sent.get()
            for event, error in await outcome:
                rejected.append(Rejected(event.message, error, "deliver"))
                events.remove(event)
            if rejected:
                await self._dead_letters.store(rejected, batch.received)
            batch.settle()
            self._count_settled(batch, events, rejected)
            self._sent.task_done()

    def _count_received(self, batch: Batch) -> None:
        counters = self.counters
        counters.received += len(batch.messages)
        counters.received_bytes += sum([message.size for message in batch.messages])
        counters.in_flight += len(batch.messages)

    def _count_settled(self, batch: Batch, events: list[Encoded], rejected: list[Rejected]) -> None:
        counters = self.counters
        counters.delivered += len(events)
        counters.delivered_bytes += sum([len(event.body) for event in events])
        for _, error, _ in rejected:
            counters.dead_lettered[error.reason] += 1
        counters.in_flight -= len(batch.messages)
        counters.delivery_duration.observe(max(0.0, time.time() - batch.received), len(batch.messages))
