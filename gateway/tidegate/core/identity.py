"""Event ids: UUIDv7 (RFC 9562 §5.7), made in bulk."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator

_COUNTER_BITS = 48
_COUNTER_START_BITS = 47  # leaves room to count up without a carry


class IdSource:
    """Makes event ids that are unique across processes and sort by time.

    An id is 48 bits of milliseconds, 26 random bits that change each millisecond, and a 48-bit counter with a random
    start (RFC 9562 §6.2, method 1). Only the counter changes within a call, so an id costs one string format.
    """

    def __init__(self) -> None:
        self._millisecond = -1
        self._prefix = ""
        self._next = 0

    def take(self, count: int) -> list[str]:
        """Return `count` new ids in ascending order. After the clock jumped back they are still unique."""
        self._renew(count)
        first = self._next
        self._next = first + count
        prefix = self._prefix
        return [f"{prefix}{number:012x}" for number in range(first, first + count)]

    def stream(self) -> Iterator[str]:
        """Yield new ids of this moment in ascending order, as many as one read of a socket may need."""
        self._renew(1 << 20)
        prefix = self._prefix
        while True:
            number = self._next
            self._next = number + 1
            yield f"{prefix}{number:012x}"

    def _renew(self, count: int) -> None:
        millisecond = time.time_ns() // 1_000_000
        if millisecond != self._millisecond or self._next + count >= 1 << _COUNTER_BITS:
            self._millisecond = millisecond
            noise = secrets.randbits(26)
            stamp = f"{millisecond & (1 << 48) - 1:012x}"
            self._prefix = f"{stamp[:8]}-{stamp[8:]}-7{noise >> 14:03x}-{0x8000 | noise & 0x3FFF:04x}-"
            self._next = secrets.randbits(_COUNTER_START_BITS)
