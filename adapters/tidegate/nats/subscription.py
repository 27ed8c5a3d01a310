"""NATS without JetStream as a source: what is published while somebody listens, at most once."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Self

from tidegate.core import Batch, IdSource, Message
from tidegate.nats import wire
from tidegate.nats.connection import Connection
from tidegate.nats.consumer import MAX_BATCH, properties_of


class Subscription:
    """A `Source` of what is published on subjects. Use as `async with`.

    Nothing holds a publisher of core NATS back, and to read no more would hold up all that shares the connection. So
    what comes while the window is full is dropped, and counted here alone.

    dropped, dropped_bytes: messages, and their payload. window_bytes: payload and headers.
    """

    def __init__(
        self, connection: Connection, subject_filter: str, window: int, window_bytes: int = 8 * 1024 * 1024
    ) -> None:
        self.blocked: str | None = None
        self.duplicates = 0
        self.dropped = 0
        self.dropped_bytes = 0
        self._connection = connection
        self._subject_filter = subject_filter
        self._window = window
        self._window_bytes = window_bytes
        self._ids = IdSource()
        self._waiting: deque[tuple[Message, int]] = deque()
        self._unsettled = 0
        self._unsettled_bytes = 0
        self._readable = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name=f"nats subscription {self._subject_filter}")
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

    async def receive(self) -> Batch:
        """See `Source.receive`."""
        while not self._waiting:
            self._readable.clear()
            await self._readable.wait()
        taken = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
        return Batch([message for message, _ in taken], lambda: self._settle([size for _, size in taken]))

    def _settle(self, sizes: Sequence[int]) -> None:
        self._unsettled -= len(sizes)
        self._unsettled_bytes -= sum(sizes)

    async def _run(self) -> None:
        while True:
            link = await self._connection.ready()
            sid = link.subscribe(self._subject_filter, self._take)
            try:
                await asyncio.wait([link.ended])
            finally:
                link.unsubscribe(sid)

    def _take(self, delivery: wire.Delivery) -> None:
        size = len(delivery.payload) + len(delivery.headers)
        if self._unsettled >= self._window or (self._unsettled and self._unsettled_bytes + size > self._window_bytes):
            self.dropped += 1
            self.dropped_bytes += len(delivery.payload)
            return
        (message_id,) = self._ids.take(1)
        properties = properties_of(delivery.headers)
        message = Message(delivery.subject, delivery.payload, message_id, properties=properties, received=time.time())
        self._waiting.append((message, size))
        self._unsettled += 1
        self._unsettled_bytes += size
        self._readable.set()
