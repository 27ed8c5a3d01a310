"""A measuring process: it says that it is ready, starts on a line of input, and ends with one JSON object."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_PATIENCE = 300.0  # seconds


class Child:
    """A process of one of this folder's modules."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def go(self) -> None:
        """Let it start."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        await self._process.stdin.drain()

    async def line(self) -> bytes:
        """Return its next line of output. Raises AssertionError if it ended without one, TimeoutError."""
        assert self._process.stdout is not None
        async with asyncio.timeout(_PATIENCE):
            line = await self._process.stdout.readline()
        assert line, "a measuring process failed; its error is above"
        return line

    async def result(self) -> dict[str, float]:
        """Wait for what it measured."""
        found: dict[str, float] = json.loads(await self.line())
        return found


@asynccontextmanager
async def child(module: str, *arguments: object) -> AsyncIterator[Child]:
    """Run a module of this folder, from when it is ready."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"tests.benchmarks.{module}", *map(str, arguments), stdin=PIPE, stdout=PIPE, cwd=_ROOT
    )
    running = Child(process)
    try:
        assert await running.line() == b"ready\n"
        yield running
    except BaseException:
        if process.returncode is None:
            process.kill()
        raise
    finally:
        await process.wait()  # it ends by itself after its result
