"""A source that a test feeds."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from tidegate.core import Batch, IdSource, Message


class MemorySource:
    """A `Source` with a window, and with the memory of a broker: what is not settled when it reconnects comes again.

    settled: the messages settled so far, in the order of settling. stale: messages settled after a reconnect.
    """

    def __init__(self, window: int = 1000) -> None:
        self.settled: list[Message] = []
        self.stale = 0
        self._window = window
        self._waiting: deque[Message] = deque()
        self._out: dict[int, tuple[Message, ...]] = {}
        self._ids = IdSource()
        self._epoch = 0
        self._unsettled = 0
        self._readable = asyncio.Event()

    def put(self, topic: str, payload: bytes, qos: int = 1) -> Message:
        """Hand in a message, as a device would. The window bounds what is taken out, not what waits here."""
        message = Message(topic.encode(), payload, self._ids.take(1)[0], qos, received=time.time())
        self._waiting.append(message)
        self._readable.set()
        return message

    def reconnect(self) -> None:
        """Lose the connection: unsettled messages come again, first and in order, and old batches can't settle them."""
        self._epoch += 1
        again = [message for batch in self._out.values() for message in batch]
        self._out.clear()
        self._waiting.extendleft(reversed(again))
        self._readable.set()

    @property
    def unsettled(self) -> int:
        """Messages handed out and not settled, those of earlier epochs too."""
        return self._unsettled

    async def receive(self) -> Batch:
        """See `Source.receive`."""
        while not self._waiting or self._unsettled >= self._window:
            self._readable.clear()
            await self._readable.wait()
        count = min(len(self._waiting), self._window - self._unsettled)
        messages = tuple(self._waiting.popleft() for _ in range(count))
        self._unsettled += count
        key, epoch = id(messages), self._epoch
        self._out[key] = messages

        def settle() -> None:
            self._unsettled -= count
            self._readable.set()
            if epoch != self._epoch:
                self.stale += count
                return
            del self._out[key]
            self.settled.extend(messages)

        return Batch(messages, settle)
