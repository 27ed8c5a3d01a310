"""Cancels a coroutine at each place where it can be cancelled, one after the other."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Literal, TypeVar

T = TypeVar("T")

Moment = Literal["waiting", "waking"]
"""Cancelled while it waits, or between the moment when what it waits for is there and the moment when it runs on. The
second is where a message in hand gets lost."""

MOMENTS: tuple[Moment, ...] = ("waiting", "waking")


class Cancelled:
    """The outcome of a coroutine that was cancelled."""


CANCELLED = Cancelled()


async def cancel_at(coroutine: Coroutine[Any, Any, T], suspension: int, moment: Moment) -> T | Cancelled:
    """Run a coroutine and cancel it at its n-th suspension, counted from 1; return its result if it has fewer."""
    loop = asyncio.get_running_loop()
    count = 0

    def suspended(awaited: asyncio.Future[Any] | None) -> None:
        nonlocal count
        count += 1
        if count != suspension:
            return
        if moment == "waking" and awaited is not None:
            # Called before the task's own callback, so the task is cancelled with its result already there.
            awaited.add_done_callback(lambda _: task.cancel())
        else:
            loop.call_soon(lambda: task.cancel())

    async def run() -> T:
        return await _observed(coroutine, suspended)

    task = asyncio.create_task(run())
    return await _outcome(task)


async def cancel_after(coroutine: Coroutine[Any, Any, T], iterations: int) -> T | Cancelled:
    """Run a coroutine and cancel it after n turns of the event loop, unless it is done by then."""
    task = asyncio.create_task(coroutine)
    await turns(iterations)
    task.cancel()
    return await _outcome(task)


async def turns(count: int) -> None:
    """Let the event loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


async def _outcome(task: asyncio.Task[T]) -> T | Cancelled:
    await asyncio.wait([task])
    return CANCELLED if task.cancelled() else task.result()


@types.coroutine
def _observed(coroutine: Coroutine[Any, Any, T], suspended: Callable[[Any], None]) -> Generator[Any, Any, T]:
    """Await a coroutine, and call `suspended` with what it waits for at each of its suspensions."""
    step: Callable[..., Any] = coroutine.send
    value: object = None
    while True:
        try:
            awaited = step(value)
        except StopIteration as stop:
            result: T = stop.value
            return result
        suspended(awaited)
        try:
            value = yield awaited
            step = coroutine.send
        except BaseException as error:  # noqa: BLE001 - thrown in from outside, and handed on
            step, value = coroutine.throw, error
