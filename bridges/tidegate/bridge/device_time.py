"""The time that a device gives for a message, told apart from nonsense."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Literal

Unit = Literal["s", "ms", "us", "ns"]

UNITS: dict[str, float] = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Seconds in each unit."""

EARLIEST = 946_684_800.0
"""2000-01-01: a device that says it is earlier has a clock that was never set."""

AHEAD = 86_400.0
"""Seconds that a device's clock may be ahead of ours; further on it is wrong, and a time zone explains no more."""

_MAX_NUMBER = 1e20
"""Nanoseconds in the year 5138; what is larger is no time in any unit."""


def read_time(value: object, received: float, unit: Unit | None = None, zone: tzinfo = UTC) -> float | None:
    """Return a device's time as seconds since 1970, or None if it is none or absurd.

    value: a number of seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by its size unless
    `unit` says which; the same as text; or ISO 8601, in `zone` where it has no offset. received: of receipt.
    """
    if isinstance(value, str):
        found = _from_text(value.strip(), unit, zone)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        found = _from_number(value, unit)
    else:
        return None
    if found is None or not EARLIEST <= found <= received + AHEAD:
        return None
    return found


def _from_text(text: str, unit: Unit | None, zone: tzinfo) -> float | None:
    try:
        number = float(text) if len(text) < 40 and text[:8].count("-") == 0 and ":" not in text else None
    except ValueError:
        number = None
    if number is not None and not _looks_like_a_basic_date(text):
        return _from_number(number, unit)
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=zone)).timestamp()
    except (ValueError, OverflowError):
        return None


def _looks_like_a_basic_date(text: str) -> bool:
    """`20261123` is a day, and no second of the year 1970."""
    return len(text) == 8 and text.isdecimal()


def _from_number(number: float, unit: Unit | None) -> float | None:
    if not 0 < number < _MAX_NUMBER:
        return None
    return number * UNITS[unit or _unit_of(number)]


def _unit_of(number: float) -> Unit:
    """The units are a thousand apart, and no time from 2000 to the year 5000 can be taken for another."""
    if number < 1e11:
        return "s"
    if number < 1e14:
        return "ms"
    return "us" if number < 1e17 else "ns"
