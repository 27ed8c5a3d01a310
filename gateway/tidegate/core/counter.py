"""A bridge's counters: plain integers, because a message must not pay for its metrics."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

DURATION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds in seconds, from a message on one host to one that waited out a short outage."""

LAG_BUCKETS = (0.01, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21_600.0, 86_400.0)
"""Upper bounds in seconds, from a fresh reading to one that waited out a day."""


class Histogram:
    """Counts observations by upper bound; the last count is of those above every bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = DURATION_BUCKETS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count `times` observations of one value: a batch is observed at once."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times


class BridgeCounters:
    """Everything that is counted for one bridge since it began.

    Always true between two events of the loop (law 6):
    received = delivered + dead_lettered + filtered + dropped + in_flight + spooled

    `spooled` counts what this bridge put into the spool; another one takes it out and has counters of its own.
    delivery_duration: from receipt, event_lag: from the event's own time, until it is durable.
    """

    __slots__ = (
        "dead_lettered",
        "delivered",
        "delivered_bytes",
        "delivery_duration",
        "dropped",
        "duplicates",
        "event_lag",
        "filtered",
        "in_flight",
        "received",
        "received_bytes",
        "spooled",
    )

    def __init__(self) -> None:
        self.received = 0
        self.received_bytes = 0
        self.delivered = 0
        self.delivered_bytes = 0
        self.dead_lettered: Counter[str] = Counter()
        self.filtered = 0
        self.dropped: Counter[str] = Counter()
        self.in_flight = 0
        self.spooled = 0
        self.duplicates = 0
        self.delivery_duration = Histogram()
        self.event_lag = Histogram(LAG_BUCKETS)

    @property
    def balanced(self) -> bool:
        """Whether every message received is accounted for."""
        finished = self.delivered + self.dead_lettered.total() + self.filtered + self.dropped.total()
        return self.received == finished + self.in_flight + self.spooled
