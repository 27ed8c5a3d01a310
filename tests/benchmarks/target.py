"""The targets, and whether the medians meet them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks.result import Run, median
from tests.benchmarks.statistic import ratio

_OURS, _RIVAL, _CEILING = "tidegate", "mq-bridge", "mosquitto_sub"


@dataclass(frozen=True)
class Target:
    """A bound on the quotient of two medians, or on one median where there is no divisor.

    value, divisor: job, contender and key. least: whether the limit is the smallest allowed value, not the largest.
    """

    text: str
    value: tuple[str, str, str]
    limit: float
    divisor: tuple[str, str, str] | None = None
    least: bool = False
    unit: str = "x"

    def measured(self, runs: Sequence[Run]) -> float | None:
        """Return what the medians give, or None where one is missing."""
        value = median(runs, *self.value)
        return value if self.divisor is None else ratio(value, median(runs, *self.divisor))

    def verdict(self, runs: Sequence[Run]) -> str:
        """Return "met", "missed" or "not measured"."""
        measured = self.measured(runs)
        if measured is None:
            return "not measured"
        return "met" if (measured >= self.limit if self.least else measured <= self.limit) else "missed"


def _against_rival(text: str, job: str, key: str, limit: float, *, least: bool = False) -> Target:
    return Target(text, (job, _OURS, key), limit, (job, _RIVAL, key), least)


TARGETS = (
    _against_rival("1. throughput of the base job, against mq-bridge", "base", "rate", 1.4, least=True),
    Target(
        "1. throughput of the base job, against mosquitto_sub",
        ("base", _OURS, "rate"),
        1.1,
        ("base", _CEILING, "rate"),
        least=True,
    ),
    _against_rival("2. CPU a message, against mq-bridge", "base", "cpu", 0.7),
    Target("3. peak memory in the base job", ("base", _OURS, "peak"), 64, unit="MiB"),
    _against_rival("4. p50 at 1,000/s, against mq-bridge", "latency-1000", "p50", 1.0),
    _against_rival("4. p99 at 1,000/s, against mq-bridge", "latency-1000", "p99", 1.0),
    Target("5. QoS 0 to core NATS", ("core", _OURS, "rate"), 60_000, least=True, unit="msg/s"),
    Target(
        "6. CPU a message with 20,000 topics, against 100",
        ("topics", _OURS, "cpu"),
        1.15,
        ("base", _OURS, "cpu"),
    ),
    Target("6. CPU a message with 5 N messages, against N", ("5n", _OURS, "cpu"), 1.15, ("base", _OURS, "cpu")),
    Target("7. CPU of an idle gateway", ("idle", _OURS, "idle"), 0.5, unit="%"),
    Target("7. memory of an idle gateway", ("idle", _OURS, "resident"), 50, unit="MiB"),
)
