"""MQTT 3.1.1 (OASIS, 2014). Section numbers are of that document."""

from __future__ import annotations

from struct import pack

from tidegate.core import Properties, ProtocolError
from tidegate.mqtt.codec import Ack, ConnAck, Connect, Pong, Reply, SubAck
from tidegate.mqtt.packet import (
    CONNACK,
    CONNECT,
    DISCONNECT,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    Control,
)
from tidegate.mqtt.packet import encode_packet as packet

REFUSALS = {
    1: "unacceptable protocol version: the server does not speak MQTT 3.1.1",
    2: "identifier rejected: the server does not allow this client id",
    3: "server unavailable",
    4: "bad user name or password",
    5: "not authorized: this user may not connect",
}
"""Connect return codes (§3.2.2.3)."""

_FAILURE = 0x80


class Codec311:
    """The codec for protocol level 4."""

    has_properties = False

    def connect(self, connect: Connect) -> bytes:
        """§3.1. A session that is to be kept is asked for with clean session 0; it has no expiry."""
        flags = 0x02 if connect.clean_start or not connect.session_expiry else 0
        payload = _text(connect.client_id.encode())
        if connect.username is not None:
            flags |= 0x80
            payload += _text(connect.username.encode())
        if connect.password is not None:
            flags |= 0x40
            payload += _text(connect.password)
        return packet(CONNECT << 4, _text(b"MQTT") + pack("!BBH", 4, flags, connect.keep_alive) + payload)

    def subscribe(self, packet_id: int, topic_filter: str, qos: int) -> bytes:
        """§3.8."""
        return packet(SUBSCRIBE << 4 | 2, pack("!H", packet_id) + _text(topic_filter.encode()) + bytes((qos,)))

    def disconnect(self) -> bytes:
        """§3.14."""
        return packet(DISCONNECT << 4, b"")

    def properties(self, properties: Properties) -> bytes | None:  # noqa: ARG002 - there are none in this version
        """There are none in this version."""
        return None

    def read(self, control: Control) -> Reply:
        """Read a packet that a server sends."""
        body = control.packet[control.body :]
        kind, size = control.kind, len(body)
        if kind == CONNACK and size == 2:
            return _connack(body)
        if kind == SUBACK and size == 3 and (body[2] <= 2 or body[2] == _FAILURE):
            refusal = "the server refused the subscription" if body[2] == _FAILURE else None
            return SubAck(body[0] << 8 | body[1], body[2], refusal)
        if kind == PINGRESP and not size:
            return Pong()
        if kind in (PUBACK, PUBREC, PUBREL, PUBCOMP) and size == 2:
            return Ack(kind, body[0] << 8 | body[1])
        raise ProtocolError(f"unexpected packet of type {kind} with {size} bytes")

    def read_properties(self, section: bytes) -> Properties | None:
        """There are none in this version."""
        raise AssertionError(section)


def _connack(body: bytes) -> ConnAck:
    code = body[1]
    refusal = None if code == 0 else REFUSALS.get(code, f"connect return code {code}")
    return ConnAck(session_present=bool(body[0] & 1), refusal=refusal)


def _text(value: bytes) -> bytes:
    return pack("!H", len(value)) + value
