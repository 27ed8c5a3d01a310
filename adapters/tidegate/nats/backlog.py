"""How far behind a consumer is."""

from __future__ import annotations

from typing import NamedTuple

from tidegate.nats.jetstream import call
from tidegate.nats.link import Link


class Backlog(NamedTuple):
    """pending: messages of the stream that the consumer was not yet given. unsettled: given, without an answer yet."""

    pending: int
    unsettled: int


async def consumer_backlog(link: Link, stream: str, consumer: str) -> Backlog:
    """Ask the server. Raises ApiError, as for a consumer that is not there, and ConnectError."""
    info = await call(link, f"CONSUMER.INFO.{stream}.{consumer}")
    return Backlog(int(info["num_pending"]), int(info["num_ack_pending"]))
