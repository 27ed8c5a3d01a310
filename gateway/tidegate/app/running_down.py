"""A running down bridge: from a consumer or a subscription to a broker."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from tidegate.app import config as c
from tidegate.app.history import History
from tidegate.app.options import consumer_spec, publisher_options
from tidegate.app.running import Totals, latest, stop_ways
from tidegate.bridge import Bridge, DeadLetterNote, DeadLetters, DownConverter
from tidegate.core import Histogram, Trouble
from tidegate.mqtt import Publisher as MqttPublisher
from tidegate.nats import Connection, Consumer, Publisher, Subscription


class RunningDownBridge:
    """A down bridge with its two ends. It has no spool: what the broker does not take stays in the stream.

    window: the most messages in flight. session: its connection to the broker. history: its last minutes.
    """

    spooling = None
    sparkplug = None
    blocked = None

    def __init__(
        self, live: Bridge, window: int, source: Consumer | Subscription, session: MqttPublisher, dead_sink: Publisher
    ) -> None:
        self.live = live
        self.window = window
        self.history = History()
        self.source = source
        self.session = session
        self._dead_sink = dead_sink

    @property
    def problem(self) -> str | None:
        """Return why this bridge can't deliver messages now, or None. That NATS is away is told once it has been for a
        second: there is no spool on the way down."""
        if not self.session.up:
            return f"mqtt: {self.session.last_error or 'not yet connected'}"
        if overdue := self.session.overdue:
            return f"mqtt: {overdue}"
        blocked = self.live.dead_letters.problem or self.source.blocked or self._dead_sink.blocked
        return f"nats: {blocked}" if blocked else None

    @property
    def stream(self) -> str | None:
        """The stream that it takes from, once that is known, or None for core NATS."""
        return self.source.stream if isinstance(self.source, Consumer) else None

    @property
    def waits(self) -> tuple[bool, bool]:
        """Return whether messages wait, in flight; and that there is no disk for them."""
        return bool(self.live.counters.in_flight), False

    @property
    def settled(self) -> tuple[int, int]:
        """Return how many messages this bridge has settled."""
        return self.live.counters.received - self.live.counters.in_flight, 0

    @property
    def trouble(self) -> Trouble | None:
        """Return what went wrong last, also if it has passed."""
        source = self.source.trouble if isinstance(self.source, Consumer) else None
        return latest(self.session.trouble, source, self._dead_sink.trouble)

    @property
    def notes(self) -> list[DeadLetterNote]:
        """Return what is remembered of the newest dead letters."""
        return list(self.live.dead_letters.notes)

    @property
    def duplicates(self) -> int:
        """Messages that came again while they were in hand."""
        return self.source.duplicates

    @property
    def totals(self) -> Totals:
        """Return the counters; those that no window had room for are among the received."""
        live = self.live.counters
        dropped, dropped_bytes = 0, 0
        if isinstance(self.source, Subscription):
            dropped, dropped_bytes = self.source.dropped, self.source.dropped_bytes
        return Totals(
            live.received + dropped,
            live.received_bytes + dropped_bytes,
            live.delivered,
            live.delivered_bytes,
            live.dead_lettered,
            live.filtered,
            live.dropped + Counter({"window_full": dropped} if dropped else {}),
            live.in_flight,
            live.spooled,
        )

    def durations(self) -> list[Histogram]:
        """Return the delivery durations."""
        return [self.live.counters.delivery_duration]

    def lags(self) -> list[Histogram]:
        """Return the event lags."""
        return [self.live.counters.event_lag]


@asynccontextmanager
async def running_down_bridge(
    config: c.Config, bridge: c.DownBridge, connection: Connection, on_end: Callable[[asyncio.Future[None]], None]
) -> AsyncIterator[RunningDownBridge]:
    """Run a down bridge. On leaving it takes no more, and waits up to `shutdown_timeout` for what is in flight.

    on_end: called when one of its tasks ends, which before the context is left only a defect can cause.
    """
    async with AsyncExitStack() as stack:
        dead_sink = await stack.enter_async_context(Publisher(connection, bridge.name))
        session = await stack.enter_async_context(MqttPublisher(publisher_options(config, bridge), bridge.name))
        source: Consumer | Subscription
        window = config.mqtt.receive_maximum
        if bridge.deliver == "core":
            source = Subscription(connection, bridge.mapping().subject_filter, window)
        else:
            source = Consumer(connection, bridge.name, consumer_spec(config, bridge))
        await stack.enter_async_context(source)
        converter = DownConverter(bridge.mapping(), bridge.payload)
        subject = config.dead_letters.subject_for(bridge.name)
        correlation_of = converter.correlation_of
        dead_letters = DeadLetters(dead_sink, bridge.name, config.source(bridge.name), subject, correlation_of)
        live = Bridge(bridge.name, source, converter, session, dead_letters)
        parts: list[Publisher | MqttPublisher | Consumer | Subscription] = [dead_sink, session, source]
        for part in parts:
            part.task.add_done_callback(on_end)
        task = asyncio.create_task(live.run(), name=f"bridge {live.name}")
        task.add_done_callback(on_end)
        try:
            yield RunningDownBridge(live, window, source, session, dead_sink)
        finally:
            await stop_ways([live], [task], dead_sink, config.shutdown_timeout)
