"""The way of a log line out of the process, which never holds the process up."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque

from tidegate.app.log_repeat import Repeats

MAX_WAITING = 1024 * 1024
"""Bytes of lines that wait to be read. What comes then is dropped, and counted."""

_FLUSH_TIMEOUT = 2.0
"""Seconds for all flushes of a process that ends, which are several."""


class LineHandler(logging.Handler):
    """Writes lines to a file descriptor, in a thread of its own: a pipe that nobody reads blocks who writes to it, and
    with the event loop everything else, down to SIGTERM. Repeats are told as a number.

    The descriptor is written to directly: a thread that is stuck with the lock of `sys.stderr` makes the interpreter
    abort at its end.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.descriptor = descriptor
        self._repeats = Repeats()
        self._lines: deque[bytes] = deque()  # the first is being written
        self._waiting = 0
        self._dropped = 0
        self._closed = False
        self._flushed_by: float | None = None  # by the monotonic clock; while lines wait that were to be flushed
        self._changed = threading.Condition()
        threading.Thread(target=self._write_all, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        try:
            with self._changed:
                for told in self._repeats.admit(record, time.monotonic()):
                    self._append(told)
                self._changed.notify_all()
        except Exception:  # noqa: BLE001 - a bad log line must not harm who wrote it
            self.handleError(record)

    def flush(self) -> None:
        """Wait until every line is written, if that does not take too long. What a flush has waited in vain is not
        waited again by the next one."""
        with self._changed:
            now = time.monotonic()
            self._flushed_by = self._flushed_by or now + _FLUSH_TIMEOUT
            if self._changed.wait_for(lambda: not self._lines, max(0.0, self._flushed_by - now)):
                self._flushed_by = None

    def close(self) -> None:
        """Tell what was counted, and flush. `logging` does this at the end of the process."""
        with self._changed:
            for told in self._repeats.rest(time.monotonic()):
                self._append(told)
            self._closed = True
            self._changed.notify_all()
        self.flush()
        super().close()

    def _append(self, record: logging.LogRecord) -> None:
        line = self.format(record).encode(errors="backslashreplace") + b"\n"
        if self._lines and self._waiting + len(line) > MAX_WAITING:
            self._dropped += 1
        else:
            self._lines.append(line)
            self._waiting += len(line)

    def _write_all(self) -> None:
        while (line := self._next()) is not None:
            written = _write(self.descriptor, line)
            with self._changed:
                self._lines.popleft()
                self._waiting -= len(line)
                self._dropped += not written
                if written and self._dropped and not self._lines:
                    self._append(_record("log: %d lines were dropped, as nobody read them in time", self._dropped))
                    self._dropped = 0
                self._changed.notify_all()

    def _next(self) -> bytes | None:
        """Wait for a line and return it, or None at the end."""
        with self._changed:
            while not self._lines:
                if self._closed:
                    return None
                end = self._repeats.next_end
                self._changed.wait(None if end is None else max(0.0, end - time.monotonic()))
                for told in self._repeats.due(time.monotonic()):
                    self._append(told)
            return self._lines[0]


def _record(text: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, args, None)


def _write(descriptor: int, line: bytes) -> bool:
    """Write a line, and return whether that was possible."""
    rest = memoryview(line)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:  # it may be shared with a process that made it so
            select.select([], [descriptor], [])
        except OSError:  # its reader is gone, or the disk is full
            return False
    return True
