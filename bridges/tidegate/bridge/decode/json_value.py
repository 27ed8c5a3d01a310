"""What other formats hold, as what JSON can hold."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

MAX_DEPTH = 190
"""Levels of nesting; what reads an event's JSON gives up soon after."""

MAX_SIZE = 16 * 1024 * 1024
"""About how many bytes a value may become: one that holds the same things again and again is larger than its payload,
and as JSON larger than in memory."""

_CONTAINER, _ITEM = 64, 8
"""Bytes that an array or object takes, and each place in it."""

_MAX_INT = (1 << 64) - 1
_MIN_INT = -(1 << 63)


class Room:
    """How many bytes a value may yet become."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_SIZE

    def take(self, size: int) -> None:
        """Count some. Raises ValueError when there are no more."""
        self.left -= size
        if self.left < 0:
            raise ValueError(f"it becomes too large: more than {MAX_SIZE} bytes")


def json_value(value: Any) -> Any:
    """Return a value as JSON can hold it: bytes in base64, times in RFC 3339 (in UTC where they have an offset),
    decimals and UUIDs as text, keys as text.

    Raises ValueError for what has no form there: NaN and infinity, integers over 64 bits, other types, keys that would
    become the same, more than 190 levels, or more than about 16 MiB.
    """
    return _convert(value, 0, Room())


def check_depth(depth: int) -> None:
    """Raise ValueError for an array or object that stands too deep."""
    if depth >= MAX_DEPTH:
        raise ValueError("nested too deep")


def key_text(key: object) -> str:
    """Return the key of a map as text: a number or a truth value as JSON writes it, bytes in base64. Raises ValueError
    for another that is no text."""
    if isinstance(key, str):
        return key
    if isinstance(key, bool | int | float | bytes):
        text = json_value(key)
        return text if isinstance(text, str) else str(text).lower() if isinstance(text, bool) else str(text)
    raise ValueError(f"a key of a map that is no text: {type(key).__name__}")


def _convert(value: Any, depth: int, room: Room) -> Any:
    kind = type(value)
    if kind is str:
        room.left -= len(value)  # what holds it looks
        return value
    if kind is bool or value is None:
        return value
    if kind is int:
        if not _MIN_INT <= value <= _MAX_INT:
            raise ValueError("an integer of more than 64 bits")
        return value
    if kind is float:
        if not math.isfinite(value):
            raise ValueError(f"{value} is no number that JSON has")
        return value
    if isinstance(value, list | tuple):
        _enter(depth, len(value), room)
        items = [_convert(item, depth + 1, room) for item in value]
        room.take(0)
        return items
    if isinstance(value, Mapping):
        return _object(value, depth, room)
    return _scalar(value, room)


def _object(value: Mapping[Any, Any], depth: int, room: Room) -> dict[str, Any]:
    _enter(depth, len(value), room)
    found = {key if type(key) is str else key_text(key): _convert(item, depth + 1, room) for key, item in value.items()}
    if len(found) < len(value):
        raise ValueError("two keys of a map that are the same as text")
    room.take(sum(map(len, found)))
    return found


def _enter(depth: int, length: int, room: Room) -> None:
    check_depth(depth)
    room.take(_CONTAINER + _ITEM * length)


def _scalar(value: Any, room: Room) -> Any:
    match value:
        case bytes() | bytearray() | memoryview():
            room.take(memoryview(value).nbytes)
            return b64encode(value).decode()
        case datetime():
            return _time(value)
        case date() | time():
            return value.isoformat()
        case Decimal():
            if not value.is_finite():
                raise ValueError(f"{value} is no number that JSON has")
            return str(value)
        case UUID():
            return str(value)
        case bool() | int() | float() | str():  # a subclass
            plain = next(base(value) for base in (bool, int, float, str) if isinstance(value, base))
            return _convert(plain, 0, room)
    raise ValueError(f"a value of type {type(value).__name__}, which has no form in JSON")


def _time(value: datetime) -> str:
    """RFC 3339 in UTC, with microseconds; one that says no offset keeps it that way."""
    if value.tzinfo is None:
        return value.isoformat()
    try:
        plain = value.astimezone(UTC).replace(tzinfo=None)
    except OverflowError:
        raise ValueError("a time that is not in the years 1 to 9999 in UTC") from None
    return f"{plain.isoformat(timespec='microseconds')}Z"
