"""A session under test on one side, a scripted broker on the other, and someone between who takes every batch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.fake_broker import FakeBroker, FakeConnection, fake_broker
from tests.support.generator import publish_packet
from tests.support.wait import eventually
from tidegate.core import Batch, Message
from tidegate.mqtt import CODECS, Session, SessionOptions

PUBACK, PUBREC, PUBREL, PUBCOMP, DISCONNECT = 0x40, 0x50, 0x62, 0x70, 0xE0
FENCE = 60_000
DUP, RETAIN = 8, 1

PROTOCOLS = pytest.mark.parametrize("protocol", ["5", pytest.param("3.1.1", marks=pytest.mark.slow)])
"""One session serves both versions, so the fast run takes one of them."""


def release(packet_id: int) -> bytes:
    """Return a PUBREL."""
    return bytes((PUBREL, 2)) + packet_id.to_bytes(2, "big")


class Rig:
    """The two ends.

    batches: every batch that the session handed out, in order; settling them is the test's part.
    """

    def __init__(self, broker: FakeBroker, session: Session, protocol: str) -> None:
        self.broker = broker
        self.session = session
        self.protocol = protocol
        self.batches: list[Batch] = []

    @property
    def messages(self) -> list[Message]:
        """Every message that was handed out."""
        return [message for batch in self.batches for message in batch.messages]

    async def take(self) -> None:
        """Take what comes, for ever."""
        while True:
            self.batches.append(await self.session.receive())

    async def accept(self, *, session_present: bool = False, qos: int = 1) -> FakeConnection:
        """Let the session connect; return once it is up."""
        connection = await self.broker.connection()
        await connection.accept(session_present=session_present, protocol=self.protocol, qos=qos)
        await eventually(lambda: self.session.up, "the session is up")
        return connection

    async def reconnect(self, connection: FakeConnection, *, session_present: bool = True) -> FakeConnection:
        """Cut the connection, and let the session come back."""
        connection.cut()
        return await self.accept(session_present=session_present)

    def publish(self, packet_id: int, payload: bytes = b"x", *, qos: int = 1, flags: int = 0) -> bytes:
        """Return a PUBLISH of this version."""
        properties = b"" if self.protocol == "5" else None
        return publish_packet(b"a/b", payload, qos, packet_id, flags, properties)

    async def handed_out(self, count: int) -> None:
        """Return once the session handed out this many messages since the start."""
        await eventually(lambda: len(self.messages) >= count, f"{count} messages are handed out")
        assert len(self.messages) == count


@asynccontextmanager
async def rig(protocol: str = "5", *, taking: bool = True, **options: Any) -> AsyncIterator[Rig]:
    """Run a session against a scripted broker."""
    async with fake_broker() as broker:
        given = SessionOptions(
            host="127.0.0.1", port=broker.port, codec=CODECS[protocol], client_id="c", topic_filter="#", **options
        )
        async with Session(given, "under-test") as session:
            ends = Rig(broker, session, protocol)
            taker = asyncio.create_task(ends.take()) if taking else None
            try:
                yield ends
            finally:
                broker.close()  # else the session waits for the broker to close the connection
                if taker is not None:
                    taker.cancel()
                    await asyncio.wait([taker])


async def sent(connection: FakeConnection, count: int) -> list[tuple[int, int]]:
    """Return the next packets that the session sends, as first byte and packet identifier."""
    async with asyncio.timeout(10):
        packets = [await connection.read_packet() for _ in range(count)]
    return [(first, int.from_bytes(body[:2], "big")) for first, body in packets]


async def sent_until_fence(connection: FakeConnection) -> list[tuple[int, int]]:
    """Return what the session sends before it answers a PUBREL that is written now.

    It proves an absence without waiting for time to pass: what was to be sent is sent by then.
    """
    await connection.send(release(FENCE))
    found: list[tuple[int, int]] = []
    while (packet := (await sent(connection, 1))[0]) != (PUBCOMP, FENCE):
        found.append(packet)
    return found
