"""Waiting for a state, with a deadline: no test sleeps to synchronise."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

_STEP = 0.01


async def eventually(
    condition: Callable[[], object | Awaitable[object]], what: str = "", timeout: float = 15.0
) -> None:
    """Return once the condition is true. Raises AssertionError at the deadline, with what was waited for."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if inspect.isawaitable(result):
            result = await result
        if result:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or inspect.getsource(condition).strip()}")
        await asyncio.sleep(_STEP)


async def port_open(port: int) -> bool:
    """Whether something listens on a loopback port."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
