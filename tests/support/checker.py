"""The oracle's second half: what the streams hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from tests.support.wait import eventually
from tidegate.core import Envelope


class Balance(NamedTuple):
    """What became of the numbers that a device got acknowledged."""

    stored: int
    lost: set[int]
    doubled: dict[int, int]


@asynccontextmanager
async def nats_client(port: int) -> AsyncIterator[Client]:
    """Connect a client that fails soon where there is no server."""
    client = await nats.connect(f"nats://127.0.0.1:{port}", connect_timeout=5, max_reconnect_attempts=3)
    try:
        yield client
    finally:
        await client.close()


async def flushed(client: Client) -> None:
    """Return once the server has read all that a client was told to send.

    nats-py's flush alone (2.16) can say so too early: its PING goes past the commands that wait to be written, so a
    subscription may come after what it should have heard.
    """
    await eventually(lambda: not client.pending_data_size, "everything is written")
    await client.flush(10)


async def stored(client: Client, stream: str = "SENSORS") -> list[Msg]:
    """Return every message of a stream, in order."""
    jetstream = client.jetstream()
    total = (await jetstream.stream_info(stream)).state.messages
    messages: list[Msg] = []
    if not total:
        return messages
    subscription = await jetstream.pull_subscribe("", stream=stream, config=ConsumerConfig(ack_policy=AckPolicy.NONE))
    while len(messages) < total:
        messages += await subscription.fetch(min(1000, total - len(messages)), timeout=10)
    await subscription.unsubscribe()
    return messages


async def envelopes(client: Client, stream: str = "SENSORS") -> list[Envelope]:
    """Return every event of a stream, in order; each must be a valid CloudEvent."""
    return [Envelope.from_nats(msg.headers, msg.data) for msg in await stored(client, stream)]


def balance(events: list[Envelope], device: str, acknowledged: set[int]) -> Balance:
    """Compare what a device got acknowledged with what is stored."""
    copies = Counter(event.data["seq"] for event in events if event.data["device"] == device)
    doubled = {number: count - 1 for number, count in copies.items() if count > 1}
    return Balance(copies.total(), acknowledged - copies.keys(), doubled)
