"""A sink that a test looks into, and can make fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Self

from tidegate.core import DeliveryError, Encoded, Outcome, Refused


class MemorySink:
    """A `Sink` that keeps events by id, as a stream with a duplicate window does. Usable as `async with`: closed
    on leaving, which cancels the futures of what is held.

    stored: the events, each id once, in order of arrival. duplicates: events that came again.
    holding: while true nothing becomes durable, as with a server that is away; `release` ends it.
    refuse: returns why an event is refused for good, or None.
    """

    def __init__(self, window: int = 4096) -> None:
        self.stored: dict[str, Encoded] = {}
        self.duplicates = 0
        self.blocked: str | None = None
        self.holding = False
        self.refuse: Callable[[Encoded], DeliveryError | None] = lambda _: None
        self._window = window
        self._room = asyncio.Event()
        self._held: list[tuple[Sequence[Encoded], asyncio.Future[Outcome]]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        held, self._held = self._held, []
        for _, future in held:
            future.cancel()

    @property
    def in_flight(self) -> int:
        """Events taken and not yet durable."""
        return sum(len(events) for events, _ in self._held)

    async def send(self, events: Sequence[Encoded]) -> asyncio.Future[Outcome]:
        """See `Sink.send`."""
        while self._held and self.in_flight + len(events) > self._window:
            self._room.clear()
            await self._room.wait()
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._held.append((events, future))
        if not self.holding:
            self.release()
        return future

    def release(self) -> None:
        """Make everything durable that was held, in order."""
        self.holding = False
        held, self._held = self._held, []
        for events, future in held:
            refused = []
            for event in events:
                if error := self.refuse(event):
                    refused.append(Refused(event, error))
                elif event.id in self.stored:
                    self.duplicates += 1
                else:
                    self.stored[event.id] = event
            if not future.done():
                future.set_result(Outcome(refused))
        self._room.set()
