"""What systemd is told of a running gateway (sd_notify(3))."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from asyncio import Future
from pathlib import Path
from typing import Any, cast

import pytest

from tests.app.helpers import gateway_config, log_lines
from tests.deploy.notify_socket import NotifySocket, notify_socket
from tests.support.gateway import GatewayProcess, gateway
from tests.support.server import any_broker, nats_server
from tests.support.wait import eventually
from tidegate.app.embedded import free_port
from tidegate.app.gateway import Gateway
from tidegate.app.notify import Notifier, status_of

WATCHDOG = 0.2
"""Seconds, in the tests where no process has to start in them."""


def _write(folder: Path, mqtt: int, nats: int) -> tuple[Path, int]:
    http = free_port()
    path = folder / "tidegate.yaml"
    path.write_text(gateway_config(mqtt, nats, more=f"http: {{listen: 127.0.0.1:{http}}}\n"))
    return path, http


def _environment(monkeypatch: pytest.MonkeyPatch, name: str, watchdog: float | None = None) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if watchdog is not None:
        monkeypatch.setenv("WATCHDOG_USEC", str(round(watchdog * 1_000_000)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["path", "abstract"])
async def test_a_life_is_told_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Start, NATS gone and back, a good and a bad reload, the end."""
    name = f"@tidegate-test-{os.getpid()}" if kind == "abstract" else str(tmp_path / "notify")
    with notify_socket(name) as told:
        async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
            _environment(monkeypatch, name)  # now: mosquitto would speak to it too
            path, http = _write(tmp_path, broker, server.port)
            async with gateway(path, http) as running:
                at = await told.until("STATUS=delivering")
                first = told.lines.index("READY=1")
                assert told.lines[:first] == ["STATUS=starting"]
                await server.stop()
                at = await told.until("STATUS=spooling: ", at)
                await server.start()
                at = await told.until("STATUS=delivering", at)
                at = await _reload(running, told, at)
                good = path.read_text()
                path.write_text(f"{good}foo: 1\n")
                at = await _reload(running, told, at)
                assert told.lines[at] == "STATUS=the last reload failed; delivering"
                path.write_text(good)
                assert await running.stop() == 0
        await told.until("STOPPING=1", at)
        assert told.said[-1] == ["STOPPING=1", "STATUS=stopping: 0 messages in flight"]
        assert not [line for line in told.lines if line.startswith("WATCHDOG")]


async def _reload(running: GatewayProcess, told: NotifySocket, at: int) -> int:
    """Ask for a reload; return where its end was told."""
    assert running.process is not None
    before = time.monotonic_ns() // 1000
    running.process.send_signal(signal.SIGHUP)
    at = await told.until("RELOADING=1", at)
    _, moment = told.lines[at].split("MONOTONIC_USEC=")  # the next assignment of the same datagram
    assert before <= int(moment) <= time.monotonic_ns() // 1000
    return await told.until("READY=1", at)


async def test_it_is_ready_though_neither_the_broker_nor_nats_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At boot the uplink may be away for hours: a manager that waits for it would end the gateway."""
    _environment(monkeypatch, str(tmp_path / "notify"), 2.0)
    with notify_socket(tmp_path / "notify") as told:
        path, http = _write(tmp_path, free_port(), free_port())
        async with gateway(path, http, ready=False):
            at = await told.until("READY=1")
            at = await told.until("STATUS=stuck: readings: mqtt: ", at)
            at = await told.until("WATCHDOG=1", at)
            await told.until("WATCHDOG=1", at)


async def test_a_start_that_fails_is_never_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _environment(monkeypatch, str(tmp_path / "notify"))
    with notify_socket(tmp_path / "notify") as told:
        path, http = _write(tmp_path, free_port(), free_port())
        with socket.create_server(("127.0.0.1", http)):
            process = GatewayProcess(path, http)
            await process.start(ready=False)
            assert process.process is not None
            assert await process.process.wait() == 1
        assert told.lines == ["STATUS=starting"]


async def test_a_process_that_hangs_gives_no_sign_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped by a signal it stands still as one does whose event loop hangs."""
    _environment(monkeypatch, str(tmp_path / "notify"), WATCHDOG)
    with notify_socket(tmp_path / "notify") as told:
        path, http = _write(tmp_path, free_port(), free_port())
        async with gateway(path, http, ready=False) as running:
            assert running.process is not None
            at = await told.until("WATCHDOG=1")
            _hang(running.process.pid)
            try:
                at = len(told.lines)
                await asyncio.sleep(3 * WATCHDOG)
                assert len(told.lines) == at
            finally:
                running.process.send_signal(signal.SIGCONT)
            await told.until("WATCHDOG=1", at)


def _hang(pid: int) -> None:
    """Let a process stand still; returns once it does, some ms later."""
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


@pytest.mark.parametrize("name", ["gone", "@tidegate-test-nobody", "relative", "x" * 200])
async def test_a_socket_that_nobody_reads_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    stale = str(tmp_path / name) if name in ("gone", "x" * 200) else name
    if name == "gone":
        with notify_socket(stale):
            pass
    _environment(monkeypatch, stale, WATCHDOG)
    async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        path, http = _write(tmp_path, broker, server.port)
        async with gateway(path, http) as running:
            assert await running.delivering()
        words = [line["message"] for line in log_lines(running.log_text()) if line["message"].startswith("notify: ")]
        assert len(words) == 1, "it is said once"


class _Gateway:
    """What a notifier looks at."""

    def __init__(self) -> None:
        self.failed: Future[None] = asyncio.get_running_loop().create_future()
        self.stalled: str | None = None
        self.problems: list[str] = []
        self.away: str | None = None
        self.last_reload_successful = True


def _notifier(gateway: _Gateway, folder: Path, **more: str) -> Notifier:
    usec = str(round(WATCHDOG * 1_000_000))
    return Notifier(cast(Gateway, gateway), {"NOTIFY_SOCKET": str(folder / "s"), "WATCHDOG_USEC": usec, **more})


@pytest.mark.parametrize("why", ["stalled", "failed"])
async def test_no_sign_of_life_while_data_can_not_move(tmp_path: Path, why: str) -> None:
    seen = _Gateway()
    with notify_socket(tmp_path / "s") as told:
        async with _notifier(seen, tmp_path) as notifier:
            notifier.ready()
            await told.until("WATCHDOG=1", await told.until("WATCHDOG=1"))
            if why == "stalled":
                seen.stalled = "readings: nothing was settled for 120 s"
                await told.until("STATUS=stuck: readings: nothing was settled for 120 s")
            else:
                seen.failed.set_result(None)
            at = len(told.lines)
            await asyncio.sleep(3 * WATCHDOG)
            assert "WATCHDOG=1" not in told.lines[at:]


async def test_signs_of_life_come_in_time_though_nats_is_away(tmp_path: Path) -> None:
    seen = _Gateway()
    seen.away, seen.problems = "not connected: refused", ["alarms: mqtt: refused"]
    with notify_socket(tmp_path / "s") as told:
        async with _notifier(seen, tmp_path):
            start = time.monotonic()
            await eventually(lambda: told.lines.count("WATCHDOG=1") >= 5)
            assert time.monotonic() - start > 3 * WATCHDOG / 2, "no more often than it is asked for"


@pytest.mark.parametrize(
    "environment",
    [{"WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": ""}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}],
    ids=["of another process", "empty", "zero", "no number"],
)
async def test_no_sign_of_life_is_given_where_none_is_asked_of_this_process(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with notify_socket(tmp_path / "s") as told:
        async with _notifier(_Gateway(), tmp_path, **environment) as notifier:
            notifier.ready()
            await asyncio.sleep(2 * WATCHDOG)
            assert told.lines == ["STATUS=starting", "READY=1", "STATUS=delivering"]


async def test_what_a_full_socket_did_not_take_is_made_up_for(tmp_path: Path) -> None:
    """The manager is busy, its queue full; the gateway goes on, and says what is true once there is room."""
    seen = _Gateway()
    with notify_socket(tmp_path / "s") as told:
        async with _notifier(seen, tmp_path) as notifier:
            for number in range(2000):
                seen.away = f"{number}"
                notifier.ready()
            seen.away = "the last"
            notifier.ready()
            await told.until("STATUS=spooling: the last")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({}, "delivering"),
        ({"away": "not connected: refused"}, "spooling: not connected: refused"),
        ({"away": "x", "problems": ["a: mqtt: refused", "b: spool: full"]}, "stuck: a: mqtt: refused; b: spool: full"),
        ({"away": "x", "problems": ["y"], "stalled": "a: nothing moves"}, "stuck: a: nothing moves"),
        ({"last_reload_successful": False}, "the last reload failed; delivering"),
        ({"away": "a\nREADY=1\r\x00\u2028b"}, "spooling: a READY=1   b"),
    ],
    ids=["well", "away", "problems", "stalled", "a bad file", "a peer's line ends"],
)
async def test_the_status_is_one_line_that_names_the_worst(state: dict[str, Any], said: str) -> None:
    seen = _Gateway()
    for name, value in state.items():
        setattr(seen, name, value)
    assert status_of(cast(Gateway, seen)) == said


async def test_a_long_status_fits_into_a_datagram_that_systemd_reads() -> None:
    seen = _Gateway()
    seen.away = "\U0001f30a" * 5000
    assert len(status_of(cast(Gateway, seen)).encode()) < 4096 - len("READY=1\nSTATUS=")


async def test_without_a_manager_there_is_no_task_and_no_socket() -> None:
    before = asyncio.all_tasks()
    async with Notifier(cast(Gateway, _Gateway()), {}) as notifier:
        notifier.ready()
        notifier.reloading()
        notifier.stopping(0)
        assert asyncio.all_tasks() == before
