"""The metrics of a worker, as Prometheus reads them."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.client.rig import Log, rig, running, worker
from tests.support.wait import eventually
from tidegate.client import PoisonError, WorkerCollector


async def test_what_a_worker_counts_is_exposed_and_balances(tmp_path: Path) -> None:
    def fail(number: int, attempt: int) -> Exception | None:
        if number == 0:
            return PoisonError("never")
        return OSError("not now") if number == 1 and attempt == 1 else None

    async with rig(tmp_path) as r:
        await r.put(4)
        some = worker(r, Log(fail))
        registry = CollectorRegistry()
        registry.register(WorkerCollector(some))
        async with running(some):
            await eventually(lambda: some.counters.handled == 3)
    samples = {
        (sample.name.removeprefix("tidegate_worker_"), sample.labels.get("reason")): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
        if sample.labels["consumer"] == "workers" and "le" not in sample.labels
    }
    assert samples == {
        ("deliveries_total", None): 5, ("redeliveries_total", None): 1, ("handled_total", None): 3,
        ("retried_total", None): 1, ("returned_total", None): 0, ("unconfirmed_total", None): 0,
        ("dead_lettered_total", "poison"): 1, ("in_flight", None): 0,
        ("handling_duration_seconds_count", None): 5,
        ("handling_duration_seconds_sum", None): some.counters.handling_duration.total,
    }  # fmt: skip
