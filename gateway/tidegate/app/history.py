"""The last minutes of a bridge: from them come its rates and its lag of now, which totals since the start hide."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from tidegate.core import Histogram

STEP = 5.0
"""Seconds between two looks."""

LENGTH = 60
"""Steps that are kept: five minutes."""


class Sample(NamedTuple):
    """A bridge's counters at one moment. time: monotonic seconds. durations, lags: counts by bucket."""

    time: float
    received: int
    delivered: int
    durations: Sequence[int]
    lags: Sequence[int]


class History:
    """Samples of one bridge, oldest first."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=LENGTH + 1)

    def add(self, sample: Sample) -> None:
        """Keep one more, and forget the oldest where there are enough."""
        self._samples.append(sample)

    def rates(self) -> tuple[list[float], list[float]]:
        """Return messages a second received and delivered, one number for each step."""
        steps = [(two.time - one.time, one, two) for one, two in pairwise(self._samples)]
        received = [round((two.received - one.received) / seconds, 1) for seconds, one, two in steps]
        delivered = [round((two.delivered - one.delivered) / seconds, 1) for seconds, one, two in steps]
        return received, delivered

    def recent(self, durations: Sequence[int], lags: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """Return how many durations and lags have fallen into each bucket since the oldest sample."""
        if not self._samples:
            return durations, lags
        first = self._samples[0]
        return (
            [after - before for before, after in zip(first.durations, durations, strict=True)],
            [after - before for before, after in zip(first.lags, lags, strict=True)],
        )


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """Return the value that `share` of the observations are below, estimated within its bucket as Prometheus does; or
    None where nothing was observed. What is above every bound counts as the last bound."""
    rank = share * sum(counts)
    if not rank:
        return None
    lower, below = 0.0, 0
    for bound, count in zip(bounds, counts, strict=False):
        if count and below + count >= rank:
            return min(bound, lower + (bound - lower) * (rank - below) / count)
        lower, below = bound, below + count
    return bounds[-1]


def merged(histograms: Sequence[Histogram]) -> list[int]:
    """Return the counts of several histograms with the same bounds."""
    return list(map(sum, zip(*(histogram.counts for histogram in histograms), strict=True)))
