"""The one NATS connection of a gateway, shared by its bridges, and kept up for ever."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from tidegate.core import Backoff, ConnectError
from tidegate.nats.link import Link, open_link
from tidegate.nats.login import NOBODY, Login

log = logging.getLogger(__name__)

_PING_INTERVAL = 5.0
_PING_TIMEOUT = 10.0
_CLOSE_TIMEOUT = 2.0


@dataclass(frozen=True, kw_only=True)
class NatsOptions:
    """How to connect. `tls` makes a new context for each connection; with it nothing is ever sent in clear."""

    servers: tuple[str, ...]
    name: str
    login: Login = NOBODY
    tls: Callable[[], ssl.SSLContext] | None = None
    connect_timeout: float = 5.0


class Connection:
    """Use as `async with`; it connects in the background.

    up: connected now. last_error: why not, or why not last time. connects: connections so far.
    on_error: called with each error that the server reports outside of an answer, such as a refused publish.
    """

    def __init__(self, options: NatsOptions) -> None:
        self.options = options
        self.last_error: str | None = None
        self.connects = 0
        self.on_error: list[Callable[[str], None]] = []
        self._link: Link | None = None
        self._ready = asyncio.Event()
        self._gone = asyncio.Event()
        self._gone.set()
        self._backoff = Backoff()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="nats connection")
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
    def up(self) -> bool:
        """Whether there is a connection now."""
        return self._ready.is_set()

    @property
    def url(self) -> str | None:
        """The server that it is connected to, or None."""
        return self._link.url if self._link else None

    @property
    def reconnects(self) -> int:
        """Connections after the first."""
        return max(0, self.connects - 1)

    async def ready(self) -> Link:
        """Wait until there is a connection, and return it."""
        while True:
            await self._ready.wait()
            if self._link is not None and not self._link.ended.done():
                return self._link
            await self._gone.wait()

    async def gone(self) -> None:
        """Wait until there is no connection."""
        await self._gone.wait()

    async def _run(self) -> None:
        while True:
            try:
                link = await connect(self.options)
            except ConnectError as error:
                reason = str(error)
            else:
                reason = await self._keep(link)
            repeated = reason == self.last_error
            self.last_error = reason
            log.log(logging.DEBUG if repeated else logging.WARNING, "nats: not connected: %s", reason)
            await asyncio.sleep(self._backoff.next())

    async def _keep(self, link: Link) -> str:
        """Serve one connection until it ends; return why it ended."""
        self._link = link
        self.connects += 1
        self._backoff.reset()
        self._gone.clear()
        self._ready.set()
        self.last_error = None
        link.on_error = self._report
        log.info("nats: connected to %s", link.url)
        try:
            return await _watch(link)
        finally:
            self._ready.clear()
            self._gone.set()
            self._link = None
            await link.close(_CLOSE_TIMEOUT)

    def _report(self, error: str) -> None:
        self.last_error = error
        for listener in self.on_error:
            listener(error)


async def connect(options: NatsOptions) -> Link:
    """Connect to the first server that can be had. Raises ConnectError, which says why none could."""
    try:
        fields = options.login.read()
        tls = options.tls() if options.tls else None
    except (OSError, ValueError) as error:
        raise ConnectError(" ".join(options.servers), str(error)) from error
    reasons: dict[str, None] = {}
    for url in options.servers:
        try:
            return await open_link(url, options.name, fields, tls, options.connect_timeout)
        except ConnectError as error:
            reasons[error.reason] = None
    raise ConnectError(" ".join(options.servers), "; ".join(reasons))


async def _watch(link: Link) -> str:
    """Return why the connection ended: closed, or nothing heard after a ping.

    On a slow link the answer can queue behind data for long, so anything received counts as a sign of life.
    """
    while True:
        heard = link.reads
        pong = link.ping()
        while not pong.done() and not link.ended.done():
            await asyncio.wait((pong, link.ended), timeout=_PING_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
            if not pong.done() and link.reads == heard:
                link.fail(f"no sign of life for {_PING_TIMEOUT:g} s")
            heard = link.reads
        await asyncio.wait([link.ended], timeout=_PING_INTERVAL)
        if link.ended.done():
            return link.ended.result()
