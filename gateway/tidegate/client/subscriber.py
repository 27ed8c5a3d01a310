"""Pub/sub: every service gets its own copy."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

from nats.aio.msg import Msg

from tidegate.client.connection import Client
from tidegate.client.delivery import HANDLING, NATS_ERRORS, Delivery, is_cancelled
from tidegate.client.ending import end
from tidegate.client.event import read_event, story_of
from tidegate.client.worker import Handler, Worker

log = logging.getLogger(__name__)

T = TypeVar("T")

_MAX_PENDING, _MAX_PENDING_BYTES = 10_000, 16 * 1024 * 1024


class Service(Protocol):
    """What `serve` runs."""

    async def run(self) -> None:
        """Work until `stop`."""

    def stop(self) -> None:
        """Take no more; `run` returns once what is under way is finished."""


class Subscriber(Generic[T]):
    """Handles what is published while it listens, one event after another; made by `subscribe`. At most once: what
    comes while it is away, or faster than it can handle, is not for it.

    handled, failed, invalid, dropped: events for which the handler returned, for which it raised, that were no events
    of its type, and that came too fast.
    """

    def __init__(self, client: Client, subject: str, data: type[T], handler: Handler[T]) -> None:
        self.name = subject
        self.handled = self.failed = self.invalid = self.dropped = 0
        self._client = client
        self._data = data
        self._handler = handler
        self._arrived: asyncio.Queue[Msg | None] = asyncio.Queue()  # bounded by `_on_message`
        self._bytes = 0
        self._stopping = False

    def stop(self) -> None:
        """See `Service.stop`."""
        self._stopping = True
        self._arrived.put_nowait(None)

    async def run(self) -> None:
        """Handle events until `stop`. Raises ConnectError if the connection has ended for good."""
        subscription = await self._client.connection.subscribe(self.name, cb=self._on_message)
        working = asyncio.create_task(self._work(), name=f"subscriber {self.name}")
        try:
            await asyncio.wait([working, self._client.closed], return_when=asyncio.FIRST_COMPLETED)
            (working if working.done() else self._client.closed).result()
        finally:
            await end([working])
            with suppress(*NATS_ERRORS):
                await subscription.unsubscribe()

    async def _on_message(self, message: Msg) -> None:
        if self._arrived.qsize() < _MAX_PENDING and self._bytes < _MAX_PENDING_BYTES:
            self._bytes += len(message.data)
            self._arrived.put_nowait(message)
            return
        if not self.dropped:
            log.warning("%s: events come faster than they are handled; some are dropped", self.name)
        self.dropped += 1

    async def _work(self) -> None:
        while (message := await self._arrived.get()) is not None and not self._stopping:
            self._bytes -= len(message.data)
            try:
                event = read_event(self._data, message.headers, message.data)
            except Exception as error:  # noqa: BLE001 - the data's validators are the user's code
                self.invalid += 1
                log.warning("%s: not handled: %s", message.subject, error)
                continue
            token = HANDLING.set(Delivery(event, message.subject))
            try:
                await self._handler(event)
                self.handled += 1
            except asyncio.CancelledError:
                if is_cancelled():
                    raise
                self.failed += 1
                log.exception(
                    "%s: event %s%s: something that the handler waited for was cancelled",
                    *(message.subject, event.id, story_of(event)),
                )
            except Exception:
                self.failed += 1
                log.exception("%s: event %s%s failed", message.subject, event.id, story_of(event))
            finally:
                HANDLING.reset(token)


def subscribe(
    client: Client, subject: str, data: type[T], handler: Handler[T], *, durable: str | None = None, **options: Any
) -> Service:
    """Return what gives this service its own copy of the events on a subject, once it is `run`.

    Without `durable` it hears what is published while it listens, at most once. With it, a stream's consumer of that
    name remembers what this service has had: it catches up after an absence, tries again what failed, and sets aside
    what can't be handled: it is a `Worker`, and `options` are those of one. It begins with what comes after its first
    start.
    """
    if durable is None:
        if options:
            raise ValueError(f"{', '.join(options)}: only with durable, because nothing is tried again without it")
        return Subscriber(client, subject, data, handler)
    return Worker(client, None, durable, data, handler, subject=subject, from_now=True, **options)
