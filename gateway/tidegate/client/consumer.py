"""Durable pull consumers: created where they are missing, adjusted where they are not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nats.js.errors
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, RetentionPolicy, StreamInfo

from tidegate.client.connection import Client

_MAX_ACK_PENDING = 10_000
"""Deliveries on their way to all processes of a consumer together; each process bounds its own."""

_MAX_WAITING = 10_000
"""Requests of all processes together; by default 512, and a process may have one for each of its hands."""


@dataclass(frozen=True, kw_only=True)
class ConsumerSpec:
    """What a consumer should be.

    stream: None means the one that stores `subject`. subject: which of the stream's messages; None means all.
    ack_wait: seconds until a delivery that nobody speaks of is made again.
    in_order: one delivery at a time, over all processes, so that a retry holds up those behind it.
    from_now: whether a new consumer begins with what comes next, rather than with what is stored. A work queue's never.
    """

    name: str
    stream: str | None = None
    subject: str | None = None
    ack_wait: float = 30.0
    in_order: bool = False
    from_now: bool = False


@dataclass(frozen=True)
class Consumer:
    """A consumer that is there. max_deliver: the server's own limit of deliveries, None for none. position: up to this
    sequence of the stream it is done, or was made to pass over."""

    stream: str
    name: str
    max_deliver: int | None
    position: int


async def ensure_consumer(client: Client, spec: ConsumerSpec, first: int | None = None) -> Consumer:
    """Create the consumer, or adjust the one there.

    A new one has no limit of deliveries on the server: the worker counts, since a message that the server gives up
    stays in the stream, and nobody is sure to hear of it. A limit that somebody else gave is kept.

    first: the sequence to begin with, where a consumer that was there is gone.
    Raises nats-py's NotFoundError while there is no such stream, and its other errors.
    """
    jetstream = client.jetstream
    stream = spec.stream or await jetstream.find_stream_name_by_subject(spec.subject or ">")
    try:
        found = (await jetstream.consumer_info(stream, spec.name)).config
    except nats.js.errors.NotFoundError:
        found = _new(spec, await jetstream.stream_info(stream), first)
    wanted = found.evolve(ack_wait=spec.ack_wait, filter_subject=spec.subject)
    if spec.in_order != (found.max_ack_pending == 1):
        wanted = wanted.evolve(max_ack_pending=1 if spec.in_order else _MAX_ACK_PENDING)
    info = await jetstream.add_consumer(stream, wanted)
    limit = info.config.max_deliver
    position = info.ack_floor.stream_seq if info.ack_floor else 0
    return Consumer(stream, spec.name, limit if limit is not None and limit > 0 else None, position)


def _new(spec: ConsumerSpec, stream: StreamInfo, first: int | None) -> ConsumerConfig:
    start: dict[str, Any] = {"deliver_policy": DeliverPolicy.ALL}
    if stream.config.retention != RetentionPolicy.WORK_QUEUE:
        if first is not None:
            start = {"deliver_policy": DeliverPolicy.BY_START_SEQUENCE, "opt_start_seq": first}
        elif spec.from_now:
            start = {"deliver_policy": DeliverPolicy.NEW}
    return ConsumerConfig(
        name=spec.name,
        durable_name=spec.name,
        ack_policy=AckPolicy.EXPLICIT,
        max_deliver=-1,
        max_ack_pending=1 if spec.in_order else _MAX_ACK_PENDING,
        max_waiting=_MAX_WAITING,
        **start,
    )
