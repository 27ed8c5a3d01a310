"""What runs and how it is, in one picture: for the status page, `tidegate top` and whoever reads /status.json."""

from __future__ import annotations

import time
from operator import attrgetter
from typing import TypedDict

from tidegate.app.backlog import ConsumerName
from tidegate.app.config import AnyBridge, Config
from tidegate.app.gateway import Gateway
from tidegate.app.guarantee import Guarantee
from tidegate.app.history import STEP, merged, quantile
from tidegate.app.running import RunningBridge
from tidegate.app.running_down import RunningDownBridge
from tidegate.app.version import VERSION
from tidegate.bridge import DeadLetterNote
from tidegate.core import Trouble

MAX_DEAD_LETTERS = 20
"""Of all bridges together."""

DRAINING = 2.0
"""Seconds that something has waited on the disk after which this is news: with `write_through` all comes through it."""


class LinkStatus(TypedDict):
    """A connection. url: where to, without any secret. last_error: why it is not up, or why it was not last time."""

    up: bool
    url: str
    reconnects: int
    sessions_lost: int
    last_error: str | None


class RateStatus(TypedDict):
    """Messages a second over the last `step` seconds; history: one number a step, oldest first."""

    received: float
    delivered: float
    step: float
    history: dict[str, list[float]]


class LagStatus(TypedDict):
    """How far behind, in seconds; None where nothing waits or nothing is known.

    oldest_unsettled, spool_oldest: age of the oldest message in flight and on the disk. consumer_pending: messages of
    the stream that wait for a down bridge. The quantiles are of the last five minutes: delivery from receipt, event
    from the event's own time, until it was durable.
    """

    oldest_unsettled: float | None
    spool_oldest: float | None
    consumer_pending: int | None
    delivery_p50: float | None
    delivery_p99: float | None
    event_p50: float | None
    event_p99: float | None


class QueueStatus(TypedDict):
    """What a bridge has on the disk. problem: why nothing can be put there."""

    messages: int
    bytes: int
    problem: str | None


class BridgeStatus(TypedDict):
    """A bridge. state: delivering; spooling: to the disk, because JetStream does not take messages (`blocked`);
    draining: delivering, and the disk is not empty yet; stuck: neither (`problem`)."""

    name: str
    direction: str
    mqtt_topic: str
    nats_subject: str
    qos: int
    deliver: str
    stream: str | None
    state: str
    problem: str | None
    blocked: str | None
    mqtt: LinkStatus
    received: int
    delivered: int
    filtered: int
    dead_lettered: dict[str, int]
    dropped: dict[str, int]
    duplicates: int
    received_bytes: int
    delivered_bytes: int
    in_flight: int
    spooled: int
    window: int
    rates: RateStatus
    lag: LagStatus
    spool: QueueStatus | None
    last_error: dict[str, str | float] | None
    guarantee: dict[str, str | list[str]] | None


class ConsumerStatus(TypedDict):
    """A consumer's backlog: pending, not yet given to it; unsettled, given and without an answer."""

    stream: str
    name: str
    pending: int | None
    unsettled: int | None
    problem: str | None


class SpoolStatus(TypedDict):
    """The disk buffer of all bridges."""

    bytes: int
    max_bytes: int
    when_full: str


class Status(TypedDict):
    """The gateway. Times are seconds since 1970. problems: why it is not ready. nats_away: why what comes goes to the
    disk. stalled: which bridges stand still without a reason. dead_letters: the newest first."""

    gateway: str
    version: str
    started: float
    now: float
    ready: bool
    problems: list[str]
    nats_away: str | None
    stalled: str | None
    last_reload_successful: bool
    nats: LinkStatus
    spool: SpoolStatus
    bridges: list[BridgeStatus]
    consumers: list[ConsumerStatus]
    dead_letters: list[dict[str, str | float | None]]


def status(gateway: Gateway, config: Config) -> Status:
    """Return the picture of this moment. config: what the gateway runs."""
    now = time.time()
    problems = gateway.problems
    configured = {bridge.name: bridge for bridge in config.bridges}
    running = {name: bridge for name, bridge in gateway.bridges.items() if name in configured}
    return Status(
        gateway=config.gateway,
        version=VERSION,
        started=gateway.started,
        now=now,
        ready=not problems,
        problems=problems,
        nats_away=gateway.away,
        stalled=gateway.stalled,
        last_reload_successful=gateway.last_reload_successful,
        nats=_nats(gateway, config),
        spool=SpoolStatus(
            bytes=gateway.spool.bytes if gateway.spool else 0,
            max_bytes=config.spool.max_bytes,
            when_full=config.spool.when_full,
        ),
        bridges=[_bridge(gateway, config, configured[name], bridge, now) for name, bridge in running.items()],
        consumers=[
            ConsumerStatus(
                stream=name.stream,
                name=name.name,
                pending=state.backlog.pending if state.backlog else None,
                unsettled=state.backlog.unsettled if state.backlog else None,
                problem=state.problem,
            )
            for name, state in gateway.consumers.items()
        ],
        dead_letters=_dead_letters([note for bridge in running.values() for note in bridge.notes]),
    )


def _nats(gateway: Gateway, config: Config) -> LinkStatus:
    connection = gateway.connection
    return LinkStatus(
        up=connection is not None and connection.up,
        url=(connection and connection.url) or " ".join(config.nats.servers),
        reconnects=connection.reconnects if connection else 0,
        sessions_lost=0,
        last_error=connection.last_error if connection else None,
    )


def _bridge(
    gateway: Gateway, config: Config, bridge: AnyBridge, running: RunningBridge | RunningDownBridge, now: float
) -> BridgeStatus:
    totals, session, promise = running.totals, running.session, gateway.promises.get(bridge.name)
    queue = running.spooling.queue if running.spooling else None
    lag = _lag(gateway, config, running, now)
    return BridgeStatus(
        name=bridge.name,
        direction=bridge.direction,
        mqtt_topic=bridge.mqtt,
        nats_subject=bridge.nats,
        qos=bridge.qos,
        deliver=bridge.deliver,
        stream=promise.stream if promise else None,
        state=_state(running, lag["spool_oldest"]),
        problem=running.problem,
        blocked=running.blocked,
        mqtt=LinkStatus(
            up=session.up,
            url=config.mqtt.url,
            reconnects=session.reconnects,
            sessions_lost=session.sessions_lost,
            last_error=session.last_error,
        ),
        received=totals.received,
        delivered=totals.delivered,
        filtered=totals.filtered,
        dead_lettered=dict(totals.dead_lettered),
        dropped=dict(totals.dropped),
        duplicates=running.duplicates,
        received_bytes=totals.received_bytes,
        delivered_bytes=totals.delivered_bytes,
        in_flight=totals.in_flight,
        spooled=totals.spooled,
        window=running.window,
        rates=_rates(running),
        lag=lag,
        spool=QueueStatus(messages=totals.spooled, bytes=queue.bytes, problem=queue.problem) if queue else None,
        last_error=_trouble(running.trouble),
        guarantee=_guarantee(promise.guarantee) if promise else None,
    )


def _state(running: RunningBridge | RunningDownBridge, spool_oldest: float | None) -> str:
    if running.problem:
        return "stuck"
    if running.blocked:
        return "spooling"
    return "draining" if spool_oldest is not None and spool_oldest > DRAINING else "delivering"


def _rates(running: RunningBridge | RunningDownBridge) -> RateStatus:
    received, delivered = running.history.rates()
    return RateStatus(
        received=received[-1] if received else 0.0,
        delivered=delivered[-1] if delivered else 0.0,
        step=STEP,
        history={"received": received, "delivered": delivered},
    )


def _lag(gateway: Gateway, config: Config, running: RunningBridge | RunningDownBridge, now: float) -> LagStatus:
    durations, lags = running.history.recent(merged(running.durations()), merged(running.lags()))
    duration_bounds, lag_bounds = running.durations()[0].bounds, running.lags()[0].bounds
    queue = running.spooling.queue if running.spooling else None
    own = gateway.consumers.get(ConsumerName(running.stream or "", config.consumer(running.live.name)))
    return LagStatus(
        oldest_unsettled=_age(running.live.oldest_unsettled, now),
        spool_oldest=_age(queue.oldest if queue else None, now),
        consumer_pending=own.backlog.pending if own and own.backlog else None,
        delivery_p50=quantile(duration_bounds, durations, 0.5),
        delivery_p99=quantile(duration_bounds, durations, 0.99),
        event_p50=quantile(lag_bounds, lags, 0.5),
        event_p99=quantile(lag_bounds, lags, 0.99),
    )


def _age(moment: float | None, now: float) -> float | None:
    return None if moment is None else max(0.0, now - moment)


def _trouble(trouble: Trouble | None) -> dict[str, str | float] | None:
    return None if trouble is None else {"text": trouble.text, "time": trouble.time}


def _guarantee(guarantee: Guarantee) -> dict[str, str | list[str]]:
    return {"promise": guarantee.promise, "weaknesses": guarantee.weaknesses}


def _dead_letters(notes: list[DeadLetterNote]) -> list[dict[str, str | float | None]]:
    newest = sorted(notes, key=attrgetter("time"), reverse=True)[:MAX_DEAD_LETTERS]
    return [note._asdict() for note in newest]
