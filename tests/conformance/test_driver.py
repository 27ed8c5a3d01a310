"""The laws of cancellation are only as good as the driver that cancels."""

from __future__ import annotations

import asyncio

import pytest

from tests.conformance.driver import CANCELLED, MOMENTS, cancel_after, cancel_at, turns


async def _steps(seen: list[int], count: int) -> str:
    for step in range(count):
        seen.append(step)
        await asyncio.sleep(0)
    return "done"


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_coroutine_is_cancelled_at_exactly_the_suspension_that_was_asked_for(moment) -> None:
    for suspension in range(1, 5):
        seen: list[int] = []
        assert await cancel_at(_steps(seen, 4), suspension, moment) is CANCELLED
        assert len(seen) == suspension
    assert await cancel_at(_steps([], 4), 5, moment) == "done"


async def test_cancelled_as_it_wakes_a_coroutine_waits_for_something_that_is_there() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait() -> int:
        return await future

    running = asyncio.create_task(cancel_at(wait(), 1, "waking"))
    await turns(3)
    future.set_result(1)
    assert await running is CANCELLED
    assert future.result() == 1


async def test_a_coroutine_is_cancelled_after_the_turns_of_the_loop_that_were_asked_for() -> None:
    seen: list[int] = []
    assert await cancel_after(_steps(seen, 9), 3) is CANCELLED
    assert 0 < len(seen) < 9
    assert await cancel_after(_steps([], 2), 9) == "done"
