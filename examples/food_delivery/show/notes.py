"""What the services and devices wrote in their journals, as it comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import NamedTuple


class Note(NamedTuple):
    """One line of a journal; see journal.py. at: seconds since 1970."""

    at: float
    who: str
    what: str
    order: str
    correlation: str | None
    attempt: int


class Notes:
    """All of them, in the order in which they came."""

    def __init__(self) -> None:
        self.all: list[Note] = []
        self._waiting: list[tuple[Callable[[Note], object], asyncio.Future[Note]]] = []

    def add(self, line: bytes) -> None:
        """Take a line, and wake up who waits for it."""
        note = Note(**json.loads(line))
        self.all.append(note)
        for wanted, future in self._waiting:
            if not future.done() and wanted(note):
                future.set_result(note)

    async def next(self, wanted: Callable[[Note], object], timeout: float = 20.0) -> Note | None:
        """Wait for the next note that is wanted; None after `timeout` seconds."""
        future: asyncio.Future[Note] = asyncio.get_running_loop().create_future()
        entry = (wanted, future)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            return None
        finally:
            self._waiting.remove(entry)

    def orders(self, what: str) -> set[str]:
        """Return the orders of which something was noted."""
        return {note.order for note in self.all if note.what == what}

    async def orders_become(self, what: str, wanted: set[str], patience: float = 40.0) -> set[str]:
        """Wait until `what` was noted of all orders that are wanted; return those of which it was not, once it was of
        no further one for `patience` seconds. The default is longer than a worker's `ack_wait`."""
        missing = wanted - self.orders(what)

        def is_news(note: Note) -> bool:
            return note.what == what and note.order in missing

        while missing and await self.next(is_news, patience):
            missing = wanted - self.orders(what)
        return missing

    async def become(self, complete: Callable[[list[Note]], bool], patience: float) -> None:
        """Wait until the notes are complete, or nothing was noted for `patience` seconds."""
        while not complete(self.all) and await self.next(lambda _: True, patience):
            pass
