"""The spool drains: NATS is away, everything goes to disk; then how fast it reaches the stream."""

from __future__ import annotations

from tests.benchmarks.contender import Contender
from tests.benchmarks.job import Job, Size
from tests.benchmarks.process import cpu_seconds, peak_mib
from tests.benchmarks.result import Run
from tests.benchmarks.site import site
from tests.benchmarks.throughput import load
from tests.benchmarks.tidegate_run import tidegate
from tests.support.wait import eventually

_SPOOLED = 120.0  # seconds for everything to reach the disk


async def drain(job: Job, contender: Contender, number: int, size: Size) -> Run:
    """Run once; the rate is from the first to the last message stored, CPU from the restart of NATS."""
    count = size.messages(job, 1.0)
    async with site(job) as place, tidegate(place) as (gateway,), load(place, count) as sender:
        assert gateway.process is not None
        pids = [gateway.process.pid]
        await place.server.stop()
        await sender.go()
        await sender.result()

        async def spooled() -> bool:
            return await gateway.total("tidegate_messages_spooled") == count

        await eventually(spooled, f"the spool holds {count} messages", _SPOOLED)
        before = cpu_seconds(pids)
        await place.server.start()
        await place.filled(count)
        used, peak = cpu_seconds(pids) - before, peak_mib(pids)
        state = await place.settled()
        lost, doubled = await place.balance(count)
    values = {"rate": count / (state.last - state.first), "cpu": used / count * 1e6, "peak": peak}
    return Run(job.name, contender.name, number, count, lost, doubled, values)
