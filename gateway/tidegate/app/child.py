"""Child processes that end with this one, however it ends, and the gateway as one of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

from tidegate.core import TidegateError

log = logging.getLogger(__name__)

_STOP_TIMEOUT = 15.0
_READY_TIMEOUT = 15.0

# The shell ends the program when its standard input closes, which the kernel does when this process is gone; and it
# ends with the program. Of its output the watcher holds nothing open, so that the end of the program is the end of its
# log.
_LEASH = """\
exec 3<&0
"$@" </dev/null 3<&- & program=$!
{ read _ <&3; kill $program; } >/dev/null 2>&1 & watcher=$!
wait $program; status=$?
kill $watcher 2>/dev/null
exit $status
"""


class EmbeddedError(TidegateError):
    """What the demo or an embedded server needs can't run here."""


@asynccontextmanager
async def child(
    name: str,
    *command: str,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[Process]:
    """Run a program until the context is left; then it gets SIGTERM, and after 15 s SIGKILL.

    It leads a process group, so a Ctrl-C is for this process alone, which then ends its children in order;
    `os.killpg` with its pid is an end without warning.
    """
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", _LEASH, "sh", *command),
        stdin=PIPE,
        stdout=stdout,
        stderr=stderr,
        env=env,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT):
                await process.wait()
        except TimeoutError:
            log.warning("%s did not stop; it is killed", name)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


@asynccontextmanager
async def gateway_child(
    config: Path, http: int, stderr: IO[bytes] | None = None, env: Mapping[str, str] | None = None
) -> AsyncIterator[Process]:
    """Run the gateway as the process that a user would run, and wait until it is ready.

    http: the port that `config` has it listen on. Raises EmbeddedError.
    """
    command = (sys.executable, "-m", "tidegate.app.cli", "run", "-c", str(config))
    async with child("the gateway", *command, stderr=stderr, env=env) as process:
        await _await_ready(process, http)
        yield process


async def _await_ready(process: Process, port: int) -> None:
    """Ask /-/ready until it says yes."""
    deadline = time.monotonic() + _READY_TIMEOUT
    while True:
        if process.returncode is not None:
            raise EmbeddedError(f"the gateway ended with exit status {process.returncode}")
        if time.monotonic() > deadline:
            raise EmbeddedError(f"the gateway was not ready within {_READY_TIMEOUT:g} s")
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /-/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            status = await reader.readline()
            writer.close()
            if b" 200 " in status:
                return
        await asyncio.sleep(0.05)
