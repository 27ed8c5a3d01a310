"""A connection to a broker that is kept up for ever: what who subscribes and who publishes have in common."""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from typing import Self

from tidegate.core import Backoff, ConnectError, ProtocolError, Trouble
from tidegate.mqtt.handshake import BrokerOptions
from tidegate.mqtt.link import Link

_CLOSE_TIMEOUT = 2.0


class KeptConnection(ABC):
    """Use as `async with`; it connects in the background, and again whenever the connection has ended.

    up: whether it can be used now. last_error: why not, or why not last time. connects: connections so far. trouble:
    what ended a connection last, or kept one from being made.
    """

    def __init__(self, options: BrokerOptions, name: str, role: str) -> None:
        self.name = name or options.client_id
        self.up = False
        self.last_error: str | None = None
        self.connects = 0
        self.trouble: Trouble | None = None
        self._broker = options
        self._role = role
        self._log = logging.getLogger(type(self).__module__)
        self._link: Link | None = None
        self._keep_alive = options.keep_alive
        self._backoff = Backoff()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name=f"mqtt {self._role} {self.name}")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    @property
    def task(self) -> asyncio.Task[None]:
        """The task that keeps this running. Before the context is left only a defect ends it."""
        assert self._task is not None
        return self._task

    @property
    def reconnects(self) -> int:
        """Connections after the first."""
        return max(0, self.connects - 1)

    @abstractmethod
    async def _connect(self) -> Link:
        """Connect and begin; raises ConnectError or ProtocolError. Sets `_keep_alive` to what the broker says."""

    @abstractmethod
    def _ping(self, link: Link) -> None:
        """Send a PINGREQ."""

    def _fail(self, link: Link, reason: str) -> None:
        """End a connection for a reason that lies in it."""
        link.fail(reason)

    def _lost(self, reason: str) -> None:
        """There is no connection now."""
        repeated = not self.up and reason == self.last_error
        self.up = False
        self._link = None
        self.last_error = reason
        self.trouble = Trouble(f"mqtt: {reason}", time.time())
        self._log.log(logging.DEBUG if repeated else logging.WARNING, "%s: not connected: %s", self.name, reason)

    async def _run(self) -> None:
        """Keep a connection, until cancelled."""
        while True:
            try:
                link = await self._connect()
            except (ConnectError, ProtocolError) as error:
                reason = str(error)
            else:
                reason = await self._serve(link)
            self._lost(reason)
            await asyncio.sleep(self._backoff.next())

    async def _serve(self, link: Link) -> str:
        """Keep the connection alive until it ends; return why it ended. On cancellation close it in order."""
        interval = self._keep_alive / 2 or None
        try:
            while True:
                await asyncio.wait([link.ended], timeout=interval)
                if link.ended.done():
                    return link.ended.result()
                if link.is_silent(interval or 0):
                    self._fail(link, f"no sign of life for {self._keep_alive} s (keep-alive)")
                else:
                    self._ping(link)
        except asyncio.CancelledError:
            self._link = None
            await link.close(self._broker.codec.disconnect(), _CLOSE_TIMEOUT)
            raise
