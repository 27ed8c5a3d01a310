"""Numbers in few characters, and as bars."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tidegate.core import rounded_duration

_UNITS = ("", "k", "M", "G", "T", "P")
_BARS = {False: "▁▂▃▄▅▆▇█", True: "_.:-=+*#"}
"""Eight heights, for terminals with them and for those that have ASCII alone."""


def count(number: float) -> str:
    """Return a number of things, in five characters where it is below 10^18: 99999, 100k, 1.2M."""
    if abs(number) < 100_000:
        return str(round(number))
    return _scaled(number)


def rate(number: float) -> str:
    """Return things a second, in five characters: 0.4, 812, 12.3k."""
    if 0 < number < 9.95:
        return f"{number:.1f}"
    return str(round(number)) if number < 9_999.5 else _scaled(number)


def _scaled(number: float) -> str:
    power = 0
    while abs(number) >= 999.5 and power < len(_UNITS) - 1:
        number /= 1000
        power += 1
    return f"{number:.1f}{_UNITS[power]}" if abs(number) < 99.95 else f"{number:.0f}{_UNITS[power]}"


def duration(seconds: float | None) -> str:
    """Return a duration as 4ms, 1.5s, 4.2m; `-` where there is none. A clock that is ahead makes it negative."""
    if seconds is None:
        return "-"
    return rounded_duration(seconds) if seconds >= 0 else f"-{rounded_duration(-seconds)}"


def clock(at: float) -> str:
    """Return a time as the viewer's clock has it; with the date where that is another day."""
    try:
        then = time.localtime(at)
    except (OverflowError, ValueError, OSError):
        return "?"
    return time.strftime("%H:%M:%S" if then[:3] == time.localtime()[:3] else "%Y-%m-%d %H:%M:%S", then)


def sparkline(history: Sequence[float], width: int, *, ascii_only: bool) -> str:
    """Return the newest numbers as bars of one line, newest last; nothing at all is the lowest of them."""
    return graph(history, width, 1, ascii_only=ascii_only)[0]


def graph(history: Sequence[float], width: int, height: int, *, ascii_only: bool) -> list[str]:
    """Return the newest numbers as bars over `height` lines, from the top."""
    bars = _BARS[ascii_only]
    newest = history[-width:] if width > 0 else []
    top = max(newest, default=0.0)
    steps = height * len(bars)
    levels = [_level(number, top, steps) for number in newest]
    rows = range((height - 1) * len(bars), -1, -len(bars))
    return ["".join(_bar(level - below, bars) for level in levels).rjust(width) for below in rows]


def _level(number: float, top: float, steps: int) -> int:
    """Return how many of all steps a bar has: one for nothing, and two at least for anything."""
    return 1 if number <= 0 else max(2, round(number / top * steps))


def _bar(level: int, bars: str) -> str:
    return " " if level <= 0 else bars[min(level, len(bars)) - 1]
