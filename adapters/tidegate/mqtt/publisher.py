"""A broker as a sink: publishing is pipelined, and each PUBACK finds its message."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple
from urllib.parse import unquote

from tidegate.core import (
    ConnectError,
    DeliveryError,
    Encoded,
    Outcome,
    Properties,
    ProtocolError,
    Refused,
    unfit_character,
)
from tidegate.core.topic import MAX_TOPIC_BYTES
from tidegate.mqtt.codec import Ack, Closing, ConnAck, Pong, Reply
from tidegate.mqtt.handshake import BrokerOptions, connect
from tidegate.mqtt.kept_connection import KeptConnection
from tidegate.mqtt.link import Link
from tidegate.mqtt.packet import PUBCOMP, PUBREC, PUBREL, PacketReader, Publish, encode_acks, encode_publish

log = logging.getLogger(__name__)

_MAX_PACKET = 256 * 1024  # of what a broker sends to a client without subscriptions
_MAX_ID = 65_535
_PORTION = 64 * 1024  # bytes written at once
_RETAIN = 0x01

SUSPICIOUS = 2
"""Connections that a broker may close without taking a message, before messages are sent one at a time."""

ANSWER_TIMEOUT = 30.0
"""Seconds without any answer for what was published, after which a broker that is there is left all the same."""

HOPELESS = 5
"""Connections that a broker may close over one message, before that becomes a dead letter."""


@dataclass(frozen=True, kw_only=True)
class PublisherOptions(BrokerOptions):
    """How to connect, and how to publish. window: messages that may wait for their PUBACK."""

    qos: int = 1
    retain: bool = False
    window: int = 1000


class _Ticket:
    """The events of one `send`: how many the broker has not yet, and those it never will."""

    __slots__ = ("future", "left", "refused")

    def __init__(self, left: int, future: asyncio.Future[Outcome]) -> None:
        self.left = left
        self.future = future
        self.refused: list[Refused] = []


class _Item(NamedTuple):
    """One event on its way."""

    event: Encoded
    ticket: _Ticket


class Publisher(KeptConnection):
    """A `Sink` that publishes to a broker: an event's `subject` is the topic. Use as `async with`; it connects in the
    background and reconnects for ever.

    The headers become MQTT 5 properties: `Content-Type` the content type, and `ce-NAME` the user property NAME
    (CloudEvents MQTT binding §3.1). MQTT 3.1.1 carries the body alone.

    An event is delivered once the broker has answered for it: PUBACK, PUBCOMP, or at QoS 0 the answer to a PINGREQ that
    was sent after it. What has no answer when a connection ends is published again, in order, and over no session: a
    broker may have an older state of it, and answer PUBREL for a message that it no longer has. A broker that closes
    the connection over the same message again and again would keep all others from their way, so that is refused.

    A broker that is there and answers for nothing for ANSWER_TIMEOUT is left, and the next connection tries again.

    up: connected. resends: messages published more than once.
    """

    def __init__(self, options: PublisherOptions, name: str = "") -> None:
        super().__init__(options, name, "publisher")
        self.options = replace(options, session_expiry=0)
        self.sessions_lost = 0
        self.resends = 0
        self._turn = asyncio.Lock()
        self._room = asyncio.Event()
        self._unsent: deque[_Item] = deque()
        self._sent: dict[int, _Item] = {}
        self._written: deque[_Item] = deque()
        self._pings: deque[int] = deque()
        self._tickets: set[_Ticket] = set()
        self._in_flight = 0
        self._next_id = 0
        self._limits = ConnAck(session_present=False, refusal=None)
        self._qos = options.qos
        self._progress = False
        self._blames_us = True
        self._suspicion = 0
        self._waits_since = 0.0

    async def __aexit__(self, *exc: object) -> None:
        await super().__aexit__(*exc)
        for ticket in self._tickets:
            ticket.future.cancel()

    @property
    def overdue(self) -> str | None:
        """Return that the broker owes an answer for so long that it won't come any more, or None."""
        waited = time.monotonic() - self._waits_since
        if not self._sent or waited < ANSWER_TIMEOUT:
            return None
        return f"the broker has not answered for {waited:.0f} s for what was published"

    @property
    def in_flight(self) -> int:
        """Events taken that the broker has not answered for."""
        return self._in_flight

    async def send(self, events: Sequence[Encoded]) -> asyncio.Future[Outcome]:
        """See `Sink.send`. More events than the window are taken when nothing else is in flight."""
        async with self._turn:
            while self._in_flight and self._in_flight + len(events) > self.options.window:
                self._room.clear()
                await self._room.wait()
            future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            if not events:
                future.set_result(Outcome())
                return future
            ticket = _Ticket(len(events), future)
            self._tickets.add(ticket)
            self._in_flight += len(events)
            self._unsent.extend([_Item(event, ticket) for event in events])
        self._publish()
        return future

    # Publishing

    def _publish(self) -> None:
        """Publish what is unsent, as far as the windows of the broker and of the connection allow."""
        link = self._link
        if link is None:
            return
        window = 1 if self._suspicion >= SUSPICIOUS else min(self.options.window, self._limits.receive_maximum)
        while link.is_writable and (packets := self._next_packets(window)):
            link.write(b"".join(packets))
            if not self._qos:
                self._ping(link)

    def _next_packets(self, window: int) -> list[bytes]:
        """Take what is to be written at once; events that can't be published are refused."""
        packets: list[bytes] = []
        size = 0
        while self._unsent and size < _PORTION and len(self._sent) + len(self._written) < window:
            item = self._unsent.popleft()
            packet_id = self._take_id() if self._qos else 0
            try:
                packet = self._packet(item.event, packet_id)
            except DeliveryError as error:
                self._finish(item, error)
                continue
            if packet_id:
                if not self._sent:
                    self._waits_since = time.monotonic()
                self._sent[packet_id] = item
            else:
                self._written.append(item)
            packets.append(packet)
            size += len(packet)
        return packets

    def _take_id(self) -> int:
        while True:
            self._next_id = self._next_id % _MAX_ID + 1
            if self._next_id not in self._sent:
                return self._next_id

    def _packet(self, event: Encoded, packet_id: int) -> bytes:
        """Return a PUBLISH. Raises DeliveryError for what MQTT, or this broker, does not take."""
        properties = properties_of(event)
        for text in (event.subject, properties.content_type or "", *(t for pair in properties.user for t in pair)):
            if found := unfit_character(text):
                raise DeliveryError("refused", f"MQTT can't carry {found!r}, which is in {text[:80]!r}")
            if len(text.encode()) > MAX_TOPIC_BYTES:
                raise DeliveryError("too_large", f"a topic or property of more than {MAX_TOPIC_BYTES} bytes")
        flags = self._qos << 1 | (_RETAIN if self.options.retain else 0)
        section = self.options.codec.properties(properties)
        packet = encode_publish(event.subject, event.body, properties=section, flags=flags, packet_id=packet_id)
        most = self._limits.maximum_packet_size or MAX_PACKET
        if len(packet) > most:
            raise DeliveryError("too_large", f"the PUBLISH has {len(packet)} bytes; the broker takes {most}")
        return packet

    def _ping(self, link: Link) -> None:
        """Send a PINGREQ. Its answer says that the broker has read everything before it."""
        if (overdue := self.overdue) is not None:
            self._fail(link, overdue)
            return
        self._pings.append(len(self._written) - sum(self._pings))
        link.ping()

    # Settling

    def _read(self) -> None:
        """Take what the broker sent."""
        link = self._link
        if link is None:
            return
        try:
            while (packet := link.reader.next()) is not None:
                if isinstance(packet, Publish):
                    raise ProtocolError("a PUBLISH without a subscription")
                self._take(link, self.options.codec.read(packet))
        except ProtocolError as error:
            self._fail(link, str(error))
        self._publish()

    def _take(self, link: Link, reply: Reply) -> None:
        match reply:
            case Ack(is_passing=True, refusal=refusal):
                self._fail(link, f"the broker takes no more now: {refusal}")
            case Ack(kind=kind, packet_id=packet_id, refusal=None) if kind == PUBREC:
                link.write(encode_acks(PUBREL, [packet_id]))
            case Ack(kind=kind, packet_id=packet_id, refusal=refusal) if kind != PUBREL:
                if kind == PUBCOMP or self._qos == 1 or refusal is not None:
                    self._answered(packet_id, refusal)
            case Pong():
                for _ in range(self._pings.popleft() if self._pings else 0):
                    self._progressed()
                    self._finish(self._written.popleft(), None)
            case Closing(reason=reason, blames_us=blames_us):
                self._blames_us = blames_us
                link.fail(f"the broker disconnected: {reason}")
            case _:
                raise ProtocolError(f"unexpected {type(reply).__name__}")

    def _answered(self, packet_id: int, refusal: str | None) -> None:
        """The broker has an event, or refused it. An answer that was not asked for does nothing."""
        item = self._sent.pop(packet_id, None)
        if item is not None:
            self._progressed()
            self._finish(item, DeliveryError("refused", f"the broker refused it: {refusal}") if refusal else None)

    def _progressed(self) -> None:
        self._progress = True
        self._suspicion = 0
        self._waits_since = time.monotonic()
        self._backoff.reset()

    def _finish(self, item: _Item, error: DeliveryError | None) -> None:
        ticket = item.ticket
        if error is not None:
            ticket.refused.append(Refused(item.event, error))
        ticket.left -= 1
        self._in_flight -= 1
        self._room.set()
        if not ticket.left:
            self._tickets.discard(ticket)
            if not ticket.future.done():
                ticket.future.set_result(Outcome(ticket.refused))

    # Connecting

    async def _connect(self) -> Link:
        options = self.options
        reader = PacketReader(_MAX_PACKET, options.codec.read_properties)
        link, connack = await connect(options, reader, self._read, clean_start=True)
        if options.retain and not connack.retain_available:
            link.fail("no retained messages")
            raise ConnectError(options.endpoint, "the broker keeps no retained messages; use retain: false")
        self._begin(link, connack)
        return link

    def _begin(self, link: Link, connack: ConnAck) -> None:
        """Take up publishing on a new connection: first, and in order, what the last one got no answer for."""
        self.connects += 1
        self._limits = connack
        self._keep_alive = self.options.keep_alive if connack.keep_alive is None else connack.keep_alive
        if connack.maximum_qos < self.options.qos:
            log.warning("%s: the broker takes QoS %d at most", self.name, connack.maximum_qos)
        self._qos = min(self.options.qos, connack.maximum_qos)
        self.resends += len(self._sent) + len(self._written)
        self._unsent.extendleft(reversed([*self._sent.values(), *self._written]))
        self._sent.clear()
        self._written.clear()
        self._pings.clear()
        self._link = link
        link.on_writable = self._publish
        self.up, self.last_error = True, None
        self._progress, self._blames_us = False, True
        log.info("%s: connected to %s, publishes at QoS %d", self.name, self.options.endpoint, self._qos)
        self._read()

    def _fail(self, link: Link, reason: str) -> None:
        self._blames_us = False
        super()._fail(link, reason)

    def _lost(self, reason: str) -> None:
        suspicious = self.up and self._blames_us and not self._progress
        super()._lost(reason)
        if suspicious:
            self._suspect(reason)

    def _suspect(self, reason: str) -> None:
        """Count a connection that the broker closed without taking anything, and at the end give up the message that
        was alone on it each time."""
        in_flight = len(self._sent) + len(self._written)
        if not in_flight:
            return
        self._suspicion += 1
        if self._suspicion >= HOPELESS and in_flight == 1:
            self._suspicion = 0
            item = self._sent.popitem()[1] if self._sent else self._written.popleft()
            self._finish(item, DeliveryError("refused", f"the broker closed {HOPELESS} connections over it: {reason}"))


MAX_PACKET = 268_435_460
"""Bytes of the largest packet that MQTT has (§2.1.4)."""


def properties_of(event: Encoded) -> Properties:
    """Return an event's headers as MQTT has them: a content type, and user properties."""
    headers = event.headers
    user = tuple((name[3:], unquote(value)) for name, value in headers.items() if name.startswith("ce-"))
    return Properties(content_type=headers.get("Content-Type"), user=user)
