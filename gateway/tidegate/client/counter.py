"""What a worker counts: plain integers, exposed by `tidegate.client.metrics` or anything else."""

from __future__ import annotations

from collections import Counter

from tidegate.core import Histogram


class WorkerCounters:
    """Everything that is counted for one worker since it began.

    Always true between two events of the loop:
    delivered = handled + retried + dead_lettered + returned + in_flight

    delivered: deliveries taken, the repeated ones too, and what the server gave up. handled: the handler succeeded.
    retried: it failed, and the event comes again. returned: stopped half-way, at the end. redelivered: deliveries but
    the first of an event. unconfirmed: acknowledgements that the server did not confirm; such an event may come again.
    handling_duration: seconds in the handler.
    """

    __slots__ = (
        "dead_lettered",
        "delivered",
        "handled",
        "handling_duration",
        "in_flight",
        "redelivered",
        "retried",
        "returned",
        "unconfirmed",
    )

    def __init__(self) -> None:
        self.delivered = 0
        self.handled = 0
        self.retried = 0
        self.returned = 0
        self.redelivered = 0
        self.unconfirmed = 0
        self.in_flight = 0
        self.dead_lettered: Counter[str] = Counter()
        self.handling_duration = Histogram()

    @property
    def balanced(self) -> bool:
        """Whether every delivery is accounted for."""
        finished = self.handled + self.retried + self.returned + self.dead_lettered.total()
        return self.delivered == finished + self.in_flight
