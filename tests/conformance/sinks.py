"""Kinds of sinks. To put another under the same laws, write one class here and add it to `SINKS`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import aiomqtt
import pytest
from nats.js.api import StreamConfig

from tests.conformance.driver import turns
from tests.support.checker import nats_client, stored
from tests.support.server import Server, mosquitto, nats_server, needs_mosquitto
from tests.support.wait import eventually
from tidegate.core import DeliveryError, Encoded, Message, Sink
from tidegate.memory import MemorySink
from tidegate.mqtt import CODECS, PublisherOptions, Session, SessionOptions
from tidegate.mqtt import Publisher as MqttPublisher
from tidegate.nats import Connection, NatsOptions, Publisher

WINDOW = 8
TOO_LONG = 2048
"""Bytes of a body that the sinks under test refuse."""


class Stored(NamedTuple):
    """A durable event."""

    subject: str
    body: bytes


def event(sink: SinkHarness, number: int) -> Encoded:
    """Return a numbered event."""
    return _event(sink, number, b"%d" % number)


def refusable(sink: SinkHarness, number: int) -> Encoded:
    """Return an event that the sink will never take."""
    return _event(sink, number, b"x" * TOO_LONG)


def events(sink: SinkHarness, numbers: range) -> list[Encoded]:
    """Return numbered events."""
    return [event(sink, number) for number in numbers]


def _event(sink: SinkHarness, number: int, body: bytes) -> Encoded:
    event_id = f"{sink.name}-{number}"
    return Encoded(
        event_id, f"{sink.name}.event", f"Nats-Msg-Id: {event_id}\r\n", body, Message(b"t", body, event_id, 1)
    )


class SinkHarness(Protocol):
    """A sink under test, with whatever stands behind it: here called the server. Use as `async with`.

    name: unique for each test, and the first token of every subject that is stored.
    """

    name: str

    @classmethod
    def server(cls, folder: Path) -> AbstractAsyncContextManager[Any]:
        """Run what the tests of a module share; it is handed to the constructor."""
        ...

    def __init__(self, server: Any, name: str) -> None: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_exc: object) -> None: ...

    async def open(self, window: int = WINDOW) -> Sink:
        """Open the sink."""
        ...

    async def close(self) -> None:
        """Close the sink, whatever is in flight."""
        ...

    async def stored(self) -> list[Stored]:
        """Return every durable event, in order, each copy of it."""
        ...

    def hold(self) -> None:
        """Let the server hang: nothing becomes durable."""
        ...

    def release(self) -> None:
        """Let the server go on."""
        ...

    async def crash(self) -> None:
        """Kill the server, and start it again with what it has on disk."""
        ...


async def stored_numbers(sink: SinkHarness) -> list[int]:
    """Return the numbers of the durable events, in order."""
    return [int(one.body) for one in await sink.stored()]


class MemoryHarness(SinkHarness):
    """The public fake, which is its own server."""

    @classmethod
    @asynccontextmanager
    async def server(cls, folder: Path) -> AsyncIterator[None]:  # noqa: ARG003
        yield None

    def __init__(self, server: None, name: str) -> None:  # noqa: ARG002
        self.name = name

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        pass

    async def open(self, window: int = WINDOW) -> Sink:
        self._sink = MemorySink(window)
        self._sink.refuse = lambda one: DeliveryError("too_large", "too long") if len(one.body) >= TOO_LONG else None
        await self._sink.__aenter__()
        return self._sink

    async def close(self) -> None:
        await self._sink.__aexit__()

    async def stored(self) -> list[Stored]:
        return [Stored(one.subject, one.body) for one in self._sink.stored.values()]

    def hold(self) -> None:
        self._sink.holding = True

    def release(self) -> None:
        self._sink.release()

    async def crash(self) -> None:
        self.hold()
        await turns(10)
        self.release()


class NatsHarness(SinkHarness):
    """A `Publisher` into a stream of a real nats-server. The stream refuses large messages, as one may be set to."""

    @classmethod
    @asynccontextmanager
    async def server(cls, folder: Path) -> AsyncIterator[Server]:
        async with nats_server(folder) as server:
            yield server

    def __init__(self, server: Server, name: str) -> None:
        self.name = name
        self._server = server
        self._stack = AsyncExitStack()
        self._publisher: Publisher | None = None

    async def __aenter__(self) -> Self:
        async with nats_client(self._server.port) as client:
            config = StreamConfig(name=self.name, subjects=[f"{self.name}.>"], max_msg_size=TOO_LONG - 1)
            await client.jetstream().add_stream(config)
        options = NatsOptions(servers=(f"nats://127.0.0.1:{self._server.port}",), name=self.name)
        self._connection = await self._stack.enter_async_context(Connection(options))
        await self._connection.ready()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.release()
        try:
            await self.close()
        finally:
            await self._stack.aclose()

    async def open(self, window: int = WINDOW) -> Sink:
        self._publisher = await Publisher(self._connection, self.name, window).__aenter__()
        return self._publisher

    async def close(self) -> None:
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            await publisher.__aexit__()

    async def stored(self) -> list[Stored]:
        async with nats_client(self._server.port) as client:
            return [Stored(one.subject, one.data) for one in await stored(client, self.name)]

    def hold(self) -> None:
        self._server.pause()

    def release(self) -> None:
        self._server.resume()

    async def crash(self) -> None:
        await self._server.kill()
        await self._server.start()


class MqttHarness(SinkHarness):
    """A `Publisher` to a real broker, and a device that has what is durable: it knows copies by their id."""

    @classmethod
    @asynccontextmanager
    async def server(cls, folder: Path) -> AsyncIterator[Server]:
        kept = f"allow_anonymous true\nuser root\npersistence true\npersistence_location {folder}/\n"
        async with mosquitto(folder, f"{kept}max_packet_size {TOO_LONG}") as server:
            yield server

    def __init__(self, server: Server, name: str) -> None:
        self.name = name
        self._server = server
        self._stack = AsyncExitStack()
        self._bodies: dict[bytes, None] = {}
        self._publisher: MqttPublisher | None = None

    async def __aenter__(self) -> Self:
        options = SessionOptions(
            host="127.0.0.1",
            port=self._server.port,
            codec=CODECS["5"],
            client_id=self.name,
            topic_filter=f"{self.name}.event",
        )
        self._device = device = await self._stack.enter_async_context(Session(options))
        taking = asyncio.create_task(self._take())
        self._stack.callback(taking.cancel)
        await eventually(lambda: device.up, "the device is subscribed")
        return self

    async def _take(self) -> None:
        while True:
            batch = await self._device.receive()
            self._bodies.update(dict.fromkeys(message.payload for message in batch.messages))
            batch.settle()

    async def __aexit__(self, *_exc: object) -> None:
        self.release()
        try:
            await self.close()
        finally:
            await self._stack.aclose()

    async def open(self, window: int = WINDOW) -> Sink:
        options = PublisherOptions(
            host="127.0.0.1", port=self._server.port, codec=CODECS["5"], client_id=f"{self.name}-sink", window=window
        )
        self._publisher = publisher = await MqttPublisher(options).__aenter__()
        await eventually(lambda: publisher.up, "it is connected")
        return publisher

    async def close(self) -> None:
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            await publisher.__aexit__()

    async def stored(self) -> list[Stored]:
        async with aiomqtt.Client("127.0.0.1", self._server.port) as client:
            await client.publish(f"{self.name}.event", b"end", qos=1)  # behind all that the broker has
        await eventually(lambda: b"end" in self._bodies, "all has arrived")
        return [Stored(f"{self.name}.event", body) for body in self._bodies if body != b"end"]

    def hold(self) -> None:
        self._server.pause()

    def release(self) -> None:
        self._server.resume()

    async def crash(self) -> None:
        """Stopped in order: mosquitto keeps in memory what it acknowledges until it is stopped, or for half an hour."""
        self._server.resume()
        await self._server.stop()
        await self._server.start()


SINKS = [
    pytest.param(MemoryHarness, id="memory"),
    pytest.param(NatsHarness, id="nats"),
    pytest.param(MqttHarness, id="mqtt", marks=needs_mosquitto),
]
