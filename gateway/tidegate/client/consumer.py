"""Durable pull consumers: created where they are missing, adjusted where they are not."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import nats.js.errors
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, RetentionPolicy, StreamInfo

from tidegate.client.connection import Client

log = logging.getLogger(__name__)

_MAX_ACK_PENDING = 10_000
"""Deliveries on their way to all processes of a consumer together; each process bounds its own."""


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
    """A consumer that is there. max_deliver: the server's own limit of deliveries, None for none."""

    stream: str
    name: str
    max_deliver: int | None


async def ensure_consumer(client: Client, spec: ConsumerSpec) -> Consumer:
    """Create the consumer, or adjust the one there.

    A new one has no limit of deliveries on the server: the worker counts, since a message that the server gives up
    stays in the stream, and nobody is sure to hear of it. A limit that somebody else gave is kept.

    Raises nats-py's NotFoundError while there is no such stream, and its other errors.
    """
    jetstream = client.jetstream
    stream = spec.stream or await jetstream.find_stream_name_by_subject(spec.subject or ">")
    try:
        found = (await jetstream.consumer_info(stream, spec.name)).config
    except nats.js.errors.NotFoundError:
        found = _new(spec, await jetstream.stream_info(stream))
    pending = 1 if spec.in_order else max(_MAX_ACK_PENDING, found.max_ack_pending or 0)
    wanted = found.evolve(ack_wait=spec.ack_wait, max_ack_pending=pending, filter_subject=spec.subject)
    config = (await jetstream.add_consumer(stream, wanted)).config
    limit = config.max_deliver
    return Consumer(stream, spec.name, limit if limit is not None and limit > 0 else None)


def _new(spec: ConsumerSpec, stream: StreamInfo) -> ConsumerConfig:
    later = spec.from_now and stream.config.retention != RetentionPolicy.WORK_QUEUE
    return ConsumerConfig(
        name=spec.name,
        durable_name=spec.name,
        ack_policy=AckPolicy.EXPLICIT,
        deliver_policy=DeliverPolicy.NEW if later else DeliverPolicy.ALL,
        max_deliver=-1,
    )
