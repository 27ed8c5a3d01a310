"""How long to wait before the next try."""

from __future__ import annotations

import random


class Backoff:
    """Exponential back-off with full jitter, in seconds: many gateways that lost one server must not return at once."""

    def __init__(self, first: float = 0.2, longest: float = 15.0) -> None:
        self._first = first
        self._longest = longest
        self._bound = first

    def reset(self) -> None:
        """Start over: the last try succeeded."""
        self._bound = self._first

    def next(self) -> float:
        """Return the next delay: between half of a bound and the bound, which doubles up to `longest`."""
        bound = self._bound
        self._bound = min(bound * 2, self._longest)
        return random.uniform(bound / 2, bound)
