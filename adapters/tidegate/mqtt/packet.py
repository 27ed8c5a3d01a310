"""MQTT packets on the wire: what MQTT 3.1.1 and 5 have in common (§2.1 of both).

PUBLISH is read here for both versions, because its topic must be kept as bytes: one that is not UTF-8 is a dead letter
to be, not the end of the connection, and an engine that decodes first can't give it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import pack
from typing import NamedTuple

from tidegate.core import DeliveryError, Properties, ProtocolError

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = 8, 9, 10, 11, 12, 13, 14, 15

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

    def packets(self, *, publishes: bool = True) -> Iterator[Publish | Control]:
        """Yield the packets that are complete. Stop at any time: the rest stays for the next call.

        publishes: False stops before the first PUBLISH, for when there is no room for it.
        Raises ProtocolError where the stream can't be read on.
        """
        while True:
            if self._cut is not None:
                if self._skip or not publishes:
                    return
                cut, self._cut = self._cut, None
                yield self._publish(cut.first, 0, cut.body, len(cut.first), cut.whole)._replace(
                    defect="payload_too_large"
                )
            data, position = self._buffer, self._position
            header = remaining_length(data, position + 1)
            if header is None:
                if self._fill(5):
                    continue
                return
            length, body = header
            end = body + length
            if end - position > self._max_packet:
                if not self._begin_cut(position, body, end):
                    return
            elif end > len(data):
                if not self._fill(end - position):
                    return
            else:
                first = data[position]
                if first >> 4 == PUBLISH and not publishes:
                    return
                self._position = end
                self.size -= end - position
                if first >> 4 == PUBLISH:
                    yield self._publish(data, position, body, end, end)
                else:
                    yield Control(first >> 4, data[position:end], body - position)

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
        return Publish(
            topic,
            data[after:end],
            qos,
            bool(first & 1),
            bool(first & 8),
            packet_id,
            properties,
            true_end - after,
            defect,
        )

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
