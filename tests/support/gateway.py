"""The gateway as a user runs it: a process and a configuration file."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.support.wait import eventually, port_open
from tidegate.app.embedded import free_port

CONFIG = """\
gateway: test
state_dir: state
mqtt:
  url: mqtt://127.0.0.1:{mqtt}
  protocol: "{protocol}"
nats:
  servers: [nats://127.0.0.1:{nats}]
streams:
  - {{name: SENSORS, subjects: ["plant.sensors.>"]}}
bridges:
  - name: readings
    mqtt: sensors/{{site}}/{{device}}/reading
    nats: plant.sensors.{{site}}.{{device}}
    qos: {qos}
    type: com.example.sensor.reading.v1
http: {{listen: 127.0.0.1:{http}}}
"""


def write_config(
    folder: Path, mqtt: int, nats: int, *, qos: int = 1, protocol: str = "5", more: str = ""
) -> tuple[Path, int]:
    """Write a configuration; return its path and the HTTP port."""
    http = free_port()
    path = folder / "tidegate.yaml"
    path.write_text(CONFIG.format(mqtt=mqtt, nats=nats, http=http, qos=qos, protocol=protocol) + more)
    return path, http


async def get(port: int, path: str, headers: str = "") -> tuple[int, bytes]:
    """Return the status and the body of an HTTP GET."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n".encode())
        answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


class GatewayProcess:
    """A `tidegate run` that can be killed, stopped and started again."""

    def __init__(self, config: Path, http: int, *arguments: str) -> None:
        self.config = config
        self.http = http
        self.log = config.with_suffix(".log")
        self._arguments = arguments
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, *, ready: bool = True) -> None:
        """Start it, and return once it delivers, or once it listens."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tidegate.app.cli", "run", "-c", str(self.config), *self._arguments,
                stderr=log, stdout=log,
            )  # fmt: skip
        process = self.process

        async def up() -> bool:
            assert process.returncode is None, f"the gateway ended:\n{self.log_text()[-3000:]}"
            return await port_open(self.http) and (not ready or await self.delivering())

        await eventually(up, "the gateway is up")

    async def ready(self) -> bool:
        """Whether /-/ready says so."""
        return (await get(self.http, "/-/ready"))[0] == 200

    async def delivering(self) -> bool:
        """Whether it is ready, and NATS takes its messages."""
        return await self.ready() and await self.nats_away() is None

    async def nats_away(self) -> str | None:
        """Return what /-/ready says keeps NATS from taking messages."""
        found: str | None = json.loads((await get(self.http, "/-/ready"))[1])["nats_away"]
        return found

    async def problems(self) -> list[str]:
        """Return what /-/ready says is wrong."""
        found: list[str] = json.loads((await get(self.http, "/-/ready"))[1])["problems"]
        return found

    async def metrics(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """Return every sample by its name and labels."""
        _, body = await get(self.http, "/metrics")
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
        }

    async def total(self, name: str) -> float:
        """Return a series' sum over its labels."""
        return sum(value for (found, _), value in (await self.metrics()).items() if found == name)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it with a signal; return its exit status."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.process.wait()

    async def kill(self) -> None:
        """End it as the out-of-memory killer would."""
        await self.stop(signal.SIGKILL)

    def log_text(self) -> str:
        """Return what it logged so far, over all its lives."""
        return self.log.read_text()


@asynccontextmanager
async def gateway(config: Path, http: int, *arguments: str, ready: bool = True) -> AsyncIterator[GatewayProcess]:
    """Run a gateway; at the end it must stop in order, if it still runs."""
    process = GatewayProcess(config, http, *arguments)
    await process.start(ready=ready)
    try:
        yield process
    finally:
        if process.process is not None and process.process.returncode is None:
            status = await process.stop()
            assert status == 0, f"exit status {status}:\n{process.log_text()[-3000:]}"
