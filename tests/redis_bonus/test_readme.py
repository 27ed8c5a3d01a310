"""What the example's README says is true."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from pathlib import Path

import pytest

from tests.redis_bonus.rig import EXAMPLE
from tests.support.server import MOSQUITTO, REDIS_SERVER, needs_mosquitto, needs_redis
from tests.support.wait import eventually, port_open
from tidegate.app.embedded import free_port
from tidegate.memory import MemorySink, MemorySource

README = (EXAMPLE / "README.md").read_text()
PROGRAMS = {"mosquitto": MOSQUITTO, "redis-server": REDIS_SERVER, "python": sys.executable}


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


@asynccontextmanager
async def _running(folder: Path, line: str) -> AsyncIterator[Path]:
    """Run a command of the README, and give the file that gets what it prints."""
    program, *arguments = shlex.split(line)
    printed = folder / f"{Path(arguments[0]).stem if program == 'python' else program}.txt"
    arguments = [argument.replace("examples/redis_bonus", str(EXAMPLE)) for argument in arguments]
    with printed.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            PROGRAMS[program], *arguments, stdout=out, stderr=out, cwd=folder
        )
    try:
        yield printed
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


@needs_mosquitto
@needs_redis
async def test_the_commands_in_the_readme_do_what_it_shows(tmp_path: Path) -> None:
    """On other ports, in another folder, and with nothing else changed."""
    ports = {"1883": str(free_port()), "6379": str(free_port())}
    servers, programs, orders = (re.sub("1883|6379", lambda m: ports[m[0]], block) for block in _blocks("sh"))
    async with AsyncExitStack() as stack:
        for line in servers.splitlines():
            await stack.enter_async_context(_running(tmp_path, line))
        for port in ports.values():
            await eventually(lambda port=int(port): port_open(port), f"a server listens on {port}")
        for line, ready in zip(programs.splitlines(), ("subscribed", "waiting", "listening"), strict=True):
            printed = await stack.enter_async_context(_running(tmp_path, line))
            await eventually(lambda file=printed, text=ready: text in file.read_text(), f"{line}: {ready}")
        await stack.enter_async_context(_running(tmp_path, orders.strip()))
        for name, shown in zip(("tablet", "consumer", "subscriber"), _blocks("text"), strict=True):
            file = tmp_path / f"{name}.txt"
            await eventually(lambda file=file, shown=shown: file.read_text() == shown, f"{name} prints what is shown")


async def test_the_bridge_of_the_example_runs_between_the_ends_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLE)
    monkeypatch.delitem(sys.modules, "bridge", raising=False)  # a folder of tests has that name, too
    source, sink = MemorySource(), MemorySink()
    source.put("orders", b'{"order": "o-1"}')
    source.put("orders", b"no JSON")
    bridge = import_module("bridge").order_bridge(source, sink)
    running = asyncio.create_task(bridge.run())
    await eventually(lambda: len(source.settled) == 2, "both messages are settled")
    bridge.stop()
    await running
    found = {event.subject: json.loads(event.body) for event in sink.stored.values()}
    assert found["orders"]["data"] == {"order": "o-1"}
    assert found["orders.dead"]["reason"] == "decode_failed"


def test_every_file_that_the_readme_names_is_there_and_every_file_is_named() -> None:
    assert set(re.findall(r"`(\w+\.py)`", README)) - {"conftest.py"} == {path.name for path in EXAMPLE.glob("*.py")}
