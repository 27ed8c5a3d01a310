"""The gateway: what runs is what the configuration says, and one function makes it so."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from tidegate.app.background import background
from tidegate.app.backlog import BacklogWatch, ConsumerName, ConsumerState
from tidegate.app.config import AnyBridge, Config, DownBridge
from tidegate.app.http import HttpServer, Page
from tidegate.app.options import bucket_specs, nats_options, spool_options, stream_specs
from tidegate.app.running import Promise, RunningBridge, ensure_streams, find_promises, running_bridge
from tidegate.app.running_down import RunningDownBridge, running_down_bridge
from tidegate.app.sampler import Sampler
from tidegate.nats import Connection, StreamError
from tidegate.spool import Spool

if TYPE_CHECKING:
    from tidegate.app.tracing import Tracing

log = logging.getLogger(__name__)


class _Part(NamedTuple):
    """A running bridge, how to stop it, and the part of the configuration it was made from."""

    running: RunningBridge | RunningDownBridge
    stack: AsyncExitStack
    made_from: tuple[Any, ...]


class Gateway:
    """Use as `async with`; leaving it applies an empty configuration.

    pages: what the HTTP endpoint serves, by path; set it before the first `apply`.
    config: what runs now, or None. started: when this began, in seconds since 1970.
    connection, spool: the NATS connection and the disk buffer, or None before the first `apply`.
    bridges: the running ones by name. promises: what holds for each, as far as NATS has been asked.
    streams_problem: why the streams are not as configured, or None once they are.
    failed: done if something that should run for ever ended; its exception says why.
    """

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.config: Config | None = None
        self.started = time.time()
        self.http: HttpServer | None = None
        self.connection: Connection | None = None
        self.spool: Spool | None = None
        self.streams_problem: str | None = "not yet verified"
        self.last_reload_successful = True
        self.promises: dict[str, Promise] = {}
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sampler: Sampler | None = None
        self._backlog: BacklogWatch | None = None
        self._tracing: Tracing | None = None
        self._shared = AsyncExitStack()
        self._http = AsyncExitStack()
        self._streams: asyncio.Task[None] | None = None
        self._streams_stood = False  # from then on a bad stream in a reload is a problem, and not the end
        self._parts: dict[str, _Part] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.apply(None)
        if not self.failed.done():
            self.failed.cancel()

    @property
    def bridges(self) -> dict[str, RunningBridge | RunningDownBridge]:
        """The running bridges by name."""
        return {name: part.running for name, part in self._parts.items()}

    @property
    def problems(self) -> list[str]:
        """Return everything that keeps messages from being delivered or spooled now; empty means ready."""
        if self.config is None:
            return ["nothing is configured now"]
        problems = [f"{name}: {problem}" for name, bridge in self.bridges.items() if (problem := bridge.problem)]
        problems += [f"{bridge.name}: not running" for bridge in self.config.bridges if bridge.name not in self._parts]
        if self._streams_stood and self.streams_problem is not None:
            problems.append(f"streams: {self.streams_problem}")
        return problems

    @property
    def away(self) -> str | None:
        """Return why NATS can't take messages now, so that they go to the spool, or None."""
        if self.connection is not None and not self.connection.up:
            return self.connection.last_error or "not yet connected"
        if self.streams_problem is not None:
            return f"streams: {self.streams_problem}"
        return next((f"{name}: {why}" for name, bridge in self.bridges.items() if (why := bridge.blocked)), None)

    @property
    def stalled(self) -> str | None:
        """Return which bridges hold messages that nothing is known to hold up, or None: a defect."""
        return None if self._sampler is None else self._sampler.stalled

    @property
    def consumers(self) -> dict[ConsumerName, ConsumerState]:
        """Return what is known of the configured consumers, and of the down bridges' own."""
        return {} if self._backlog is None else self._backlog.states

    def _watched(self) -> list[ConsumerName]:
        if self.config is None:
            return []
        names = [ConsumerName(consumer.stream, consumer.name) for consumer in self.config.consumers]
        for bridge, running in self.bridges.items():
            if running.stream is not None:
                names.append(ConsumerName(running.stream, self.config.consumer(bridge)))
        return list(dict.fromkeys(names))

    async def apply(self, config: Config | None) -> None:
        """Make what runs be what the configuration says (law 9): start, reload and stop are this one difference.

        Bridges whose configuration did not change go on undisturbed. None stops everything. Raises SpoolError or
        StateError where the state directory can't be had, and ListenError where the HTTP address can't; what runs is
        then a part of the configuration, and to apply the one before, or None, puts that right.
        """
        old, self.config = self.config, config
        shared_changed = old is None or config is None or _shared_part(config) != _shared_part(old)
        wanted = {bridge.name: _made_from(config, bridge) for bridge in config.bridges} if config else {}
        ending = [name for name, part in self._parts.items() if shared_changed or wanted.get(name) != part.made_from]
        await asyncio.gather(*(self._parts[name].stack.aclose() for name in ending))
        for name in ending:
            del self._parts[name]
            self.promises.pop(name, None)
        await self._stop_streams()
        if shared_changed:
            await self._shared.aclose()
            self.connection = self.spool = self._backlog = self._sampler = self._tracing = None
        if config is None:
            await self._http.aclose()
            return
        if self.connection is None or self.spool is None:
            self.spool = await self._shared.enter_async_context(Spool(spool_options(config)))
            self.spool.ended.add_done_callback(self._on_end)
            if config.tracing is not None:
                from tidegate.app.tracing import Tracing  # which imports an extra

                self._tracing = await self._shared.enter_async_context(Tracing(config))
            self.connection = await self._shared.enter_async_context(Connection(nats_options(config)))
            self.connection.task.add_done_callback(self._on_end)
            self._backlog = BacklogWatch(self.connection, self._watched)
            self._sampler = Sampler(lambda: self.bridges)
            for work, name in ((self._backlog.run(), "consumer backlog"), (self._sampler.run(), "sampler")):
                await self._shared.enter_async_context(background(work, name, self._on_end))
        self._streams = asyncio.create_task(self._verify_streams(self.connection, config), name="streams")
        self._streams.add_done_callback(self._on_end)
        for bridge in config.bridges:
            if bridge.name not in self._parts:
                await self._start(config, bridge, self.connection, self.spool)
        self._warn_of_orphans(self.spool)
        if old is None or config.http != old.http or (config.http is not None and self.http is None):
            await self._http.aclose()
            self.http = None
            if config.http is not None:
                self.http = await self._http.enter_async_context(HttpServer(config.http.address, self.pages))

    def _warn_of_orphans(self, spool: Spool) -> None:
        for name, count in spool.orphans().items():
            log.warning("spool: %d messages wait for a bridge %r, which is not configured", count, name)

    async def _start(self, config: Config, bridge: AnyBridge, connection: Connection, spool: Spool) -> None:
        stack = AsyncExitStack()
        running: RunningBridge | RunningDownBridge
        if isinstance(bridge, DownBridge):
            running = await stack.enter_async_context(running_down_bridge(config, bridge, connection, self._on_end))
        else:
            running = await stack.enter_async_context(
                running_bridge(config, bridge, connection, spool, self._on_end, self._tracing)
            )
        self._parts[bridge.name] = _Part(running, stack, _made_from(config, bridge))

    async def _verify_streams(self, connection: Connection, config: Config) -> None:
        try:
            await ensure_streams(connection, stream_specs(config), bucket_specs(config))
        except StreamError as error:
            self.streams_problem = str(error)
            log.error("nats: %s", error)
            if not self._streams_stood and not self.failed.done():
                self.failed.set_exception(error)
        else:
            self.streams_problem = None
            self._streams_stood = True
            await find_promises(connection, config, self.promises)

    async def _stop_streams(self) -> None:
        if self._streams is not None:
            self._streams.cancel()
            await asyncio.wait([self._streams])
            self._streams = None

    def _on_end(self, task: asyncio.Future[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not self.failed.done():
            self.failed.set_exception(error)


def _shared_part(config: Config) -> tuple[Any, ...]:
    return config.gateway, config.nats, config.state_dir, config.spool, config.tracing


def _made_from(config: Config, bridge: AnyBridge) -> tuple[Any, ...]:
    """Return everything that a running bridge depends on."""
    return bridge, config.mqtt, config.dead_letters.subject_for(bridge.name), config.shutdown_timeout, config.gateway
