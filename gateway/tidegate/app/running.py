"""The parts of a running gateway, each an async context that starts and stops in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from tidegate.app import config as c
from tidegate.app.guarantee import Guarantee, down_guarantee, guarantee
from tidegate.app.history import History
from tidegate.app.options import session_options
from tidegate.bridge import Bridge, Conversion, Converter, DeadLetterNote, DeadLetters, Overflow, Shape, SparkplugHost
from tidegate.core import Backoff, ConnectError, Histogram, Message, Sink, Source, TidegateError, Trouble
from tidegate.mqtt import Session
from tidegate.nats import (
    ApiError,
    BucketSpec,
    Connection,
    CorePublisher,
    Publisher,
    StreamError,
    StreamSpec,
    ensure_bucket,
    ensure_stream,
    find_stream,
)
from tidegate.spool import Spool, SpoolQueue

if TYPE_CHECKING:
    from tidegate.app.tracing import Tracing

log = logging.getLogger(__name__)


class Totals(NamedTuple):
    """What became of a bridge's messages since its counters began; what it found in the spool counts as received.

    received = delivered + dead_lettered + filtered + dropped + in_flight + spooled
    """

    received: int
    received_bytes: int
    delivered: int
    delivered_bytes: int
    dead_lettered: Counter[str]
    filtered: int
    dropped: Counter[str]
    in_flight: int
    spooled: int


class RunningBridge:
    """A bridge with its two ends; and, for JetStream, the spool's queue and the bridge that empties it.

    stream: None, as it takes from none. window: the most messages in flight. sparkplug: what is known of the edge
    nodes, where the bridge decodes Sparkplug B. history: its last minutes.
    """

    stream = None

    def __init__(
        self,
        live: Bridge,
        window: int,
        session: Session,
        sink: Publisher | CorePublisher,
        dead_sink: Publisher,
        spooling: Spooling | None,
        sparkplug: SparkplugHost | None,
    ) -> None:
        self.live = live
        self.window = window
        self.history = History()
        self.session = session
        self.sink = sink
        self.spooling = spooling
        self.sparkplug = sparkplug
        self._dead_sink = dead_sink

    @property
    def problem(self) -> str | None:
        """Return why this bridge can neither deliver messages now nor spool them, or None."""
        if not self.session.up:
            return f"mqtt: {self.session.last_error or 'not yet connected'}"
        if problem := next((letters.problem for letters in self._dead_letters if letters.problem), None):
            return f"nats: {problem}"
        if self.spooling is not None:
            return f"spool: {problem}" if (problem := self.spooling.queue.problem) else None
        blocked = self.sink.blocked or self._dead_sink.blocked
        return f"nats: {blocked}" if blocked else None

    @property
    def blocked(self) -> str | None:
        """Return why NATS does not take messages now, or None."""
        return self.sink.blocked

    @property
    def waits(self) -> tuple[bool, bool]:
        """Return whether messages wait, in flight and on the disk."""
        return bool(self.live.counters.in_flight), self.spooling is not None and bool(self.spooling.queue.messages)

    @property
    def settled(self) -> tuple[int, int]:
        """Return how many messages this bridge has settled, and the one that empties the spool."""
        live, drain = self._ways[0].counters, self._ways[-1].counters
        return live.received - live.in_flight, drain.received - drain.in_flight

    @property
    def trouble(self) -> Trouble | None:
        """Return what went wrong last, also if it has passed."""
        sink = self.sink.trouble if isinstance(self.sink, Publisher) else None
        return latest(self.session.trouble, sink, self._dead_sink.trouble)

    @property
    def notes(self) -> list[DeadLetterNote]:
        """Return what is remembered of the newest dead letters."""
        return [note for letters in self._dead_letters for note in letters.notes]

    @property
    def _dead_letters(self) -> list[DeadLetters]:
        return [way.dead_letters for way in self._ways]

    @property
    def _ways(self) -> list[Bridge]:
        return [self.live, self.spooling.drain] if self.spooling else [self.live]

    @property
    def duplicates(self) -> int:
        """Messages that came again."""
        return self.session.duplicates + self.sink.duplicates

    @property
    def totals(self) -> Totals:
        """Return the counters of both ways together."""
        live = self.live.counters
        if self.spooling is None:
            return Totals(
                live.received,
                live.received_bytes,
                live.delivered,
                live.delivered_bytes,
                live.dead_lettered,
                live.filtered,
                live.dropped,
                live.in_flight,
                live.spooled,
            )
        queue, drain = self.spooling.queue, self.spooling.drain.counters
        kept = self.spooling.overflow.stored - queue.turned_away
        arrived = kept - live.spooled  # of batches that are not settled: they are in flight, unless they left already
        inside = min(arrived, queue.messages)
        return Totals(
            live.received + queue.found,
            live.received_bytes,
            live.delivered + drain.delivered,
            live.delivered_bytes + drain.delivered_bytes,
            live.dead_lettered + drain.dead_lettered,
            live.filtered + drain.filtered,
            live.dropped + queue.dropped,
            live.in_flight - (arrived - inside),
            queue.messages - inside,
        )

    def durations(self) -> list[Histogram]:
        """Return the delivery durations of both ways."""
        return [way.counters.delivery_duration for way in self._ways]

    def lags(self) -> list[Histogram]:
        """Return the event lags of both ways."""
        return [way.counters.event_lag for way in self._ways]


def latest(*troubles: Trouble | None) -> Trouble | None:
    """Return the one that was seen last."""
    return max((one for one in troubles if one is not None), key=lambda one: one.time, default=None)


class Promise(NamedTuple):
    """What holds for a bridge. stream: the one that stores its subjects, or None."""

    stream: str | None
    guarantee: Guarantee


class Spooling(NamedTuple):
    """The way through the disk."""

    queue: SpoolQueue
    overflow: Overflow
    drain: Bridge


@asynccontextmanager
async def running_bridge(
    config: c.Config,
    bridge: c.Bridge,
    connection: Connection,
    spool: Spool,
    on_end: Callable[[asyncio.Future[None]], None],
    tracing: Tracing | None,
) -> AsyncIterator[RunningBridge]:
    """Run a bridge. On leaving it takes no more, and waits up to `shutdown_timeout` for what is in flight.

    on_end: called when one of its tasks ends, which before the context is left only a defect can cause.
    """
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(Publisher(connection, bridge.name))
        session = await stack.enter_async_context(_session(config, bridge))
        parts: list[Session | Publisher | Overflow] = [publisher, session]
        sparkplug = SparkplugHost(session.publish) if bridge.decoder_name == "sparkplug_b" else None

        def new_bridge(name: str, source: Source, sink: Sink, dead_sink: Sink) -> Bridge:
            restore = sparkplug.restore if sparkplug and source is session else None
            converter = new_converter(config, bridge, restore)
            dead_letters = _dead_letters(config, bridge, dead_sink, converter)
            conversion: Conversion = converter
            if tracing is not None:
                conversion, sink = tracing.around(converter, sink, config, bridge, live=source is session)
            return Bridge(name, source, conversion, sink, dead_letters)

        window = config.mqtt.receive_maximum
        if bridge.deliver == "core":
            sink = CorePublisher(connection)
            live = new_bridge(bridge.name, session, sink, publisher)
            running = RunningBridge(live, window, session, sink, publisher, None, sparkplug)
            ways = [live]
        else:
            queue = spool.queue(bridge.name, publisher.unblocked)
            always = config.spool.mode == "write_through"
            overflow = await stack.enter_async_context(Overflow(publisher, queue, bridge.name, always=always))
            parts.append(overflow)
            live = new_bridge(bridge.name, session, overflow, overflow)
            drain = new_bridge(f"{bridge.name} from spool", queue, publisher, publisher)
            spooling = Spooling(queue, overflow, drain)
            running = RunningBridge(live, window, session, publisher, publisher, spooling, sparkplug)
            ways = [live, drain]
        for part in parts:
            part.task.add_done_callback(on_end)
        tasks = [asyncio.create_task(way.run(), name=f"bridge {way.name}") for way in ways]
        for task in tasks:
            task.add_done_callback(on_end)
        try:
            yield running
        finally:
            await stop_ways(ways, tasks, publisher, config.shutdown_timeout)


class StateError(TidegateError):
    """The state directory can't be used."""


def _session(config: c.Config, bridge: c.Bridge) -> Session:
    options = session_options(config, bridge)
    try:
        return Session(options, bridge.name)
    except OSError as error:
        raise StateError(f"state_dir: {options.state_file}: {error.strerror}") from error


def new_converter(config: c.Config, bridge: c.Bridge, restore: Callable[[Message], Message] | None = None) -> Converter:
    """Return what makes events of a bridge's messages. restore: see `Converter`."""
    shape = Shape(
        bridge=bridge.name,
        mapping=bridge.mapping(),
        source=bridge.source or config.source(bridge.name),
        type=bridge.type,
        mode=bridge.mode,
        attributes=bridge.attributes,
        dataschema=config.dataschema(bridge),
    )
    steps = bridge.steps(config.mqtt.max_payload)
    return Converter(shape, bridge.decoder(), steps, pass_events=bridge.cloudevents == "pass", restore=restore)


def _dead_letters(config: c.Config, bridge: c.Bridge, sink: Sink, converter: Converter) -> DeadLetters:
    subject = config.dead_letters.subject_for(bridge.name)
    return DeadLetters(sink, bridge.name, config.source(bridge.name), subject, converter.correlation_of)


async def stop_ways(ways: list[Bridge], tasks: list[asyncio.Task[None]], sink: Publisher, timeout: float) -> None:
    """Stop the ways of one bridge. What the spool holds stays there, so while NATS is away it is not waited for."""
    for way in ways:
        way.stop()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            await asyncio.wait(tasks[:1])
            while sink.blocked is None and not all(task.done() for task in tasks):
                changed = asyncio.create_task(sink.changed())
                await asyncio.wait([*tasks[1:], changed], return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
    if left := ways[0].counters.in_flight:
        log.warning("%s: stopped with %d messages not settled; they come again", ways[0].name, left)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def find_promises(connection: Connection, config: c.Config, promises: dict[str, Promise]) -> None:
    """Find out and say for each bridge what can be relied on, and what weakens it."""
    for bridge in config.bridges:
        link = await connection.ready()
        try:
            stream = await find_stream(link, bridge.mapping().subject_filter)
        except (ApiError, ConnectError):
            return  # said again at the next start; nothing depends on it
        if isinstance(bridge, c.DownBridge):
            found = down_guarantee(bridge, stream)
        else:
            found = guarantee(config, bridge, stream)
        promises[bridge.name] = Promise(None if stream is None else stream.name, found)
        log.info("%s: guarantee: %s", bridge.name, found.promise)
        for weakness in found.weaknesses:
            log.info("%s: weaker: %s", bridge.name, weakness)


async def ensure_streams(connection: Connection, streams: list[StreamSpec], buckets: list[BucketSpec]) -> None:
    """Create or verify the streams, and then the buckets that have their values from them, as soon as there is a
    connection. Raises StreamError."""
    steps = [(f"stream {stream.name}", partial(ensure_stream, spec=stream)) for stream in streams]
    steps += [(f"bucket {bucket.name}", partial(ensure_bucket, spec=bucket)) for bucket in buckets]
    for what, ensure in steps:
        backoff = Backoff(longest=5.0)
        while True:
            link = await connection.ready()
            try:
                await ensure(link)
                break
            except StreamError:
                raise
            except (ApiError, ConnectError) as error:
                log.warning("nats: %s could not be looked at: %s", what, error)
                await asyncio.sleep(backoff.next())
