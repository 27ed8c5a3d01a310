"""The step from a message of a stream to what a device gets, or to a dead letter. Pure: no I/O."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Sequence
from typing import Literal
from urllib.parse import unquote

from tidegate.bridge.convert import PORTION, Converted
from tidegate.bridge.dead_letter import Rejected
from tidegate.bridge.device_time import read_time
from tidegate.bridge.event import Incoming, read_event
from tidegate.bridge.json_member import raw_member
from tidegate.core import (
    Content,
    DeliveryError,
    DownMapping,
    Encoded,
    Extensions,
    Message,
    Properties,
    checked_content_type,
    encode_event,
    header_lines,
    percent_encode,
)
from tidegate.core.envelope import STRUCTURED_CONTENT_TYPE

DownPayload = Literal["data", "event"]

_ATTRIBUTE = "ce-"


class DownConverter:
    """Turns messages with a subject and headers into what is published on a topic, for one bridge.

    payload: `data` gives devices an event's data, with its attributes as headers (binary mode); what is no event goes
    as it is. `event` gives them the whole event as one JSON document (structured mode); what is none becomes a dead
    letter. What says that it is an event and is none becomes a dead letter in both.

    The header `ce-id` is always there: the event's id, or the message's own. A message that comes again has it again.
    """

    def __init__(self, mapping: DownMapping, payload: DownPayload) -> None:
        self._mapping = mapping
        self._payload = payload

    def convert(self, messages: Sequence[Message]) -> Converted:
        """Return what becomes of messages that came together: of all, or of the first where all are much work."""
        events: list[Encoded] = []
        rejected = []
        end = time.monotonic() + PORTION
        for number, message in enumerate(messages):
            if number and time.monotonic() > end:
                messages = messages[:number]
                break
            try:
                events.append(self._event(message))
            except DeliveryError as error:
                rejected.append(Rejected(message, error, "convert"))
            except Exception as error:  # noqa: BLE001 - a defect that one message brought out must not stop all (law 8)
                defect_found = DeliveryError("conversion_failed", f"a defect: {error!r}"[:300])
                rejected.append(Rejected(message, defect_found, "convert"))
        return Converted(messages, events, rejected)

    def correlation_of(self, message: Message) -> str | None:
        """Return the correlation id of the event that a message is, or None."""
        try:
            event = _read(message)
        except DeliveryError:
            return None
        found = event.attributes.get("correlationid") if event else None
        return None if found is None else str(found)

    def _event(self, message: Message) -> Encoded:
        topic = self._mapping.topic(message.topic)
        event = _read(message)
        if self._payload == "event":
            if event is None:
                raise DeliveryError(
                    "not_an_event", "the message is no CloudEvent, and the bridge passes on events only"
                )
            return _whole(topic, event, message)._replace(time=_time_of(event, message))
        if event is None:
            return _plain(topic, message)
        return _data(topic, event, message)._replace(time=_time_of(event, message))


def _time_of(event: Incoming, message: Message) -> float | None:
    """Return when it happened, in seconds since 1970, or None where the event does not say."""
    return read_time(event.attributes.get("time"), message.received)


def _read(message: Message) -> Incoming | None:
    """Return the event that a message is (CloudEvents NATS binding §3), or None if it is none. Raises DeliveryError."""
    headers = message.properties.user if message.properties else ()
    attributes = tuple(
        (name.lower().removeprefix(_ATTRIBUTE), unquote(value))
        for name, value in headers
        if name.lower().startswith(_ATTRIBUTE)
    )
    content_type = message.properties.content_type if message.properties else None
    as_sent = message._replace(properties=Properties(content_type=content_type, user=attributes))
    try:
        return read_event(as_sent, message.payload, is_json=True, whole=True)
    except DeliveryError as error:
        if error.reason == "decode_failed" and content_type is None and not attributes:
            return None  # it only looked like an event
        raise


def _plain(topic: str, message: Message) -> Encoded:
    """What is no event goes as it is."""
    properties = message.properties
    headers = {"ce-id": percent_encode((properties and properties.get("Nats-Msg-Id")) or message.id)}
    if properties is not None and properties.content_type is not None:
        headers["Content-Type"] = checked_content_type(properties.content_type)
    return Encoded(message.id, topic, header_lines(headers), message.payload, message)


def _data(topic: str, event: Incoming, message: Message) -> Encoded:
    """Binary mode (CloudEvents MQTT binding §3.1)."""
    attributes, content = _parts(event, message)
    return encode_event("binary", topic, attributes, content, message.id, message)


def _whole(topic: str, event: Incoming, message: Message) -> Encoded:
    """Structured mode (CloudEvents MQTT binding §3.2). A document that came as one stays as it was written."""
    attributes, content = _parts(event, message)
    whole = encode_event("structured", topic, attributes, content, message.id, message)
    body = message.payload if event.document else whole.body
    lines = header_lines({"ce-id": percent_encode(str(attributes["id"])), "Content-Type": STRUCTURED_CONTENT_TYPE})
    return whole._replace(lines=lines, body=body)


def _parts(event: Incoming, message: Message) -> tuple[Extensions, Content | None]:
    """Return an event's attributes and its data."""
    attributes: Extensions = dict(event.attributes)
    declared = attributes.pop("datacontenttype", None)
    if event.is_json:
        raw = message.payload if event.payload is not None else raw_member(message.payload, "data")
        return attributes, Content(checked_content_type(str(declared or "application/json")), "data", raw, raw)
    if event.payload is None:
        return attributes, None
    quoted = b'"%b"' % b64encode(event.payload)
    content_type = checked_content_type(str(declared) if declared else None)
    return attributes, Content(content_type, "data_base64", quoted, event.payload)
