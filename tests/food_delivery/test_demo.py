"""`tidegate demo food-delivery`: the whole application under each fault, counted from the streams and the devices."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.app.helpers import command, tidegate
from tests.support.wait import eventually

EXAMPLE = Path(__file__).parents[2] / "examples" / "food_delivery"

TOLD = {
    "chef": r"FAULT  (chef-\d) is killed over the (\w+) of (o\d+)\n"
    r".* s    (?!\1)chef-\d cooked it, .* attempt 2\n.* s    chef-4 starts work\n",
    "notification": r"FAULT  notification is down\n.* s    ([1-9]\d*) orders were placed meanwhile.*\n"
    r".* s    it caught up: of those \1, \1 customers heard\n",
    "twice": r"FAULT  the tablet sends o\d+ twice\n.* s    the kitchen has it already, and makes no new tasks\n",
    "poison": r"FAULT  (o\d+) wants fugu\n.* a dead letter of kitchen: poison: fugu is not on the menu.*\n"
    r".* tidegate dlq replay: replayed 1, failed 0\n.* s    \1 is delivered\n",
    "nats": r"FAULT  NATS is down\n.* s    ([1-9]\d*) orders were acknowledged to the tablet meanwhile.*\n"
    r".* s    NATS is up\n.* s    of those \1 orders, \1 are delivered\n",
}
"""What each fault is said to do, and what must come of it."""


def _table(out: str) -> dict[str, tuple[int, int]]:
    """Return the balance: wanted and found, by the text of the row."""
    found = re.findall(r"^(\w.*?)  +(\d+) +(\d+)\r?$", out, re.MULTILINE)
    return {text: (int(wanted), int(found)) for text, wanted, found in found}


def _folder(out: str) -> str:
    found = re.search(r"logs and data: (\S+)", out)
    assert found, out
    return found[1]


def _left(folder: str) -> list[str]:
    """Return the programs that still run with this folder in their command line or environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:
            continue  # it ended meanwhile, or is another user's
        if folder.encode() in line + environment:
            found.append(line.replace(b"\0", b" ").decode(errors="replace"))
    return found


def _check_even(out: str) -> dict[str, tuple[int, int]]:
    table = _table(out)
    assert len(table) == 11, out
    assert all(wanted == found for wanted, found in table.values()), out
    assert "The balance is even." in out
    assert table["delivered, once"][0] > 0
    assert _left(_folder(out)) == []
    assert not Path(_folder(out)).exists()
    return table


@pytest.mark.slow
@pytest.mark.parametrize("fault", TOLD)
async def test_every_order_is_cooked_delivered_and_noticed_once(fault: str) -> None:
    finished = await tidegate("demo", "food-delivery", "--orders", "4", "--faults", fault, timeout=120)
    assert finished.status == 0, finished.out + finished.err
    assert re.search(TOLD[fault], finished.out), finished.out
    table = _check_even(finished.out)
    assert table["sent twice, cooked once"][0] == (fault == "twice")
    assert table["replayed from the dead letters, cooked once"][0] == (fault == "poison")
    assert "Traceback" not in finished.err


@pytest.mark.slow
async def test_the_balance_is_not_even_if_a_service_is_broken(tmp_path: Path) -> None:
    """A kitchen that does not remember which orders it has cooks the one that is sent twice two times."""
    broken = shutil.copytree(EXAMPLE, tmp_path / "food_delivery")
    kitchen = broken / "kitchen.py"
    source = kitchen.read_text()
    kitchen.write_text(source.replace("if not first:", "if False:"))
    assert kitchen.read_text() != source
    finished = await _run(broken / "demo.py", "--orders", "3", "--faults", "twice", TMPDIR=str(tmp_path))
    assert finished[0] == 1, finished[1]
    assert re.search(r"^o\d+: of dishes .* were cooked: 1, 1", finished[1], re.MULTILINE)


async def _run(script: Path, *arguments: str, **environment: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), *arguments, env={**os.environ, **environment}, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(120):
        out, _ = await process.communicate()
    return process.returncode, out.decode()


class Terminal:
    """A demo on a terminal: keys go in, and what it prints is kept."""

    def __init__(self, process: asyncio.subprocess.Process, terminal: int) -> None:
        self.process = process
        self.out = ""
        self._terminal = terminal

    def press(self, key: str) -> None:
        os.write(self._terminal, key.encode())

    def read(self) -> None:
        try:
            self.out += os.read(self._terminal, 65536).decode()
        except OSError:  # nobody has the other end any more
            asyncio.get_running_loop().remove_reader(self._terminal)

    async def shows(self, text: str) -> None:
        await eventually(lambda: text in self.out, f"it shows {text!r}", 60)


@asynccontextmanager
async def _on_a_terminal(*arguments: str) -> AsyncIterator[Terminal]:
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *command("demo", "food-delivery", *arguments),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    terminal = Terminal(process, ours)
    asyncio.get_running_loop().add_reader(ours, terminal.read)
    try:
        yield terminal
    finally:
        asyncio.get_running_loop().remove_reader(ours)
        os.close(ours)
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.slow
async def test_a_key_brings_a_fault_and_ctrl_c_ends_in_order_with_the_balance() -> None:
    async with _on_a_terminal("--faults", "none") as terminal, asyncio.timeout(120):
        await terminal.shows("Keys: c chef, n notification, t twice, p poison, s nats")
        terminal.press("t")
        await terminal.shows("makes no new tasks")
        terminal.process.send_signal(signal.SIGINT)
        assert await terminal.process.wait() == 0
        await terminal.shows("The balance is even.")
    table = _check_even(terminal.out)
    assert table["sent twice, cooked once"] == (1, 1)
    assert table["delivered, once"][0] < 30


@pytest.mark.slow
async def test_a_killed_demo_leaves_no_process() -> None:
    async with _on_a_terminal("--faults", "none") as terminal:
        await terminal.shows("Everything runs")
        folder = _folder(terminal.out)
        assert len(_left(folder)) > 10
        terminal.process.kill()
        await eventually(lambda: not _left(folder), "everything it started is gone", 45)
    shutil.rmtree(folder)  # a killed process can't


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            ("--faults", "chef,fire"),
            "'fire' is not a fault; there are chef, ",
        ),
        (("--rate", "5"), "--rate is for the demo of the sensors"),
    ],
    ids=["unknown fault", "option of the other demo"],
)
async def test_bad_usage_is_named(arguments: tuple[str, ...], problem: str) -> None:
    finished = await tidegate("demo", "food-delivery", *arguments)
    assert finished.status == 2
    assert problem in finished.err


async def test_the_sensors_demo_refuses_options_of_the_food_delivery() -> None:
    finished = await tidegate("demo", "--faults", "chef")
    assert finished.status == 2
    assert "are for the demo food-delivery" in finished.err
