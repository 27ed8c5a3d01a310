"""Log records that repeat: the first ones are told at once, the rest as a number, a minute later at most."""

from __future__ import annotations

import copy
import logging
from typing import NamedTuple

PERIOD = 60.0
"""Seconds in which records about one thing are counted together."""

BURST = 10
"""So many of a period are told at once: a link that comes back does so with some lines, one that flaps with no end."""

MAX_ALIKE = 128
"""Things of one text, at once; those beyond count as one. A device may name what a text is about."""

MAX_THINGS = 256
"""Things that records are about, at once. One more ends the oldest period early, with its number."""


_Key = tuple[str, str, str | None]
"""Logger, text, and what that is about."""

_LONGEST_NAME = 200


class _Period(NamedTuple):
    """began: by the monotonic clock. told, untold: records. last: the last that was not told, as text; it is told with
    the number of the others."""

    began: float
    told: int = 0
    untold: int = 0
    last: logging.LogRecord | None = None


class Repeats:
    """Decides what is told of the records that come. Times are of the monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._periods: dict[_Key, _Period] = {}  # the one that ends first is first

    @property
    def next_end(self) -> float | None:
        """When the next period ends, or None if there is none."""
        return next((period.began + PERIOD for period in self._periods.values()), None)

    def admit(self, record: logging.LogRecord, now: float) -> list[logging.LogRecord]:
        """Return what is to be told now, which the record itself is the last of, or is not among."""
        told = self.due(now)
        key = self._key(record)
        if key not in self._periods and len(self._periods) >= MAX_THINGS:
            told += _number(self._periods.pop(next(iter(self._periods))), now)
        period = self._periods.setdefault(key, _Period(now))
        if period.told < BURST:
            self._periods[key] = period._replace(told=period.told + 1)
            return [*told, record]
        self._periods[key] = period._replace(untold=period.untold + 1, last=_as_text(record))
        return told

    def _key(self, record: logging.LogRecord) -> _Key:
        key = (record.name, str(record.msg), _thing_of(record))
        if key not in self._periods and sum(known[:2] == key[:2] for known in self._periods) >= MAX_ALIKE:
            return (*key[:2], None)
        return key

    def due(self, now: float) -> list[logging.LogRecord]:
        """Return the numbers of the periods that have ended. Where there was one, another period begins, without a
        burst: what repeats for an hour is a line a minute."""
        told: list[logging.LogRecord] = []
        while (end := self.next_end) is not None and end <= now:
            key = next(iter(self._periods))
            period = self._periods.pop(key)
            if period.untold:
                told += _number(period, now)
                self._periods[key] = _Period(now, BURST)
        return told

    def rest(self, now: float) -> list[logging.LogRecord]:
        """Return the numbers of all periods, and begin anew."""
        told = [number for period in self._periods.values() for number in _number(period, now)]
        self._periods.clear()
        return told


def bridge_of(record: logging.LogRecord) -> str | None:
    """Return the bridge that a record is about: those begin with its name, as `log.info("%s: connected", name)`."""
    named: str | None = getattr(record, "bridge", None)
    if named is None and str(record.msg).startswith("%s: ") and isinstance(record.args, tuple):
        named = str(record.args[0]) if record.args else None
    return named


def _thing_of(record: logging.LogRecord) -> str | None:
    """Return what a record is about, if it says several things: a name comes first, and what became of it last."""
    named = bridge_of(record)
    if named is None and isinstance(record.args, tuple) and len(record.args) > 1:
        named = next((str(arg) for arg in record.args if not isinstance(arg, int | float)), None)
    return None if named is None else named[:_LONGEST_NAME]


def _as_text(record: logging.LogRecord) -> logging.LogRecord:
    """Return the record without what it holds on to, such as the frames of a traceback, which the first one told."""
    text = copy.copy(record)
    text.bridge = bridge_of(record)
    text.msg, text.args, text.exc_info, text.exc_text, text.stack_info = record.getMessage(), (), None, None, None
    return text


def _number(period: _Period, now: float) -> list[logging.LogRecord]:
    if period.last is None:
        return []
    if period.untold > 1:
        period.last.msg += f" ({period.untold - 1} more in the last {now - period.began:.0f} s)"
    return [period.last]
