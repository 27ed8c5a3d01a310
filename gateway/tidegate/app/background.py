"""Work that goes on for as long as a context lasts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager


@asynccontextmanager
async def background(
    work: Coroutine[None, None, None], name: str, on_end: Callable[[asyncio.Future[None]], None]
) -> AsyncIterator[None]:
    """Run `work` until the context is left. on_end: called with its task when that ends, which before then only a
    defect can cause."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(on_end)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
