"""A durable JetStream consumer as a source: what is delivered is acknowledged once it is settled, and never before."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Self

from tidegate.core import Backoff, Batch, ConnectError, Message, Properties, Trouble
from tidegate.nats import wire
from tidegate.nats.connection import Connection
from tidegate.nats.durable import (
    ACK_WAIT,
    ConsumerError,
    ConsumerSpec,
    Origin,
    ensure_consumer,
    find_origin,
    rewind,
)
from tidegate.nats.jetstream import ApiError
from tidegate.nats.link import Link, new_inbox

log = logging.getLogger(__name__)

MAX_BATCH = 128
"""Messages handed out at once, as an MQTT session does."""

HEARTBEAT = 5.0
"""Seconds between the signs of life that a server gives while it has nothing to deliver."""

_EXPIRES = 30.0
_PROGRESS = ACK_WAIT / 3
_NS = 1_000_000_000
_ACK, _IN_PROGRESS, _NOT_NOW = b"+ACK", b"+WPI", b"-NAK"
_ACK_TIMEOUT = 2.0
_RETRY = 5.0

_IDLE, _NO_MESSAGES, _TIMED_OUT, _CONFLICT = 100, 404, 408, 409
"""Statuses of what a server says about a request for messages."""

_PASSING = ("batch completed", "message size exceeds maxbytes", "leadership change", "server shutdown")
"""What status 409 may say where the next request is as good as the last."""


class _Hand:
    """The messages of one life of a stream that are in our hands.

    unsettled: the reply subject of each, by its sequence. acks: those of messages that are settled, which the server
    may not have read. again: sequences that will be delivered again though they are in hand. newest: the last one.
    """

    __slots__ = ("acks", "again", "newest", "origin", "unsettled")

    def __init__(self, origin: Origin, newest: int) -> None:
        self.origin = origin
        self.newest = newest
        self.unsettled: dict[int, str] = {}
        self.acks: dict[int, str] = {}
        self.again: set[int] = set()

    def forget(self, sent: dict[int, str]) -> None:
        """Let go of acknowledgements that the server has read."""
        for sequence, reply in sent.items():
            if self.acks.get(sequence) == reply:
                del self.acks[sequence]


class _Waiting(NamedTuple):
    """A message in hand. size: what it takes of the window, in bytes."""

    message: Message
    size: int
    sequence: int
    hand: _Hand


class _Pull:
    """A request for messages, the only one at a time."""

    __slots__ = ("batch", "left", "reply")

    def __init__(self, reply: str, batch: int) -> None:
        self.reply = reply
        self.batch = self.left = batch


class Consumer:
    """A `Source` of what a stream stores. Use as `async with`; it creates its consumer and takes it up for ever.

    blocked: why no messages can come now, or None; that the connection is gone is not told here. duplicates: messages
    that came again while they were in hand. trouble: what kept them from coming last.

    The window is `spec.window` messages and `window_bytes` of payload and headers, whatever the sink does. While
    messages wait longer than JetStream would, it is told that they are in progress. A lost connection takes none of
    them out of hand: they are acknowledged over the next. Everything that is not settled comes again in a next life,
    first and in order, where the server can do that (2.14 and newer), else after ACK_WAIT.
    """

    def __init__(
        self, connection: Connection, name: str, spec: ConsumerSpec, window_bytes: int = 8 * 1024 * 1024
    ) -> None:
        self.name = name
        self.blocked: str | None = "not yet connected"
        self.duplicates = 0
        self.trouble: Trouble | None = None
        self._connection = connection
        self._spec = spec
        self._window_bytes = window_bytes
        self._hand: _Hand | None = None
        self._awaited = False
        self._waiting: deque[_Waiting] = deque()
        self._unsettled = 0
        self._unsettled_bytes = 0
        self._readable = asyncio.Event()
        self._wake = asyncio.Event()
        self._link: Link | None = None
        self._inbox = ""
        self._pulls = 0
        self._pull: _Pull | None = None
        self._too_large = False
        self._heard = 0.0
        self._failure: str | None = None
        self._told = False
        self._confirming = False
        self._backoff = Backoff(longest=_RETRY)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name=f"nats consumer {self.name}")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._task is not None
        link = self._link
        self._task.cancel()
        await asyncio.wait([self._task])
        if link is not None and self._hand is not None:  # else a server that can't rewind waits for ACK_WAIT
            link.write(wire.encode_replies(self._hand.unsettled.values(), _NOT_NOW))

    @property
    def task(self) -> asyncio.Task[None]:
        """The task that keeps this running. Before the context is left only a defect ends it."""
        assert self._task is not None
        return self._task

    @property
    def stream(self) -> str | None:
        """The stream that it takes from, or None before that is known."""
        return self._hand.origin.stream if self._hand else None

    @property
    def unsettled(self) -> int:
        """Messages delivered and not settled, those that nobody has received yet too."""
        return self._unsettled

    async def receive(self) -> Batch:
        """See `Source.receive`."""
        while not self._waiting:
            self._readable.clear()
            await self._readable.wait()
        taken = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
        return Batch([one.message for one in taken], lambda: self._settle(taken))

    # Settling

    def _settle(self, taken: Sequence[_Waiting]) -> None:
        self._unsettled -= len(taken)
        self._unsettled_bytes -= sum(one.size for one in taken)
        replies = []
        for one in taken:
            reply = one.hand.unsettled.pop(one.sequence, None)
            if reply is not None and one.hand is self._hand:  # else its stream is gone
                one.hand.acks[one.sequence] = reply
                replies.append(reply)
        if self._link is not None and replies:
            self._acknowledge(self._link, replies)
        self._wake.set()

    def _acknowledge(self, link: Link, replies: Iterable[str]) -> None:
        """Send acknowledgements. They are kept until the server has read them, which the answer to a PING says."""
        link.write(wire.encode_replies(replies, _ACK))
        if not self._confirming and self._hand is not None:
            self._confirming = True
            hand, sent = self._hand, dict(self._hand.acks)
            link.ping().add_done_callback(lambda _: self._confirmed(link, hand, sent))

    def _confirmed(self, link: Link, hand: _Hand, sent: dict[int, str]) -> None:
        if link is not self._link:
            return
        self._confirming = False
        hand.forget(sent)
        if hand.acks:
            self._acknowledge(link, [])

    # Consuming

    async def _run(self) -> None:
        """Take up the consumer again and again, over one connection after the other, until cancelled."""
        while True:
            link = await self._connection.ready()
            try:
                await self._serve(link)
            except (ApiError, ConnectError, ConsumerError) as error:
                if not link.ended.done():
                    self._block(str(error))
                    await asyncio.wait([link.ended], timeout=self._backoff.next())

    def _block(self, reason: str) -> None:
        """Say why nothing comes, if that is still so at the second look: at a start streams are just being made."""
        if reason == self.blocked and not self._told:
            self._told = True
            log.warning("%s: no messages come: %s", self.name, reason)
        self._told = self._told and reason == self.blocked
        self.blocked = reason
        if self._told:
            self.trouble = Trouble(f"nats: {reason}", time.time())

    async def _serve(self, link: Link) -> None:
        """Consume over one connection until it ends. Raises why the consumer has to be looked for again."""
        hand = await self._attach(link)
        self._inbox = new_inbox()
        self._pull = self._failure = None
        self._too_large = self._confirming = False
        sid = link.subscribe(f"{self._inbox}*", self._take)
        self._link = link
        if hand.acks:
            self._acknowledge(link, hand.acks.values())
        try:
            await self._consume(link, hand)
        finally:
            self._link = None
            link.unsubscribe(sid)

    async def _consume(self, link: Link, hand: _Hand) -> None:
        told = time.monotonic()
        while not link.ended.done():
            self._wake.clear()
            if self._pull is None:
                self._ask(link, hand)
            waiting = asyncio.ensure_future(self._wake.wait())
            try:
                await asyncio.wait((waiting, link.ended), timeout=HEARTBEAT, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
            now = time.monotonic()
            if self._failure is not None:
                raise ConsumerError(self._failure)
            if self._pull is not None and now - self._heard > 2 * HEARTBEAT:
                raise ConsumerError(f"no sign of life from consumer {self._spec.name} for {2 * HEARTBEAT:g} s")
            if now - told >= _PROGRESS:
                told = now
                link.write(wire.encode_replies(hand.unsettled.values(), _IN_PROGRESS))

    def _ask(self, link: Link, hand: _Hand) -> None:
        """Ask for messages, once there is room for a good part of the window."""
        window, window_bytes = self._spec.window, self._window_bytes
        room, room_bytes = window - self._unsettled, window_bytes - self._unsettled_bytes
        request = {"batch": room, "max_bytes": room_bytes}
        if self._unsettled and (room < window / 4 or room_bytes < window_bytes / 4 or self._too_large):
            return
        if self._too_large:  # the next message takes more than there was room for, and comes alone
            request = {"batch": 1}
        self._too_large = False
        self._pulls += 1
        self._pull = _Pull(f"{self._inbox}{self._pulls}", request["batch"])
        self._heard = time.monotonic()
        times = {"expires": round(_EXPIRES * _NS), "idle_heartbeat": round(HEARTBEAT * _NS)}
        api = f"$JS.API.CONSUMER.MSG.NEXT.{hand.origin.stream}.{self._spec.name}"
        link.write(wire.encode_request(api, self._pull.reply, json.dumps({**request, **times}).encode()))

    def _take(self, delivery: wire.Delivery) -> None:
        """Take what came: a message, or word about the request for them."""
        self._heard = time.monotonic()
        pull = self._pull
        if delivery.reply.startswith(b"$JS.ACK."):
            self._take_message(delivery)
        elif pull is not None and delivery.subject.decode(errors="replace") == pull.reply:
            self._take_status(pull, wire.status_of(delivery.headers), delivery.headers)

    def _take_status(self, pull: _Pull, status: int, headers: bytes) -> None:
        if status == _IDLE:
            return
        text = headers.partition(b"\r\n")[0].decode(errors="replace").partition(str(status))[2].strip()
        if status in (_NO_MESSAGES, _TIMED_OUT) or (status == _CONFLICT and text.lower().startswith(_PASSING)):
            self._too_large = "maxbytes" in text.lower() and pull.left == pull.batch
            self._pull = None
        else:
            gone = f"consumer {self._spec.name} is gone"
            self._failure = gone if status == wire.NO_RESPONDERS else f"{text or 'no messages'} ({status})"
        self._wake.set()

    def _take_message(self, delivery: wire.Delivery) -> None:
        hand, pull = self._hand, self._pull
        reply = delivery.reply.decode(errors="replace")
        found = _read_reply(reply)
        if hand is None or found is None or found.stream != hand.origin.stream:
            return
        if pull is not None:
            pull.left -= 1
            if not pull.left:
                self._pull = None
                self._wake.set()
        sequence = found.sequence
        if sequence in hand.unsettled or sequence in hand.again:
            self._take_again(hand, sequence, reply)
            return
        hand.unsettled[sequence] = reply
        hand.newest = max(hand.newest, sequence)
        message = _message_of(delivery, found.id, again=found.deliveries > 1)
        size = len(delivery.payload) + len(delivery.headers)
        self._waiting.append(_Waiting(message, size, sequence, hand))
        self._unsettled += 1
        self._unsettled_bytes += size
        self._readable.set()

    def _take_again(self, hand: _Hand, sequence: int, reply: str) -> None:
        """Take a message that we have: its newest delivery is what is answered, at once if it was settled meanwhile."""
        self.duplicates += 1
        hand.again.discard(sequence)
        if sequence in hand.unsettled:
            hand.unsettled[sequence] = reply
            return
        hand.acks[sequence] = reply
        if self._link is not None:
            self._acknowledge(self._link, [reply])

    # Taking up the consumer

    async def _attach(self, link: Link) -> _Hand:
        """See that the consumer is there and has our acknowledgements, and that what got lost is delivered again."""
        try:
            origin = await find_origin(link, self._spec.subject_filter)
        except ConsumerError:
            self._awaited = True
            raise
        hand = self._hand if self._hand is not None and self._hand.origin == origin else None
        position = await ensure_consumer(link, origin, self._spec, self._start(origin, hand))
        if hand is None:
            hand = _Hand(origin, position.acknowledged)
        elif position.is_new:
            log.warning("%s: consumer %s was gone; made again where it stood", self.name, self._spec.name)
            hand.again = set(hand.unsettled)
            hand.acks.clear()
        self._hand = hand
        if hand.acks:
            await self._acknowledge_again(link, hand)
            position = await ensure_consumer(link, origin, self._spec, {})
        if position.pending > len(hand.unsettled):
            in_hand = set(hand.unsettled)
            if await rewind(link, origin, self._spec):
                hand.again = in_hand
        link.write(wire.encode_replies(hand.unsettled.values(), _IN_PROGRESS))
        self._awaited = False
        self._backoff.reset()
        log.info("%s: consumes stream %s as %s", self.name, origin.stream, self._spec.name)
        self.blocked = None
        return hand

    def _start(self, origin: Origin, hand: _Hand | None) -> dict[str, Any]:
        """Return the deliver policy of a consumer that has to be made."""
        if hand is not None and origin.retention != "workqueue":  # it was there, and somebody deleted it
            first = min(hand.unsettled, default=hand.newest + 1)
            return {"deliver_policy": "by_start_sequence", "opt_start_seq": first}
        if self._hand is not None or self._awaited or origin.retention == "workqueue":
            return {"deliver_policy": "all"}  # the stream is younger than this bridge; or what it holds is its work
        return {"deliver_policy": "new"}

    async def _acknowledge_again(self, link: Link, hand: _Hand) -> None:
        """Send again the acknowledgements that the server may not have read, and wait until they are processed."""
        sent = dict(hand.acks)
        *others, last = sent.values()
        link.write(wire.encode_replies(others, _ACK))
        with contextlib.suppress(ConnectError):  # the consumer that wants them may be gone
            await link.request(lambda reply: wire.encode_request(last, reply, _ACK), _ACK_TIMEOUT)
            hand.forget(sent)


class _Delivered(NamedTuple):
    """What the reply subject of a delivery says. id: of the message at this consumer, the same for each delivery."""

    stream: str
    sequence: int
    deliveries: int
    id: str


def _read_reply(reply: str) -> _Delivered | None:
    """Read `$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<consumer sequence>.<time>.<pending>`, which newer
    servers may write with `<domain>.<account>` before the stream and one token more at the end."""
    tokens = reply.split(".")[2:]
    if len(tokens) > 7:
        tokens = tokens[2:]
    if len(tokens) < 7 or not (tokens[2].isdigit() and tokens[3].isdigit()):
        return None
    stream, consumer, deliveries, sequence, _, moment, *_ = tokens
    return _Delivered(stream, int(sequence), int(deliveries), f"{consumer}:{stream}:{sequence}:{moment}")


def _message_of(delivery: wire.Delivery, message_id: str, *, again: bool) -> Message:
    return Message(
        delivery.subject,
        delivery.payload,
        message_id,
        duplicate=again,
        properties=properties_of(delivery.headers),
        received=time.time(),
    )


def properties_of(headers: bytes) -> Properties | None:
    """Return the headers of a message as its properties, or None if it has none."""
    user = wire.read_headers(headers)
    if not user:
        return None
    content_type = next((value for name, value in user if name.lower() == "content-type"), None)
    return Properties(content_type=content_type, user=user)
