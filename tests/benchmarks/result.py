"""What was measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field

LOAD_LIMIT = 0.5
"""Of one core. See refusal()."""


@dataclass(frozen=True)
class Run:
    """One contender in one job, once.

    values: `rate` messages a second, `cpu` microseconds a message, `peak` and `resident` MiB, `load` the load's share
    of a core, `p50` `p99` `p999` milliseconds, `late` milliseconds of the paced sender (p99), `idle` percent of a core.
    problem: why a value is missing, or the run.
    """

    job: str
    contender: str
    round: int
    messages: int = 0
    lost: int = 0
    doubled: int = 0
    values: dict[str, float] = field(default_factory=dict)
    problem: str = ""

    @property
    def sound(self) -> bool:
        """Whether it ran to its end, and every message arrived once."""
        return bool(self.values) and not self.lost and not self.doubled


def refusal(load_cpu: float, elapsed: float) -> str:
    """Return why a throughput can't be reported, or "".

    A load that limits the run is busy all the time that the run takes; one that the broker holds back, by its PUBACKs
    or a full socket, sleeps meanwhile. Even on a machine where every core is taken, a busy load gets its fair share of
    one, so half a core of processor time over the measured time is where it can't be told any more, and is refused.
    """
    share = load_cpu / elapsed if elapsed > 0 else 1.0
    return f"the load itself took {share:.0%} of a core" if share > LOAD_LIMIT else ""


def median(runs: Iterable[Run], job: str, contender: str, key: str) -> float | None:
    """Return the median over the rounds, or None where nothing was measured."""
    found = [run.values[key] for run in runs if (run.job, run.contender) == (job, contender) and key in run.values]
    return statistics.median(found) if found else None
