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

from tidegate.core import Backoff, DeliveryError, Encoded, Outcome, Refused, Trouble
from tidegate.nats.connection import Connection
from tidegate.nats.fit import all_fit, misfit
from tidegate.nats.link import Link
from tidegate.nats.wire import NO_RESPONDERS, Answer, encode_events

log = logging.getLogger(__name__)

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


class Withdrawn(NamedTuple):
    """What was taken back: the events that are not known to be durable, and those that were refused."""

    events: list[Encoded]
    refused: list[Refused]


class Publisher:
    """A `Sink` into whatever streams listen to the events' subjects. Use as `async with`.

    Every event is published with a reply subject of its own, on which the server's PubAck comes back; none is awaited.
    What is not acknowledged is published again under the same id, in order: after a reconnect, after an error that can
    pass (no stream, a full stream), and after one to two `ack_timeout`s, in seconds, without progress.

    window, window_bytes: events and body bytes in flight. blocked: why nothing can be delivered now, or None.
    duplicates: PubAcks that said the stream had the event already. trouble: what kept events from being delivered last.
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
        self.trouble: Trouble | None = None
        self.resends = 0
        self._connection = connection
        self._window = window
        self._window_bytes = window_bytes
        self._ack_timeout = ack_timeout
        self._turn = asyncio.Lock()
        self._watchers: list[asyncio.Future[None]] = []
        self._waiting: list[asyncio.Future[None]] = []
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
        self._link: Link | None = None
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
        self._task.cancel()
        await asyncio.wait([self._task])
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
                await self.room()
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
        link = self._link
        if link is not None and self._flows(link):
            self._publish(link)  # at once, without a switch of tasks
        else:
            self._wake.set()
        return ticket.future

    def _flows(self, link: Link) -> bool:
        """Whether the newest ticket can be published at once: nothing is before it, wrong, or in the way."""
        is_alone = len(self._unsent) == 1 and not self._careful
        return is_alone and self._trouble is None and self.blocked is None and link.is_writable

    async def changed(self) -> None:
        """Wait until `blocked` has changed."""
        await _join(self._watchers)

    async def room(self) -> None:
        """Wait until there may be room, or `blocked` has changed."""
        await _join(self._waiting)

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
        _release(self._waiting)

    def _tell_watchers(self) -> None:
        _release(self._watchers)
        _release(self._waiting)

    def _block(self, reason: str) -> None:
        if self.blocked is None:
            log.warning("%s: JetStream does not take messages: %s", self.name, reason)
        self.blocked = reason
        self.trouble = Trouble(f"nats: {reason}", time.time())
        self._tell_watchers()

    def _unblock(self) -> None:
        self.blocked = None
        self._backoff.reset()
        self._tell_watchers()

    # Publishing

    async def _run(self) -> None:
        """Publish over one connection after the other, until cancelled."""
        while True:
            link = await self._connected()
            self._deaf = False
            inbox = link.open_inbox(self._on_answer, self._on_pubacks)
            self._inbox = inbox.prefix
            self._link = link
            pump = asyncio.create_task(self._publish_all(link), name=f"nats publisher {self.name} pump")
            try:
                await asyncio.wait((pump, link.ended), return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._link = None
                pump.cancel()
                await asyncio.wait([pump])
                link.close_inbox(inbox)
            if not pump.cancelled():
                pump.result()  # only a defect ends it
            self._rewind()

    async def _connected(self) -> Link:
        try:
            async with asyncio.timeout(GRACE):
                return await self._connection.ready()
        except TimeoutError:
            self._block(f"not connected: {self._connection.last_error or 'not yet'}")
        return await self._connection.ready()

    async def _publish_all(self, link: Link) -> None:
        """Publish what is unsent, and again what was not acknowledged, over one connection."""
        self._trouble = None
        while True:
            if self._careful:
                self._careful = not await self._try_oldest(link)
            while self._unsent and self._trouble is None:
                self._publish(link)
                await link.writable()
            if self._trouble is not None:
                await self._retreat(link)
                continue
            if self.blocked is not None and not self._pending:
                self._unblock()  # nothing is known to be wrong now; the next event will tell
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._ack_timeout):
                    await self._wake.wait()
            if self._overdue(link):
                self._fail(f"no PubAck within {self._ack_timeout:g} s")

    async def _try_oldest(self, link: Link) -> bool:
        """Publish the oldest event alone; return whether it is finished. Were all published at once while something
        is just getting right again, some of the younger ones could be taken and the older ones not."""
        while self._unsent and not self._unsent[0].left:
            self._unsent.popleft()
        if not self._unsent:
            return True
        ticket = self._unsent[0]
        number = next(n for n in range(ticket.first, ticket.first + len(ticket.events)) if n in self._pending)
        self._probe = number
        self._publish(link, only=number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._ack_timeout):
                while number in self._pending and self._trouble is None:
                    self._wake.clear()
                    await self._wake.wait()
        self._probe = None
        if number in self._pending and self._trouble is None:
            self._fail(f"no PubAck within {self._ack_timeout:g} s")
        return self._trouble is None and bool(ticket.left or ticket.future.done())

    def _publish(self, link: Link, only: int | None = None) -> None:
        """Publish the oldest ticket, or of it one event alone: then the ticket keeps its place."""
        ticket = self._unsent[0]
        if only is None:
            self._unsent.popleft()
            self._sent.append(ticket)
        if not ticket.left:
            return
        ticket.sent = time.monotonic()
        max_payload = link.max_payload
        numbers: Sequence[int] = range(ticket.first, ticket.first + len(ticket.events))
        events: Sequence[Encoded] = ticket.events
        if only is not None or ticket.left < len(events) or not all_fit(events, max_payload):
            numbers = [n for n in numbers if n in self._pending and (only is None or n == only)]
            numbers = [n for n in numbers if not self._is_misfit(n, max_payload)]
            events = [ticket.events[n - ticket.first] for n in numbers]
        prefix = self._inbox
        link.write(encode_events(events, [f"{prefix}{number}" for number in numbers]))

    def _is_misfit(self, number: int, max_payload: int) -> bool:
        """Whether the server could not take this event; if so it is refused here."""
        ticket = self._pending[number]
        event = ticket.events[number - ticket.first]
        problem = misfit(event, max_payload)
        if problem is not None:
            self._refuse(number, problem)
        return problem is not None

    async def _retreat(self, link: Link) -> None:
        """Wait a while after a failure that can pass, then start again with the oldest event."""
        delay = self._backoff.next()
        self._block(self._trouble or "")
        if self._deaf:  # to publish again would fill the stream with copies, once its duplicate window is over
            await asyncio.wait([link.ended])
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

    def _overdue(self, link: Link) -> bool:
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
        stalled = now - self._last_ack >= self._ack_timeout and not link.unsent
        return skipped or stalled

    # Settling

    def _on_pubacks(self, tokens: list[bytes]) -> None:
        """Take a run of PubAcks."""
        self._last_ack = time.monotonic()
        newest = self._newest_ack
        for number in map(int, tokens):
            if number > newest:
                newest = number
            ticket = self._pending.pop(number, None)
            if ticket is not None:
                ticket.left -= 1
                if not ticket.left:
                    self._finished(ticket)
        self._newest_ack = newest
        if self._probe is not None and self._probe not in self._pending:
            self._wake.set()

    def _on_answer(self, answer: Answer) -> None:
        """Take any other answer. Anyone may answer on a subject; what is not JetStream's is passed over."""
        token, data = answer.token, answer.payload
        if not token.isdigit() or (number := int(token)) not in self._pending:
            return
        if answer.status == NO_RESPONDERS:
            self._fail("no stream listens to the subject")
            return
        try:
            fields = json.loads(data)
            error = fields.get("error")
            if error is None and "stream" in fields:
                self.duplicates += "duplicate" in fields
                self._on_pubacks([token])
                return
            code, kind, text = error["code"], error.get("err_code"), error.get("description", "error")
            passing = code not in _PERMANENT or kind in _PASSING
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return
        text = f"{text} ({kind or code})"
        if passing:
            self._fail(text)
            return
        reason = "too_large" if kind == _OVER_STREAM_LIMIT else "refused"
        self._refuse(number, DeliveryError(reason, f"JetStream refused it: {text}"))

    def _finished(self, ticket: _Ticket) -> None:
        """Every event of a ticket is durable or refused."""
        if not ticket.future.done():
            ticket.future.set_result(Outcome(ticket.refused))
        self._forget(ticket)
        while self._sent and not self._sent[0].left:
            self._sent.popleft()
        if self.blocked is not None and len(ticket.refused) < len(ticket.events):
            log.info("%s: JetStream takes messages again", self.name)
            self._unblock()

    def _refuse(self, number: int, error: DeliveryError) -> None:
        ticket = self._pending[number]
        ticket.refused.append(Refused(ticket.events[number - ticket.first], error))
        self._on_pubacks([b"%d" % number])

    def _fail(self, reason: str) -> None:
        self._trouble = self._trouble or reason
        self._wake.set()

    def _on_error(self, text: str) -> None:
        """Find the events that a permissions error speaks of: no PubAck tells of it."""
        if f'Permissions Violation for Subscription to "{self._inbox}' in text:
            self._deaf = True
            self._fail("this user may not subscribe to _INBOX.>, where PubAcks come")
        _, separator, quoted = text.partition("Permissions Violation for Publish to ")
        if not separator:
            return
        subject = quoted.strip().strip('"')
        refused = DeliveryError("refused", f"this user may not publish to {subject!r}")
        for number, ticket in list(self._pending.items()):
            if ticket.events[number - ticket.first].subject == subject:
                self._refuse(number, refused)


async def _join(waiting: list[asyncio.Future[None]]) -> None:
    """Wait with others until they are released."""
    waiter = asyncio.get_running_loop().create_future()
    waiting.append(waiter)
    await waiter


def _release(waiting: list[asyncio.Future[None]]) -> None:
    for waiter in waiting:
        if not waiter.done():
            waiter.set_result(None)
    waiting.clear()


_PERMANENT = frozenset((400, 403))
"""JetStream's error codes that no waiting mends: a bad request, as a message over the stream's size limit."""

_PASSING = frozenset((10002, 10109))
"""JetStream's err_codes that blame the account or the stream, not the event: the account is full, the stream sealed."""

_OVER_STREAM_LIMIT = 10054
"""JetStream's err_code for a message over the stream's size limit. It needs the reason `too_large`: by that alone a
dead letter is made smaller, and one that no stream takes would hold up the messages behind it."""
