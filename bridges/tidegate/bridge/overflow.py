"""The way around an absent server: a sink that puts messages on the disk while the real one can't take them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol, Self

from tidegate.core import Encoded, Message, Outcome, Refused

log = logging.getLogger(__name__)


class Withdrawn(Protocol):
    """What a sink gives back of one send: the events that are not durable, and those that it has refused."""

    @property
    def events(self) -> Sequence[Encoded]: ...

    @property
    def refused(self) -> Sequence[Refused]: ...


class RecallableSink(Protocol):
    """A sink that can be asked whether it can take events now, and to give back what it could not deliver."""

    blocked: str | None

    def offer(self, events: Sequence[Encoded]) -> asyncio.Future[Outcome] | None:
        """Take events as `send` does, or return None if the window is full."""
        ...

    async def changed(self) -> None:
        """Wait until `blocked` may have changed."""
        ...

    async def room(self) -> None:
        """Wait until there may be room, or `blocked` may have changed."""
        ...

    def withdraw(self, outcome: asyncio.Future[Outcome]) -> Withdrawn:
        """Give back the events of one send; its future is then the caller's to complete."""
        ...


class Store(Protocol):
    """Where messages wait on the disk. `messages`: how many are there, those on their way to it too."""

    messages: int

    async def append(self, messages: Sequence[Message]) -> asyncio.Future[int]:
        """Take messages, in order. The future is done once they are durable, with how many were kept."""
        ...


class Overflow:
    """A `Sink` before a sink and a disk. Use as `async with`.

    Events go to the sink while it takes them and the disk is empty. Once it is blocked, what it has not delivered is
    taken back and put on the disk, in order, and everything after it too, until the disk has been emptied by the
    bridge that reads it: so live messages never overtake stored ones. `always` puts everything on the disk first.

    stored: how many messages were handed to the disk, those that it turned away too.
    """

    def __init__(self, sink: RecallableSink, store: Store, name: str, *, always: bool = False) -> None:
        self.stored = 0
        self._sink = sink
        self._store = store
        self._name = name
        self._always = always
        self._turn = asyncio.Lock()
        self._live: deque[asyncio.Future[Outcome]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._divert_when_blocked(), name=f"overflow {self._name}")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    @property
    def task(self) -> asyncio.Task[None]:
        """The task that keeps this running. Before the context is left only a defect ends it."""
        assert self._task is not None
        return self._task

    async def send(self, events: Sequence[Encoded]) -> asyncio.Future[Outcome]:
        """See `Sink.send`."""
        async with self._turn:
            while not self._always and not self._store.messages and self._sink.blocked is None:
                outcome = self._sink.offer(events)
                if outcome is not None:
                    self._follow(outcome)
                    return outcome
                await self._sink.room()
            await self._divert()  # what came earlier goes first
            outcome = asyncio.get_running_loop().create_future()
            await self._put(events, (), outcome)
            return outcome

    def _follow(self, outcome: asyncio.Future[Outcome]) -> None:
        self._live.append(outcome)
        while self._live and self._live[0].done():
            self._live.popleft()

    async def _divert_when_blocked(self) -> None:
        while True:
            if self._sink.blocked is not None and self._live:
                async with self._turn:
                    await self._divert()
            else:
                await self._sink.changed()

    async def _divert(self) -> None:
        """Put on the disk what the sink has not delivered.

        All of it is taken back before the first of it waits for room there: else the sink, once it works again, would
        deliver the rest before what is stored.
        """
        diverted = 0
        back = [(outcome, self._sink.withdraw(outcome)) for outcome in self._live if not outcome.done()]
        self._live.clear()
        for outcome, withdrawn in back:
            await self._put(withdrawn.events, withdrawn.refused, outcome)
            diverted += len(withdrawn.events)
        if diverted:
            reason = self._sink.blocked or "older messages wait on the disk"
            log.warning("%s: %s; %d messages moved to the spool", self._name, reason, diverted)

    async def _put(
        self, events: Sequence[Encoded], refused: Sequence[Refused], outcome: asyncio.Future[Outcome]
    ) -> None:
        if not events:
            outcome.set_result(Outcome(refused))
            return
        messages = _messages_of(events)
        written = await self._store.append(messages)
        self.stored += len(messages)

        def done(written: asyncio.Future[int]) -> None:
            if written.cancelled() or outcome.done():
                return
            if written.result():
                outcome.set_result(Outcome(refused, spooled=events))
            else:
                outcome.set_result(Outcome(refused, dropped=events))

        written.add_done_callback(done)


def _messages_of(events: Sequence[Encoded]) -> list[Message]:
    """Return the messages that events came from, each once; the events of one lie side by side."""
    messages = [event.message for event in events]
    return messages[:1] + [one for before, one in pairwise(messages) if one is not before]
