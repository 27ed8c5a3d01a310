"""A nats-server with the streams that the tests work on, and events to put there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from nats.js.api import RetentionPolicy

from tests.support.server import Server, nats_server
from tidegate.client import Client, Event, EventData, Service, Worker, connect

SOURCE = "urn:example:test"


class Task(EventData):
    """A piece of work."""

    event_type = "com.example.task.v1"

    number: int
    name: str = "unnamed"


class Rig(NamedTuple):
    """A server, and a client of it with the streams WORK (a work queue), EVENTS and DEAD."""

    server: Server
    client: Client
    url: str

    async def put(self, count: int, subject: str = "work.a") -> None:
        """Publish tasks, numbered from 0."""
        for number in range(count):
            await self.client.publish(subject, Task(number=number))

    async def left(self, stream: str = "WORK") -> int:
        """Return how many messages a stream holds."""
        return (await self.client.jetstream.stream_info(stream)).state.messages

    async def dead_letters(self) -> list[dict[str, Any]]:
        """Return the documents in DEAD."""
        found = []
        state = (await self.client.jetstream.stream_info("DEAD")).state
        for sequence in range(max(1, state.first_seq), state.last_seq + 1):
            found.append(json.loads((await self.client.jetstream.get_msg("DEAD", sequence)).data or b"{}"))
        return found


@asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    """Run a server and connect to it."""
    async with nats_server(folder) as server:
        url = f"nats://127.0.0.1:{server.port}"
        async with connect(url, source=SOURCE) as client:
            jetstream = client.jetstream
            await jetstream.add_stream(name="WORK", subjects=["work.>"], retention=RetentionPolicy.WORK_QUEUE)
            await jetstream.add_stream(name="EVENTS", subjects=["events.>"])
            await jetstream.add_stream(name="DEAD", subjects=["dead.>"])
            yield Rig(server, client, url)


@asynccontextmanager
async def running(*services: Service) -> AsyncIterator[None]:
    """Run services; at the end they are stopped in order, and must end without an error."""
    tasks = [asyncio.create_task(service.run()) for service in services]
    try:
        yield
        for service in services:
            service.stop()
        async with asyncio.timeout(15):
            await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def worker(rig: Rig, handler: Callable[[Event[Task]], Awaitable[None]], **options: Any) -> Worker[Task]:
    """Return a worker on WORK with short delays."""
    usual: dict[str, Any] = {"retry_delay": 0.05, "longest_retry_delay": 0.2}
    return Worker(rig.client, "WORK", "workers", Task, handler, **{**usual, **options})


class Log:
    """A handler that remembers what it got; `fail` says what it raises, by event and attempt so far."""

    def __init__(self, fail: Callable[[int, int], Exception | None] = lambda _number, _attempt: None) -> None:
        self.numbers: list[int] = []
        self._fail = fail

    async def __call__(self, event: Event[Task]) -> None:
        number = event.data.number
        self.numbers.append(number)
        error = self._fail(number, self.numbers.count(number))
        if error is not None:
            raise error
