"""MQTT 5 (OASIS, 2019), over the protocol engine `mqtt5`. Section numbers are of that document."""

from __future__ import annotations

import mqtt5

from tidegate.core import DeliveryError, Properties, ProtocolError
from tidegate.mqtt.codec import Ack, Closing, ConnAck, Connect, Pong, Reply, SubAck
from tidegate.mqtt.packet import PUBACK, PUBREC, Control, remaining_length

MAX_USER_PROPERTIES = 64
"""User properties that are kept of one message; a device that sends more does not get to fill the memory."""

MAX_USER_PROPERTY = 1024
"""Characters that are kept of a user property's name and value."""


class Codec5:
    """The codec for protocol version 5."""

    has_properties = True

    def connect(self, connect: Connect) -> bytes:
        """§3.1."""
        return mqtt5.ConnectPacket(
            connect.client_id,
            username=connect.username,
            password=connect.password,
            clean_start=connect.clean_start,
            keep_alive=connect.keep_alive,
            session_expiry_interval=connect.session_expiry,
            receive_max=connect.receive_maximum,
        ).write()

    def subscribe(self, packet_id: int, topic_filter: str, qos: int) -> bytes:
        """§3.8. What this client itself publishes does not come back, and retained messages come only with a new
        subscription, not again at each reconnect."""
        subscription = mqtt5.TopicFilter(
            topic_filter,
            max_qos=mqtt5.QoS(qos),
            no_local=not topic_filter.startswith("$share/"),
            retain_as_published=True,
            retain_handling=mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS,
        )
        return mqtt5.SubscribePacket(packet_id, [subscription]).write()

    def disconnect(self) -> bytes:
        """§3.14, normal disconnection."""
        return mqtt5.DisconnectPacket().write()

    def properties(self, properties: Properties) -> bytes | None:
        """§3.3.2.3: content type and user properties, each at most 65,535 bytes."""
        parts: list[bytes] = []
        if properties.content_type is not None:
            parts += (bytes((_CONTENT_TYPE,)), _text(properties.content_type))
        for name, value in properties.user:
            parts += (bytes((_USER_PROPERTY,)), _text(name), _text(value))
        return b"".join(parts)

    def read(self, control: Control) -> Reply:
        """Read a packet that a server sends."""
        try:
            packet, _ = mqtt5.read(memoryview(control.packet))
        except (ValueError, IndexError) as error:
            raise ProtocolError(f"malformed packet of type {control.kind}: {error}") from error
        except BaseException as error:
            # The engine panics, with a BaseException of its own, on text that is not UTF-8.
            if type(error).__name__ != "PanicException":
                raise
            raise ProtocolError(f"malformed packet of type {control.kind}: text that is not UTF-8") from None
        match packet:
            case mqtt5.ConnAckPacket():
                return _connack(packet)
            case mqtt5.SubAckPacket(packet_id=packet_id, reason_codes=[code]):
                number = int(code)  # its enumerations are no integers, whatever the stub says
                return SubAck(packet_id, number, _reason(code, packet.reason_str) if number >= 0x80 else None)
            case mqtt5.PubAckPacket() | mqtt5.PubRecPacket() | mqtt5.PubCompPacket() | mqtt5.PubRelPacket():
                return _ack(control.kind, packet)
            case mqtt5.PingRespPacket():
                return Pong()
            case mqtt5.DisconnectPacket():
                return Closing(_reason(packet.reason_code, packet.reason_str), int(packet.reason_code) in _BLAMING)
        raise ProtocolError(f"unexpected packet of type {control.kind}")

    def read_properties(self, section: bytes) -> Properties | None:
        """§3.3.2.3. Read by hand, because the engine ends the process's peace on text that is not UTF-8: one device's
        bad property must only cost that message."""
        try:
            return _properties(section)
        except (IndexError, ValueError, ProtocolError) as error:
            raise DeliveryError("properties_invalid", str(error)) from None


def _connack(packet: mqtt5.ConnAckPacket) -> ConnAck:
    accepted = packet.reason_code == mqtt5.ConnAckReasonCode.SUCCESS
    limits = [] if packet.wildcard_subscription_available else ["wildcard subscriptions"]
    if not packet.shared_subscription_available:
        limits.append("shared subscriptions")
    return ConnAck(
        session_present=packet.session_present,
        refusal=None if accepted else _reason(packet.reason_code, packet.reason_str),
        keep_alive=packet.server_keep_alive,
        session_expiry=packet.session_expiry_interval,
        limits=tuple(limits),
        receive_maximum=packet.receive_max,
        maximum_packet_size=packet.max_packet_size,
        maximum_qos=int(packet.max_qos),
        retain_available=packet.retain_available,
    )


_BLAMING = frozenset((0x81, 0x82, 0x87, 0x90, 0x95, 0x99, 0x9A, 0x9B))
"""Reasons of a DISCONNECT that are about a packet of ours: malformed, protocol error, not authorized, topic name,
packet too large, payload format, retain, QoS (§3.14.2.1)."""

_NOT_FOUND, _QUOTA_EXCEEDED = 0x92, 0x97


def _ack(kind: int, packet: mqtt5.PubAckPacket | mqtt5.PubRecPacket | mqtt5.PubCompPacket | mqtt5.PubRelPacket) -> Ack:
    """§3.4.2.1, §3.5.2.1. That a server no longer knows an identifier of QoS 2 is no refusal of its message."""
    code = int(packet.reason_code)
    if code < 0x80 or kind not in (PUBACK, PUBREC) or code == _NOT_FOUND:
        return Ack(kind, packet.packet_id)
    return Ack(kind, packet.packet_id, _reason(packet.reason_code, packet.reason_str), code == _QUOTA_EXCEEDED)


def _reason(
    code: mqtt5.ConnAckReasonCode
    | mqtt5.SubAckReasonCode
    | mqtt5.DisconnectReasonCode
    | mqtt5.PubAckReasonCode
    | mqtt5.PubRecReasonCode
    | mqtt5.PubCompReasonCode
    | mqtt5.PubRelReasonCode,
    text: str | None,
) -> str:
    name = f"{code.name.lower().replace('_', ' ')} (0x{int(code):02x})"
    return f"{name}: {text}" if text else name


_CONTENT_TYPE, _RESPONSE_TOPIC, _CORRELATION_DATA, _USER_PROPERTY = 0x03, 0x08, 0x09, 0x26
_PAYLOAD_FORMAT, _MESSAGE_EXPIRY, _SUBSCRIPTION_ID = 0x01, 0x02, 0x0B


def _properties(section: bytes) -> Properties | None:
    found: dict[int, bytes] = {}
    user: list[tuple[str, str]] = []
    position = 0
    while position < len(section):
        identifier = section[position]
        position += 1
        if identifier == _USER_PROPERTY:
            name, position = _binary(section, position)
            value, position = _binary(section, position)
            if len(user) < MAX_USER_PROPERTIES:
                user.append((name.decode()[:MAX_USER_PROPERTY], value.decode()[:MAX_USER_PROPERTY]))
        elif identifier in (_CONTENT_TYPE, _RESPONSE_TOPIC, _CORRELATION_DATA):
            found[identifier], position = _binary(section, position)
        else:
            position = _skip(section, identifier, position)
    if position > len(section):
        raise ValueError("a property that is cut short")
    if not found and not user:
        return None
    return Properties(
        content_type=found[_CONTENT_TYPE].decode() if _CONTENT_TYPE in found else None,
        correlation_data=found.get(_CORRELATION_DATA),
        response_topic=found[_RESPONSE_TOPIC].decode() if _RESPONSE_TOPIC in found else None,
        user=tuple(user),
    )


def _skip(section: bytes, identifier: int, position: int) -> int:
    """Return the position after a property that a gateway has no use for."""
    if identifier == _PAYLOAD_FORMAT:  # a decoder looks at the payload itself
        return position + 1
    if identifier == _MESSAGE_EXPIRY:  # the broker's part
        return position + 4
    if identifier == _SUBSCRIPTION_ID and (header := remaining_length(section, position)) is not None:
        return header[1]
    raise ValueError(f"property 0x{identifier:02x} has no place in this PUBLISH")


def _text(value: str) -> bytes:
    encoded = value.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def _binary(section: bytes, position: int) -> tuple[bytes, int]:
    start = position + 2
    end = start + (section[position] << 8 | section[position + 1])
    if end > len(section):
        raise ValueError("a property that is cut short")
    return section[start:end], end
