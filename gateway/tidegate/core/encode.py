"""The fast path from a message to an event's bytes.

It builds the same document as `Envelope.to_json`, by joining constant bytes around the payload: no dictionary, no model
and no second JSON encoding. Measured in ARCHITECTURE.md; that both give the same document is a property test.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from typing import Literal

import orjson

from tidegate.core.envelope import STRUCTURED_CONTENT_TYPE, percent_encode
from tidegate.core.message import Message

Mode = Literal["structured", "binary"]
Extensions = dict[str, str | int | bool]


class Encoded:
    """An event, encoded for a sink. `message` is what it came from."""

    __slots__ = ("body", "headers", "id", "message", "subject")

    def __init__(
        self,
        id: str,  # noqa: A002 - CloudEvents' own word
        subject: str,
        headers: dict[str, str],
        body: bytes,
        message: Message,
    ) -> None:
        self.id = id
        self.subject = subject
        self.headers = headers
        self.body = body
        self.message = message

    def __repr__(self) -> str:
        return f"<Encoded {self.id} subject={self.subject!r} bytes={len(self.body)}>"


class Data:
    """How a payload becomes the event's data.

    content_type: what `datacontenttype` says; None takes it from the message, or says `application/octet-stream`.
    member: the JSON member that holds it, `data` or `data_base64`.
    value: checks a payload and returns that member's JSON value; raises DeliveryError.
    """

    __slots__ = ("_opening", "content_type", "member", "value")

    def __init__(
        self, content_type: str | None, member: Literal["data", "data_base64"], value: Callable[[bytes], bytes]
    ) -> None:
        self.content_type = content_type
        self.member = member
        self.value = value
        self._opening = self._open(content_type) if content_type else None

    def opening(self, message: Message) -> bytes:
        """Return the document from `datacontenttype` up to the value."""
        return self._opening or self._open(content_type_of(message))

    def _open(self, content_type: str) -> bytes:
        return b',"datacontenttype":%b,"%b":' % (orjson.dumps(content_type), self.member.encode())


BYTES = Data(None, "data_base64", lambda payload: b'"' + b64encode(payload) + b'"')
"""Any payload, as bytes."""

_MEDIA_TYPE = re.compile(r"(?!(?i:nats-|application/cloudevents))[!#-~]{1,127}/[ -~]{1,127}")


def content_type_of(message: Message) -> str:
    """Return the message's own content type if it can be one (RFC 6838 §4.2), else `application/octet-stream`. One of
    CloudEvents' own would have a reader of binary mode take the device's payload for the whole event."""
    declared = message.properties.content_type if message.properties else None
    return declared if declared and _MEDIA_TYPE.fullmatch(declared) else "application/octet-stream"


class Plan:
    """What is constant for one topic of one bridge, so that it is worked out once for each topic.

    subject: the NATS subject. head: the document's constant members, up to the comma. headers: the constant headers
    of binary mode.
    """

    __slots__ = ("head", "headers", "subject")

    def __init__(self, subject: str, attributes: dict[str, str]) -> None:
        self.subject = subject
        self.head = orjson.dumps({"specversion": "1.0", **attributes})[:-1]
        self.headers = {"ce-specversion": "1.0"} | {f"ce-{k}": percent_encode(v) for k, v in attributes.items()}


def encode_structured(
    plan: Plan,
    message: Message,
    stamp: str,
    correlation: str | None,
    data: Data,
    extensions: Extensions | None = None,
) -> Encoded:
    """Return the event as one JSON document (NATS binding §3.2).

    stamp: `time` and `recordedtime`, as `format_time` gives it. correlation: None means the event's own id.
    Raises DeliveryError if the payload is not what `data` says.
    """
    event_id = message.id
    parts = [plan.head]
    if correlation is None:
        parts.append(
            f',"id":"{event_id}","correlationid":"{event_id}","time":"{stamp}","recordedtime":"{stamp}"'.encode()
        )
    else:
        parts.append(f',"id":"{event_id}","correlationid":'.encode())
        parts.append(orjson.dumps(correlation))
        parts.append(f',"time":"{stamp}","recordedtime":"{stamp}"'.encode())
    if extensions:
        parts += (b",", orjson.dumps(extensions)[1:-1])
    if message.payload:
        parts += (data.opening(message), data.value(message.payload))
    parts.append(b"}")
    headers = {"Nats-Msg-Id": event_id, "Content-Type": STRUCTURED_CONTENT_TYPE}
    return Encoded(event_id, plan.subject, headers, b"".join(parts), message)


def encode_binary(
    plan: Plan,
    message: Message,
    stamp: str,
    correlation: str | None,
    data: Data,
    extensions: Extensions | None = None,
) -> Encoded:
    """Return the event as headers around the untouched payload (NATS binding §3.1); else as `encode_structured`."""
    headers = plan.headers | {
        "Nats-Msg-Id": message.id,
        "ce-id": message.id,
        "ce-correlationid": message.id if correlation is None else percent_encode(correlation),
        "ce-time": stamp,
        "ce-recordedtime": stamp,
    }
    for name, value in (extensions or {}).items():
        headers[f"ce-{name}"] = percent_encode(_attribute(value))
    if message.payload:
        data.value(message.payload)
        headers["Content-Type"] = data.content_type or content_type_of(message)
    return Encoded(message.id, plan.subject, headers, message.payload, message)


def _attribute(value: str | int | bool) -> str:
    """Return the canonical string form (CloudEvents §2.2)."""
    return str(value).lower() if isinstance(value, bool) else str(value)
