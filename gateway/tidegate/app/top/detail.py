"""Everything that is known of one bridge."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from tidegate.app.top.dead_letter import dead_letters
from tidegate.app.top.figure import clock, count, duration, graph, rate
from tidegate.app.top.header import STYLES
from tidegate.app.top.line import line, wrap
from tidegate.app.top.status import BridgeStatus, Endpoint, Status
from tidegate.core import rounded_size

_INDENT = 12
_GRAPH_LINES = 3
_MOST_STEPS = 60


def detail(status: Status, name: str | None, width: int, *, ascii_only: bool) -> list[Text]:
    """Return the lines about a bridge, as many as it takes."""
    bridge = next((one for one in status.bridges if one.name == name), None)
    if bridge is None:
        return [line(f"There is no bridge {name} any more: the configuration has changed.")]
    return [
        *_state(bridge, width),
        *_graph("in", bridge.rates.received, bridge.rates.history.received, bridge, width, ascii_only),
        *_graph("out", bridge.rates.delivered, bridge.rates.history.delivered, bridge, width, ascii_only),
        *_behind(bridge, width),
        *_counters(bridge, width),
        *_ends(bridge, width),
        *_promise(bridge, width),
        *_dead_letters(status, bridge, width),
    ]


def _field(title: str, text: str, width: int, style: str = "") -> Iterator[Text]:
    """Yield a title and its text, in as many lines as the text takes."""
    for at, part in enumerate(wrap(text, max(1, width - _INDENT))):
        yield line((("" if at else title).ljust(_INDENT), "dim"), (part, style))


def _state(bridge: BridgeStatus, width: int) -> Iterator[Text]:
    yield line((bridge.name, "bold"), "  ", (bridge.state, STYLES.get(bridge.state, "bold red")))
    for title, reason in (("problem", bridge.problem), ("blocked", bridge.blocked)):
        if reason is not None:
            yield from _field(title, reason, width, "yellow")
    if bridge.last_error is not None:
        text = f"{clock(bridge.last_error.time)} {bridge.last_error.text}"
        yield from _field("last error", text, width)


def _graph(
    word: str, now: float, history: list[float], bridge: BridgeStatus, width: int, ascii_only: bool
) -> Iterator[Text]:
    room = max(0, min(width - _INDENT, _MOST_STEPS))
    newest = history[-room:] if room else []
    bars = graph(newest, room, _GRAPH_LINES, ascii_only=ascii_only)
    most = max(newest, default=0.0)
    titles = (f"{rate(now)} {word}/s", f"most {rate(most)}", f"in {duration(bridge.rates.step * len(newest))}")
    for title, bar in zip(titles, bars, strict=True):
        yield line((title.ljust(_INDENT), "dim"), (bar, "blue"))


def _behind(bridge: BridgeStatus, width: int) -> Iterator[Text]:
    lag = bridge.lag
    event = f"event lag p50 {duration(lag.event_p50)} p99 {duration(lag.event_p99)}"
    yield from _field("delivery", f"p50 {duration(lag.delivery_p50)} p99 {duration(lag.delivery_p99)}, {event}", width)
    waits = f"{count(bridge.in_flight)} of {count(bridge.window)}, the oldest for {duration(lag.oldest_unsettled)}"
    yield from _field("in flight", waits, width)
    if bridge.spool is not None:
        spool = bridge.spool
        text = f"{count(spool.messages)} messages, {rounded_size(spool.bytes)}, oldest {duration(lag.spool_oldest)}"
        yield from _field("on the disk", text + (f": {spool.problem}" if spool.problem else ""), width)
    if lag.consumer_pending is not None:
        yield from _field("in stream", f"{count(lag.consumer_pending)} messages wait", width)


def _counters(bridge: BridgeStatus, width: int) -> Iterator[Text]:
    yield from _field("received", f"{bridge.received}, {rounded_size(bridge.received_bytes)}", width)
    yield from _field("delivered", f"{bridge.delivered}, {rounded_size(bridge.delivered_bytes)}", width)
    yield from _field("set aside", _by_reason(bridge.dead_lettered), width, "yellow" if bridge.dead else "")
    yield from _field("dropped", _by_reason(bridge.dropped), width, "red" if sum(bridge.dropped.values()) else "")
    text = f"filtered {bridge.filtered}, duplicates {bridge.duplicates}, spooled {bridge.spooled}"
    yield from _field("besides", text, width)


def _by_reason(counts: dict[str, int]) -> str:
    reasons = [f"{reason} {number}" for reason, number in counts.items() if number]
    return ", ".join([str(sum(counts.values())), *reasons])


def _ends(bridge: BridgeStatus, width: int) -> Iterator[Text]:
    yield from _field("MQTT", f"{bridge.mqtt_topic} (QoS {bridge.qos}), {_endpoint(bridge.mqtt)}", width)
    stream = "" if bridge.stream is None else f" in {bridge.stream}"
    yield from _field("NATS", f"{bridge.nats_subject} ({bridge.deliver}{stream})", width)


def _endpoint(endpoint: Endpoint) -> str:
    texts = [endpoint.url, "up" if endpoint.up else "down"]
    if endpoint.reconnects:
        texts.append(f"reconnects {endpoint.reconnects}")
    if endpoint.sessions_lost:
        texts.append(f"sessions lost {endpoint.sessions_lost}")
    if endpoint.last_error is not None:
        texts.append(f"last error: {endpoint.last_error}")
    return ", ".join(texts)


def _promise(bridge: BridgeStatus, width: int) -> Iterator[Text]:
    if bridge.guarantee is not None:
        yield from _field("guarantee", bridge.guarantee.promise, width)
        for weakness in bridge.guarantee.weaknesses:
            yield from _field("  but", weakness, width)


def _dead_letters(status: Status, bridge: BridgeStatus, width: int) -> Iterator[Text]:
    notes = [note for note in status.dead_letters if note.bridge == bridge.name]
    if notes:
        yield line()
        yield line(("its latest dead letters", "dim"))
        yield from dead_letters(notes, width)
