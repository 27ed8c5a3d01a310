"""JetStream as a sink: publishing is pipelined, and each PubAck finds its event."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Self

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from tidegate.core import Backoff, DeliveryError, Encoded, Refused
from tidegate.nats.connection import Connection

log = logging.getLogger(__name__)

_HEADER_LINE = 12  # "NATS/1.0" and the empty line's CR LF
_MAX_HEADERS = 256 * 1024  # more than any event's headers take; closer to the limit they are counted


class _Ticket:
    """The events of one `send`, and how many of them are not yet durable or refused."""

    __slots__ = ("events", "first", "future", "left", "refused", "sent", "size")

    def __init__(self, events: Sequence[Encoded], first: int, size: int, future: asyncio.Future[list[Refused]]) -> None:
        self.events = events
        self.first = first
        self.size = size
        self.future = future
        self.left = len(events)
        self.refused: list[Refused] = []
        self.sent = 0.0

    def drop_one(self) -> bool:
        """Count one event as finished; return whether that was the last."""
        self.left -= 1
        if self.left:
            return False
        if not self.future.done():
            self.future.set_result(self.refused)
        return True


class Publisher:
    """A `Sink` into whatever streams listen to the events' subjects. Use as `async with`.

    Every event is published with a reply subject of its own, on which the server's PubAck comes back; none is awaited.
    What is not acknowledged is published again under the same id, in order: after a reconnect, after an error that can
    pass (no stream, a full stream), and after `ack_timeout` seconds without progress.

    window, window_bytes: events and body bytes in flight. blocked: why nothing can be delivered now, or None.
    duplicates: PubAcks that said the stream had the event already.
    """

    def __init__(
        self,
        connection: Connection,
        name: str,
        window: int = 4096,
        window_bytes: int = 16 * 1024 * 1024,
        ack_timeout: float = 5.0,
    ) -> None:
        self.name = name
        self.blocked: str | None = None
        self.duplicates = 0
        self.resends = 0
        self._connection = connection
        self._window = window
        self._window_bytes = window_bytes
        self._ack_timeout = ack_timeout
        self._turn = asyncio.Lock()
        self._room = asyncio.Event()
        self._wake = asyncio.Event()
        self._unsent: deque[_Ticket] = deque()
        self._sent: deque[_Ticket] = deque()
        self._pending: dict[int, _Ticket] = {}
        self._bytes = 0
        self._number = 0
        self._newest_ack = -1
        self._last_ack = 0.0
        self._prefix_length = 0
        self._trouble: str | None = None
        self._backoff = Backoff()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._connection.on_error.append(self._on_error)
        self._task = asyncio.create_task(self._run(), name=f"nats publisher {self.name}")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._connection.on_error.remove(self._on_error)
        for ticket in {id(ticket): ticket for ticket in self._pending.values()}.values():
            ticket.future.cancel()

    @property
    def in_flight(self) -> int:
        """Events taken and neither durable nor refused."""
        return len(self._pending)

    async def send(self, events: Sequence[Encoded]) -> asyncio.Future[list[Refused]]:
        """See `Sink.send`. More events than the window are taken when nothing else is in flight."""
        size = sum([len(event.body) for event in events])
        async with self._turn:
            while self._pending and (
                len(self._pending) + len(events) > self._window or self._bytes + size > self._window_bytes
            ):
                self._room.clear()
                await self._room.wait()
        ticket = _Ticket(events, self._number, size, asyncio.get_running_loop().create_future())
        if not events:
            ticket.future.set_result([])
            return ticket.future
        self._number += len(events)
        self._pending.update(dict.fromkeys(range(ticket.first, self._number), ticket))
        self._bytes += size
        self._unsent.append(ticket)
        self._wake.set()
        return ticket.future

    # Publishing

    async def _run(self) -> None:
        """Publish over one connection after the other, until cancelled."""
        while True:
            client = await self._connection.ready()
            pump = asyncio.create_task(self._pump(client), name=f"nats publisher {self.name} pump")
            gone = asyncio.create_task(self._connection.gone())
            try:
                await asyncio.wait((pump, gone), return_when=asyncio.FIRST_COMPLETED)
            finally:
                pump.cancel()
                gone.cancel()
                await asyncio.gather(pump, gone, return_exceptions=True)
            if not pump.cancelled() and (error := pump.exception()) is not None:
                if not isinstance(error, nats.errors.Error | OSError):
                    raise error
                self._connection.suspect()
                await self._connection.gone()
            self._rewind()

    async def _pump(self, client: Client) -> None:
        """Publish what is unsent, and again what was not acknowledged, over one connection."""
        inbox = client.new_inbox()
        self._prefix_length = len(inbox) + 1
        await client.subscribe(f"{inbox}.*", cb=self._on_reply)
        self._trouble = None
        while True:
            while self._unsent and self._trouble is None:
                await self._publish(client, f"{inbox}.")
            if self._trouble is not None:
                await self._retreat()
                continue
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._ack_timeout if self._pending else None):
                    await self._wake.wait()
            if self._overdue(client):
                self._fail(f"no PubAck within {self._ack_timeout:g} s")

    async def _publish(self, client: Client, prefix: str) -> None:
        ticket = self._unsent.popleft()
        if not ticket.left:
            return
        self._sent.append(ticket)
        ticket.sent = time.monotonic()
        pending = self._pending
        publish = client.publish
        max_payload = client.max_payload
        for number, event in enumerate(ticket.events, ticket.first):
            if number not in pending:
                continue
            if len(event.body) > max_payload - _MAX_HEADERS and (problem := _too_large(event, max_payload)):
                self._refuse(number, problem)
                continue
            await publish(event.subject, event.body, f"{prefix}{number}", event.headers)

    async def _retreat(self) -> None:
        """Wait a while after a failure that can pass, then start again with the oldest event."""
        delay = self._backoff.next()
        if self.blocked is None:
            log.warning("%s: JetStream does not take messages: %s; they are held", self.name, self._trouble)
        self.blocked = self._trouble
        await asyncio.sleep(delay)
        self._trouble = None
        self._rewind()

    def _rewind(self) -> None:
        """Put everything unacknowledged back in line, in its order."""
        again = [ticket for ticket in self._sent if ticket.left]
        self.resends += sum(ticket.left for ticket in again)
        self._unsent.extendleft(reversed(again))
        self._sent.clear()

    def _overdue(self, client: Client) -> bool:
        """Whether the oldest event waits too long: a younger one was acknowledged, or nothing was at all though
        everything has left."""
        while self._sent and not self._sent[0].left:
            self._sent.popleft()
        if not self._sent:
            return False
        oldest = self._sent[0]
        now = time.monotonic()
        if now - oldest.sent < self._ack_timeout:
            return False
        skipped = self._newest_ack >= oldest.first + len(oldest.events)
        stalled = now - self._last_ack >= self._ack_timeout and not client.pending_data_size
        return skipped or stalled

    # Settling

    async def _on_reply(self, msg: Msg) -> None:
        """Take a PubAck. It is a coroutine only because nats-py wants one."""
        number = int(msg.subject[self._prefix_length :])
        data = msg.data
        if not data or b'"error":' in data:
            self._on_failure(number, msg)
            return
        if number not in self._pending:
            return
        if b'"duplicate":' in data:
            self.duplicates += 1
        if number > self._newest_ack:
            self._newest_ack = number
        self._finish(number)

    def _finish(self, number: int) -> None:
        ticket = self._pending.pop(number)
        if not ticket.drop_one():
            return
        self._bytes -= ticket.size
        self._last_ack = time.monotonic()
        self._room.set()
        while self._sent and not self._sent[0].left:
            self._sent.popleft()
        if self.blocked is not None and not ticket.refused:
            log.info("%s: JetStream takes messages again", self.name)
            self.blocked = None
            self._backoff.reset()

    def _refuse(self, number: int, error: DeliveryError) -> None:
        ticket = self._pending[number]
        ticket.refused.append(Refused(ticket.events[number - ticket.first], error))
        self._finish(number)

    def _fail(self, reason: str) -> None:
        self._trouble = self._trouble or reason
        self._wake.set()

    def _on_failure(self, number: int, msg: Msg) -> None:
        if number not in self._pending:
            return
        if not msg.data:
            self._fail("no stream listens to the subject")
            return
        error = json.loads(msg.data)["error"]
        text = f"{error.get('description', 'error')} ({error.get('err_code', error.get('code'))})"
        if error.get("code") in _PERMANENT:
            self._refuse(number, DeliveryError("refused", f"JetStream refused it: {text}"))
        else:
            self._fail(text)

    def _on_error(self, message: str) -> None:
        """Find the events that a permissions error speaks of: no PubAck tells of it, and nats-py lowers its case."""
        _, separator, quoted = message.lower().partition("permissions violation for publish to ")
        if not separator:
            return
        subject = quoted.strip().strip('"')
        refused = DeliveryError("refused", f"this user may not publish to {subject!r}")
        for number, ticket in list(self._pending.items()):
            if ticket.events[number - ticket.first].subject.lower() == subject:
                self._refuse(number, refused)


_PERMANENT = frozenset((400, 403))
"""JetStream's error codes that no waiting mends: a bad request, as a message over the stream's size limit."""


def _too_large(event: Encoded, max_payload: int) -> DeliveryError | None:
    """The server counts headers too, and closes the connection where nats-py does not see it coming."""
    headers = sum(len(name) + len(value.encode()) + 4 for name, value in event.headers.items())
    size = len(event.body) + headers + _HEADER_LINE
    if size <= max_payload:
        return None
    return DeliveryError("too_large", f"the event has {size} bytes with its headers; the server takes {max_payload}")
