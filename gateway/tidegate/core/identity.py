"""Event ids: UUIDv7 (RFC 9562 §5.7), made in bulk."""

from __future__ import annotations

import random
import secrets
import time
from typing import NamedTuple
from uuid import UUID

_COUNTER_BITS = 48
_COUNTER_START_BITS = 47  # leaves room to count up without a carry
_COUNTER_MASK = (1 << _COUNTER_BITS) - 1


class IdBlock(NamedTuple):
    """Ids in a row. `high` and `low` are the halves of the first, 64 bits each; each next one has `low` one higher.
    `prefix` is what their texts begin with."""

    prefix: str
    high: int
    low: int

    def texts(self, count: int) -> list[str]:
        """Return the first ids as text."""
        prefix, first = self.prefix, self.low & _COUNTER_MASK
        return [f"{prefix}{number:012x}" for number in range(first, first + count)]


def id_of(high: int, low: int) -> str:
    """Return the text of an id from its two halves."""
    return str(UUID(int=high << 64 | low))


class IdSource:
    """Makes event ids that are unique across processes and sort by time.

    An id is 48 bits of milliseconds, 26 random bits that change each millisecond, and a 48-bit counter with a random
    start (RFC 9562 §6.2, method 1). Only the counter changes within a block, so an id costs one string format.
    """

    def __init__(self) -> None:
        self._random = random.Random(secrets.randbits(256))
        self._millisecond = -1
        self._prefix = ""
        self._high = 0
        self._low = 0
        self._next = 0

    def take(self, count: int) -> list[str]:
        """Return `count` new ids in ascending order. After the clock jumped back they are still unique."""
        return self.reserve(count).texts(count)

    def reserve(self, count: int) -> IdBlock:
        """Return `count` new ids as a block. Those that are not used are lost, which does no harm."""
        millisecond = time.time_ns() // 1_000_000
        if millisecond != self._millisecond or self._next + count > _COUNTER_MASK:
            self._millisecond = millisecond
            noise = self._random.getrandbits(26)
            self._high = (millisecond & _COUNTER_MASK) << 16 | 0x7000 | noise >> 14
            self._low = (0x8000 | noise & 0x3FFF) << _COUNTER_BITS
            stamp = f"{self._high:016x}{self._low >> _COUNTER_BITS:04x}"
            self._prefix = f"{stamp[:8]}-{stamp[8:12]}-{stamp[12:16]}-{stamp[16:]}-"
            self._next = self._random.getrandbits(_COUNTER_START_BITS)
        first = self._next
        self._next = first + count
        return IdBlock(self._prefix, self._high, self._low | first)
