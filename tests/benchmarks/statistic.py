"""Medians, percentiles and ratios."""

from __future__ import annotations

import math
from collections.abc import Sequence


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the smallest value that so many percent of the values do not exceed (nearest rank); nan without values."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def ratio(value: float | None, other: float | None) -> float | None:
    """Return value / other, or None where one is missing."""
    return value / other if value is not None and other else None
