"""`tidegate demo`: the first thing that a new user runs."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.app.helpers import command, running_with, tidegate
from tests.support.wait import eventually

BALANCE = re.compile(r"^sent (\d+), PUBACKed (\d+), stored (\d+), lost (\d+), doubled (\d+)$", re.MULTILINE)
EVENT = re.compile(
    r"^sensors/hall/(s\d)/reading -> plant\.sensors\.hall\.\1  id [0-9a-f-]{36}  correlation \1-\d+  .* ms$",
    re.MULTILINE,
)


def _balance(out: str) -> list[int]:
    found = BALANCE.findall(out)
    assert len(found) == 1, out
    return [int(number) for number in found[0]]


def _folder(out: str) -> str:
    found = re.search(r"all data in (\S+)", out)
    assert found, out
    return found[1]


@pytest.mark.slow
async def test_the_demo_shows_events_and_ends_with_an_even_balance() -> None:
    finished = await tidegate("demo", "--for", "3s", TMPDIR=tempfile.gettempdir())
    assert finished.status == 0, finished.err
    sent, pubacked, stored, lost, doubled = _balance(finished.out)
    assert sent == pubacked == stored > 0
    assert (lost, doubled) == (0, 0)
    assert len(EVENT.findall(finished.out)) >= 3
    assert "device to subscriber: p50 " in finished.out
    assert "The gateway stopped with exit status 0." in finished.out
    assert "Traceback" not in finished.err
    folder = _folder(finished.out)
    assert not Path(folder).exists()
    assert running_with(folder) == {}


@asynccontextmanager
async def _demo() -> AsyncIterator[tuple[asyncio.subprocess.Process, str, str]]:
    """Start a demo without an end; gives it, what it printed up to the first event, and its folder."""
    process = await asyncio.create_subprocess_exec(
        *command("demo"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    out = ""
    try:
        async with asyncio.timeout(60):
            while not EVENT.search(out):
                line = await process.stdout.readline()
                assert line, out
                out += line.decode()
        yield process, out, _folder(out)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.slow
async def test_ctrl_c_ends_the_demo_early_and_with_its_balance() -> None:
    async with _demo() as (process, out, folder), asyncio.timeout(60):
        assert process.stdout is not None
        process.send_signal(signal.SIGINT)
        out += (await process.stdout.read()).decode()
        assert await process.wait() == 0
    sent, pubacked, stored, lost, doubled = _balance(out)
    assert sent == pubacked == stored > 0
    assert (lost, doubled) == (0, 0)
    assert not Path(folder).exists()
    assert running_with(folder) == {}


@pytest.mark.slow
async def test_a_killed_demo_leaves_no_process() -> None:
    async with _demo() as (process, _, folder):
        process.kill()
        await eventually(lambda: not running_with(folder), "everything it started is gone", 30)
    shutil.rmtree(folder)  # a killed process can't
