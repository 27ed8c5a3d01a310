"""Keys of a terminal, from the bytes that it sends for them."""

from __future__ import annotations

import re

_ESCAPE = "\x1b"
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O[ -~])|.", re.DOTALL)
_BEGUN = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|O)?\Z")
_LONGEST = 32
"""Characters of a sequence, of which real ones have up to ten."""

_NAMES = {
    "\x1b[A": "up", "\x1bOA": "up", "k": "up",
    "\x1b[B": "down", "\x1bOB": "down", "j": "down",
    "\x1b[5~": "page up", "\x1b[6~": "page down", " ": "page down",
    "\x1b[H": "home", "\x1bOH": "home", "\x1b[1~": "home", "g": "home",
    "\x1b[F": "end", "\x1bOF": "end", "\x1b[4~": "end", "G": "end",
    "\r": "enter", "\n": "enter",
    _ESCAPE: "escape", "\x7f": "escape", "\b": "escape",
}  # fmt: skip


class KeyReader:
    """Makes keys of bytes. Escape is a key, and the start of most others: `rest` says that nothing followed it."""

    def __init__(self) -> None:
        self._begun = ""

    @property
    def waits(self) -> bool:
        """Whether what came last may be the start of a key."""
        return bool(self._begun)

    def feed(self, data: bytes) -> list[str]:
        """Return the keys in what came: their names, or characters. Those that are not known are left out."""
        text = self._begun + data.decode(errors="ignore")
        begun = _BEGUN.search(text[-_LONGEST:])
        self._begun = begun[0] if begun else ""
        return _keys(text.removesuffix(self._begun))

    def rest(self) -> list[str]:
        """Return what was begun as the keys that it is if nothing more comes."""
        text, self._begun = self._begun, ""
        return ["escape"] if text == _ESCAPE else []


def _keys(text: str) -> list[str]:
    found = (match[0] for match in _SEQUENCE.finditer(text))
    return [_NAMES.get(one, one) for one in found if one in _NAMES or (len(one) == 1 and one.isprintable())]
