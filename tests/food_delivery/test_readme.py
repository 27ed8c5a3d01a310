"""What the example's README says is true: by hand, with servers of one's own, an order goes the whole way."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from nats.js.errors import NotFoundError

from show.balance import balance
from show.stage import CONSUMERS
from tests.support.checker import nats_client
from tests.support.gateway import gateway
from tests.support.server import any_broker, nats_server
from tests.support.wait import eventually
from tidegate.app.embedded import free_port

EXAMPLE = Path(__file__).parents[2] / "examples" / "food_delivery"
README = (EXAMPLE / "README.md").read_text()


def _blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [text for name, text in found if name == language]


def test_the_files_that_the_readme_names_exist() -> None:
    named = set(re.findall(r"`(\w+(?:/|\.\w+))`", README))
    assert {"kitchen.py", "show/"} <= named
    for name in named:
        assert (EXAMPLE / name).exists(), name


def test_the_balance_that_the_readme_shows_has_the_rows_of_today() -> None:
    (shown,) = [block for block in _blocks("text") if "The balance is even." in block]
    rows = re.findall(r"^(\w.*?)  +\d+ +\d+$", shown, re.MULTILINE)
    assert rows == [row.text for row in balance([], [], dead_letters=0, tasks=0).rows]


@pytest.mark.slow
async def test_the_commands_in_the_readme_bring_an_order_to_its_customer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo, gateway_command, *programs = [shlex.split(line) for block in _blocks("") for line in block.splitlines()]
    assert demo == ["tidegate", "demo", "food-delivery"]
    assert gateway_command == ["tidegate", "run", "-c", "tidegate.yaml"]
    (order,) = [block for block in _blocks("text") if block.startswith("o1 ")]
    config = Path(shutil.copy(EXAMPLE / "tidegate.yaml", tmp_path))
    async with any_broker(tmp_path / "mqtt") as mqtt, nats_server(tmp_path / "nats") as server:
        http = free_port()
        for name, port in (("MQTT_PORT", mqtt), ("NATS_PORT", server.port), ("HTTP_PORT", http)):
            monkeypatch.setenv(name, str(port))
        monkeypatch.setenv("NATS_URL", f"nats://127.0.0.1:{server.port}")
        async with gateway(config, http), _running(programs) as (tablet, notes):
            await _await_consumers(server.port)
            assert tablet.stdin is not None
            tablet.stdin.write(order.encode())
            heard = ["heard: placed", "heard: ready", "heard: under way", "heard: delivered"]
            await eventually(lambda: [what for who, what in notes if who == "ann" and what in heard] == heard)


@asynccontextmanager
async def _running(programs: list[list[str]]) -> AsyncIterator[tuple[Process, list[tuple[str, str]]]]:
    """Run programs in the example's folder; gives the last one, and what all of them note."""
    notes: list[tuple[str, str]] = []
    running = []
    async with asyncio.TaskGroup() as reading:
        try:
            for program in programs:
                assert program[0] == "python"
                process = await asyncio.create_subprocess_exec(
                    sys.executable, *program[1:], cwd=EXAMPLE, stdin=PIPE, stdout=PIPE, env=dict(os.environ)
                )
                running.append(process)
                reading.create_task(_read(process, notes))
            devices = {"ada", "bea", "cy", "ann", "tablet-1"}
            await eventually(
                lambda: devices <= {who for who, what in notes if what == "is on"}, "all devices are on", 30
            )
            yield running[-1], notes
        finally:
            for process in running:
                process.terminate()


async def _read(process: Process, notes: list[tuple[str, str]]) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        note = json.loads(line)
        notes.append((note["who"], note["what"]))
    await process.wait()


async def _await_consumers(port: int) -> None:
    async with nats_client(port) as client:
        for stream, name in [(stream, name) for stream, names in CONSUMERS.items() for name in names]:

            async def there(stream: str = stream, name: str = name) -> bool:
                try:
                    return bool(await client.jetstream().consumer_info(stream, name))
                except NotFoundError:
                    return False

            await eventually(there, f"consumer {name} is there", 30)
