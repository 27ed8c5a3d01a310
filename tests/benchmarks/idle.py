"""A gateway with nothing to do; and one with the same to do for a long time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from tests.benchmarks.child import child
from tests.benchmarks.contender import Contender
from tests.benchmarks.job import BASE, Job, Size
from tests.benchmarks.process import cpu_seconds, resident_mib
from tests.benchmarks.result import Run
from tests.benchmarks.site import STREAM, site
from tests.support.checker import nats_client

_AFTER_START = 3.0  # seconds
_STEP = 10.0  # seconds between two readings of the memory
_LONG_PACE = 5000  # messages a second


async def idle(job: Job, contender: Contender, number: int, size: Size) -> Run:
    """Measure processor time and memory while nothing happens."""
    async with site(job) as place, contender.start(place) as pids:
        await asyncio.sleep(_AFTER_START)
        before, start = cpu_seconds(pids), time.monotonic()
        await asyncio.sleep(size.idle)
        used = (cpu_seconds(pids) - before) / (time.monotonic() - start)
        return Run(job.name, contender.name, number, values={"idle": used * 100, "resident": resident_mib(pids)})


async def long(contender: Contender, seconds: float, say: Callable[[str], None]) -> list[float]:
    """Return the resident memory (MiB) each ten seconds of a steady load.

    The load is one process for each step, so that it need not hold all messages; the stream is emptied after each.
    """
    found: list[float] = []
    async with site(BASE) as place, contender.start(place) as pids, nats_client(place.nats) as client:
        for _ in range(max(1, round(seconds / _STEP))):
            pace = ("--pace", _LONG_PACE, "--count", int(_LONG_PACE * _STEP))
            async with child("sender", place.mqtt, *pace) as sender:
                await sender.go()
                await sender.result()
            found.append(resident_mib(pids))
            say(f"long: {len(found) * _STEP:.0f} s, {found[-1]:.1f} MiB")
            await client.jetstream().purge_stream(STREAM)
    return found
