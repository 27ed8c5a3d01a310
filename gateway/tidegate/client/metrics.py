"""A service's metrics for Prometheus: `REGISTRY.register(WorkerCollector(worker))`, and `start_http_server(port)`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from tidegate.client.counter import WorkerCounters
from tidegate.client.worker import Worker

_COUNTERS = (
    ("deliveries", "delivered", "Deliveries taken, repeated ones too."),
    ("redeliveries", "redelivered", "Deliveries but the first of an event."),
    ("handled", "handled", "Events that the handler succeeded with."),
    ("retried", "retried", "Failed attempts after which the event comes again."),
    ("returned", "returned", "Deliveries given back at the end of the process."),
    ("unconfirmed", "unconfirmed", "Acknowledgements that the server did not confirm."),
)


class WorkerCollector(Collector):
    """Reads the counters of workers when Prometheus asks. Label: consumer.

    deliveries = handled + retried + dead-lettered + returned + in flight
    """

    def __init__(self, *workers: Worker[Any]) -> None:
        self._workers: list[tuple[str, WorkerCounters]] = [(worker.name, worker.counters) for worker in workers]

    def collect(self) -> Iterator[Metric]:
        for name, attribute, text in _COUNTERS:
            family = CounterMetricFamily(f"tidegate_worker_{name}", text, labels=["consumer"])
            for consumer, counters in self._workers:
                family.add_metric([consumer], getattr(counters, attribute))
            yield family
        dead = CounterMetricFamily("tidegate_worker_dead_lettered", "Events set aside.", labels=["consumer", "reason"])
        in_flight = GaugeMetricFamily("tidegate_worker_in_flight", "Events being handled.", labels=["consumer"])
        durations = HistogramMetricFamily(
            "tidegate_worker_handling_duration_seconds", "Time in the handler.", labels=["consumer"]
        )
        for consumer, counters in self._workers:
            for reason, count in counters.dead_lettered.items():
                dead.add_metric([consumer, reason], count)
            in_flight.add_metric([consumer], counters.in_flight)
            histogram = counters.handling_duration
            bounds = [*map(str, histogram.bounds), "+Inf"]
            buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
            durations.add_metric([consumer], buckets, histogram.total)
        yield from (dead, in_flight, durations)
