"""The top of every view: which gateway it is, how it is in one sentence, and the two hops that a message makes."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from tidegate.app.top.figure import clock, count, duration, rate
from tidegate.app.top.line import cut, fit, line, wrap
from tidegate.app.top.seen import Seen
from tidegate.app.top.status import BridgeStatus, DiskSpool, Endpoint, Status, longest
from tidegate.core import rounded_size

STYLES = {
    "delivering": "green", "draining": "cyan", "spooling": "yellow", "stuck": "bold red",
    "READY:": "bold green", "DRAINING:": "bold cyan", "SPOOLING": "bold yellow", "STUCK": "bold red",
    "STALLED": "bold red", "NOT ANSWERING": "bold red",
}  # fmt: skip
"""By the word of a state: a bridge's, or the gateway's."""

_WORD = 9
"""Characters for a hop's state."""

_MOST_LINES = 3
"""Of the sentence; a longer one is in the views of its bridges."""


def headline(seen: Seen) -> tuple[str, str]:
    """Return how the gateway is: a word, and a sentence that goes on from it."""
    status = seen.status
    if seen.failure is not None:
        shown = "" if status is None else f"; these are the values of {duration(seen.now - seen.at)} ago"
        gone = duration(seen.now - seen.failure.since)
        return "NOT ANSWERING", f"since {clock(seen.failure.since)} ({gone}): {seen.failure.reason}{shown}"
    if status is None:
        return "", "waiting for the first answer"
    return _told(status)


def _told(status: Status) -> tuple[str, str]:
    stuck = [f"{bridge.name}: {bridge.problem or ''}" for bridge in status.bridges if bridge.state == "stuck"]
    if problems := status.problems or stuck:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        spooled = f"; {_on_disk(status)}" if any(bridge.spooled for bridge in status.bridges) else ""
        return "STUCK", f"because {problems[0]}{more}{spooled}"
    if status.stalled is not None:
        return "STALLED", f"for no known reason, which is a defect: {status.stalled}"
    reason = status.nats_away or next((bridge.blocked for bridge in status.bridges if bridge.blocked), None)
    states = {bridge.state for bridge in status.bridges}
    if reason is not None or "spooling" in states:
        return "SPOOLING", f"because {reason or 'NATS does not take messages'}; {_on_disk(status)}"
    if "draining" in states:
        return "DRAINING:", f"NATS takes messages again; {_on_disk(status)}{_time_left(status)}"
    if not status.ready:
        return "STUCK", "because the gateway says that it is not ready"
    return "READY:", _flow(status)


def _on_disk(status: Status) -> str:
    messages = sum(bridge.spooled for bridge in status.bridges)
    oldest = longest(bridge.lag.spool_oldest for bridge in status.bridges)
    if not messages:
        return "nothing is on the disk yet"
    return f"{count(messages)} messages are on the disk" + (f", the oldest for {duration(oldest)}" if oldest else "")


def _time_left(status: Status) -> str:
    """Say how long draining takes if it goes on as now."""
    draining = [bridge for bridge in status.bridges if bridge.state == "draining"]
    spare = sum(bridge.rates.delivered - bridge.rates.received for bridge in draining)
    return f"; about {duration(sum(bridge.spooled for bridge in draining) / spare)} to go" if spare >= 1 else ""


def _flow(status: Status) -> str:
    coming = sum(bridge.rates.received for bridge in status.bridges)
    going = sum(bridge.rates.delivered for bridge in status.bridges)
    waiting = longest(bridge.waiting for bridge in status.bridges)
    if not coming and not going:
        return "nothing comes in now" + (f"; the oldest in flight waits {duration(waiting)}" if waiting else "")
    behind = f"{duration(waiting)} behind" if waiting is not None else "nothing waits"
    return f"{rate(coming)}/s come in, {rate(going)}/s are delivered, {behind}"


def header(seen: Seen, width: int, *, hops: bool = True) -> list[Text]:
    """Return the lines. hops: whether to have more than the title and the sentence."""
    status = seen.status
    lines = [_title(seen, width), *_sentence(*headline(seen), width)]
    if status is None or not hops:
        return lines
    values = list(_hops(status))
    if not status.last_reload_successful:
        values.append(line(("The last reload failed: the configuration before it goes on.", "yellow")))
    if status.consumers:
        values.append(_consumers(status))
    if seen.failure is not None:
        for one in values:
            one.stylize("dim")
    return [cut(one, width) for one in [*lines, *values]]


def _title(seen: Seen, width: int) -> Text:
    now = clock(seen.now)
    status = seen.status
    if status is None:
        left = f"tidegate top  {seen.url}"
    else:
        left = (
            f"{status.gateway}  tidegate {status.version}  up {duration(status.now - status.started)}, "
            f"since {clock(status.started)}"
        )
    return line((fit(left, max(0, width - len(now) - 1)), "bold"), " ", now)


def _sentence(word: str, text: str, width: int) -> Iterator[Text]:
    """Yield the headline, its word with its colour."""
    first, *rest = wrap(f"{word} {text}", width)
    if rest[_MOST_LINES - 1 :]:
        rest[_MOST_LINES - 2] = fit(" ".join(rest[_MOST_LINES - 2 :]), width)
    head = first[: len(word)]
    yield line((head, STYLES.get(word, "")), first[len(head) :])
    yield from (line(more) for more in rest[: _MOST_LINES - 1])


def _hops(status: Status) -> Iterator[Text]:
    ups = [bridge for bridge in status.bridges if bridge.direction != "down"]
    downs = [bridge for bridge in status.bridges if bridge.direction == "down"]
    yield _mqtt(status, _traffic(ups, "received", "in") + _traffic(downs, "delivered", "out"))
    if status.nats is not None:
        yield _nats(status, status.nats, _traffic(ups, "delivered", "out") + _traffic(downs, "received", "in"))
    if status.spool is not None:
        yield _disk(status, status.spool)


def _mqtt(status: Status, traffic: list[str]) -> Text:
    """Return the hop between the broker and the gateway; each bridge has a connection of its own."""
    away = [bridge for bridge in status.bridges if not bridge.mqtt.up]
    if away:
        total = len(status.bridges)
        about = f"{away[0].name}: {away[0].mqtt.last_error or 'not yet connected'}"
        return _hop("MQTT", f"{total - len(away)}/{total} up", False, traffic, about)
    lags = [bridge.lag for bridge in status.bridges]
    half, most = longest(lag.event_p50 for lag in lags), longest(lag.event_p99 for lag in lags)
    about = f"event lag p50 {duration(half)} p99 {duration(most)}"
    return _hop("MQTT", "up", True, traffic, about + _reconnects(sum(one.mqtt.reconnects for one in status.bridges)))


def _nats(status: Status, nats: Endpoint, traffic: list[str]) -> Text:
    """Return the hop between the gateway and NATS."""
    if not nats.up:
        return _hop("NATS", "away", False, traffic, nats.last_error or "not yet connected")
    if status.nats_away is not None:
        return _hop("NATS", "blocked", False, traffic, status.nats_away)
    lags = [bridge.lag for bridge in status.bridges]
    half, most = longest(lag.delivery_p50 for lag in lags), longest(lag.delivery_p99 for lag in lags)
    oldest = longest(lag.oldest_unsettled for lag in lags)
    about = f"delivery p50 {duration(half)} p99 {duration(most)}, oldest {duration(oldest)}"
    return _hop("NATS", "up", True, traffic, about + _reconnects(nats.reconnects))


def _reconnects(number: int) -> str:
    return f"  {number} reconnects" if number else ""


def _hop(name: str, word: str, good: bool, traffic: list[str], about: str) -> Text:
    rates = " ".join(one.ljust(11) for one in traffic).ljust(11)
    return line(f"{name}  ", (fit(word, _WORD), "green" if good else "bold red"), f" {rates}  {about}")


def _traffic(bridges: list[BridgeStatus], which: str, word: str) -> list[str]:
    return [f"{rate(sum(getattr(bridge.rates, which) for bridge in bridges))} {word}/s"] if bridges else []


def _disk(status: Status, spool: DiskSpool) -> Text:
    messages = sum(bridge.spooled for bridge in status.bridges)
    share = spool.bytes / spool.max_bytes if spool.max_bytes else 0.0
    used = "empty" if not messages else "<0.1%" if share < 0.001 else f"{share:.1%}"
    oldest = duration(longest(bridge.lag.spool_oldest for bridge in status.bridges))
    style = "bold red" if share > 0.9 else "yellow" if messages else "green"
    return line(
        "disk  ", (fit(used, _WORD), style),
        f" {fit(f'{count(messages)} msgs', 11)}  {rounded_size(spool.bytes)} of {rounded_size(spool.max_bytes)}, "
        f"oldest {oldest}, when full: {spool.when_full}",
    )  # fmt: skip


def _consumers(status: Status) -> Text:
    ordered = sorted(status.consumers, key=lambda one: one.pending or 0, reverse=True)
    made = line("wait  ")
    for at, one in enumerate(ordered):
        pending = "?" if one.pending is None else count(one.pending)
        made.append(", " if at else "")
        text = f"{one.stream}/{one.name} {pending}"
        made.append(line((f"{text}: {one.problem}", "yellow")) if one.problem else line(text))
    return made
