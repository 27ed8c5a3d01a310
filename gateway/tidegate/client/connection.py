"""A service's connection to NATS, and publishing over it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client as Connection
from nats.js import JetStreamContext
from nats.js.api import PubAck

from tidegate.client.delivery import NATS_ERRORS, Delivery, current_delivery
from tidegate.client.ending import end
from tidegate.client.error import PublishError
from tidegate.client.event import Event, new_event
from tidegate.core import STRUCTURED_CONTENT_TYPE, Backoff, ConnectError, Envelope, IdSource

log = logging.getLogger(__name__)

T = TypeVar("T")

_PING_INTERVAL = 10
_CLOSE_TIMEOUT = 2.0
_ANSWER_TIMEOUT = 5.0


class Client:
    """A connection that is kept up for ever, and who speaks over it. Made by `connect`.

    connection, jetstream: nats-py's own, for what this package has no name for.
    source: the CloudEvents `source` of what this service publishes.
    closed: done when the connection has ended for good; its exception says why.
    on_reconnect: called after each connection but the first.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.connection = Connection()
        self.jetstream: JetStreamContext = self.connection.jetstream(timeout=_ANSWER_TIMEOUT)
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_reconnect: list[Callable[[], None]] = []
        self._ids = IdSource()

    async def publish(
        self,
        subject: str,
        data: T | Event[T],
        *,
        type: str | None = None,  # noqa: A002
        timeout: float = 30.0,
    ) -> Event[T]:
        """Publish an event, and return it once a stream has it.

        Within a handler the event belongs to the story of the one that is handled: it has its `correlationid`, and its
        `causationid` is that one's id. And its own id follows from that and from what it says: a handler that is run
        again, because it failed or died half-way, publishes the same events under the same ids, and a stream stores
        each once, within its duplicate window. That holds for equal data only: with a time or a random number in it,
        what is published again is another event.

        data: an `EventData`, or anything else that is JSON, or bytes, together with `type`; or a whole `Event`, as it
        is: to try one again after a PublishError, or to forward the one that is handled. Data that are equal should be
        written alike, so no sets.
        timeout: seconds in which it is tried again, under the same id, while NATS or the stream is away.
        Raises PublishError, with the event to try again; ValueError if the event has no type.
        """
        delivery = current_delivery()
        if isinstance(data, Event):
            await self._publish_whole(subject, data, delivery, timeout)
            return data
        (event_id,) = self._ids.take(1)
        cause = delivery.event if delivery else None
        event = new_event(data.__class__, data, id=event_id, source=self.source, type=type, cause=cause)
        if delivery is None:
            await self.store(subject, event, event.id, timeout)
            return event
        with delivery.new_id(subject, event) as event_id:
            event = event.model_copy(update={"id": event_id})
            await self.store(subject, event, event.id, timeout)
        return event

    async def _publish_whole(self, subject: str, event: Event[Any], delivery: Delivery | None, timeout: float) -> None:
        """Publish an event that may be in the stream already: as this publication, or under another subject, or as what
        is handled now, all of which the stream calls a duplicate."""
        answer = await self.store(subject, event, event.id, timeout)
        if not answer.duplicate:
            return
        handled = delivery.sequence if delivery else 0
        if answer.seq != handled:
            with suppress(nats.js.errors.NotFoundError):
                stored = await self.jetstream.get_msg(answer.stream, answer.seq)
                if stored.subject == subject:
                    return
        await self.store(subject, event, f"{event.id} {subject} {handled}", timeout)

    async def store(self, subject: str, event: Envelope, key: str, timeout: float) -> PubAck:
        """Return once a stream has an event. key: its `Nats-Msg-Id`, by which the stream knows a copy.

        Raises PublishError.
        """
        body = event.to_json()
        headers = {"Nats-Msg-Id": key, "Content-Type": STRUCTURED_CONTENT_TYPE}
        loop = asyncio.get_running_loop()
        start = loop.time()
        backoff = Backoff(longest=5.0)
        while True:
            wait = max(0.1, min(start + timeout - loop.time(), _ANSWER_TIMEOUT))
            try:
                return await self.jetstream.publish(subject, body, timeout=wait, headers=headers)
            except nats.js.errors.APIError as error:
                reason = error.description or str(error)
                if error.code is not None and error.code < 500:
                    raise PublishError(subject, reason, event) from error
            except nats.js.errors.NoStreamResponseError:
                reason = "no stream listens to this subject"
            except nats.errors.MaxPayloadError as error:
                raise PublishError(subject, f"{len(body)} bytes are more than the server takes", event) from error
            except nats.errors.BadSubjectError as error:
                raise PublishError(subject, "that is no subject", event) from error
            except NATS_ERRORS as error:
                if self.connection.is_closed:
                    raise PublishError(subject, "the connection is closed", event) from error
                reason = "no PubAck" if isinstance(error, TimeoutError) else str(error)
            delay = backoff.next()
            if loop.time() + delay > start + timeout:
                raise PublishError(subject, f"{reason}, for {loop.time() - start:.1f} s", event)
            await asyncio.sleep(delay)


@asynccontextmanager
async def connect(servers: str | list[str], *, source: str, **options: Any) -> AsyncIterator[Client]:
    """Connect a service to NATS, and wait until there is a server; from then on the connection is kept up for ever.

    source: names this service in its events, as `urn:example:kitchen` (CloudEvents 1.0 §3.1.1).
    options: those of `nats.connect`, such as `user_credentials`, `tls`, `user` and `password`.
    Raises ConnectError if the server refuses the login.
    """
    client = Client(source)
    endpoint = re.sub(r"//[^/@]*@", "//", str(servers))  # without a user and password
    said = ""
    refused: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def on_error(error: Exception) -> None:
        nonlocal said
        text = str(error) or type(error).__name__
        log.log(logging.DEBUG if text == said else logging.WARNING, "nats: %s", text)
        said = text
        if "authorization" in text.lower() and not refused.done():
            refused.set_result(text)

    async def on_disconnect() -> None:
        if not client.connection.is_closed:
            log.warning("nats: not connected")

    async def on_reconnect() -> None:
        log.info("nats: connected again")
        for call in client.on_reconnect:
            call()

    async def on_close() -> None:
        if not client.closed.done():
            client.closed.set_exception(ConnectError(endpoint, f"closed: {client.connection.last_error or 'for good'}"))

    usual: dict[str, Any] = {
        "name": source,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": 1,
        "ping_interval": _PING_INTERVAL,
        "error_cb": on_error,
        "disconnected_cb": on_disconnect,
        "reconnected_cb": on_reconnect,
        "closed_cb": on_close,
    }
    await _connected(asyncio.create_task(client.connection.connect(servers, **{**usual, **options})), refused, endpoint)
    try:
        yield client
    finally:
        client.closed.cancel()
        with suppress(*NATS_ERRORS):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await client.connection.flush()
        with suppress(*NATS_ERRORS):  # it can wait for ever on a link that is dead
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await client.connection.close()


async def _connected(connecting: asyncio.Task[None], refused: asyncio.Future[str], endpoint: str) -> None:
    """Wait until connected. nats-py itself would offer a refused login again for ever. Raises ConnectError."""
    try:
        either: list[asyncio.Future[Any]] = [connecting, refused]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not connecting.done():
            raise ConnectError(endpoint, refused.result())
        await connecting
    except NATS_ERRORS as error:
        raise ConnectError(endpoint, str(error)) from error
    finally:
        await end([connecting])
