"""The order of events: which fault is next, by the command line and by keys."""

from __future__ import annotations

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

from show.faults import FAULTS
from show.show import PACE, Show

_GAP = 2 * PACE
_ROOM = 8
_KEYS = {"c": "chef", "n": "notification", "t": "twice", "p": "poison", "s": "nats"}


class Script:
    """Faults that are still to be shown, one after another. idle: whether there is none, and none is under way."""

    def __init__(self, names: list[str]) -> None:
        self.idle = asyncio.Event()
        self._names: asyncio.Queue[str | None] = asyncio.Queue(_ROOM + len(names))
        for name in names:
            self.add(name)
        if not names:
            self.idle.set()

    def add(self, name: str) -> None:
        """Show a fault too, unless there are too many already."""
        if not self._names.full():
            self._names.put_nowait(name)
            self.idle.clear()

    def end(self) -> None:
        """Show no more than the one that is under way."""
        while not self._names.empty():
            self._names.get_nowait()
        self._names.put_nowait(None)

    async def run(self, show: Show) -> None:
        """Show faults until `end`."""
        try:
            await asyncio.sleep(_GAP)
            while (name := await self._names.get()) is not None:
                await FAULTS[name](show)
                if self._names.empty():
                    self.idle.set()
                await asyncio.sleep(_GAP)
        finally:
            self.idle.set()


@contextmanager
def keys(script: Script) -> Iterator[str]:
    """Let the keys of a terminal add faults; gives a line of help, which is empty where there is no terminal."""
    if not sys.stdin.isatty():
        yield ""
        return
    loop, terminal = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    def on_key() -> None:
        for key in os.read(terminal, _ROOM).decode(errors="replace"):
            if name := _KEYS.get(key):
                script.add(name)

    tty.setcbreak(terminal)
    loop.add_reader(terminal, on_key)
    try:
        yield "Keys: " + ", ".join(f"{key} {name}" for key, name in _KEYS.items())
    finally:
        loop.remove_reader(terminal)
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
