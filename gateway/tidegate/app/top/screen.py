"""The terminal: its modes, its size, and what is drawn on it."""

from __future__ import annotations

import contextlib
import os
import sys
import termios
from collections.abc import Sequence
from typing import Any, Self

from rich.console import Console
from rich.text import Text

_IFLAG, _LFLAG, _CC = 0, 3, 6
"""Where tcgetattr has the modes of input, the local modes and the characters."""

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""The alternate screen without a cursor, and back."""


def is_live() -> bool:
    """Whether there is a terminal for keys, and one for a picture that changes."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def is_ascii_only() -> bool:
    """Whether standard output has no characters for bars."""
    try:
        "▁█…↓".encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return True
    return False


class Painter:
    """Makes the bytes of lines, in the colours that standard output has: none where NO_COLOR is set, or in a file."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)

    def text_of(self, line: Text) -> str:
        """Return a line with the codes of its colours."""
        with self._console.capture() as captured:
            self._console.print(line, end="")
        return captured.get()

    def print(self, lines: Sequence[Text]) -> None:
        """Print lines, one below the other."""
        _write("".join(f"{self.text_of(line).rstrip()}\n" for line in lines))


class Screen:
    """The alternate screen of a terminal; keys come at once and are not shown.

    Use as `with`: at the end the terminal is as it was. `keys` is the file descriptor that they come from.
    """

    def __init__(self) -> None:
        self.keys = sys.stdin.fileno()
        self._painter = Painter()
        self._modes: list[Any] = []
        self._drawn: list[str] = []

    def __enter__(self) -> Self:
        self.enter()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.leave()

    def enter(self) -> None:
        """Take the terminal, and forget what was drawn."""
        self._modes = termios.tcgetattr(self.keys)
        modes = [*self._modes[:_CC], list(self._modes[_CC])]
        modes[_LFLAG] &= ~(termios.ICANON | termios.ECHO)
        modes[_IFLAG] &= ~termios.IXON  # with Ctrl-S a write would wait, and everything with it
        modes[_CC][termios.VMIN], modes[_CC][termios.VTIME] = 1, 0
        termios.tcsetattr(self.keys, termios.TCSANOW, modes)
        _write(_ENTER)
        self.forget()

    def leave(self) -> None:
        """Give it back, unless it is gone."""
        with contextlib.suppress(OSError):
            _write(_LEAVE)
        with contextlib.suppress(termios.error):
            termios.tcsetattr(self.keys, termios.TCSANOW, self._modes)

    def forget(self) -> None:
        """Have the next picture drawn as a whole, since the terminal may not show the last one any more."""
        self._drawn = []

    def draw(self, lines: Sequence[Text]) -> None:
        """Draw what differs from what was drawn before. Raises OSError where the terminal is gone."""
        texts = [self._painter.text_of(line) for line in lines]
        before = self._drawn
        out = [] if before else ["\x1b[2J"]
        # Erased first: after a line that is as long as the terminal is wide, erasing would take its last character.
        out += [
            f"\x1b[{row + 1};1H\x1b[2K{text}"
            for row, text in enumerate(texts)
            if row >= len(before) or before[row] != text
        ]
        out += [f"\x1b[{row + 1};1H\x1b[2K" for row in range(len(texts), len(before))]
        _write("".join(out))
        self._drawn = texts

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, now."""
        width, height = os.get_terminal_size(sys.stdout.fileno())
        return (width, height) if width > 0 and height > 0 else (80, 24)  # a serial line does not know


def _write(text: str) -> None:
    """Write at once. What the terminal's encoding has no character for becomes a question mark, which is as wide."""
    # Not through sys.stdout: it would keep what a terminal that is gone did not take, and fail at the exit.
    data = text.encode(sys.stdout.encoding, "replace")
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]
