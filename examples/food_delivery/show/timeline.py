"""What happened to an order, from the journals of all who had to do with it, put together by its correlation id."""

from __future__ import annotations

from collections.abc import Sequence

from show.notes import Note


def timeline(order: str, notes: Sequence[Note]) -> list[str]:
    """Return a line for each note: seconds since the tablet sent the order, who, what, and which attempt if it was not
    the first."""
    correlation = next((note.correlation for note in notes if note.order == order), None)
    story = sorted(note for note in notes if note.correlation == correlation)
    return [
        f"  {note.at - story[0].at:7.2f} s  {note.who:<13} {note.what}"
        + (f"   (attempt {note.attempt})" if note.attempt > 1 else "")
        for note in story
    ]
