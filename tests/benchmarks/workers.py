"""What a service's worker handles: tasks of a work queue with a handler that does nothing, each with a double ack."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

import uvloop

from tests.client.rig import Rig, Task, rig, worker
from tidegate.client import Event, Worker

_CONCURRENCIES = (1, 16, 64)
_COUNT = 10_000
_ROUNDS = 3


class Handled(NamedTuple):
    """How a worker did: tasks a second, and microseconds of its processor time for each."""

    name: str
    rate: float
    microseconds: float


def handled() -> list[Handled]:
    """Measure each concurrency, and work in order in four partitions; medians of three rounds."""
    with TemporaryDirectory() as folder:
        return uvloop.run(_all(Path(folder)))


async def _all(folder: Path) -> list[Handled]:
    async with rig(folder) as r:
        found = [await _rounds(r, f"concurrency {number}", concurrency=number) for number in _CONCURRENCIES]
        found.append(await _rounds(r, "4 partitions, in order", subject="work.{partition}.>", partitions=4))
        return found


async def _rounds(r: Rig, name: str, **options: object) -> Handled:
    rounds = [await _once(r, **options) for _ in range(_ROUNDS)]
    return Handled(name, median(rate for rate, _ in rounds), median(cost for _, cost in rounds))


async def _once(r: Rig, **options: object) -> tuple[float, float]:
    """Return the rate and the cost of one round, with its tasks there from the start."""
    for first in range(0, _COUNT, 500):
        tasks = [r.client.publish(f"work.{n % 4}.a", Task(number=n)) for n in range(first, first + 500)]
        await asyncio.gather(*tasks)
    done = 0

    async def count(_event: Event[Task]) -> None:
        nonlocal done
        done += 1
        if done == _COUNT:
            some.stop()

    some: Worker[Task] = worker(r, count, **options)
    start, used = time.monotonic(), time.process_time()
    await some.run()
    elapsed, used = time.monotonic() - start, time.process_time() - used
    assert await r.left() == 0
    for consumer in await r.client.jetstream.consumers_info("WORK"):
        await r.client.jetstream.delete_consumer("WORK", consumer.name)
    return _COUNT / elapsed, used / _COUNT * 1e6


def main() -> None:
    """Print how each does."""
    for one in handled():
        print(f"{one.name:24} {one.rate:8,.0f} tasks/s {one.microseconds:7.1f} us")


if __name__ == "__main__":
    main()
