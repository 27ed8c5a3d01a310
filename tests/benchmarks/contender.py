"""The contenders: how each is started between the servers of a run, and why one may be absent."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import subprocess
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.rival import redpanda_config, telegraf_config
from tests.benchmarks.site import Site
from tests.benchmarks.tidegate_run import tidegate

Start = Callable[[Site], AbstractAsyncContextManager[list[int]]]

_ROOT = Path(__file__).parents[2]


class Contender(NamedTuple):
    """A program that takes messages from MQTT to NATS.

    start: runs it, from when a message passes through it; gives its process ids. version: "" where it is absent, for
    the reason in `missing`. share: of a job's messages, for who is too slow for all of them.
    """

    name: str
    start: Start
    version: Callable[[], str]
    missing: str = ""
    share: float = 1.0


def _program(command: Callable[[Site], list[str]]) -> Start:
    """Return how to start a program that ends with a signal."""

    @asynccontextmanager
    async def start(site: Site) -> AsyncIterator[list[int]]:
        log = site.folder / "contender.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command(site), cwd=_ROOT, stdin=DEVNULL, stdout=output, stderr=output
            )
        try:
            try:
                await site.probe()
            except TimeoutError:
                raise AssertionError(f"nothing passes through it\n{log.read_text()[-2000:]}") from None
            yield [process.pid]
        finally:
            if process.returncode is None:
                process.kill()  # nothing of it is needed any more, and some take long to stop
            await process.wait()

    return start


@asynccontextmanager
async def _tidegate(site: Site) -> AsyncIterator[list[int]]:
    async with tidegate(site) as running:
        await site.probe()
        yield [gateway.process.pid for gateway in running if gateway.process]


@asynccontextmanager
async def _no_program(site: Site) -> AsyncIterator[list[int]]:
    """mosquitto_sub bridges nothing: tests.benchmarks.ceiling runs it."""
    yield []


def _naive(site: Site) -> list[str]:
    return [sys.executable, "-m", "tests.benchmarks.naive", str(site.mqtt), str(site.nats)]


def _mq_bridge(site: Site) -> list[str]:
    module = [sys.executable, "-m", "tests.benchmarks.mq_bridge_route"]
    job = site.job
    pace = "paced" if job.pace else "flat-out"
    return [*module, str(site.mqtt), str(site.nats), str(job.qos), job.protocol, job.deliver, job.broker, pace]


def _telegraf(site: Site) -> list[str]:
    return ["telegraf", "--config", str(telegraf_config(site))]


def _redpanda(site: Site) -> list[str]:
    return ["redpanda-connect", "run", str(redpanda_config(site))]


def _installed(package: str) -> str:
    return version(package) if importlib.util.find_spec(package.replace("-", "_")) else ""


def _on_path(program: str) -> str:
    """Return what a program on the PATH says with --version."""
    if shutil.which(program) is None:
        return ""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)
    return next(iter((said.stdout or said.stderr).strip().splitlines()), "there")


TIDEGATE = Contender("tidegate", _tidegate, lambda: version("tidegate"))

CONTENDERS = (
    TIDEGATE,
    Contender("mq-bridge", _program(_mq_bridge), lambda: _installed("mq-bridge"), "not installed"),
    Contender("mosquitto_sub", _no_program, lambda: _on_path("mosquitto_sub"), "not on PATH"),
    Contender("telegraf", _program(_telegraf), lambda: _on_path("telegraf"), "not on PATH"),
    Contender("redpanda-connect", _program(_redpanda), lambda: _on_path("redpanda-connect"), "not on PATH"),
    Contender("naive", _program(_naive), lambda: version("aiomqtt"), share=0.05),
)
