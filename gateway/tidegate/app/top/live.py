"""The loop of a terminal: asks the gateway, takes keys, and draws whenever there is something new."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from tidegate.app.top.key import KeyReader
from tidegate.app.top.screen import Screen, is_ascii_only
from tidegate.app.top.seen import Seen
from tidegate.app.top.source import Address, StatusError, fetch
from tidegate.app.top.ui import Ui, press
from tidegate.app.top.view import picture

_ESCAPE_WAIT = 0.1
"""Seconds in which the rest of a key must follow its Escape; over a slow line they come in parts."""


class Live:
    """A picture of a gateway that follows it."""

    def __init__(self, address: Address, interval: float, ui: Ui, screen: Screen) -> None:
        self._address = address
        self._interval = interval
        self._ui = ui
        self._screen = screen
        self._seen = Seen(address.url, time.time())
        self._deepest = 0
        self._keys = KeyReader()
        self._escape: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._stopped = False
        self._ascii_only = is_ascii_only()

    async def run(self) -> None:
        """Show it until the viewer quits, the terminal goes away, or SIGINT, SIGTERM or SIGHUP comes."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGWINCH, self._redraw)
        loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        with self._screen:
            loop.add_reader(self._screen.keys, self._read)
            try:
                await self._follow()
            finally:
                loop.remove_reader(self._screen.keys)

    async def _follow(self) -> None:
        asking = asyncio.create_task(self._ask(), name="top")
        asking.add_done_callback(lambda _task: self._wake.set())
        try:
            while not self._stopped and not asking.done():
                self._draw()
                await self._wake.wait()
                self._wake.clear()
        finally:
            asking.cancel()
            await asyncio.wait([asking])
        if not asking.cancelled():
            asking.result()

    async def _ask(self) -> None:
        while True:
            try:
                status = await fetch(self._address)
            except StatusError as error:
                self._seen = self._seen.failed(error.reason, time.time())
            else:
                self._seen = self._seen.answered(status, time.time())
            self._wake.set()
            await asyncio.sleep(self._interval)

    def _draw(self) -> None:
        try:
            width, height = self._screen.size
            made = picture(self._seen, self._ui, width, height, ascii_only=self._ascii_only)
            self._screen.draw(made.lines)
        except OSError:  # the terminal is gone
            self._stop()
        else:
            self._deepest = made.deepest

    def _read(self) -> None:
        try:
            data = os.read(self._screen.keys, 1024)
        except OSError:
            data = b""
        if not data:
            self._stop()
            return
        if self._escape is not None:
            self._escape.cancel()
            self._escape = None
        self._press(self._keys.feed(data))
        if self._keys.waits:
            self._escape = asyncio.get_running_loop().call_later(_ESCAPE_WAIT, self._end_key)

    def _end_key(self) -> None:
        self._press(self._keys.rest())

    def _press(self, keys: list[str]) -> None:
        bridges = self._seen.status.bridges if self._seen.status is not None else []
        for key in keys:
            ui = press(self._ui, key, bridges, self._deepest)
            if ui is None:
                self._stop()
                return
            self._ui = ui
        self._wake.set()

    def _stop(self) -> None:
        self._stopped = True
        self._wake.set()

    def _redraw(self) -> None:
        self._screen.forget()
        self._wake.set()

    def _suspend(self) -> None:
        """Give the terminal back to the shell until it continues us."""
        self._screen.leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._screen.enter()
        self._wake.set()
