"""Durations and sizes for a person to read: `7d`, `64MiB`."""

from __future__ import annotations

_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_BYTES = {"GiB": 1024**3, "MiB": 1024**2, "KiB": 1024, "B": 1}


def written_duration(seconds: float) -> str:
    """Return a duration of whole milliseconds as a configuration has it."""
    return _written(round(seconds * 1000), _MILLISECONDS)


def written_size(size: int) -> str:
    """Return a number of bytes as a configuration has it."""
    return _written(size, _BYTES)


def rounded_duration(seconds: float) -> str:
    """Return a duration that was measured, with one decimal place of its largest unit. Rounded up, so that what is
    beyond a limit reads so."""
    return _rounded(round(seconds * 1000), _MILLISECONDS)


def rounded_size(size: int) -> str:
    """Return a number of bytes that was measured, as `rounded_duration` does."""
    return _rounded(size, _BYTES)


def _written(amount: int, units: dict[str, int]) -> str:
    unit = next(unit for unit, size in units.items() if amount % size == 0)
    return f"{amount // units[unit]}{unit}"


def _rounded(amount: int, units: dict[str, int]) -> str:
    unit = next((unit for unit, size in units.items() if amount >= size), list(units)[-1])
    whole, tenths = divmod(-(-amount * 10 // units[unit]), 10)
    return f"{whole}.{tenths}{unit}" if tenths else f"{whole}{unit}"
