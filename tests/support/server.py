"""Real servers on free loopback ports, as async context managers, with their data in a folder of the test's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.wait import eventually, port_open
from tidegate.app.embedded import embedded_broker, free_port

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/sbin")
NATS_SERVER = Path(sys.executable).with_name("nats-server")
REDIS_SERVER = shutil.which("redis-server", path="/usr/bin:/usr/local/bin:/opt/homebrew/bin")

needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed (apt install mosquitto)")
needs_redis = pytest.mark.skipif(REDIS_SERVER is None, reason="redis is not installed (apt install redis-server)")


class Server:
    """A server process that can be stopped, killed and started again on the same port and data."""

    def __init__(self, name: str, port: int, log: Path, *command: str) -> None:
        self.name = name
        self.port = port
        self.log = log
        self._command = command
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and return once it listens."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(*self._command, stdout=log, stderr=log)
        process = self._process

        async def listening() -> bool:
            assert process.returncode is None, f"{self.name} ended:\n{self.log.read_text()[-2000:]}"
            return await port_open(self.port)

        await eventually(listening, f"{self.name} listens on {self.port}")

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it with a signal, and return once it is gone."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)
            await self._process.wait()

    def reload(self) -> None:
        """Let it read its configuration again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    async def kill(self) -> None:
        """End it as a power cut would."""
        await self.stop(signal.SIGKILL)

    def pause(self) -> None:
        """Let it hang: connections stay open, nothing is answered. Returns once it stands still, some ms later."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def _running(server: Server) -> AsyncIterator[Server]:
    await server.start()
    try:
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            server.resume()
        await server.stop()


@asynccontextmanager
async def mosquitto(folder: Path, extra: str = "allow_anonymous true", listener: str = "") -> AsyncIterator[Server]:
    """Run mosquitto. `listener` are options of its listener, such as certificates.

    max_queued_messages 0 (no limit): by default it drops what exceeds 1000 messages for a slow or absent subscriber,
    which is a loss before the gateway's guarantee begins.
    """
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\n{listener}\nmax_queued_messages 0\nmax_inflight_messages 1000\n{extra}\n"
    )
    async with _running(Server("mosquitto", port, folder / "mosquitto.log", MOSQUITTO, "-c", str(config))) as server:
        yield server


@asynccontextmanager
async def nats_server(folder: Path, extra: str = "") -> AsyncIterator[Server]:
    """Run nats-server with JetStream. `extra` is more of its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = folder / "nats.conf"
    config.write_text(
        f'listen: "127.0.0.1:{port}"\nserver_name: test\njetstream {{store_dir: "{folder}/js"}}\n{extra}\n'
    )
    async with _running(
        Server("nats-server", port, folder / "nats.log", str(NATS_SERVER), "-c", str(config))
    ) as server:
        yield server


@asynccontextmanager
async def redis_server(folder: Path, *extra: str) -> AsyncIterator[Server]:
    """Run redis-server, which answers a write after it was fsynced. `extra` are more of its options."""
    if REDIS_SERVER is None:
        pytest.skip("redis is not installed (apt install redis-server)")
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [REDIS_SERVER, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", ""]
    command += ["--appendonly", "yes", "--appendfsync", "always", *extra]
    async with _running(Server("redis-server", port, folder / "redis.log", *command)) as server:
        yield server


@asynccontextmanager
async def nats_mqtt(folder: Path) -> AsyncIterator[int]:
    """Run nats-server as an MQTT broker (it speaks 3.1.1 alone); gives the MQTT port."""
    port = free_port()
    async with nats_server(folder, f'mqtt {{listen: "127.0.0.1:{port}"}}'):
        yield port


@asynccontextmanager
async def iotcore(folder: Path, protocol: str = "5") -> AsyncIterator[int]:
    """Run the embedded broker; gives its port."""
    port = free_port()
    async with embedded_broker(port, protocol, folder):
        yield port


@asynccontextmanager
async def any_broker(folder: Path, protocol: str = "5") -> AsyncIterator[int]:
    """Run mosquitto, or the embedded broker where there is none; gives the port."""
    if MOSQUITTO is None:
        async with iotcore(folder, protocol) as port:
            yield port
    else:
        async with mosquitto(folder) as server:
            yield server.port
