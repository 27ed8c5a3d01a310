"""Text as a terminal may have it: a device must not be able to move its cursor, name its window or hide a line."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from typing import Any

_WIDEST = 80
"""Characters that a column is padded to at most: one long topic must not push all others out of sight."""


def printable(text: str) -> str:
    """Return text of a device's with what is not printable escaped, as \\x1b."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def json_line(fields: dict[str, Any]) -> str:
    """Return JSON in ASCII without control characters; DEL is the one that JSON lets through."""
    return json.dumps(fields).replace("\x7f", "\\u007f")


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines, aligned."""
    widths = [min(_WIDEST, max(map(len, column))) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def take_any_character() -> None:
    """Have standard output escape what its encoding has no character for, rather than fail."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
