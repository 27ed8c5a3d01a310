"""Latency: from the device's write to a core NATS subscriber's read, at a paced rate."""

from __future__ import annotations

from dataclasses import replace

from tests.benchmarks.child import child
from tests.benchmarks.contender import Contender
from tests.benchmarks.job import Job, Size
from tests.benchmarks.result import Run
from tests.benchmarks.site import site


async def latency(job: Job, contender: Contender, number: int, size: Size) -> Run:
    """Run one contender once. Nothing is left out: the first messages count as well."""
    count = size.messages(job, 1.0)
    run = Run(job.name, contender.name, number, count)
    async with (
        site(job) as place,
        contender.start(place),
        child("subscriber", place.nats, "--count", count) as subscriber,
        child("sender", place.mqtt, "--pace", job.pace, "--count", count) as sender,
    ):
        await sender.go()
        found, sent = await subscriber.result(), await sender.result()
    values = {key: found[key] for key in ("p50", "p99", "p999")} | sent
    return replace(run, lost=int(found["lost"]), doubled=int(found["doubled"]), values=values)
