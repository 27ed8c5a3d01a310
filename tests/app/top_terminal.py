"""A program in a pseudo terminal, with a screen that can be read."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pyte

from tests.support.wait import eventually


class Terminal:
    """raw: all that was written to it. modes: its modes before the program ran."""

    def __init__(self, columns: int, lines: int) -> None:
        self.master, self.slave = pty.openpty()
        self.modes = self.modes_now()
        self.raw = b""
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._process: asyncio.subprocess.Process | None = None
        self._set_size(columns, lines)

    @property
    def process(self) -> asyncio.subprocess.Process:
        """The program."""
        assert self._process is not None
        return self._process

    @property
    def lines(self) -> list[str]:
        """What is seen."""
        return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        """What is seen, as one."""
        return "\n".join(self.lines)

    async def start(self, *program: str, **environment: str) -> None:
        """Run a program in it."""
        self._process = await asyncio.create_subprocess_exec(
            *program,
            stdin=self.slave, stdout=self.slave, stderr=self.slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", "LANG": "C.UTF-8", **environment},
        )  # fmt: skip
        asyncio.get_running_loop().add_reader(self.master, self._read)

    async def sees(self, *words: str, timeout: float = 30.0) -> None:
        """Wait for words on the screen, however many lines and spaces they take."""

        def seen() -> bool:
            text = " ".join(self.text.split())
            return all(" ".join(one.split()) in text for one in words)

        try:
            await eventually(seen, timeout=timeout)
        except AssertionError:
            raise AssertionError(f"{words} not seen:\n{self.text}\nlast: {self.raw[-300:]!r}") from None

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self.master, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        """Make it another size; the kernel tells the program."""
        self._screen.resize(lines, columns)
        self._set_size(columns, lines)

    async def end(self) -> int:
        """Wait for the program's end; return its exit status."""
        async with asyncio.timeout(30):
            return await self.process.wait()

    def modes_now(self) -> list[Any]:
        """Return the terminal's modes."""
        return termios.tcgetattr(self.slave)

    def close(self) -> None:
        """Take the terminal away, as when a connection ends."""
        if self.master >= 0:
            asyncio.get_running_loop().remove_reader(self.master)
            os.close(self.master)
            os.close(self.slave)
            self.master = -1

    def _set_size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def _read(self) -> None:
        try:
            data = os.read(self.master, 65536)
        except OSError:
            data = b""
        if data:
            self.raw += data
            self._stream.feed(data)


@asynccontextmanager
async def terminal(*program: str, columns: int = 80, lines: int = 24, **environment: str) -> AsyncIterator[Terminal]:
    """Run a program in a terminal of this size; at the end it is killed, if it still runs."""
    made = Terminal(columns, lines)
    try:
        await made.start(*program, **environment)
        yield made
    finally:
        made.close()
        if made.process.returncode is None:
            made.process.kill()
            await made.process.wait()
