"""Workers as processes: they share, they die, and they are stopped."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from collections import Counter
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from nats.js.errors import NotFoundError

from tests.client.rig import Rig, Task, rig
from tests.support.program import Program, program
from tests.support.wait import eventually

ROOT = Path(__file__).parents[2]


def numbers(running: Program, what: str) -> list[int]:
    """Return the numbers of the tasks that were `started` or `done`."""
    return [int(line.split()[1]) for line in running.lines if line.startswith(f"{what} ")]


def process(r: Rig, *arguments: str) -> AbstractAsyncContextManager[Program]:
    """Run a worker."""
    return program(ROOT, sys.executable, "-m", "tests.client.process", r.url, *arguments)


async def fill(r: Rig, count: int) -> None:
    """Put tasks into the queue, some at once."""
    for first in range(0, count, 250):
        events = [r.client.publish("work.a", Task(number=n)) for n in range(first, min(first + 250, count))]
        await asyncio.gather(*events)


@pytest.mark.slow
async def test_two_worker_processes_share_10000_tasks_evenly_and_none_is_done_twice(tmp_path: Path) -> None:
    async with rig(tmp_path) as r, process(r, "--concurrency", "16") as one, process(r, "--concurrency", "16") as other:
        await eventually(lambda: _waiting(r, 2), "both wait for work")
        await fill(r, 10_000)
        await eventually(lambda: _empty(r), "the queue is empty", timeout=60)
        await eventually(lambda: len(numbers(one, "done")) + len(numbers(other, "done")) == 10_000)
    shares = len(numbers(one, "done")), len(numbers(other, "done"))
    print(f"shares {shares}")
    assert sorted(numbers(one, "done") + numbers(other, "done")) == list(range(10_000))
    assert abs(shares[0] - shares[1]) <= 0.2 * 10_000 / 2


async def _waiting(r: Rig, count: int) -> bool:
    """Whether so many processes have asked for work."""
    try:
        return ((await r.client.jetstream.consumer_info("WORK", "workers")).num_waiting or 0) >= count
    except NotFoundError:
        return False


async def _empty(r: Rig) -> bool:
    return await r.left() == 0


@pytest.mark.slow
async def test_the_tasks_of_a_killed_worker_are_redone_within_ack_wait(tmp_path: Path) -> None:
    """With 2 s of `ack_wait`; the deadline has a second more for the machine."""
    async with rig(tmp_path) as r:
        arguments = ("--concurrency", "4", "--ack-wait", "2")
        async with process(r, *arguments, "--takes", "60") as dying:
            await r.put(8)
            await eventually(lambda: len(numbers(dying, "started")) == 4)
            async with process(r, *arguments) as other:
                await eventually(lambda: len(numbers(other, "done")) == 4)
                await eventually(lambda: r.client.connection.is_connected)
                dying.process.kill()
                killed = time.monotonic()
                await eventually(lambda: _empty(r), "the queue is empty")
                assert time.monotonic() - killed < 3.5
        assert sorted(numbers(other, "done")) == list(range(8))


@pytest.mark.slow
async def test_a_sigterm_lets_a_worker_finish_what_it_has_and_leave_in_order(tmp_path: Path) -> None:
    async with rig(tmp_path) as r, process(r, "--concurrency", "3", "--takes", "0.5") as one:
        await r.put(9)
        await eventually(lambda: len(numbers(one, "started")) == 3)
        one.process.send_signal(signal.SIGTERM)
        assert await one.process.wait() == 0
        await eventually(lambda: one.lines[-1:] == ["left in order, balanced True"])
        done = numbers(one, "done")
        assert sorted(done) == sorted(numbers(one, "started"))
        async with process(r) as other:
            await eventually(lambda: _empty(r), "the queue is empty")  # at once: ack_wait is 30 s
        assert sorted(done + numbers(other, "done")) == list(range(9))


@pytest.mark.slow
async def test_through_kills_of_workers_and_of_nats_every_task_is_done_and_few_twice(tmp_path: Path) -> None:
    """What was being handled when something died is done again; everything else once."""
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    arguments = ("--concurrency", "8", "--ack-wait", "1", "--takes", "0.002")
    done: Counter[int] = Counter()
    count = 3_000
    async with rig(tmp_path) as r:
        await fill(r, count)
        for _ in range(4):
            goal = chance.randrange(50, 600)
            async with process(r, *arguments) as dying:
                await eventually(lambda dying=dying, goal=goal: len(dying.lines) > goal)  # type: ignore[misc]
            done.update(numbers(dying, "done"))
        async with process(r, *arguments) as steady:
            await eventually(lambda: len(numbers(steady, "done")) > 100)
            await r.server.kill()
            await r.server.start()
            await eventually(lambda: _empty(r), "the queue is empty", timeout=60)
        done.update(numbers(steady, "done"))
    assert set(done) == set(range(count))
    assert done.total() - count <= 5 * 8
