"""Lines of a terminal. The one place where text becomes a part of a picture, so what is in it is always harmless."""

from __future__ import annotations

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.text import Text

from tidegate.app.terminal import printable

ELLIPSIS = "…"


def line(*parts: str | tuple[str, str]) -> Text:
    """Return a line of texts, or of texts with their styles. Escapes what is not printable; knows no markup."""
    made = Text(no_wrap=True, end="")
    for part in parts:
        text, style = (part, "") if isinstance(part, str) else part
        made.append(printable(text), style)
    return made


def fit(text: str, width: int, *, right: bool = False) -> str:
    """Return text in exactly so many cells; a wide character takes two."""
    text = printable(text)
    size = cell_len(text)
    if size > width:
        return set_cell_size(set_cell_size(text, max(0, width - 1)) + ELLIPSIS, width)
    return " " * (width - size) + text if right else text + " " * (width - size)


def cut(made: Text, width: int) -> Text:
    """Return a line of at most so many cells."""
    if made.cell_len > width:
        made.truncate(width, overflow="ellipsis")
    return made


def wrap(text: str, width: int) -> list[str]:
    """Return text in lines of at most so many cells, broken at spaces, or in a word that is longer than a line."""
    lines: list[str] = []
    for word in printable(text).split(" "):
        if lines and cell_len(lines[-1]) + 1 + cell_len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines += chop_cells(word, max(2, width)) or [""]
    return lines
