"""What Prometheus sees. Counters are plain integers elsewhere; here they are read, at scrape time only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from tidegate.app.gateway import Gateway
from tidegate.app.running import RunningBridge
from tidegate.app.running_down import RunningDownBridge
from tidegate.app.version import VERSION
from tidegate.core import Histogram


class GatewayCollector(Collector):
    """Reads a gateway's counters."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def collect(self) -> Iterable[Metric]:
        """Return every series. Labels have bounded cardinality: never a topic, subject, device or client id."""
        bridges = self._gateway.bridges
        yield from _bridge_counters(bridges)
        yield from _links(self._gateway)
        yield from _spool(self._gateway)
        yield from _sparkplug(bridges)
        yield from _lags(bridges)
        yield _backlog(self._gateway)
        reload = GaugeMetricFamily("tidegate_config_last_reload_successful", "Whether the last reload was applied.")
        reload.add_metric([], float(self._gateway.last_reload_successful))
        yield reload
        build = GaugeMetricFamily("tidegate_build_info", "Always 1.", labels=["version"])
        build.add_metric([VERSION], 1)
        yield build


def new_registry(gateway: Gateway) -> CollectorRegistry:
    """Return a registry with the gateway's series and the process's own (`process_*`)."""
    registry = CollectorRegistry()
    registry.register(GatewayCollector(gateway))
    ProcessCollector(registry=registry)
    return registry


def _bridge_counters(bridges: dict[str, RunningBridge | RunningDownBridge]) -> Iterator[Metric]:
    """Law 6: received = delivered + dead-lettered + filtered + dropped + in flight + spooled."""
    plain = {
        "messages_received": ("Messages taken from the source, redeliveries included.", "received"),
        "messages_delivered": ("Messages that the sink has.", "delivered"),
        "messages_filtered": ("Messages left out as configured.", "filtered"),
        "received_bytes": ("Payload bytes of the messages received.", "received_bytes"),
        "delivered_bytes": ("Bytes of the events delivered.", "delivered_bytes"),
    }
    for name, (text, attribute) in plain.items():
        family = CounterMetricFamily(f"tidegate_{name}", text, labels=["bridge"])
        for bridge, running in bridges.items():
            family.add_metric([bridge], getattr(running.totals, attribute))
        yield family
    dead = CounterMetricFamily("tidegate_messages_dead_lettered", "Messages set aside.", labels=["bridge", "reason"])
    dropped = CounterMetricFamily("tidegate_messages_dropped", "Messages given up.", labels=["bridge", "reason"])
    in_flight = GaugeMetricFamily("tidegate_messages_in_flight", "Messages received, not settled.", labels=["bridge"])
    window = GaugeMetricFamily("tidegate_window_messages", "The most messages in flight.", labels=["bridge"])
    ready = GaugeMetricFamily(
        "tidegate_bridge_ready", "1 while the bridge can deliver messages or spool them.", labels=["bridge"]
    )
    spooled = GaugeMetricFamily("tidegate_messages_spooled", "Messages in the disk buffer.", labels=["bridge"])
    duplicates = CounterMetricFamily(
        "tidegate_duplicates", "Messages that came again and were stored once.", labels=["bridge"]
    )
    for bridge, running in bridges.items():
        counters = running.totals
        for reason, count in counters.dead_lettered.items():
            dead.add_metric([bridge, reason], count)
        for reason, count in counters.dropped.items():
            dropped.add_metric([bridge, reason], count)
        in_flight.add_metric([bridge], counters.in_flight)
        window.add_metric([bridge], running.window)
        ready.add_metric([bridge], float(running.problem is None))
        spooled.add_metric([bridge], counters.spooled)
        duplicates.add_metric([bridge], running.duplicates)
    yield from (dead, dropped, in_flight, window, spooled, duplicates, ready)


def _links(gateway: Gateway) -> Iterator[Metric]:
    """The state of each connection: an MQTT one for each bridge, and NATS's, whose bridge label is empty."""
    labels = ["endpoint", "bridge"]
    up = GaugeMetricFamily("tidegate_connection_up", "1 while connected.", labels=labels)
    reconnects = CounterMetricFamily("tidegate_reconnects", "Connections after the first.", labels=labels)
    lost = CounterMetricFamily("tidegate_sessions_lost", "MQTT sessions that the broker forgot.", labels=["bridge"])
    if gateway.connection is not None:
        up.add_metric(["nats", ""], float(gateway.connection.up))
        reconnects.add_metric(["nats", ""], gateway.connection.reconnects)
    for bridge, running in gateway.bridges.items():
        up.add_metric(["mqtt", bridge], float(running.session.up))
        reconnects.add_metric(["mqtt", bridge], running.session.reconnects)
        lost.add_metric([bridge], running.session.sessions_lost)
    yield from (up, reconnects, lost)


def _lags(bridges: dict[str, RunningBridge | RunningDownBridge]) -> Iterator[Metric]:
    """How far behind each bridge is, in seconds."""
    duration = HistogramMetricFamily(
        "tidegate_delivery_duration_seconds", "From receipt to PubAck, or to PUBACK on the way down.", labels=["bridge"]
    )
    lag = HistogramMetricFamily(
        "tidegate_event_lag_seconds", "From the event's own time to PubAck, or to PUBACK.", labels=["bridge"]
    )
    oldest = GaugeMetricFamily(
        "tidegate_oldest_unsettled_timestamp_seconds",
        "When the oldest message in flight was received.",
        labels=["bridge"],
    )
    for name, running in bridges.items():
        for family, histograms in ((duration, running.durations()), (lag, running.lags())):
            family.add_metric([name], _buckets(histograms), sum(histogram.total for histogram in histograms))
        if (received := running.live.oldest_unsettled) is not None:
            oldest.add_metric([name], received)
    yield from (duration, lag, oldest)


def _backlog(gateway: Gateway) -> Metric:
    pending = GaugeMetricFamily(
        "tidegate_consumer_pending_messages",
        "Messages of the stream that the consumer was not yet given.",
        labels=["stream", "consumer"],
    )
    for name, state in gateway.consumers.items():
        if state.backlog is not None:
            pending.add_metric([name.stream, name.name], state.backlog.pending)
    return pending


def _buckets(histograms: list[Histogram]) -> list[tuple[str, float]]:
    bounds = [*(str(bound) for bound in histograms[0].bounds), "+Inf"]
    counts = map(sum, zip(*(histogram.counts for histogram in histograms), strict=True))
    return list(zip(bounds, map(float, accumulate(counts)), strict=True))


def _spool(gateway: Gateway) -> Iterator[Metric]:
    """What waits on the disk, as it lies there."""
    size = GaugeMetricFamily("tidegate_spool_bytes", "Bytes in the disk buffer.", labels=["bridge"])
    oldest = GaugeMetricFamily(
        "tidegate_spool_oldest_timestamp_seconds", "When the oldest message in it was received.", labels=["bridge"]
    )
    damaged = CounterMetricFamily("tidegate_spool_damaged", "Messages lost with a damaged spool file.")
    for bridge, running in gateway.bridges.items():
        if running.spooling is not None:
            queue = running.spooling.queue
            size.add_metric([bridge], queue.bytes)
            if queue.oldest is not None:
                oldest.add_metric([bridge], queue.oldest)
    limit = GaugeMetricFamily("tidegate_spool_max_bytes", "The most bytes in the disk buffer, of all bridges.")
    if gateway.spool is not None:
        damaged.add_metric([], gateway.spool.damaged)
        limit.add_metric([], gateway.spool.options.max_bytes)
    yield from (size, limit, oldest, damaged)


def _sparkplug(bridges: dict[str, RunningBridge | RunningDownBridge]) -> Iterator[Metric]:
    """Of bridges that decode Sparkplug B."""
    gaps = CounterMetricFamily(
        "tidegate_sparkplug_sequence_gaps", "Messages that did not follow the one before.", labels=["bridge"]
    )
    requests = CounterMetricFamily(
        "tidegate_sparkplug_rebirth_requests", "Edge nodes asked for a rebirth.", labels=["bridge"]
    )
    for bridge, running in bridges.items():
        if running.sparkplug is not None:
            gaps.add_metric([bridge], running.sparkplug.sequence_gaps)
            requests.add_metric([bridge], running.sparkplug.rebirth_requests)
    yield from (gaps, requests)
