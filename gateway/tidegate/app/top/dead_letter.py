"""The latest dead letters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.text import Text

from tidegate.app.top.figure import clock
from tidegate.app.top.line import cut, line, wrap
from tidegate.app.top.status import DeadLetterNote

_INDENT = "  "


def dead_letters(notes: Iterable[DeadLetterNote], width: int) -> Iterator[Text]:
    """Yield each in some lines: what was set aside, and why."""
    for note in notes:
        yield cut(dead_letter(note), width)
        correlation = "" if note.correlation_id is None else f" (correlation id {note.correlation_id})"
        for part in wrap(note.detail + correlation, max(1, width - len(_INDENT))):
            yield line(_INDENT, part)


def dead_letter(note: DeadLetterNote) -> Text:
    """Return one in a line."""
    return line((clock(note.time), "dim"), f" {note.bridge} ", (note.reason, "yellow"), f" {note.topic}")
