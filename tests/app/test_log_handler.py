"""Lines leave through a pipe that somebody reads late, or never: nothing waits for it, and what is dropped is told."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.app.helpers import command
from tests.support.fake_broker import fake_broker
from tests.support.gateway import get, write_config
from tests.support.generator import publish_packet, reading
from tests.support.server import nats_server
from tests.support.wait import eventually, port_open
from tidegate.app.log_handler import _FLUSH_TIMEOUT, MAX_WAITING, LineHandler


class Pipe(NamedTuple):
    """Both ends."""

    reader: int
    writer: int

    def fill(self) -> int:
        """Write until there is no room; return how many bytes that took."""
        os.set_blocking(self.writer, False)
        written = 0
        try:
            while True:
                written += os.write(self.writer, b"x" * 512)
        except BlockingIOError:
            os.set_blocking(self.writer, True)
            return written


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    ends = Pipe(*os.pipe())
    yield ends
    for end in ends:
        os.close(end)


def _record(text: str) -> logging.LogRecord:
    return logging.LogRecord("tidegate.test", logging.INFO, "", 1, text, (), None)


def _read(pipe: Pipe, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += os.read(pipe.reader, size - len(found))
    return found


def test_what_nobody_reads_holds_up_nobody_and_what_is_dropped_is_counted_when_it_is_read_again(pipe: Pipe) -> None:
    filled = pipe.fill()
    handler = LineHandler(pipe.writer)
    count = 2 * MAX_WAITING // 1000
    for number in range(count):
        handler.emit(_record(f"{number:<999}"))
    reading_all = threading.Thread(target=lambda: lines.extend(_lines(pipe, filled)))
    lines: list[str] = []
    reading_all.start()
    handler.close()
    os.write(pipe.writer, b"the end\n")
    reading_all.join(20)
    *kept, told, _ = lines
    assert [int(line) for line in kept] == list(range(len(kept)))
    assert MAX_WAITING // 1000 - 1 <= len(kept) < count
    assert told == f"log: {count - len(kept)} lines were dropped, as nobody read them in time"


def _lines(pipe: Pipe, skipped: int) -> list[str]:
    _read(pipe, skipped)
    found = b""
    while not found.endswith(b"the end\n"):
        found += os.read(pipe.reader, 65536)
    return found.decode().splitlines()


def test_a_reader_that_is_gone_costs_its_lines_and_no_more(pipe: Pipe) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    handler = LineHandler(writer)
    for number in range(100):
        handler.emit(_record(f"line {number}"))
    handler.close()
    os.close(writer)


def test_a_number_that_is_due_is_told_without_another_line(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.app.log_repeat.PERIOD", 0.05)
    handler = LineHandler(pipe.writer)
    for _ in range(15):
        handler.emit(_record("again"))
    wanted = b"again\n" * 10 + b"again (4 more in the last 0 s)\n"
    assert _read(pipe, len(wanted)) == wanted
    handler.close()


def test_all_flushes_of_an_end_wait_no_longer_than_one(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    def wait(_condition: object, _done: object, timeout: float) -> bool:
        waits.append(timeout)
        now[0] += timeout
        return False

    now = [100.0]
    filled = pipe.fill()
    handler = LineHandler(pipe.writer)
    handler.emit(_record("nobody reads this"))
    with monkeypatch.context() as patched:
        patched.setattr("tidegate.app.log_handler.time.monotonic", lambda: now[0])
        patched.setattr("threading.Condition.wait_for", wait)
        handler.flush()
        handler.flush()
        handler.close()
    assert waits == [_FLUSH_TIMEOUT, 0.0, 0.0]
    _read(pipe, filled)
    handler.flush()


async def test_an_error_that_nobody_reads_does_not_keep_the_command(tmp_path: Path, pipe: Pipe) -> None:
    pipe.fill()
    process = await asyncio.create_subprocess_exec(*command("check", tmp_path / "missing.yaml"), stderr=pipe.writer)
    try:
        assert await asyncio.wait_for(process.wait(), 30) == 78
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.slow
async def test_a_gateway_whose_log_nobody_reads_delivers_and_stops(tmp_path: Path, pipe: Pipe) -> None:
    pipe.fill()
    async with fake_broker() as broker, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, broker.port, server.port, more="log: {level: debug}\n")
        process = await asyncio.create_subprocess_exec(*command("run", "-c", config), stderr=pipe.writer)
        try:
            connection = await broker.connection(30)
            await connection.accept()
            await connection.send(publish_packet(b"sensors/hall/d1/reading", reading("d1", 1), 1, 7, 0, b""))
            first, body = await asyncio.wait_for(connection.read_packet(), 20)
            assert (first, body[:2]) == (0x40, b"\x00\x07")
            await eventually(lambda: port_open(http), "it listens")
            assert (await get(http, "/-/ready"))[0] == 200
            process.terminate()
            await connection.until_closed()
            connection.cut()
            assert await asyncio.wait_for(process.wait(), 30) == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def test_what_is_logged_last_is_there_after_the_end(tmp_path: Path) -> None:
    program = (
        "import logging; from tidegate.app.config import Log; from tidegate.app.log import configure_logging\n"
        "configure_logging(Log(format='json'))\n"
        "for number in range(1000): logging.getLogger('tidegate').info(f'line {number}')\n"
        "for number in range(20): logging.getLogger('tidegate').info('flaps')\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    messages = [json.loads(line)["message"] for line in said.splitlines()]
    assert messages[:1000] == [f"line {number}" for number in range(1000)]
    assert messages[1000:] == ["flaps"] * 10 + ["flaps (9 more in the last 0 s)"]
