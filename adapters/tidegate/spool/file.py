"""The spool's file: SQLite, written by one thread. Nothing here knows of asyncio.

WAL and `synchronous=FULL`: a commit returns once its bytes are on the disk, in one sequential write. One commit takes
whatever is waiting, and a row holds a whole chunk, so an SD card sees few large writes.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from tidegate.core import TidegateError
from tidegate.spool.chunk import DamagedChunkError, decode_chunk

log = logging.getLogger(__name__)

_RESERVE = 1024 * 1024
"""Bytes of the disk that new messages leave free, so that old ones can still be deleted: that is written too."""

_SMALL = 1024 * 1024
"""A file that is no larger is not made smaller: it would only grow again."""

_APPLICATION_ID = 0x54494445  # "TIDE"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS chunk (
  seq INTEGER PRIMARY KEY,
  queue TEXT NOT NULL,
  messages INTEGER NOT NULL,
  received REAL NOT NULL,
  written REAL NOT NULL,
  boot INTEGER NOT NULL,
  body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS chunk_queue ON chunk (queue, seq);
CREATE TABLE IF NOT EXISTS tally (queue TEXT PRIMARY KEY, messages INTEGER NOT NULL) WITHOUT ROWID;
"""

_SELECT = "SELECT seq, queue, messages, received, written, boot, body FROM chunk"


_SOUND = (
    "(typeof(queue) = 'text' AND typeof(messages) = 'integer' AND messages > 0 AND typeof(received) = 'real'"
    " AND typeof(written) = 'real' AND typeof(boot) = 'integer' AND typeof(body) = 'blob')"
)
"""SQLite has no checksums: values of the wrong kind are how it shows that it reads what was never written."""


class SpoolError(TidegateError):
    """The spool can't be used."""


class DiskFullError(sqlite3.OperationalError):
    """New messages would take the last of the disk."""


class Row(NamedTuple):
    """One chunk in the file.

    messages: how many it holds. received: when the first of them was received, in seconds since 1970. written: when
    it was written, in seconds of the monotonic clock; boot: of which boot that clock was.
    """

    seq: int
    queue: str
    messages: int
    received: float
    written: float
    boot: int
    body: bytes


class SpoolFile:
    """An open spool. A second process can't open it. Every method may block; errors are sqlite3.Error.

    damaged: messages that were in the file and can't be read any more, found when it was opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = 0
        self._lock = _lock(path)
        try:
            self._database = self._open()
        except BaseException:
            self._lock.close()
            raise

    def close(self) -> None:
        """Close the file and give up the lock."""
        self._database.close()
        self._lock.close()

    def write(self, rows: list[Row], delete: list[tuple[str, int, int]]) -> None:
        """Store rows, delete others by (queue, seq, messages), and return once that is on the disk."""
        database = self._database
        try:
            database.execute("BEGIN IMMEDIATE")
            database.executemany("DELETE FROM chunk WHERE seq = ?", [(seq,) for _, seq, _ in delete])
            if rows:
                self._check_room(sum(len(row.body) for row in rows))
            database.executemany("INSERT INTO chunk VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            changes = [(row.queue, row.messages) for row in rows]
            changes += [(queue, -messages) for queue, _, messages in delete]
            database.executemany(
                "INSERT INTO tally VALUES (?, ?) ON CONFLICT DO UPDATE SET messages = messages + excluded.messages",
                changes,
            )
            database.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                database.execute("ROLLBACK")
            raise

    def read(self, queue: str, after: int, size: int) -> list[Row]:
        """Return the next chunks of a queue behind a sequence number, oldest first, of about `size` bytes."""
        found: list[Row] = []
        rows = self._database.execute(f"{_SELECT} WHERE queue = ? AND seq > ? ORDER BY seq", (queue, after))
        for row in map(Row._make, rows):
            found.append(row)
            size -= len(row.body)
            if size <= 0:
                break
        return found

    def summary(self) -> list[tuple[str, int, int, float]]:
        """Return for each queue: its name, messages, bytes of records, and when the oldest was received."""
        return self._database.execute(
            "SELECT queue, sum(messages), sum(length(body)) - 4 * count(*), min(received) FROM chunk GROUP BY queue"
        ).fetchall()

    def last_seq(self) -> int:
        """Return the highest sequence number in use."""
        return int(self._database.execute("SELECT coalesce(max(seq), 0) FROM chunk").fetchone()[0])

    def checkpoint(self) -> None:
        """Move the log into the file, and give its space back."""
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def shrink(self) -> None:
        """Give the space of deleted chunks back to the disk. Cheap while the spool is empty."""
        if self._bytes("page_count") + _size(self._log) > _SMALL:
            self._database.execute("VACUUM")
            self.checkpoint()

    @property
    def _log(self) -> Path:
        return self.path.with_name(f"{self.path.name}-wal")

    def _bytes(self, pages: str) -> int:
        """Return what one of SQLite's page counts is in bytes."""
        count, size = (self._database.execute(f"PRAGMA {name}").fetchone()[0] for name in (pages, "page_size"))
        return int(count * size)

    def _check_room(self, size: int) -> None:
        """Raise an error unless rows of that size fit, in the log and from there in the file, and leave the reserve."""
        disk = os.statvfs(self.path)
        growth = max(0, size + _size(self._log) - self._bytes("freelist_count"))
        # What goes into space freed inside the file may use up most of the reserve: else a file that was emptied by a
        # drain, but is never quite empty, would stay full for ever.
        reserve = _RESERVE if growth else _RESERVE // 8
        if disk.f_bavail * disk.f_frsize < size + growth + reserve:
            raise DiskFullError("the disk is full")

    def _open(self) -> sqlite3.Connection:
        """Open the file, or set it aside where it is damaged or not ours, and save from it what is whole."""
        if not _size(self.path) and _size(self._log):  # SQLite would delete the log
            return self._salvage("the file is empty, though its log is not")
        try:
            database = _connect(self.path)
        except sqlite3.DatabaseError as error:
            if not _is_damage(error, self.path):
                raise SpoolError(f"spool {self.path}: {error}") from error
            return self._salvage(str(error))
        if problem := _problem(database):
            database.close()
            return self._salvage(problem)
        return database

    def _salvage(self, problem: str) -> sqlite3.Connection:
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
        try:
            for suffix in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    self.path.with_name(self.path.name + suffix).rename(aside.with_name(aside.name + suffix))
            self._database = database = _connect(self.path)
        except (OSError, sqlite3.Error) as error:
            raise SpoolError(f"spool {self.path} is damaged ({problem}), and can't be set aside: {error}") from error
        expected = saved = 0
        if _size(aside):
            expected = _tally(aside)
            for row in _rows(aside):
                self.write([row], [])
                saved += row.messages
        self.damaged = max(0, expected - saved)
        log.error(
            "spool: %s is damaged (%s); saved %d messages from it, %s; the old file is %s",
            self.path,
            problem,
            saved,
            f"lost {self.damaged}" if expected else "what else it held is not known",
            aside,
        )
        return database


def _lock(path: Path) -> IO[bytes]:
    """Return a file that only one process holds; the kernel lets go of it when the process ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f"{path.name}.lock").open("ab")
    except OSError as error:
        raise SpoolError(f"spool {path}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise SpoolError(f"spool {path}: another gateway uses this state_dir") from None
    return lock


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA secure_delete = OFF")  # some builds write zeros over all that is deleted
        database.execute("PRAGMA temp_store = MEMORY")
        database.execute("PRAGMA cache_size = -2048")
        version = database.execute("PRAGMA application_id").fetchone()[0]
        tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and version != _APPLICATION_ID:
            raise sqlite3.DatabaseError("file is not a database of ours")
        database.executescript(_SCHEMA)
        database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    except BaseException:
        database.close()
        raise
    return database


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def is_full(error: sqlite3.Error) -> bool:
    """Whether it is the disk that has no room."""
    return isinstance(error, DiskFullError) or _code(error) == sqlite3.SQLITE_FULL


def _code(error: sqlite3.Error) -> int | None:
    """Return SQLite's own number for an error, without its details; None where the error is not from SQLite."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


_SURROUNDINGS = frozenset(
    (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
    )
)
"""Errors of the folder, its rights or its disk."""


def _is_damage(error: sqlite3.DatabaseError, path: Path) -> bool:
    """Whether the file itself is wrong, rather than what is around it."""
    code = _code(error)
    if code == sqlite3.SQLITE_READONLY:  # damage looks so too: a file that claims a format of the future
        return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    return code not in _SURROUNDINGS


def _problem(database: sqlite3.Connection) -> str | None:
    try:
        found = database.execute("PRAGMA integrity_check(1)").fetchone()[0]
        odd = database.execute(f"SELECT count(*) FROM chunk WHERE NOT {_SOUND}").fetchone()[0]
    except sqlite3.DatabaseError as error:
        return str(error)
    if found != "ok":
        return str(found)
    return f"{odd} chunks are not what was written" if odd else None


def _tally(path: Path) -> int:
    """Return how many messages a damaged file says it holds; 0 where it can't say."""
    with suppress(sqlite3.Error):
        database = sqlite3.connect(path)
        try:
            return int(database.execute("SELECT CAST(sum(messages) AS INTEGER) FROM tally").fetchone()[0] or 0)
        finally:
            database.close()
    return 0


def _rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a damaged file that are whole, from both ends towards the damage."""
    seen: set[int] = set()
    for order in ("ASC", "DESC"):
        with suppress(sqlite3.Error):
            database = sqlite3.connect(path)
            try:
                for row in map(
                    Row._make, database.execute(f"{_SELECT} NOT INDEXED WHERE {_SOUND} ORDER BY seq {order}")
                ):
                    if row.seq not in seen and _is_whole(row):
                        seen.add(row.seq)
                        yield row
            finally:
                database.close()


def _is_whole(row: Row) -> bool:
    try:
        return len(decode_chunk(row.body)) == row.messages
    except (DamagedChunkError, TypeError):
        return False
