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
from pathlib import Path
from struct import Struct
from zlib import crc32

log = logging.getLogger(__name__)

_MAGIC = b"tidegate packet ids 1"
_HEADER = Struct("<32s40sIxxxxQ")  # magic, boot id, key of the session, confirmed
_RECORD = Struct("<36sIQ")  # event id, content check, number of the acknowledgement; 0: none was sent
_NUMBER = Struct("<Q")
_CONFIRMED_AT = _HEADER.size - _NUMBER.size
_NUMBER_AT = _RECORD.size - _NUMBER.size
_IDENTIFIERS = 65_536
_SIZE = _HEADER.size + _IDENTIFIERS * _RECORD.size

_UNRELEASED = 1 << 63
"""Set in the acknowledgement's number: a PUBREC, and its PUBREL has not come (MQTT 5 §4.3.3)."""


class PacketTable:
    """One session's table. `path` None keeps it in memory only. `known`: it was there before, and is to be trusted.

    An entry is of use until the broker surely has the acknowledgement: from then on the same identifier means another
    message, even if its content is equal. The broker surely has it once it answered a PINGREQ that was sent later.
    """

    def __init__(self, path: Path | None, key: str) -> None:
        self._map = mmap.mmap(-1, _SIZE) if path is None else _map_file(path)
        self._acknowledgements = 0
        header = (_MAGIC, _boot_id(), crc32(key.encode()))
        magic, boot, session, confirmed = _HEADER.unpack_from(self._map)
        self.known = (magic.rstrip(b"\0"), boot.rstrip(b"\0"), session) == header
        if self.known:
            self._acknowledgements = max(confirmed, *self._numbers())
        else:
            self._map[:] = bytes(_SIZE)
            _HEADER.pack_into(self._map, 0, *header, 0)

    def close(self) -> None:
        """Let go of the file."""
        self._map.close()

    def forget(self) -> None:
        """Begin a new session: every identifier is unused."""
        self._map[_HEADER.size :] = bytes(_SIZE - _HEADER.size)

    def identify(self, packet_id: int, check: int, new_id: str, *, duplicate: bool) -> str:
        """Return the id of the message that arrived under an identifier: the known one if this is a redelivery."""
        at = _HEADER.size + packet_id * _RECORD.size
        if duplicate:
            known, known_check, number = _RECORD.unpack_from(self._map, at)
            if known_check == check and known[0] and not self._is_over(number):
                return bytes(known).decode("ascii", "replace")
        _RECORD.pack_into(self._map, at, new_id.encode(), check, 0)
        return new_id

    def _is_over(self, number: int) -> bool:
        """Whether the broker surely has this acknowledgement."""
        confirmed: int = _NUMBER.unpack_from(self._map, _CONFIRMED_AT)[0]
        return 0 < number & ~_UNRELEASED <= confirmed

    def acknowledge(self, packet_ids: list[int], *, unreleased: bool) -> None:
        """Note, before it is sent, that the PUBACK or, with `unreleased`, the PUBREC of these identifiers is sent."""
        number = self._acknowledgements + 1
        self._acknowledgements = number
        if unreleased:
            number |= _UNRELEASED
        pack, into = _NUMBER.pack_into, self._map
        for packet_id in packet_ids:
            pack(into, _HEADER.size + packet_id * _RECORD.size + _NUMBER_AT, number)

    @property
    def acknowledgements(self) -> int:
        """The number of the last acknowledgement; give it to `confirm` when a PINGREQ sent now is answered."""
        return self._acknowledgements

    def confirm(self, number: int) -> None:
        """Note that the broker has every acknowledgement up to this one."""
        _NUMBER.pack_into(self._map, _CONFIRMED_AT, number)

    def release(self, packet_id: int) -> None:
        """Note that PUBREL came: the identifier is unused."""
        at = _HEADER.size + packet_id * _RECORD.size
        self._map[at : at + _RECORD.size] = bytes(_RECORD.size)

    def check(self, packet_id: int) -> int:
        """Return the content check of what last arrived under an identifier."""
        return int(_RECORD.unpack_from(self._map, _HEADER.size + packet_id * _RECORD.size)[1])

    def unreleased(self) -> list[int]:
        """Return the identifiers whose PUBREC was sent and whose PUBREL has not come."""
        records = _RECORD.iter_unpack(self._map[_HEADER.size :])
        return [packet_id for packet_id, (_, _, number) in enumerate(records) if number & _UNRELEASED]

    def _numbers(self) -> list[int]:
        records = _RECORD.iter_unpack(self._map[_HEADER.size :])
        return [number & ~_UNRELEASED for _, _, number in records]


def _map_file(path: Path) -> mmap.mmap:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
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
