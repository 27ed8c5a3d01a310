"""JetStream as a sink: publishing is pipelined, and each PubAck finds its event."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Self

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from tidegate.core import Backoff, DeliveryError, Encoded, Outcome, Refused
from tidegate.nats.connection import Connection, stop
from tidegate.nats.fit import LONG_HEADERS, LONG_SUBJECT, UNFIT, misfit, unfit

log = logging.getLogger(__name__)

_UNSUBSCRIBE_TIMEOUT = 1.0

GRACE = 1.0
"""Seconds that a connection may be gone before the publisher counts as blocked: most come back sooner."""


class _Ticket:
    """The events of one `send`, and how many of them are not yet durable or refused."""

    __slots__ = ("events", "first", "future", "left", "refused", "sent", "size")

    def __init__(self, events: Sequence[Encoded], first: int, size: int, future: asyncio.Future[Outcome]) -> None:
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
            self.future.set_result(Outcome(self.refused))
        return True


class Withdrawn(NamedTuple):
    """What was taken back: the events that are not known to be durable, and those that were refused."""

    events: list[Encoded]
    refused: list[Refused]


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
        self._watchers: list[asyncio.Future[None]] = []
        self._tickets: dict[asyncio.Future[Outcome], _Ticket] = {}
        self._wake = asyncio.Event()
        self._unsent: deque[_Ticket] = deque()
        self._sent: deque[_Ticket] = deque()
        self._pending: dict[int, _Ticket] = {}
        self._bytes = 0
        self._number = 0
        self._newest_ack = -1
        self._last_ack = 0.0
        self._inbox = ""
        self._deaf = False
        self._trouble: str | None = None
        self._careful = False
        self._probe: int | None = None
        self._backoff = Backoff()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._connection.on_error.append(self._on_error)
        self._task = asyncio.create_task(self._run(), name=f"nats publisher {self.name}")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._task is not None
        await stop(self._task)
        self._connection.on_error.remove(self._on_error)
        for future in list(self._tickets):
            future.cancel()

    @property
    def task(self) -> asyncio.Task[None]:
        """The task that keeps this running. Before the context is left only a defect ends it."""
        assert self._task is not None
        return self._task

    @property
    def in_flight(self) -> int:
        """Events taken and neither durable nor refused."""
        return len(self._pending)

    async def send(self, events: Sequence[Encoded]) -> asyncio.Future[Outcome]:
        """See `Sink.send`. More events than the window are taken when nothing else is in flight."""
        async with self._turn:
            while (outcome := self.offer(events)) is None:
                await self.changed()
        return outcome

    def offer(self, events: Sequence[Encoded]) -> asyncio.Future[Outcome] | None:
        """Take events as `send` does, or return None if the window is full."""
        size = sum([len(event.body) for event in events])
        if self._pending and (
            len(self._pending) + len(events) > self._window or self._bytes + size > self._window_bytes
        ):
            return None
        ticket = _Ticket(events, self._number, size, asyncio.get_running_loop().create_future())
        if not events:
            ticket.future.set_result(Outcome())
            return ticket.future
        self._number += len(events)
        self._pending.update(dict.fromkeys(range(ticket.first, self._number), ticket))
        self._tickets[ticket.future] = ticket
        self._bytes += size
        self._unsent.append(ticket)
        self._wake.set()
        return ticket.future

    async def changed(self) -> None:
        """Wait until there may be room, or `blocked` has changed."""
        watcher = asyncio.get_running_loop().create_future()
        self._watchers.append(watcher)
        await watcher

    async def unblocked(self) -> None:
        """Wait until nothing is known to keep events from being delivered."""
        while self.blocked is not None:
            await self.changed()

    def withdraw(self, outcome: asyncio.Future[Outcome]) -> Withdrawn:
        """Give back the events of one send that have no PubAck. Its future is then the caller's to complete."""
        ticket = self._tickets[outcome]
        numbered = enumerate(ticket.events, ticket.first)
        events = [event for number, event in numbered if self._pending.pop(number, None) is not None]
        ticket.left = 0
        self._forget(ticket)
        self._wake.set()
        return Withdrawn(events, ticket.refused)

    def _forget(self, ticket: _Ticket) -> None:
        del self._tickets[ticket.future]
        self._bytes -= ticket.size
        self._tell_watchers()

    def _tell_watchers(self) -> None:
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)

    def _block(self, reason: str) -> None:
        if self.blocked is None:
            log.warning("%s: JetStream does not take messages: %s", self.name, reason)
        self.blocked = reason
        self._tell_watchers()

    def _unblock(self) -> None:
        self.blocked = None
        self._backoff.reset()
        self._tell_watchers()

    # Publishing

    async def _run(self) -> None:
        """Publish over one connection after the other, until cancelled."""
        while True:
            client = await self._client()
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

    async def _client(self) -> Client:
        try:
            async with asyncio.timeout(GRACE):
                return await self._connection.ready()
        except TimeoutError:
            self._block(f"not connected: {self._connection.last_error or 'not yet'}")
        return await self._connection.ready()

    async def _pump(self, client: Client) -> None:
        """Publish what is unsent, and again what was not acknowledged, over one connection."""
        self._inbox = f"{client.new_inbox()}."
        self._deaf = False
        subscription = await client.subscribe(f"{self._inbox}*", cb=self._on_reply)
        try:
            await self._publish_all(client, self._inbox)
        finally:
            # The connection outlives this publisher. On a dead one the server can't be told, so don't wait for it.
            with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
                async with asyncio.timeout(_UNSUBSCRIBE_TIMEOUT):
                    await subscription.unsubscribe()

    async def _publish_all(self, client: Client, prefix: str) -> None:
        self._trouble = None
        while True:
            if self._careful:
                self._careful = not await self._try_oldest(client, prefix)
            while self._unsent and self._trouble is None:
                await self._publish(client, prefix)
            if self._trouble is not None:
                await self._retreat()
                continue
            if self.blocked is not None and not self._pending:
                self._unblock()  # nothing is known to be wrong now; the next event will tell
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._ack_timeout if self._pending else None):
                    await self._wake.wait()
            if self._overdue(client):
                self._fail(f"no PubAck within {self._ack_timeout:g} s")

    async def _try_oldest(self, client: Client, prefix: str) -> bool:
        """Publish the oldest event alone; return whether it is finished. Were all published at once while something
        is just getting right again, some of the younger ones could be taken and the older ones not."""
        while self._unsent and not self._unsent[0].left:
            self._unsent.popleft()
        if not self._unsent:
            return True
        ticket = self._unsent[0]
        number = next(n for n in range(ticket.first, ticket.first + len(ticket.events)) if n in self._pending)
        self._probe = number
        await self._publish(client, prefix, only=number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._ack_timeout):
                while number in self._pending and self._trouble is None:
                    self._wake.clear()
                    await self._wake.wait()
        self._probe = None
        if number in self._pending and self._trouble is None:
            self._fail(f"no PubAck within {self._ack_timeout:g} s")
        return self._trouble is None and bool(ticket.left or ticket.future.done())

    async def _publish(self, client: Client, prefix: str, only: int | None = None) -> None:
        """Publish the oldest ticket, or of it one event alone: then the ticket keeps its place."""
        ticket = self._unsent[0]
        if only is None:
            self._unsent.popleft()
            self._sent.append(ticket)
        if not ticket.left:
            return
        ticket.sent = time.monotonic()
        pending = self._pending
        publish = client.publish
        max_payload = client.max_payload
        large = max_payload - LONG_HEADERS
        task = asyncio.current_task()
        assert task is not None
        for number, event in enumerate(ticket.events, ticket.first):
            if number not in pending or (only is not None and number != only):
                continue
            try:
                if (len(event.body) > large or len(event.subject) > LONG_SUBJECT) and (
                    problem := misfit(event, max_payload)
                ):
                    self._refuse(number, problem)
                    continue
                await publish(event.subject, event.body, f"{prefix}{number}", event.headers)
            except UNFIT as error:
                self._refuse(number, unfit(error))
            if task.cancelling():  # nats-py swallows a cancellation while it waits for its buffer to empty
                raise asyncio.CancelledError

    async def _retreat(self) -> None:
        """Wait a while after a failure that can pass, then start again with the oldest event."""
        delay = self._backoff.next()
        self._block(self._trouble or "")
        if self._deaf:  # to publish again would fill the stream with copies, once its duplicate window is over
            await self._connection.gone()
        else:
            await asyncio.sleep(delay)
        self._trouble = None
        self._rewind()

    def _rewind(self) -> None:
        """Put everything unacknowledged back in line, in its order."""
        again = [ticket for ticket in self._sent if ticket.left]
        self.resends += sum(ticket.left for ticket in again)
        self._unsent.extendleft(reversed(again))
        self._sent.clear()
        self._newest_ack = -1
        self._careful = True

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
        number = int(msg.subject[len(self._inbox) :])
        data = msg.data
        if number not in self._pending:
            return
        if b'"stream":' not in data or b'"error":' in data:
            self._on_failure(number, msg)
            return
        if b'"duplicate":' in data:
            self.duplicates += 1
        if number > self._newest_ack:
            self._newest_ack = number
        self._finish(number)

    def _finish(self, number: int) -> None:
        ticket = self._pending.pop(number)
        self._last_ack = time.monotonic()
        if number == self._probe:
            self._wake.set()
        if not ticket.drop_one():
            return
        self._forget(ticket)
        while self._sent and not self._sent[0].left:
            self._sent.popleft()
        if self.blocked is not None and len(ticket.refused) < len(ticket.events):
            log.info("%s: JetStream takes messages again", self.name)
            self._unblock()

    def _refuse(self, number: int, error: DeliveryError) -> None:
        ticket = self._pending[number]
        ticket.refused.append(Refused(ticket.events[number - ticket.first], error))
        self._finish(number)

    def _fail(self, reason: str) -> None:
        self._trouble = self._trouble or reason
        self._wake.set()

    def _on_failure(self, number: int, msg: Msg) -> None:
        """Take an answer that is no PubAck. Anyone may answer on a subject; what is not JetStream's is passed over."""
        if not msg.data:
            if (msg.headers or {}).get("Status") == _NO_RESPONDERS:
                self._fail("no stream listens to the subject")
            return
        try:
            error = json.loads(msg.data)["error"]
            code, kind, text = error["code"], error.get("err_code"), error.get("description", "error")
        except (ValueError, TypeError, KeyError, AttributeError):
            return
        text = f"{text} ({kind or code})"
        if code not in _PERMANENT or kind in _PASSING:
            self._fail(text)
            return
        reason = "too_large" if kind == _OVER_STREAM_LIMIT else "refused"
        self._refuse(number, DeliveryError(reason, f"JetStream refused it: {text}"))

    def _on_error(self, message: str) -> None:
        """Find the events that a permissions error speaks of: no PubAck tells of it, and nats-py lowers its case."""
        if f'permissions violation for subscription to "{self._inbox}'.lower() in message.lower():
            self._deaf = True
            self._fail("this user may not subscribe to _INBOX.>, where PubAcks come")
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

_PASSING = frozenset((10002, 10109))
"""JetStream's err_codes that blame the account or the stream, not the event: the account is full, the stream sealed."""

_NO_RESPONDERS = "503"

_OVER_STREAM_LIMIT = 10054
"""JetStream's err_code for a message over the stream's size limit. It needs the reason `too_large`: by that alone a
dead letter is made smaller, and one that no stream takes would hold up the messages behind it."""
