"""What went wrong last, kept after it has passed."""

from __future__ import annotations

from typing import NamedTuple


class Trouble(NamedTuple):
    """text: for people. time: when it was seen last, in seconds since 1970."""

    text: str
    time: float
