"""MQTT packets on the wire: what MQTT 3.1.1 and 5 have in common (§2.1 of both).

PUBLISH is read here for both versions, because its topic must be kept as bytes: one that is not UTF-8 is a dead letter
to be, not the end of the connection, and an engine that decodes first can't give it back.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import pack
from typing import NamedTuple

from tidegate.core import DeliveryError, Properties, ProtocolError, new_tuple

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = 8, 9, 10, 11, 12, 13, 14, 15

_SHORTEST = 5  # bytes that a PUBLISH is read in before its end is known: three of the fixed header, two of the topic

PINGREQ_PACKET = b"\xc0\x00"

MAX_REMAINING_LENGTH = 268_435_455


class Publish(NamedTuple):
    """A PUBLISH packet. `size` is the payload's, also where `payload` was cut; `defect` says what is wrong with it."""

    topic: bytes
    payload: bytes
    qos: int
    retain: bool
    duplicate: bool
    packet_id: int
    properties: Properties | None
    size: int
    defect: str | None


class PublishRun(NamedTuple):
    """Plain PUBLISH packets in a row, by column: of one QoS, 0 or 1, under 16 KiB, neither retained nor marked as
    duplicates, and without properties. `packet_ids` is empty at QoS 0."""

    qos: int
    topics: list[bytes]
    payloads: list[bytes]
    packet_ids: list[int]


_PLAIN = (PUBLISH << 4, PUBLISH << 4 | 2)
"""The first byte of a plain PUBLISH."""


class Control(NamedTuple):
    """Any other packet, whole."""

    kind: int
    packet: bytes
    body: int
    """Where the body starts: after the fixed header."""


class _Cut(NamedTuple):
    """An over-large packet on its way past: its first bytes, where its body starts, and its whole size."""

    first: bytes
    body: int
    whole: int


PropertyReader = Callable[[bytes], Properties | None]
"""Reads a PUBLISH's property section; raises DeliveryError where it is malformed."""


def remaining_length(data: bytes, position: int) -> tuple[int, int] | None:
    """Return a variable byte integer and the position after it (§2.2.3 / §1.5.5), or None if it is not complete.

    Raises ProtocolError if it is longer than four bytes.
    """
    value = shift = 0
    for index in range(position, min(position + 4, len(data))):
        byte = data[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, index + 1
        shift += 7
    if len(data) - position >= 4:
        raise ProtocolError("malformed packet: a length of more than four bytes")
    return None


def encode_length(value: int) -> bytes:
    """Return a variable byte integer."""
    encoded = bytearray()
    while True:
        value, byte = value >> 7, value & 0x7F
        encoded.append(byte | (0x80 if value else 0))
        if not value:
            return bytes(encoded)


def encode_packet(kind_and_flags: int, body: bytes) -> bytes:
    """Return a whole packet."""
    return bytes((kind_and_flags,)) + encode_length(len(body)) + body


def encode_acks(kind: int, packet_ids: list[int]) -> bytes:
    """Return many PUBACK, PUBREC, PUBREL or PUBCOMP packets, each with reason success in its short form."""
    start = kind << 12 | (0x0202 if kind == PUBREL else 0x0002)
    flat = [start] * (2 * len(packet_ids))
    flat[1::2] = packet_ids
    return pack(f"!{len(flat)}H", *flat)


def encode_publish(
    topic: str, payload: bytes, *, properties: bytes | None, flags: int = 0, packet_id: int = 0
) -> bytes:
    """Return a PUBLISH (§3.3). topic: at most 65,535 bytes. properties: None where the version has none. flags: of the
    fixed header, DUP, QoS and RETAIN. packet_id: 0 at QoS 0."""
    name = topic.encode()
    identifier = packet_id.to_bytes(2, "big") if packet_id else b""
    section = b"" if properties is None else encode_length(len(properties)) + properties
    return encode_packet(
        PUBLISH << 4 | flags, b"".join((len(name).to_bytes(2, "big"), name, identifier, section, payload))
    )


class PacketReader:
    """Cuts a byte stream into packets.

    It holds what was fed and not yet read. Of a PUBLISH larger than `max_packet` it keeps the first `max_packet` bytes
    and lets the rest go as it arrives; the packet then comes out with the defect `payload_too_large`.
    """

    def __init__(self, max_packet: int, read_properties: PropertyReader | None) -> None:
        self._max_packet = max_packet
        self._read_properties = read_properties
        self._buffer = b""
        self._position = 0
        self._chunks: list[bytes] = []
        self._need = 0
        self._cut: _Cut | None = None
        self._skip = 0
        self.size = 0

    @property
    def hungry(self) -> bool:
        """Whether the next packet is known to need more bytes than are here."""
        return self._skip > 0 or self.size < self._need

    def feed(self, data: bytes) -> None:
        """Take bytes from the socket."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        if data:
            self._chunks.append(data)
            self.size += len(data)

    def take_run(self, publishes: int, max_bytes: int) -> PublishRun:
        """Return the next packets as far as they are plain PUBLISH packets of one QoS; perhaps none is.

        publishes: at most this many. max_bytes: of payloads; stop after what reaches it. Nearly all packets are plain,
        so this loop is the price of a message. `next` reads any packet, and knows every error.
        """
        if self._position == len(self._buffer):
            self._fill(5)
        data, position, size = self._buffer, self._position, 0
        limit = len(data)
        kind = data[position] if position < limit else 0
        qos = kind >> 1 & 1
        topics: list[bytes] = []
        payloads: list[bytes] = []
        packet_ids: list[int] = []
        if kind not in _PLAIN or self._cut is not None:
            return PublishRun(qos, topics, payloads, packet_ids)
        no_properties = b"" if self._read_properties is None else b"\0"
        between = 2 * qos  # bytes from the topic to the properties
        skip = between + len(no_properties)
        last = limit - _SHORTEST
        while len(topics) < publishes and size < max_bytes and position <= last and data[position] == kind:
            length, body = data[position + 1], position + 2
            if length >= 0x80:
                length, body = length & 0x7F | data[body] << 7, position + 3
            end = body + length
            start = body + 2
            after = start + (data[body] << 8 | data[body + 1])
            payload = after + skip
            if end > limit or payload > end or length >= 0x4000 or end - position > self._max_packet:
                break
            if data[after + between : payload] != no_properties:
                break
            if qos:
                packet_id = data[after] << 8 | data[after + 1]
                if not packet_id:
                    break
                packet_ids.append(packet_id)
            topics.append(data[start:after])
            payloads.append(data[payload:end])
            size += end - payload
            position = end
        self.size -= position - self._position
        self._position = position
        return PublishRun(qos, topics, payloads, packet_ids)

    def next(self, *, publishes: bool = True) -> Publish | Control | None:
        """Return the next packet, or None if it is not complete, or is a PUBLISH and `publishes` is False.

        Raises ProtocolError where the stream can't be read on.
        """
        while True:
            if self._cut is not None:
                return self._take_cut() if publishes and not self._skip else None
            data, position = self._buffer, self._position
            header = remaining_length(data, position + 1)
            if header is None:
                if self._fill(5):
                    continue
                return None
            length, body = header
            end = body + length
            if end - position > self._max_packet:
                if not self._begin_cut(position, body, end):
                    return None
            elif end > len(data):
                if not self._fill(end - position):
                    return None
            else:
                kind = data[position] >> 4
                if kind == PUBLISH and not publishes:
                    return None
                self._position = end
                self.size -= end - position
                if kind == PUBLISH:
                    return self._publish(data, position, body, end, end)
                return Control(kind, data[position:end], body - position)

    def _take_cut(self) -> Publish:
        """Return the over-large packet that has passed."""
        assert self._cut is not None
        cut, self._cut = self._cut, None
        return self._publish(cut.first, 0, cut.body, len(cut.first), cut.whole)._replace(defect="payload_too_large")

    def _fill(self, need: int) -> bool:
        """Join the chunks to the buffer once they can complete what is needed, so that joining stays linear."""
        if not self._chunks or (need > 5 and self.size < need):
            self._need = need if need > 5 else 0
            return False
        self._need = 0
        self._buffer = b"".join((self._buffer[self._position :], *self._chunks))
        self._position = 0
        self._chunks.clear()
        return True

    def _begin_cut(self, position: int, body: int, end: int) -> bool:
        """Set the first bytes of an over-large packet aside, and let the rest pass. False: they are not all here."""
        if len(self._buffer) - position < self._max_packet:
            return self._fill(self._max_packet)
        if self._buffer[position] >> 4 != PUBLISH:
            raise ProtocolError(f"a control packet of {end - position} bytes")
        keep = position + self._max_packet
        self._cut = _Cut(self._buffer[position:keep], body - position, end - position)
        self._skip = end - keep
        rest = (self._buffer[keep:], *self._chunks)
        self._buffer, self._position, self._chunks, self.size = b"", 0, [], 0
        for data in rest:
            self.feed(data)
        return True

    def _publish(self, data: bytes, start: int, body: int, end: int, true_end: int) -> Publish:
        """Read a PUBLISH (§3.3) from data[start:end]; `true_end` is where it would end if it was not cut."""
        first = data[start]
        qos = first >> 1 & 3
        position = body + 2
        if qos == 3 or position > end:
            raise ProtocolError("malformed PUBLISH")
        after = position + (data[body] << 8 | data[body + 1])
        topic = data[position:after]
        packet_id = 0
        if qos:
            after += 2
            if after > end:
                raise ProtocolError("malformed PUBLISH")
            packet_id = data[after - 2] << 8 | data[after - 1]
            if not packet_id:
                raise ProtocolError("a PUBLISH with packet identifier 0")
        properties: Properties | None = None
        defect: str | None = None
        if self._read_properties is not None:
            if after < end and not data[after]:
                after += 1
            else:
                properties, after, defect = self._properties(data, after, end)
        if after > true_end:
            raise ProtocolError("malformed PUBLISH")
        flags = (first & 1 == 1, first & 8 == 8)
        payload = data[after:end]
        return new_tuple(Publish, (topic, payload, qos, *flags, packet_id, properties, true_end - after, defect))

    def _properties(self, data: bytes, position: int, end: int) -> tuple[Properties | None, int, str | None]:
        """Return the properties, the position after them, and the defect where they are malformed."""
        assert self._read_properties is not None
        header = remaining_length(data[position : min(position + 4, end)], 0)
        if header is None:
            raise ProtocolError("malformed PUBLISH")
        length, size = header
        start = position + size
        after = start + length
        try:
            return self._read_properties(data[start : min(after, end)]), after, None
        except DeliveryError as error:
            return None, after, error.reason
