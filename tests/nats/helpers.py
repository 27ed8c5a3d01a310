"""What the tests of the NATS adapter share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.support.checker import flushed, nats_client, stored
from tests.support.wait import eventually
from tidegate.core import Encoded, Message, Outcome, Refused, header_lines
from tidegate.nats import Connection, Login, NatsOptions, Publisher, StreamSpec, ensure_stream
from tidegate.nats.link import Link

STREAM = "SENSORS"
SUBJECT = "plant.sensors.hall"


def options(*ports: int, **more) -> NatsOptions:
    """Return how to connect to servers on loopback ports."""
    return NatsOptions(servers=tuple(f"nats://127.0.0.1:{port}" for port in ports), name="tidegate-test", **more)


def connection(*ports: int, **more) -> Connection:
    """Return a connection to servers on loopback ports, not yet started."""
    return Connection(options(*ports, **more))


def event(number: int, subject: str = SUBJECT, body: bytes | None = None, **headers: str) -> Encoded:
    """Return one event; its id is made of its number."""
    name = f"id-{number:06}"
    return Encoded(
        name,
        subject,
        header_lines({"Nats-Msg-Id": name, "Content-Type": "application/cloudevents+json", **headers}),
        b'{"n":%d}' % number if body is None else body,
        Message(b"sensors/hall", b"", name),
    )


def events(count: int, first: int = 0, subject: str = SUBJECT, size: int | None = None) -> list[Encoded]:
    """Return events with consecutive numbers."""
    body = None if size is None else b"x" * size
    return [event(number, subject, body) for number in range(first, first + count)]


def ids(sent: Sequence[Encoded]) -> list[str]:
    """Return the ids of events, in order."""
    return [one.id for one in sent]


async def stored_ids(client: Client, stream: str = STREAM) -> list[str | None]:
    """Return the ids of what a stream holds, in order."""
    return [(msg.headers or {}).get("Nats-Msg-Id") for msg in await stored(client, stream)]


async def stored_on(port: int, stream: str = STREAM) -> list[str | None]:
    """Return the ids of what a stream of a server holds, in order."""
    async with nats_client(port) as client:
        return await stored_ids(client, stream)


async def make_stream(port: int, name: str = STREAM, subjects: tuple[str, ...] = ("plant.>",), **more) -> None:
    """Create a stream on a server."""
    async with connection(port) as to:
        await ensure_stream(await to.ready(), StreamSpec(name=name, subjects=subjects, **more))


async def send_all(publisher: Publisher, sent: Sequence[Encoded], batch: int = 100) -> list[asyncio.Future]:
    """Send events in batches; return their futures, which are not yet done."""
    return [await publisher.send(sent[start : start + batch]) for start in range(0, len(sent), batch)]


async def refused(futures: Sequence[asyncio.Future[Outcome]], timeout: float = 30.0) -> list[Refused]:
    """Wait for futures, and return what was refused."""
    async with asyncio.timeout(timeout):
        return [one for outcome in await asyncio.gather(*futures) for one in outcome.refused]


async def error_of(failing: Connection, timeout: float = 15.0) -> str:
    """Wait until a connection says why it is not there, and return that."""
    await eventually(lambda: failing.last_error, "the connection says why", timeout)
    assert failing.last_error is not None
    assert not failing.up
    return failing.last_error


async def refusal(login: Login, *ports: int, **more) -> str:
    """Try to connect, and return why it was refused."""
    async with connection(*ports, login=login, **more) as refused_connection:
        reason = await error_of(refused_connection)
        assert refused_connection.connects == 0
        return reason


def open_files() -> int:
    """Return how many file descriptors this process has."""
    return len(list(Path(f"/proc/{os.getpid()}/fd").iterdir()))


async def only_these_tasks(before: set[asyncio.Task]) -> None:
    """Wait until no task is left that was not there before."""
    await eventually(lambda: not asyncio.all_tasks() - before, "no task is left")


async def stuck(link: Link) -> None:
    """Wait until many bytes wait to leave, and none does."""
    last = 0
    while (now := link.unsent) != last or not now:
        last = now
        await asyncio.sleep(0.1)


async def answer_with(client: Client, subject: str, answer: bytes) -> None:
    """Answer each message on a subject, as a service beside JetStream would."""

    async def respond(msg: Msg) -> None:
        with suppress(Exception):
            await msg.respond(answer)

    await client.subscribe(subject, cb=respond)
    await flushed(client)
