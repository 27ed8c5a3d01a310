"""The disk buffer of a gateway: one file, one writer thread, and a queue for each bridge."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self
from zlib import crc32

from tidegate.core import Batch, Message
from tidegate.spool.chunk import CHECK_SIZE, DamagedChunkError, decode_chunk, encode_chunk, encode_records
from tidegate.spool.file import Row, SpoolError, SpoolFile, is_full

log = logging.getLogger(__name__)

WhenFull = Literal["block", "drop_oldest", "drop_newest"]

READ_BYTES = 512 * 1024
"""Bytes that are read at once; the sink's window bounds how much is in memory in the end."""

MERGE_BYTES = 256 * 1024
"""Bytes up to which messages that wait together become one chunk."""

_RETRY_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class SpoolOptions:
    """max_bytes: of all queues together. max_age: seconds, or None. when_full: what a full spool or disk does."""

    path: Path
    max_bytes: int = 1024**3
    max_age: float | None = None
    when_full: WhenFull = "block"


class _Append(NamedTuple):
    queue: str
    messages: int
    received: float
    records: bytes
    written: Callable[[bool], None]


class _Delete(NamedTuple):
    queue: str
    chunks: list[tuple[int, int]]
    """(seq, messages)"""


class _Call(NamedTuple):
    work: Callable[[SpoolFile], Any]
    done: Callable[[Any], None]


_Work = _Append | _Delete | _Call


class Spool:
    """Use as `async with`. Raises SpoolError where the file can't be had.

    Writing is done by one thread: a commit takes all that waits, and nothing is reported before it is on the disk. A
    write that fails, as on a full disk, is tried again until it works, while reading and deleting go on and make room;
    with `drop_oldest` a full disk makes room too, and with `drop_newest` the write is given up.

    ended: done when the thread has ended, which before the context is left only a defect can cause.
    """

    def __init__(self, options: SpoolOptions) -> None:
        self.options = options
        self.bytes = 0
        self.problem: str | None = None
        self.room = asyncio.Event()  # cleared by who finds it full, set by what is deleted
        self.room.set()
        self._queues: dict[str, SpoolQueue] = {}
        self._left: dict[str, tuple[int, int, float]] = {}
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._file: SpoolFile | None = None
        self._thread = threading.Thread(target=self._run_thread, name="spool", daemon=True)
        self._dropping: asyncio.Task[None] | None = None
        self._nothing_to_drop = threading.Event()
        self._full_until = 0.0
        self._next_seq = 0
        self.boot = crc32(_boot_id())
        self.opened = time.monotonic()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        file = self._file = await asyncio.to_thread(SpoolFile, self.options.path)
        self._next_seq = file.last_seq() + 1
        for name, messages, size, received in file.summary():
            self._left[name] = (messages, size, received)
            self.bytes += size
        self._thread.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._dropping is not None:
            self._dropping.cancel()
            await asyncio.wait([self._dropping])
        self._work.put(None)
        await asyncio.to_thread(self._thread.join)
        assert self._file is not None
        self._file.close()

    @property
    def damaged(self) -> int:
        """Messages that were lost with a damaged file."""
        return 0 if self._file is None else self._file.damaged

    def queue(self, name: str, until: Callable[[], Awaitable[None]] | None = None) -> SpoolQueue:
        """Return the queue of a bridge, with what an earlier one left in it. One at a time may use it.

        until: waits until it makes sense to read. What is read is on its way, and can't be dropped to make room.
        """
        if name not in self._queues:
            self._queues[name] = SpoolQueue(self, name, *self._left.pop(name, (0, 0, 0.0)))
        self._queues[name].rewind(until)
        return self._queues[name]

    def orphans(self) -> dict[str, int]:
        """Return how many messages the file holds for queues that no one asked for."""
        return {name: messages for name, (messages, _, _) in self._left.items()}

    def submit(self, work: _Work) -> None:
        """Hand work to the writer thread."""
        self._work.put(work)

    async def call(self, work: Callable[[SpoolFile], Any]) -> Any:
        """Run something with the file in the writer thread, after all that was handed in before."""
        future: asyncio.Future[Any] = self._loop.create_future()

        def done(result: Any) -> None:
            if not future.done():
                future.set_result(result)

        self.submit(_Call(work, done))
        return await future

    def freed(self, size: int) -> None:
        """Note that chunks of that size are no longer needed."""
        self.bytes -= size
        self.room.set()
        if not self.bytes:
            self.submit(_Call(SpoolFile.shrink, lambda _: None))

    # In the writer thread

    def _run_thread(self) -> None:
        try:
            self._write_all()
        except BaseException as error:  # a defect: without this everyone would wait for ever
            self._tell(partial(self.ended.set_exception, error))
            raise
        self._tell(self.ended.cancel)

    def _write_all(self) -> None:
        unwritten: list[_Append | _Delete] = []
        while True:
            together = self._take(_RETRY_SECONDS if unwritten else None)
            unwritten = self._commit(unwritten + [one for one in together if isinstance(one, _Append | _Delete)])
            for call in together:
                if isinstance(call, _Call):
                    self._run(call)
            if None in together:
                return

    def _take(self, timeout: float | None) -> list[_Work | None]:
        """Return all the work that waits; None, which ends it, is the last."""
        together: list[_Work | None] = []
        with contextlib.suppress(queue.Empty):
            together.append(self._work.get(timeout=timeout))
            while together[-1] is not None:
                together.append(self._work.get_nowait())
        return together

    def _run(self, call: _Call) -> None:
        assert self._file is not None
        try:
            result = call.work(self._file)
        except sqlite3.Error as error:
            result = error
        self._tell(lambda: call.done(result))

    def _commit(self, work: Sequence[_Append | _Delete]) -> list[_Append | _Delete]:
        """Write what waits, and tell. Return what could not be written and is to be tried again."""
        if not work:
            return []
        appends = [one for one in work if isinstance(one, _Append)]
        deletes = [one for one in work if isinstance(one, _Delete)]
        if deletes:
            self._full_until = 0.0
        elif time.monotonic() < self._full_until:
            self._tell_written(appends, stored=False)
            return []
        problem = self._write(appends, deletes)
        if problem is None:
            self._tell(partial(self._note, None))
            self._tell_written(appends, stored=True)
            return []
        self._tell(partial(self._note, str(problem)))
        if appends and self._write([], deletes) is None:  # to delete takes less room, and makes some
            deletes = []
        while len(appends) > 1 and self._write(appends[:1], []) is None:  # not all fit, but some may
            self._tell_written(appends[:1], stored=True)
            del appends[0]
        if appends and self._gives_up(appends[0].queue, problem):
            self._tell_written(appends, stored=False)
            appends = []
            if self.options.when_full == "drop_newest":  # else a smaller one that comes later could still fit
                self._full_until = time.monotonic() + _RETRY_SECONDS
        return [*deletes, *appends]

    def _write(self, appends: Sequence[_Append], deletes: Sequence[_Delete]) -> sqlite3.Error | None:
        """Write once, and again after the log was emptied, which can make room; return what went wrong."""
        assert self._file is not None
        gone = [(one.queue, seq, count) for one in deletes for seq, count in one.chunks]
        problem: sqlite3.Error | None = None
        for _ in range(2):
            try:
                self._file.write(list(self._rows(appends)), gone)
            except sqlite3.Error as error:
                problem = error
                with contextlib.suppress(sqlite3.Error):
                    self._file.checkpoint()
            else:
                return None
        return problem

    def _gives_up(self, name: str, problem: sqlite3.Error) -> bool:
        """Whether what can't be written to a queue shall be given up now. Older messages may be, instead."""
        if self.options.when_full == "drop_oldest" and is_full(problem):
            if self._nothing_to_drop.is_set():
                self._nothing_to_drop.clear()
                return True
            self._tell(partial(self._drop_oldest, name))
        return self.options.when_full == "drop_newest"

    def _tell_written(self, appends: Sequence[_Append], *, stored: bool) -> None:
        self._tell(lambda: [append.written(stored) for append in appends])

    def _rows(self, appends: Sequence[_Append]) -> Iterable[Row]:
        """Join what waits for one queue into chunks of a good size."""
        for name in dict.fromkeys(append.queue for append in appends):
            held: list[_Append] = []
            for append in [one for one in appends if one.queue == name]:
                held.append(append)
                if sum(len(one.records) for one in held) >= MERGE_BYTES:
                    yield self._row(name, held)
                    held = []
            if held:
                yield self._row(name, held)

    def _row(self, name: str, appends: list[_Append]) -> Row:
        seq, self._next_seq = self._next_seq, self._next_seq + 1
        messages = sum(append.messages for append in appends)
        body = encode_chunk(b"".join(append.records for append in appends))
        return Row(seq, name, messages, appends[0].received, time.monotonic(), self.boot, body)

    def _tell(self, what: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: no one listens
            self._loop.call_soon_threadsafe(what)

    # In the event loop

    def _note(self, problem: str | None) -> None:
        if problem and not self.problem:
            log.error("spool: %s: %s", self.options.path, problem)
        elif self.problem and not problem:
            log.info("spool: %s: writing works again", self.options.path)
        self.problem = problem

    def _drop_oldest(self, name: str) -> None:
        if self._dropping is None or self._dropping.done():
            self._dropping = self._loop.create_task(self._drop_from(self._queues[name]), name="spool drop oldest")

    async def _drop_from(self, dropping: SpoolQueue) -> None:
        with contextlib.suppress(SpoolError):  # can't be read now: this is asked again
            if not await dropping.drop_oldest():
                self._nothing_to_drop.set()


class SpoolQueue:
    """The messages of one bridge on the disk: a `Source`, and where they are put.

    messages: how many are here and not settled, those on their way to the disk too. found: how many were here when
    the present user began. dropped: messages given up since then, by reason; not those that `append` turned away, which
    are `turned_away`.
    """

    def __init__(self, spool: Spool, name: str, messages: int, size: int, oldest: float) -> None:
        self.name = name
        self.messages = messages
        self.found = messages
        self.bytes = size
        self.dropped: Counter[str] = Counter()
        self.turned_away = 0
        self._user = 0
        self._oldest = oldest
        self._spool = spool
        self._turn = asyncio.Lock()
        self._cursor = 0
        self._readable = asyncio.Event()
        self._until: Callable[[], Awaitable[None]] = _at_once

    def rewind(self, until: Callable[[], Awaitable[None]] | None = None) -> None:
        """Begin again with the oldest message: what an earlier user took and did not settle comes again."""
        self._until = until or _at_once
        self.found = self.messages
        self._user += 1
        self.dropped = Counter()
        self.turned_away = 0
        self._cursor = 0
        self._readable.set()

    @property
    def problem(self) -> str | None:
        """Return why nothing can be put in now, or None."""
        if self._spool.problem is not None:
            return self._spool.problem
        options = self._spool.options
        if self._turn.locked() and options.when_full == "block":
            return f"full: {self._spool.bytes} of {options.max_bytes} bytes"
        return None

    @property
    def oldest(self) -> float | None:
        """When the oldest message here was received, in seconds since 1970."""
        return self._oldest if self.messages else None

    async def append(self, messages: Sequence[Message]) -> asyncio.Future[int]:
        """Put messages in, in order; wait while the spool is full, if that is what it shall do.

        Returns a future that is done once they are on the disk, with how many of them were kept.
        """
        records = encode_records(messages)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        async with self._turn:
            if not await self._make_room(len(records)):
                self.turned_away += len(messages)
                future.set_result(0)
                return future
        if not self.messages:
            self._oldest = messages[0].received
        self.messages += len(messages)
        self.bytes += len(records)
        self._spool.bytes += len(records)

        user = self._user

        def written(stored: bool) -> None:
            if stored:
                self._readable.set()
            else:
                self.messages -= len(messages)
                if user == self._user:
                    self.turned_away += len(messages)
                else:  # an earlier user's, which the present one has found here
                    self.found -= len(messages)
                self.bytes -= len(records)
                self._spool.freed(len(records))
            if not future.done():
                future.set_result(len(messages) if stored else 0)

        self._spool.submit(_Append(self.name, len(messages), messages[0].received, records, written))
        return future

    async def receive(self) -> Batch:
        """See `Source.receive`. Settling a batch deletes it from the disk."""
        while True:
            await self._readable.wait()
            await self._until()
            self._readable.clear()
            cursor = self._cursor
            try:
                rows = await self._read(READ_BYTES)
            except asyncio.CancelledError:
                self._readable.set()
                raise
            if rows:
                self._readable.set()  # there may be more
            if not rows or cursor != self._cursor:  # or the oldest were given up meanwhile
                continue
            self._cursor = rows[-1].seq
            kept = [(row, messages) for row in rows if (messages := self._messages(row)) is not None]
            if kept:
                return self._batch(kept)

    async def _read(self, size: int) -> list[Row]:
        cursor = self._cursor
        rows: list[Row] | sqlite3.Error = await self._spool.call(lambda file: file.read(self.name, cursor, size))
        if isinstance(rows, sqlite3.Error):
            raise SpoolError(f"spool {self._spool.options.path}: {rows}")
        return rows

    def _batch(self, chunks: list[tuple[Row, list[Message]]]) -> Batch:
        rows = [row for row, _ in chunks]
        self._oldest = rows[0].received
        return Batch([message for _, messages in chunks for message in messages], lambda: self._remove(rows))

    def _messages(self, row: Row) -> list[Message] | None:
        """Return a chunk's messages, or None if it is too old or damaged, and so is given up."""
        born = row.written if row.boot == self._spool.boot else self._spool.opened
        max_age = self._spool.options.max_age
        if max_age is not None and time.monotonic() - born > max_age:
            self._give_up([row], "spool_expired")
            return None
        try:
            return decode_chunk(row.body)
        except DamagedChunkError as error:
            log.error("spool: %s: %d messages are damaged: %s", self.name, row.messages, error)
            self._give_up([row], "spool_damaged")
            return None

    def _give_up(self, rows: list[Row], reason: str) -> None:
        self.dropped[reason] += sum(row.messages for row in rows)
        self._remove(rows)

    def _remove(self, rows: list[Row]) -> None:
        size = sum(len(row.body) - CHECK_SIZE for row in rows)
        self.messages -= sum(row.messages for row in rows)
        self.bytes -= size
        self._spool.submit(_Delete(self.name, [(row.seq, row.messages) for row in rows]))
        self._spool.freed(size)

    async def _make_room(self, size: int) -> bool:
        """Return once that many bytes fit, or False if they never will as things are."""
        spool = self._spool
        if spool.options.when_full == "drop_newest" and not spool.room.is_set():
            return False  # else a smaller one that comes later could still fit
        while spool.bytes and spool.bytes + size > spool.options.max_bytes:
            if spool.options.when_full == "drop_newest":
                spool.room.clear()
                return False
            if spool.options.when_full == "drop_oldest":
                if not await self.drop_oldest():
                    return False
                continue
            spool.room.clear()
            await spool.room.wait()
        return True

    async def drop_oldest(self) -> bool:
        """Give up the oldest chunk that is not on its way; return False if there is none."""
        cursor = self._cursor
        rows = await self._read(1)
        if self._cursor != cursor:
            return True
        if not rows:
            return False
        self._cursor = rows[0].seq
        self._give_up(rows, "spool_full")
        return True


async def _at_once() -> None:
    pass


def _boot_id() -> bytes:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    return b""
