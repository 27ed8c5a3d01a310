"""What the tests of the app share: a small configuration, the command line as a process, and leftovers."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tidegate.app.config import Config
from tidegate.app.config_file import load_config
from tidegate.core import ConfigError

CANARY = "S3CRET-CANARY"

BRIDGES = """\
bridges:
  - name: readings
    mqtt: sensors/{site}/{device}
    nats: plant.{site}.{device}
"""

GATEWAY = """\
gateway: test
state_dir: state
shutdown_timeout: 5s
mqtt: {{url: "mqtt://127.0.0.1:{mqtt}", {mqtt_more}}}
nats: {{servers: ["nats://127.0.0.1:{nats}"], {nats_more}}}
streams:
  - {{name: SENSORS, subjects: ["plant.sensors.>"], {stream_more}}}
bridges:
{bridges}
"""

READINGS = """\
  - name: readings
    mqtt: sensors/{site}/{device}/reading
    nats: plant.sensors.{site}.{device}
"""
ALARMS = """\
  - name: alarms
    mqtt: alarms/{device}
    nats: plant.sensors.alarms.{device}
"""


def gateway_config(
    mqtt: int,
    nats: int,
    bridges: str = READINGS,
    *,
    mqtt_more: str = "",
    nats_more: str = "",
    stream_more: str = "",
    more: str = "http: null\n",
) -> str:
    """Return a configuration for servers on these ports."""
    return more + GATEWAY.format(
        mqtt=mqtt, nats=nats, bridges=bridges, mqtt_more=mqtt_more, nats_more=nats_more, stream_more=stream_more
    )


def load(folder: Path, text: str | bytes, **environment: str) -> Config:
    """Load a configuration from a file in `folder`, with these variables alone."""
    path = folder / "tidegate.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_config(path, environment)


def faults(folder: Path, text: str | bytes, **environment: str) -> list[str]:
    """Return the lines of the error that a configuration must make; each must begin with the file's name."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text, **environment)
    lines = str(caught.value).split("\n")
    start = f"{folder / 'tidegate.yaml'}: "
    assert all(line.startswith(start) for line in lines), lines
    return [line.removeprefix(start) for line in lines]


class Finished(NamedTuple):
    """A process that has ended."""

    status: int
    out: str
    err: str


def command(*arguments: str | Path) -> list[str]:
    """Return the command line of `tidegate`."""
    return [sys.executable, "-m", "tidegate.app.cli", *map(str, arguments)]


async def tidegate(*arguments: str | Path, timeout: float = 60.0, **environment: str) -> Finished:
    """Run `tidegate` to its end."""
    process = await asyncio.create_subprocess_exec(
        *command(*arguments),
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(timeout):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Finished(process.returncode, out.decode(), err.decode())


def log_lines(text: str) -> list[dict[str, str]]:
    """Return a log of JSON lines; every line must be one."""
    return [json.loads(line) for line in text.splitlines()]


def running_with(word: str) -> dict[int, str]:
    """Return the processes whose command line has this word, such as the test's own folder, by their ids."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended meanwhile
        if word in line:
            found[int(entry.parent.name)] = line
    return found


def other_tasks() -> list[str]:
    """Return the names of the loop's tasks besides the one that asks."""
    return sorted(task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task())
