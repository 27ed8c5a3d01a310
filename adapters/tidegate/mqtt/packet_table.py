"""Which event id belongs to which packet identifier: the memory that makes a redelivery the same event.

MQTT names a message in flight by a packet identifier alone, and uses it again. So a redelivery after a crash can only
be told by what was seen under that identifier before. The table is a memory-mapped file: the kernel keeps what was
written to it when the process is killed, without an fsync for each message. After another boot, or for another session,
it is not trusted, and a redelivery gets a new id: then a double is possible, a loss never.
"""

from __future__ import annotations

import logging
import mmap
import os
from array import array
from collections.abc import Iterable
from pathlib import Path
from struct import Struct
from zlib import crc32

from tidegate.core import IdBlock, id_of

log = logging.getLogger(__name__)

_MAGIC = b"tidegate packet ids 2"
_HEADER = Struct("=32s40sI4xQ")  # magic, boot id, key of the session, confirmed
_KEY = _HEADER.size - 8
"""Bytes of the header that say whether the table is to be trusted."""

_IDENTIFIERS = 65_536
_SIZE = _HEADER.size + _IDENTIFIERS * (8 + 8 + 8 + 4)

_UNRELEASED = 1 << 63
"""Set in the acknowledgement's number: a PUBREC, and its PUBREL has not come (MQTT 5 §4.3.3)."""


class PacketTable:
    """One session's table. `path` None keeps it in memory only. `known`: it was there before, and is to be trusted.

    An entry is of use until the broker surely has the acknowledgement: from then on the same identifier means another
    message, even if its content is equal. The broker surely has it once it answered a PINGREQ that was sent later.
    """

    def __init__(self, path: Path | None, key: str) -> None:
        header = _HEADER.pack(_MAGIC, _boot_id(), crc32(key.encode()), 0)
        self._map = mmap.mmap(-1, _SIZE) if path is None else _map_file(path, header[:_KEY])
        self._view = memoryview(self._map)
        columns = self._view[_HEADER.size :]
        # Columns and not records: storing a number is four times faster than packing a record.
        self._highs = columns[: 8 * _IDENTIFIERS].cast("Q")
        self._lows = columns[8 * _IDENTIFIERS : 16 * _IDENTIFIERS].cast("Q")
        self._numbers = columns[16 * _IDENTIFIERS : 24 * _IDENTIFIERS].cast("Q")
        self._checks = columns[24 * _IDENTIFIERS :].cast("I")
        self._confirmed = self._view[_HEADER.size - 8 : _HEADER.size].cast("Q")
        self._acknowledgements = 0
        self.known = self._map[:_KEY] == header[:_KEY]
        self._empty = not self.known
        if self.known:
            self._acknowledgements = max(self._confirmed[0], *(number & ~_UNRELEASED for number in self._numbers))
        else:
            self._view[: _HEADER.size] = header

    def close(self) -> None:
        """Let go of the file."""
        for view in (self._highs, self._lows, self._numbers, self._checks, self._confirmed, self._view):
            view.release()
        self._map.close()

    def forget(self) -> None:
        """Begin a new session: every identifier is unused."""
        if not self._empty:  # else it would take memory for nothing
            self._view[_HEADER.size :] = bytes(_SIZE - _HEADER.size)
            self._empty = True

    def remember(self, packet_ids: list[int], block: IdBlock, checks: Iterable[int]) -> None:
        """Note what arrived: packet identifiers, the block of their ids, and their content checks.

        The check is stored last: until then the entry fits no message but an equal one, for which any id will do that
        was not used yet.
        """
        self._empty = False
        count = len(packet_ids)
        rows = rows_of(packet_ids)
        fill(self._highs, rows, block.high)
        store(self._lows, rows, range(block.low, block.low + count))
        fill(self._numbers, rows, 0)
        store(self._checks, rows, checks)

    def recall(self, packet_id: int, check: int) -> str | None:
        """Return the id of the message that arrived under an identifier before, if a redelivery can be of it."""
        high = self._highs[packet_id]
        confirmed = 0 < self._numbers[packet_id] & ~_UNRELEASED <= self._confirmed[0]
        if not high or confirmed or self._checks[packet_id] != check:
            return None
        return id_of(high, self._lows[packet_id])

    def acknowledge(self, packet_ids: list[int], *, unreleased: bool) -> None:
        """Note, before it is sent, that the PUBACK or, with `unreleased`, the PUBREC of these identifiers is sent."""
        self._empty = False
        number = self._acknowledgements + 1
        self._acknowledgements = number
        if unreleased:
            number |= _UNRELEASED
        fill(self._numbers, rows_of(packet_ids), number)

    @property
    def acknowledgements(self) -> int:
        """The number of the last acknowledgement; give it to `confirm` when a PINGREQ sent now is answered."""
        return self._acknowledgements

    def confirm(self, number: int) -> None:
        """Note that the broker has every acknowledgement up to this one."""
        self._confirmed[0] = number

    def release(self, packet_id: int) -> None:
        """Note that PUBREL came: the identifier is unused."""
        self._highs[packet_id] = self._lows[packet_id] = self._numbers[packet_id] = self._checks[packet_id] = 0

    def check(self, packet_id: int) -> int:
        """Return the content check of what last arrived under an identifier."""
        return self._checks[packet_id]

    def unreleased(self) -> list[int]:
        """Return the identifiers whose PUBREC was sent and whose PUBREL has not come."""
        return [packet_id for packet_id, number in enumerate(self._numbers) if number & _UNRELEASED]


_ROW_OF_SOME = 8  # for fewer identifiers a loop is faster


def rows_of(packet_ids: list[int]) -> slice | list[int]:
    """Return where a column has these identifiers. Brokers number in a row, and a row is written at once."""
    if len(packet_ids) < _ROW_OF_SOME:
        return packet_ids
    first, end = packet_ids[0], packet_ids[-1] + 1
    return slice(first, end) if packet_ids == list(range(first, end)) else packet_ids


def store(column: memoryview, rows: slice | list[int], values: Iterable[int]) -> None:
    """Store a value in each row."""
    if isinstance(rows, slice):
        column[rows] = array(column.format, values)
        return
    for row, value in zip(rows, values, strict=True):
        column[row] = value


def fill(column: memoryview, rows: slice | list[int], value: int) -> None:
    """Store the same value in each row."""
    if isinstance(rows, slice):
        column[rows] = array(column.format, (value,)) * (rows.stop - rows.start)
        return
    for row in rows:
        column[row] = value


def _map_file(path: Path, key: bytes) -> mmap.mmap:
    """Map a file that begins with the key as it is, and any other as an empty one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        file.seek(0)
        if file.read(len(key)) != key:
            file.truncate(0)
        file.truncate(_SIZE)
        if hasattr(os, "posix_fallocate"):  # a full disk is an error now, and not a signal when a page is first written
            os.posix_fallocate(file.fileno(), 0, _SIZE)
        return mmap.mmap(file.fileno(), _SIZE)


def _boot_id() -> bytes:
    """Return what tells this boot from others. Where there is none, every start counts as another boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    except OSError:
        log.warning("the kernel gives no boot id: event ids do not survive a restart of the gateway")
        return str(id(object())).encode()
