"""A sink for any system that can be told of many events in one call: it keeps the promises of `tidegate.core.Sink`.

What is left to write is one function, as `write_once` in `redis_write.py`, that is safe to call again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Self

from tidegate.core import Backoff, DeliveryError, Encoded, Outcome, Refused

log = logging.getLogger(__name__)

Write = Callable[[Sequence[Encoded]], Awaitable[Sequence[Exception | None]]]
"""Writes events, in order. Returns for each None once it is durable, a DeliveryError if it never will be, or any other
exception for what can pass. Called again with those, whose first try may have come through: the id must tell."""


class _Taken(NamedTuple):
    """The events of one `send`, and what will become of them."""

    events: Sequence[Encoded]
    outcome: asyncio.Future[Outcome]


class BatchSink:
    """A `Sink` that writes all that is waiting in one call, and meanwhile takes more. Use as `async with`.

    window: events in flight. Their bytes are bounded by the source's window.
    task: what writes; before the context is left only a defect ends it.
    """

    task: asyncio.Task[None]

    def __init__(self, write: Write, window: int = 4096) -> None:
        self._write = write
        self._window = window
        self._in_flight = 0
        self._taken: list[_Taken] = []
        self._turn = asyncio.Lock()
        self._room = asyncio.Event()
        self._wake = asyncio.Event()

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self._run(), name="batch sink")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        for taken in self._taken:
            taken.outcome.cancel()

    async def send(self, events: Sequence[Encoded]) -> asyncio.Future[Outcome]:
        """See `Sink.send`. More events than the window are taken when nothing else is in flight."""
        async with self._turn:
            while self._in_flight and self._in_flight + len(events) > self._window:
                self._room.clear()
                await self._room.wait()
            taken = _Taken(events, asyncio.get_running_loop().create_future())
            self._in_flight += len(events)
            self._taken.append(taken)
            self._wake.set()
        return taken.outcome

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            portion = self._taken[:]
            errors = iter(await self._finish([event for taken in portion for event in taken.events]))
            del self._taken[: len(portion)]
            for events, outcome in portion:
                self._in_flight -= len(events)
                refused = [Refused(event, error) for event, error in zip(events, errors, strict=False) if error]
                if not outcome.done():  # its caller may have cancelled it
                    outcome.set_result(Outcome(refused))
            self._room.set()

    async def _finish(self, events: list[Encoded]) -> list[DeliveryError | None]:
        """Return once every event is durable or refused: why, for each."""
        refusals: list[DeliveryError | None] = [None] * len(events)
        left = list(range(len(events)))
        backoff = Backoff()
        while left:
            again: dict[int, Exception] = {}
            results = await self._write([events[number] for number in left])
            for number, result in zip(left, results, strict=True):
                if isinstance(result, DeliveryError):
                    refusals[number] = result
                elif result is not None:
                    again[number] = result
            left = list(again)
            if left:
                log.warning("%d events are not taken now: %s", len(left), again[left[0]])
                await asyncio.sleep(backoff.next())
        return refusals
