"""An MQTT session as a source: it outlives its connections, and holds every PUBACK until the message is settled."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from zlib import crc32

from tidegate.core import Batch, IdSource, Message, Properties, ProtocolError, new_tuple
from tidegate.mqtt.codec import Ack, Closing, ConnAck, Pong, SubAck
from tidegate.mqtt.handshake import BrokerOptions, connect
from tidegate.mqtt.kept_connection import KeptConnection
from tidegate.mqtt.link import Link
from tidegate.mqtt.packet import (
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    Control,
    PacketReader,
    Publish,
    PublishRun,
    encode_acks,
    encode_publish,
)
from tidegate.mqtt.packet_table import PacketTable, fill, rows_of

log = logging.getLogger(__name__)

_SUBSCRIBE_ID = 1
_MAX_HEADER = 70_000  # a packet's bytes besides its payload: the longest topic, and some properties

MAX_BATCH = 128
"""Messages handed out at once. Smaller batches let the parts of the way work at the same time, and stay in the cache of
the processor; larger ones cost fewer switches between tasks."""

_FREE, _UNSETTLED, _UNRELEASED, _UNRELEASED_BEFORE = 0, 1, 2, 3
"""What a packet identifier stands for on this connection: nothing, a message whose PUBACK or PUBREC is held back, or
a QoS 2 message whose PUBREC was sent, here or on an earlier connection, and whose PUBREL has not come (MQTT 5 §4.3.3).
"""


@dataclass(frozen=True, kw_only=True)
class SessionOptions(BrokerOptions):
    """How to connect, and how much to take.

    receive_maximum: messages in flight, asked of the broker and enforced here. max_bytes: the same in payload bytes.
    max_payload: bytes; of a larger message only the first part is kept, and it is marked.
    state_file: where event ids are kept across a crash (see PacketTable), or None.
    """

    topic_filter: str
    qos: int = 1
    max_bytes: int = 8 * 1024 * 1024
    max_payload: int = 1024 * 1024
    state_file: Path | None = None


class _Receipt:
    """What one batch owes the broker, and the epoch of the connection that brought it."""

    __slots__ = ("done", "epoch", "messages", "pubacks", "pubrecs", "size")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.pubacks: list[int] = []
        self.pubrecs: list[int] = []
        self.messages = 0
        self.size = 0
        self.done = False


class Session(KeptConnection):
    """A `Source` over one MQTT session. Use as `async with`; it connects in the background and reconnects for ever.

    up: connected and subscribed. granted_qos: what the broker gave.
    stale_acks: messages settled after their connection was gone; the broker sends them again.
    """

    def __init__(self, options: SessionOptions, name: str = "") -> None:
        super().__init__(options, name, "session")
        self.options = options
        self.granted_qos: int | None = None
        self.sessions_lost = 0
        self.stale_acks = 0
        self.duplicates = 0
        self._ids = IdSource()
        self._epoch = 0
        self._receipts: deque[_Receipt] = deque()
        self._unsettled = 0
        self._unsettled_bytes = 0
        self._readable = asyncio.Event()
        self._packet_state = memoryview(bytearray(65536))
        self._table = PacketTable(options.state_file, f"{options.endpoint} {options.client_id}")
        self._pings: deque[int] = deque()

    async def __aexit__(self, *exc: object) -> None:
        await super().__aexit__(*exc)
        self._table.close()

    @property
    def unsettled(self) -> int:
        """Messages handed out and not settled, those of ended connections too."""
        return self._unsettled

    async def receive(self) -> Batch:
        """See `Source.receive`."""
        while True:
            await self._readable.wait()
            batch = self._take()
            if batch is not None:
                return batch
            self._readable.clear()

    def publish(self, topic: str, payload: bytes) -> bool:
        """Send a message at QoS 0 over the present connection; return whether there is one. Nothing is kept for later,
        and nobody says whether the broker got it."""
        link = self._link
        if link is None or link.closing:
            return False
        link.write(encode_publish(topic, payload, properties=self.options.codec.properties(Properties())))
        return True

    # Reading

    def _take(self) -> Batch | None:
        """Turn what has been read ahead into a batch, as far as the window allows."""
        link = self._link
        if link is None or link.closing:
            return None
        receipt = _Receipt(self._epoch)
        messages = self._read(link, receipt)
        link.resume()
        if not messages:
            return None
        receipt.messages = len(messages)
        self._receipts.append(receipt)
        self._unsettled += receipt.messages
        self._unsettled_bytes += receipt.size
        return Batch(messages, lambda: self._settle(receipt))

    def _read(self, link: Link, receipt: _Receipt) -> list[Message]:
        """Return the messages that there is room for, and tend to every other packet before and between them."""
        options, reader, received = self.options, link.reader, time.time()
        most = min(MAX_BATCH, options.receive_maximum - self._unsettled)
        messages: list[Message] = []
        try:
            while True:
                room = most - len(messages)
                room_bytes = options.max_bytes - self._unsettled_bytes - receipt.size
                run = reader.take_run(room, room_bytes)
                if run.topics:
                    messages += self._read_run(link, run, receipt, received)
                    continue
                # With a full window a SUBACK is still read, else a new connection would seem never to get there.
                packet = reader.next(publishes=room > 0 and room_bytes > 0)
                if packet is None:
                    return messages
                if isinstance(packet, Publish):
                    messages += self._read_one(link, packet, receipt, received)
                else:
                    self._control(link, packet)
        except ProtocolError as error:
            link.fail(str(error))
        return messages

    def _read_run(self, link: Link, run: PublishRun, receipt: _Receipt, received: float) -> list[Message]:
        """Return the messages of a run: by column, as a loop over messages costs twice as much."""
        qos, topics, payloads, packet_ids = run
        sizes = list(map(len, payloads))
        if (
            max(sizes) > self.options.max_payload
            or len(set(packet_ids)) < len(packet_ids)
            or any(map(self._packet_state.__getitem__, packet_ids))
        ):
            rest = zip(topics, payloads, packet_ids or repeat(0), sizes, strict=False)
            packets = (Publish(t, p, qos, False, False, i, None, size, None) for t, p, i, size in rest)
            return [one for packet in packets for one in self._read_one(link, packet, receipt, received)]
        block = self._ids.reserve(len(topics))
        if qos:
            fill(self._packet_state, rows_of(packet_ids), _UNSETTLED)
            self._table.remember(packet_ids, block, map(crc32, payloads, map(crc32, topics)))
            receipt.pubacks += packet_ids
        receipt.size += sum(sizes)
        ids, no, none = block.texts(len(topics)), repeat(False), repeat(None)
        fields = zip(topics, payloads, ids, repeat(qos), no, no, none, sizes, none, repeat(received), strict=False)
        return list(map(new_tuple, repeat(Message), fields))

    def _read_one(self, link: Link, packet: Publish, receipt: _Receipt, received: float) -> list[Message]:
        """Return the message of any PUBLISH, or nothing if it is already in our hands."""
        topic, payload, qos, retain, duplicate, packet_id, properties, size, defect = packet
        event_id = None
        if qos:
            if self._packet_state[packet_id] != _FREE and not self._is_new(link, packet):
                return []
            self._packet_state[packet_id] = _UNSETTLED
            (receipt.pubacks if qos == 1 else receipt.pubrecs).append(packet_id)
            check = crc32(payload, crc32(topic))
            event_id = self._table.recall(packet_id, check) if duplicate else None
        if event_id is None:
            block = self._ids.reserve(1)
            (event_id,) = block.texts(1)
            if qos:
                self._table.remember([packet_id], block, [check])
        if size > self.options.max_payload:
            payload, defect = payload[: self.options.max_payload], "payload_too_large"
        receipt.size += len(payload)
        return [Message(topic, payload, event_id, qos, retain, duplicate, properties, size, defect, received)]

    def _is_new(self, link: Link, packet: Publish) -> bool:
        """Whether a PUBLISH under an identifier in use brings a message that is not already in our hands."""
        packet_id = packet.packet_id
        state = self._packet_state[packet_id]
        if state == _UNRELEASED_BEFORE and not (
            packet.duplicate and self._table.check(packet_id) == crc32(packet.payload, crc32(packet.topic))
        ):
            return True  # the broker has let go of the old message, though it did not say so
        if state == _UNSETTLED and not packet.duplicate:
            raise ProtocolError(f"packet identifier {packet_id} was used for two messages at once")
        self.duplicates += 1
        if state in (_UNRELEASED, _UNRELEASED_BEFORE):
            link.write(encode_acks(PUBREC, [packet_id]))
        return False

    def _control(self, link: Link, packet: Control) -> None:
        match self.options.codec.read(packet):
            case Ack(kind=kind, packet_id=packet_id):  # released, known or not, so that the broker can let go of it
                if kind != PUBREL:
                    raise ProtocolError(f"unexpected packet of type {kind}")
                self._packet_state[packet_id] = _FREE
                self._table.release(packet_id)
                link.write(encode_acks(PUBCOMP, [packet_id]))
            case SubAck() as suback:
                self._subscribed(link, suback)
            case Pong():
                self._answered(link)
            case Closing(reason=reason):
                link.fail(f"the broker disconnected: {reason}")
            case ConnAck():
                raise ProtocolError("a second CONNACK")

    def _subscribed(self, link: Link, suback: SubAck) -> None:
        if suback.refusal is not None:
            link.fail(f"subscription to {self.options.topic_filter!r} refused: {suback.refusal}")
            return
        self.up = True
        self.last_error = None
        self.granted_qos = suback.granted_qos
        self._backoff.reset()
        log.info("%s: connected to %s, subscribed to %r", self.name, self.options.endpoint, self.options.topic_filter)
        if suback.granted_qos < self.options.qos:
            log.warning(
                "%s: the broker granted QoS %d, not %d: %s",
                self.name,
                suback.granted_qos,
                self.options.qos,
                "messages can be lost" if suback.granted_qos == 0 else "messages can be doubled",
            )

    # Settling

    def _settle(self, receipt: _Receipt) -> None:
        """Release what the batch owes the broker, in the order in which the messages arrived [MQTT-4.6.0-2]."""
        self._unsettled -= receipt.messages
        self._unsettled_bytes -= receipt.size
        self._readable.set()
        link = self._link
        if receipt.epoch != self._epoch or link is None or link.closing:
            self.stale_acks += receipt.messages
            return
        receipt.done = True
        pubacks: list[int] = []
        pubrecs: list[int] = []
        while self._receipts and self._receipts[0].done:
            first = self._receipts.popleft()
            pubacks += first.pubacks
            pubrecs += first.pubrecs
        if pubacks:
            self._acknowledge(link, PUBACK, pubacks, _FREE)
        if pubrecs:
            self._acknowledge(link, PUBREC, pubrecs, _UNRELEASED)

    def _acknowledge(self, link: Link, kind: int, packet_ids: list[int], state: int) -> None:
        fill(self._packet_state, rows_of(packet_ids), state)
        self._table.acknowledge(packet_ids, unreleased=state == _UNRELEASED)
        acks = encode_acks(kind, packet_ids)
        if self._pings:
            link.write(acks)
        else:
            self._ping(link, acks)

    def _ping(self, link: Link, before: bytes = b"") -> None:
        """Send a PINGREQ. Its answer says that the broker has read every acknowledgement before it."""
        self._pings.append(self._table.acknowledgements)
        link.ping(before)

    def _answered(self, link: Link) -> None:
        if not self._pings:
            return
        confirmed = self._pings.popleft()
        self._table.confirm(confirmed)
        if confirmed < self._table.acknowledgements and not self._pings:
            self._ping(link)

    # Connecting

    async def _connect(self) -> Link:
        options = self.options
        read_properties = options.codec.read_properties if options.codec.has_properties else None
        reader = PacketReader(options.max_payload + _MAX_HEADER, read_properties)
        clean = options.session_expiry == 0
        link, connack = await connect(options, reader, self._readable.set, clean_start=clean)
        self._begin_epoch(link, connack)
        return link

    def _begin_epoch(self, link: Link, connack: ConnAck) -> None:
        """Take up the session on a new connection. What earlier ones brought and is not settled comes again."""
        self._epoch += 1
        self.connects += 1
        self._receipts.clear()
        self._pings.clear()
        self._packet_state = memoryview(bytearray(65536))
        if connack.session_present:
            for packet_id in self._table.unreleased():
                self._packet_state[packet_id] = _UNRELEASED_BEFORE
        else:
            self._table.forget()
            if (self.connects > 1 or self._table.known) and self.options.session_expiry:
                self.sessions_lost += 1
                log.warning("%s: the broker no longer has the session; what it held is lost there", self.name)
        if connack.session_expiry is not None and connack.session_expiry < self.options.session_expiry:
            log.warning("%s: the broker keeps the session for %d s only", self.name, connack.session_expiry)
        self._link = link
        self._keep_alive = self.options.keep_alive if connack.keep_alive is None else connack.keep_alive
        link.write(self.options.codec.subscribe(_SUBSCRIBE_ID, self.options.topic_filter, self.options.qos))
        self._readable.set()
