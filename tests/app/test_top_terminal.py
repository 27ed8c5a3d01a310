"""`tidegate top` on a terminal, and where there is none: keys, sizes, signals, and what it leaves behind."""

from __future__ import annotations

import asyncio
import copy
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.app.helpers import BRIDGES, command, tidegate
from tests.app.top_status import NOTE, STATES, bridge, status
from tests.app.top_terminal import Terminal, terminal
from tests.support.wait import eventually
from tidegate.app.embedded import free_port
from tidegate.app.http import HttpServer, Response

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?25h\x1b[?1049l"


class Site:
    """A gateway that says what a test wants."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = copy.deepcopy(document)
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Answer for so long."""
        pages = {"/status.json": lambda _accept: Response(200, "application/json", orjson.dumps(self.document))}
        async with HttpServer(("127.0.0.1", self.port), pages):
            yield


def top(site: Site, *arguments: str) -> list[str]:
    """Return the command line, with a short interval."""
    return command("top", "--url", site.url, "--interval", "100ms", *arguments)


@asynccontextmanager
async def watching(document: dict[str, Any], *arguments: str, **more: Any) -> AsyncIterator[tuple[Terminal, Site]]:
    """Run it in a terminal, beside a gateway that says this."""
    site = Site(document)
    async with site.listening(), terminal(*top(site, *arguments), **more) as shown:
        await shown.sees("BRIDGE")
        yield shown, site


def assert_restored(shown: Terminal) -> None:
    """Check that the terminal is as it was."""
    assert shown.modes_now() == shown.modes
    assert shown.raw.count(ENTER) == shown.raw.count(LEAVE) == 1
    assert shown.raw.endswith(LEAVE)


async def test_values_follow_the_gateway() -> None:
    async with watching(status(bridge())) as (shown, site):
        await shown.sees("READY", "812")
        site.document["bridges"][0]["rates"]["received"] = 1234.0
        await shown.sees("READY: 1234/s come in")
        site.document = copy.deepcopy(STATES["spooling"])
        await shown.sees("SPOOLING because", "away")


async def test_keys_go_through_the_views() -> None:
    document = status(*(bridge(name, rates={"received": rate}) for name, rate in zip("abc", (1, 3, 2), strict=True)))
    async with watching(document | {"dead_letters": [NOTE]}) as (shown, _site):
        await shown.sees("> a")
        shown.press("j\x1b[B")
        await shown.sees("> c")
        shown.press("k")
        await shown.sees("> b")
        shown.press("\r")
        await shown.sees("b  delivering", "guarantee")
        shown.press("\x1b")
        await shown.sees("HISTORY")
        shown.press("s")
        await shown.sees("by rate")
        assert [line.split()[-10] for line in shown.lines if line.endswith("     2")] == ["b", "c", "a"]
        shown.press("r")
        await shown.sees("by rate reversed")
        shown.press("d")
        await shown.sees("newest first", "not JSON")
        shown.press("?")
        await shown.sees("select a bridge")
        shown.press("\x7f")
        await shown.sees("HISTORY")


@pytest.mark.parametrize("how", ["q", "\x03", signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=repr)
async def test_the_terminal_is_as_it_was_after_every_end(how: str | signal.Signals) -> None:
    async with watching(status(bridge())) as (shown, _site):
        assert shown.modes_now() != shown.modes
        if isinstance(how, str):
            shown.press(how)
        else:
            shown.process.send_signal(how)
        assert await shown.end() == 0
        await eventually(lambda: shown.raw.endswith(LEAVE))
        assert_restored(shown)


async def test_the_terminal_is_as_it_was_after_a_defect_and_the_traceback_is_seen() -> None:
    broken = (
        "import sys, tidegate.app.top.live as live\n"
        "def boom(*_args, **_more): raise ZeroDivisionError('a defect')\n"
        "live.picture = boom\n"
        "from tidegate.app.cli import main\n"
        "sys.exit(main(['top', '--url', 'http://127.0.0.1:1']))\n"
    )
    async with terminal(sys.executable, "-c", broken) as shown:
        assert await shown.end() == 1
        await shown.sees("ZeroDivisionError: a defect")
        assert shown.modes_now() == shown.modes
        assert shown.raw.index(LEAVE) < shown.raw.index(b"Traceback")


async def test_it_ends_where_its_terminal_is_taken_away() -> None:
    async with watching(status(bridge())) as (shown, _site):
        shown.close()
        assert await shown.end() == 0


async def test_it_gives_the_terminal_back_while_it_is_suspended() -> None:
    async with watching(status(bridge())) as (shown, _site):
        shown.press("\x1a")
        stat = Path(f"/proc/{shown.process.pid}/stat")
        await eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it is stopped")
        await eventually(lambda: shown.raw.endswith(LEAVE))
        assert_restored(shown)
        shown.process.send_signal(signal.SIGCONT)
        await eventually(lambda: shown.raw.count(ENTER) == 2)
        await shown.sees("BRIDGE", "? help")
        shown.press("q")
        assert await shown.end() == 0
        await eventually(lambda: shown.raw.endswith(LEAVE))
        assert shown.modes_now() == shown.modes


async def test_a_terminal_of_another_size_is_filled_at_once() -> None:
    async with watching(status(*(bridge(f"bridge-{at}") for at in range(40)))) as (shown, _site):
        for columns, lines in ((200, 60), (40, 12), (100, 30)):
            shown.resize(columns, lines)

            def filled(columns: int = columns, lines: int = lines) -> bool:
                seen = shown.lines
                return len(seen) == lines and seen[-1].startswith("q quit") and len(seen[0]) == columns

            await eventually(filled, shown.text, timeout=30)
            assert sum(line.count("BRIDGE") for line in shown.lines) == 1


async def test_nothing_breaks_over_40_columns() -> None:
    async with watching(STATES["stuck"], columns=40, lines=12) as (shown, _site):
        await shown.sees("STUCK because", "stuck", "q quit")
        for key, words in (("\r", "alarms  stuck"), ("\x1b", "BRIDGE"), ("?", "quit"), ("\x1b", "BRIDGE")):
            shown.press(key)
            await shown.sees(words)


async def test_a_gateway_that_is_away_is_said_and_tried_again() -> None:
    site = Site(status(bridge()))
    async with terminal(*top(site)) as shown:
        await shown.sees("NOT ANSWERING since", "Connection refused", site.url)
        async with site.listening():
            await shown.sees("READY", "readings")
        await shown.sees("NOT ANSWERING since", "readings", "these are the values of")
        async with site.listening():
            await shown.sees("READY")
        shown.press("q")
        assert await shown.end() == 0


async def test_a_devices_text_does_not_reach_the_terminal_as_a_command() -> None:
    note = NOTE | {"topic": "a/\x1b]0;owned\x07b", "detail": "\x1b[31mnot\x9b2J JSON [bold]x[/bold]"}
    async with watching(status(bridge(), dead_letters=[note])) as (shown, _site):
        shown.press("d")
        await shown.sees("a/\\x1b]0;owned\\x07b", "\\x1b[31mnot\\x9b2J JSON [bold]x[/bold]")
        assert b"\x1b]" not in shown.raw
        assert b"\x9b" not in shown.raw.decode().encode("latin-1", "replace")


@pytest.mark.parametrize(("name", "value", "colours"), [("NO_COLOR", "1", False), ("COLORTERM", "truecolor", True)])
async def test_colours_are_left_out_where_they_are_not_wanted(name: str, value: str, colours: bool) -> None:
    async with watching(STATES["stuck"], **{name: value}) as (shown, _site):
        await shown.sees("STUCK")
        assert any(code in shown.raw for code in (b"\x1b[31m", b"\x1b[1;31m", b"\x1b[32m")) is colours


async def test_a_terminal_that_has_ascii_alone_gets_it() -> None:
    async with watching(STATES["delivering"], PYTHONIOENCODING="ascii") as (shown, _site):
        await shown.sees("v commands", "readings")
        assert shown.raw.isascii()


@pytest.mark.parametrize("lacks", ["cursor", "terminal"])
async def test_without_a_terminal_to_draw_on_there_is_one_plain_picture(lacks: str) -> None:
    site = Site(STATES["delivering"])
    async with site.listening():
        if lacks == "cursor":
            async with terminal(*top(site), lines=60, TERM="dumb") as shown:
                assert await shown.end() == 0
                await shown.sees("READY")
                text = shown.raw.decode().replace("\r\n", "\n")
        else:
            status_, text, err = await tidegate("top", "--url", site.url)
            assert (status_, err) == (0, "")
    assert all(char == "\n" or char.isprintable() for char in text)
    assert all(word in text for word in ("READY:", "readings", "alarms", "commands", "decode_failed"))
    assert max(map(len, text.splitlines())) <= 80


async def test_once_prints_one_picture_on_a_terminal_too_and_leaves_it_alone() -> None:
    site = Site(status(*(bridge(f"bridge-{at:02}") for at in range(40))))
    async with site.listening(), terminal(*top(site, "--once", "--sort", "dead"), columns=100, lines=60) as shown:
        assert await shown.end() == 0
        await shown.sees("READY", "bridge-00", "bridge-39")
        assert ENTER not in shown.raw
        assert shown.modes_now() == shown.modes


async def test_once_without_an_answer_ends_with_1_and_a_clear_line(tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "c.yaml"
    config.write_text(f"gateway: a\nhttp: {{listen: '0.0.0.0:{port}'}}\n{BRIDGES}")
    by_url, by_config = await asyncio.gather(
        tidegate("top", "--once", "--url", f"http://127.0.0.1:{port}"), tidegate("top", "--once", "-c", config)
    )
    assert by_url == by_config
    assert by_url == (1, "", f"tidegate: no answer from http://127.0.0.1:{port}: Connection refused\n")


async def test_ctrl_c_ends_once_without_a_traceback() -> None:
    asked = asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(never_answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with terminal(*command("top", "--once", "--url", url)) as shown:
            await asyncio.wait_for(asked.wait(), 30)
            shown.press("\x03")
            assert await shown.end() == 130
            assert b"Traceback" not in shown.raw


async def test_a_configuration_without_http_ends_it_with_78(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"gateway: a\nhttp: null\n{BRIDGES}")
    finished = await tidegate("top", "-c", config)
    assert (finished.status, finished.out) == (78, "")
    assert finished.err == f"{config}: http: is null, so there is nothing to ask; give it a `listen`\n"


@pytest.mark.parametrize(
    "arguments",
    [["--interval", "0s"], ["--interval", "2"], ["--sort", "size"], ["--url", "ftp://a"], ["-c", "x", "--url", "http://a"]],
    ids=" ".join,
)  # fmt: skip
async def test_bad_usage_ends_with_2(arguments: list[str]) -> None:
    finished = await tidegate("top", *arguments)
    assert finished.status == 2
    assert finished.err.startswith("usage: tidegate top")


async def test_running_a_gateway_loads_nothing_of_it() -> None:
    """What draws costs memory, which a gateway has no use for."""
    look = "import sys, tidegate.app.cli, tidegate.app.run, tidegate.app.pages; print(*sys.modules, sep='\\n')"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", look, stdout=asyncio.subprocess.PIPE, env=dict(os.environ)
    )
    out, _ = await process.communicate()
    loaded = out.decode().split()
    assert "tidegate.app.run" in loaded
    assert not [name for name in loaded if name.split(".")[0] == "rich" or name.startswith("tidegate.app.top")]
