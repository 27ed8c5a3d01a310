"""Throughput: messages a second from the first to the last that NATS got, CPU for each, peak memory, and the balance.

The time is the stream's own, of storing, so that the same clock serves every contender and nothing is polled; on core
NATS a subscriber's. CPU is user and system time of the contender alone, from before the load until the last is stored.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from tests.benchmarks.child import Child, child
from tests.benchmarks.contender import Contender
from tests.benchmarks.job import Job, Size
from tests.benchmarks.process import cpu_seconds, peak_mib
from tests.benchmarks.result import Run, refusal
from tests.benchmarks.site import Site, site

_CEILING_TIMEOUT = 120.0
_SUBSCRIBED = 1.0  # seconds


async def throughput(job: Job, contender: Contender, number: int, size: Size) -> Run:
    """Run one contender once."""
    count = size.messages(job, contender.share)
    run = Run(job.name, contender.name, number, count)
    async with site(job) as place:
        if contender.name == "mosquitto_sub":
            return await _ceiling(place, run)
        async with contender.start(place) as pids, load(place, count) as sender:
            into = _into_core if job.deliver == "core" else _into_stream
            return await into(place, run, pids, sender)


def load(place: Site, count: int) -> AbstractAsyncContextManager[Child]:
    """Return the load's process."""
    job = place.job
    shape = ("--qos", job.qos, "--protocol", job.protocol, "--size", job.size, "--topics", job.topics)
    return child("load", place.mqtt, "--count", count, *shape)


async def _into_stream(place: Site, run: Run, pids: list[int], sender: Child) -> Run:
    before = cpu_seconds(pids)
    await sender.go()
    await place.filled(run.messages)
    used, peak = cpu_seconds(pids) - before, peak_mib(pids)
    state = await place.settled()
    lost, doubled = await place.balance(run.messages)
    run = replace(run, lost=lost, doubled=doubled)
    return _with_rate(run, state.last - state.first, used, peak, await sender.result())


async def _into_core(place: Site, run: Run, pids: list[int], sender: Child) -> Run:
    async with child("subscriber", place.nats, "--count", run.messages) as subscriber:
        before = cpu_seconds(pids)
        await sender.go()
        found = await subscriber.result()
        used, peak = cpu_seconds(pids) - before, peak_mib(pids)
    run = replace(run, lost=int(found["lost"]), doubled=int(found["doubled"]))
    return _with_rate(run, found["last"] - found["first"], used, peak, await sender.result())


async def _ceiling(place: Site, run: Run) -> Run:
    """Run mosquitto_sub, which only counts: what the broker can give to a client in C.

    Its time is from the start of the load to its own end. It says to nobody that it has subscribed, which takes
    milliseconds; if it were not in time, it would miss messages and not end.
    """
    job = place.job
    version = ("-V", "mqttv5" if job.protocol == "5" else "mqttv311")
    command = ("mosquitto_sub", "-p", str(place.mqtt), "-t", "sensors/#", "-q", str(job.qos), "-i", "sub", "-c")
    process = subprocess.Popen((*command, *version, "-C", str(run.messages)), stdout=subprocess.DEVNULL)  # noqa: ASYNC220
    ended = asyncio.create_task(asyncio.to_thread(os.wait4, process.pid, 0))
    try:
        await asyncio.sleep(_SUBSCRIBED)
        async with load(place, run.messages) as sender:
            await sender.go()
            start = time.monotonic()
            peak = 0.0
            while not ended.done() and time.monotonic() - start < _CEILING_TIMEOUT:
                # ru_maxrss would be that of this process, from which it was forked.
                peak = max(peak, _peak_or_zero(process.pid))
                await asyncio.wait((ended,), timeout=0.05)
            elapsed = time.monotonic() - start
            assert ended.done(), "mosquitto_sub did not get everything"
            _, status, usage = ended.result()
            process.returncode = os.waitstatus_to_exitcode(status)
            used = await sender.result()
    finally:
        if not ended.done():
            process.kill()
            await ended
    assert process.returncode == 0, f"mosquitto_sub ended with {process.returncode}"
    return _with_rate(run, elapsed, usage.ru_utime + usage.ru_stime, peak, used)


def _peak_or_zero(pid: int) -> float:
    try:
        return peak_mib([pid])
    except OSError:  # it ended meanwhile
        return 0.0


def _with_rate(run: Run, elapsed: float, cpu: float, peak: float, sender: dict[str, float]) -> Run:
    """Return the run with its values; without a throughput where the load was what limited it."""
    problem = refusal(sender["cpu"], elapsed)
    values = {"cpu": cpu / run.messages * 1e6, "peak": peak}
    if elapsed > 0:
        values["load"] = sender["cpu"] / elapsed
    if not problem and not run.lost:
        values["rate"] = run.messages / elapsed
    return replace(run, values=values, problem=problem)
