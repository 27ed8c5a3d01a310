"""JetStream's durable consumers: created where they are missing, brought up to date where they exist."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, NamedTuple

from tidegate.core import TidegateError
from tidegate.nats.jetstream import NOT_FOUND, ApiError, call
from tidegate.nats.link import Link

log = logging.getLogger(__name__)

ACK_WAIT = 30.0
"""Seconds after which JetStream sends a message again, unless it hears that the message is in progress."""

_NS = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class ConsumerSpec:
    """What a durable pull consumer should be. window: the most messages without +ACK."""

    name: str
    subject_filter: str
    window: int


class ConsumerError(TidegateError):
    """There is nothing to consume from, or nothing comes from it. It may be there later."""


class Origin(NamedTuple):
    """One life of a stream: a stream that is deleted and made again counts from 1 again."""

    stream: str
    created: str
    retention: str


class Position(NamedTuple):
    """Where a consumer stands. acknowledged: up to this sequence of the stream everything has its +ACK. pending:
    messages that were delivered and have none. is_new: it was made just now."""

    acknowledged: int
    pending: int
    is_new: bool = False


async def find_origin(link: Link, subject_filter: str) -> Origin:
    """Return the stream that stores the subjects.

    Raises ConsumerError where there is none, or more than one; ApiError and ConnectError where the server can't be
    asked.
    """
    names = (await call(link, "STREAM.NAMES", {"subject": subject_filter})).get("streams") or []
    if not names:
        raise ConsumerError(f"no stream stores {subject_filter}; add one to streams")
    if len(names) > 1:
        raise ConsumerError(
            f"{subject_filter} is stored by several streams, {', '.join(sorted(names))}; use a bridge for each of them"
        )
    info = await call(link, f"STREAM.INFO.{names[0]}")
    return Origin(names[0], str(info["created"]), str(info["config"]["retention"]))


async def ensure_consumer(link: Link, origin: Origin, spec: ConsumerSpec, start: dict[str, Any]) -> Position:
    """Create the consumer, or bring the one there up to date.

    start: of a new one, its deliver policy as JetStream's API has it. Raises ApiError and ConnectError.
    """
    wanted = {
        "filter_subject": spec.subject_filter,
        "ack_wait": round(ACK_WAIT * _NS),
        "max_ack_pending": spec.window,
    }
    try:
        info = await call(link, f"CONSUMER.INFO.{origin.stream}.{spec.name}")
    except ApiError as error:
        if error.code != NOT_FOUND:
            raise
        fixed = {"durable_name": spec.name, "name": spec.name, "ack_policy": "explicit", "max_deliver": -1}
        info = await _write(link, origin, spec, {**fixed, **wanted, **start})
        log.info("nats: consumer %s created on stream %s for %s", spec.name, origin.stream, spec.subject_filter)
        return _position(info)._replace(is_new=True)
    config = info["config"]
    if config.get("ack_policy") != "explicit" or "deliver_subject" in config:
        raise ConsumerError(f"the consumer {spec.name} of stream {origin.stream} is not ours; delete or rename it")
    changes = {name: value for name, value in wanted.items() if config.get(name) != value}
    if changes:
        config.pop("filter_subjects", None)
        info = await _write(link, origin, spec, {**config, **changes})
        log.info("nats: consumer %s updated: %s", spec.name, ", ".join(changes))
    return _position(info)


async def rewind(link: Link, origin: Origin, spec: ConsumerSpec) -> bool:
    """Have everything that has no +ACK delivered again, first and in order; return whether the server knows how to.

    An older one (before 2.14) sends it again after ACK_WAIT, behind what is newer. Raises ConnectError.
    """
    try:
        await call(link, f"CONSUMER.RESET.{origin.stream}.{spec.name}")
    except ApiError as error:
        log.debug("nats: consumer %s can't be reset: %s", spec.name, error)
        return False
    return True


async def _write(link: Link, origin: Origin, spec: ConsumerSpec, config: dict[str, Any]) -> dict[str, Any]:
    request = {"stream_name": origin.stream, "config": config}
    return await call(link, f"CONSUMER.CREATE.{origin.stream}.{spec.name}", request)


def _position(info: dict[str, Any]) -> Position:
    return Position(int(info["ack_floor"]["stream_seq"]), int(info["num_ack_pending"]))
