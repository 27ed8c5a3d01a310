"""What other formats hold, as what JSON can hold."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from tidegate.core import format_time

MAX_DEPTH = 190
"""Levels of nesting; what reads an event's JSON gives up soon after."""

_MAX_INT = (1 << 64) - 1
_MIN_INT = -(1 << 63)


def json_value(value: Any, depth: int = 0) -> Any:
    """Return a value as JSON can hold it: bytes in base64, times in RFC 3339, decimals and UUIDs as text, keys as text.

    Raises ValueError for what has no form there: NaN and infinity, integers over 64 bits, other types, keys that would
    become the same, or more than 190 levels.
    """
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is int:
        if not _MIN_INT <= value <= _MAX_INT:
            raise ValueError("an integer of more than 64 bits")
        return value
    if kind is float:
        if not math.isfinite(value):
            raise ValueError(f"{value} is no number that JSON has")
        return value
    if depth >= MAX_DEPTH:
        raise ValueError("nested too deep")
    if isinstance(value, list | tuple):
        return [json_value(item, depth + 1) for item in value]
    if isinstance(value, Mapping):
        return _object(value, depth)
    return _scalar(value)


def _object(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    found = {_key(key): json_value(item, depth + 1) for key, item in value.items()}
    if len(found) < len(value):
        raise ValueError("two keys of a map that are the same as text")
    return found


def _key(key: object) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bool | int | float | bytes):
        text = json_value(key)
        return text if isinstance(text, str) else str(text).lower() if isinstance(text, bool) else str(text)
    raise ValueError(f"a key of a map that is no text: {type(key).__name__}")


def _scalar(value: Any) -> Any:
    match value:
        case bytes() | bytearray() | memoryview():
            return b64encode(value).decode()
        case datetime():
            return format_time(value.timestamp()) if value.tzinfo else value.isoformat()
        case date() | time():
            return value.isoformat()
        case Decimal():
            if not value.is_finite():
                raise ValueError(f"{value} is no number that JSON has")
            return str(value)
        case UUID():
            return str(value)
        case bool() | int() | float() | str():  # a subclass
            return json_value(next(base(value) for base in (bool, int, float, str) if isinstance(value, base)))
    raise ValueError(f"a value of type {type(value).__name__}, which has no form in JSON")
