"""Kinds of sources. To put another under the same laws, write one class here and add it to `SOURCES`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import pytest

from tests.conformance.peek import peek
from tests.support.generator import device
from tests.support.proxy import proxy
from tests.support.server import iotcore, mosquitto, nats_server, needs_mosquitto
from tests.support.wait import eventually
from tidegate.app.embedded import free_port
from tidegate.core import Batch, Source
from tidegate.memory import MemorySource
from tidegate.mqtt import CODECS, Session, SessionOptions

WINDOW = 8
MARKER = -1


def plain(number: int) -> bytes:
    """Return a number as a payload; it is JSON too."""
    return b"%d" % number


def numbers(batches: Iterable[Batch]) -> list[int]:
    """Return the numbers of the messages, in order."""
    return [int(message.payload) for batch in batches for message in batch.messages]


async def take(source: Source, count: int, timeout: float = 20.0) -> list[Batch]:
    """Receive batches until they hold this many messages."""
    batches: list[Batch] = []
    async with asyncio.timeout(timeout):
        while sum(len(batch.messages) for batch in batches) < count:
            batches.append(await source.receive())
    return batches


class SourceHarness(Protocol):
    """A source under test, with whatever stands behind it: here called the broker. Use as `async with`.

    keeps_ids: a message that comes again after a cut has the id of the first time.
    resend_delay: seconds that the broker may let pass before it sends again, if it does not do it at once and first.
    name: unique for each test; the topic is `sensors/hall/{name}/reading`.
    """

    keeps_ids: ClassVar[bool] = True
    resend_delay: ClassVar[float] = 0.0
    name: str

    @classmethod
    def server(cls, folder: Path) -> AbstractAsyncContextManager[Any]:
        """Run what the tests of a module share; it is handed to the constructor."""
        ...

    def __init__(self, server: Any, name: str) -> None: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_exc: object) -> None: ...

    async def open(self, window: int = WINDOW) -> Source:
        """Open the source; from the first time on the broker keeps what is published."""
        ...

    async def close(self) -> None:
        """Close the source in order. It can be opened again."""
        ...

    async def publish(self, numbers: Iterable[int], payload: Callable[[int], bytes] = plain) -> None:
        """Publish numbered messages at QoS 1, and return once the broker has them."""
        ...

    async def cut(self) -> None:
        """Break the connection without a word, and return once the source has another."""
        ...

    def stale(self) -> int:
        """Return how many messages the source saw settled that earlier connections had brought."""
        ...

    async def unacknowledged(self) -> set[int]:
        """Close the source, and return what a new connection of the same session is sent. The last thing to ask."""
        ...


class MemoryHarness(SourceHarness):
    """The public fake, which is its own broker."""

    @classmethod
    @asynccontextmanager
    async def server(cls, folder: Path) -> AsyncIterator[None]:  # noqa: ARG003
        yield None

    def __init__(self, server: None, name: str) -> None:  # noqa: ARG002
        self.name = name
        self._source: MemorySource | None = None
        self._published: set[int] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        pass

    async def open(self, window: int = WINDOW) -> Source:
        self._source = self._source or MemorySource(window)
        return self._source

    async def close(self) -> None:
        assert self._source is not None
        self._source.reconnect()

    async def publish(self, numbers: Iterable[int], payload: Callable[[int], bytes] = plain) -> None:
        assert self._source is not None
        for number in numbers:
            self._source.put(f"sensors/hall/{self.name}/reading", payload(number))
            self._published.add(number)

    async def cut(self) -> None:
        await self.close()

    def stale(self) -> int:
        assert self._source is not None
        return self._source.stale

    async def unacknowledged(self) -> set[int]:
        assert self._source is not None
        return self._published - {_number(message.payload) for message in self._source.settled}


def _number(payload: bytes) -> int:
    """Return the number in a payload; a test may have put other words around it."""
    return int("".join(filter(str.isdigit, payload.decode())))


class MqttHarness(SourceHarness):
    """A `Session`, with a proxy before a real broker."""

    protocol: ClassVar[str]

    def __init__(self, server: int, name: str) -> None:
        self.name = name
        self._port = server
        self._stack = AsyncExitStack()
        self._session: Session | None = None
        self._subscribed = False

    async def __aenter__(self) -> Self:
        self._proxy = await self._stack.enter_async_context(proxy(self._port))
        self._device = await self._stack.enter_async_context(device(self._port, self.name, self.protocol))
        return self

    async def __aexit__(self, *_exc: object) -> None:
        try:
            await self.close()
        finally:
            await self._stack.aclose()

    async def open(self, window: int = WINDOW) -> Source:
        options = SessionOptions(
            host="127.0.0.1",
            port=self._proxy.port,
            codec=CODECS[self.protocol],
            client_id=self.name,
            topic_filter=self._device.topic.decode(),
            receive_maximum=window,
        )
        self._session = session = Session(options)
        await session.__aenter__()
        if not self._subscribed:
            await self._subscribe(session)
        return session

    async def _subscribe(self, session: Session) -> None:
        """Receive until the broker has the subscription. There is no message yet that this could take."""
        receiving = asyncio.create_task(session.receive())
        await eventually(lambda: session.up, "the session is subscribed")
        receiving.cancel()
        await asyncio.wait([receiving])
        self._subscribed = True

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.__aexit__()

    async def publish(self, numbers: Iterable[int], payload: Callable[[int], bytes] = plain) -> None:
        for number in numbers:
            await self._device.send(range(number, number + 1), payload=lambda _, n: payload(n))

    async def cut(self) -> None:
        session = self._session
        assert session is not None
        before = session.connects
        self._proxy.cut()
        await eventually(lambda: session.connects > before, "the session has a new connection")

    def stale(self) -> int:
        assert self._session is not None
        return self._session.stale_acks

    async def unacknowledged(self) -> set[int]:
        await self.close()
        async with peek(self._port, self.name, self.protocol) as session:
            await self.publish([MARKER])
            payloads = await session.read_until(plain(MARKER), self.resend_delay)
        return {_number(payload) for payload in payloads}


class Mosquitto5(MqttHarness):
    protocol = "5"

    @classmethod
    @asynccontextmanager
    async def server(cls, folder: Path) -> AsyncIterator[int]:
        async with mosquitto(folder) as server:
            yield server.port


class Mosquitto311(Mosquitto5):
    protocol = "3.1.1"


class NatsMqtt(MqttHarness):
    """It sends again only after `ack_wait`, on a new connection and on a standing one: by default after 30 s."""

    protocol = "3.1.1"
    resend_delay = 2.5

    @classmethod
    @asynccontextmanager
    async def server(cls, folder: Path) -> AsyncIterator[int]:
        port = free_port()
        async with nats_server(folder, f'mqtt {{listen: "127.0.0.1:{port}", ack_wait: "1s"}}'):
            yield port


class Iotcore(MqttHarness):
    """It sends again with other packet identifiers and without DUP, so nothing tells a message from a new one."""

    protocol = "5"
    keeps_ids = False

    @classmethod
    @asynccontextmanager
    async def server(cls, folder: Path) -> AsyncIterator[int]:
        async with iotcore(folder) as port:
            yield port


SOURCES = [
    pytest.param(MemoryHarness, id="memory"),
    pytest.param(Mosquitto5, id="mosquitto-5", marks=needs_mosquitto),
    pytest.param(Mosquitto311, id="mosquitto-3.1.1", marks=[needs_mosquitto, pytest.mark.slow]),
    pytest.param(NatsMqtt, id="nats-server-3.1.1", marks=pytest.mark.slow),
    pytest.param(Iotcore, id="iotcore-5"),
]
