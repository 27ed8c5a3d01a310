"""The fast path from a message to an event's bytes.

It builds the same document as `Envelope.to_json`, by joining constant bytes around the payload: no dictionary, no model
and no second JSON encoding. Measured in ARCHITECTURE.md; that both give the same document is a property test.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from typing import Literal, NamedTuple

import orjson

from tidegate.core.envelope import STRUCTURED_CONTENT_TYPE, percent_encode
from tidegate.core.message import Message

Mode = Literal["structured", "binary"]
Extensions = dict[str, str | int | bool]


class Encoded(NamedTuple):
    """An event, encoded for a sink. `message` is what it came from.

    lines: the headers as NATS and HTTP write them, each line with its CR LF (see `header_lines`).
    """

    id: str
    subject: str
    lines: str
    body: bytes
    message: Message

    @property
    def headers(self) -> dict[str, str]:
        """The headers by name."""
        return dict(line.split(": ", 1) for line in self.lines.splitlines())

    def __repr__(self) -> str:
        return f"<Encoded {self.id} subject={self.subject!r} bytes={len(self.body)}>"


def header_lines(headers: dict[str, str]) -> str:
    """Return headers as lines. Raises ValueError for what would not stay in its line."""
    for name, value in headers.items():
        if not _HEADER_NAME(name) or not (value.isascii() and value.isprintable()):
            raise ValueError(f"not a header: {name!r}: {value!r}")
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()])


_HEADER_NAME = re.compile(r"[!#-9;-~]+").fullmatch


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

    subject: the NATS subject. head: the document's constant members, up to the comma. lines: the constant headers of
    binary mode.
    """

    __slots__ = ("head", "lines", "subject")

    def __init__(self, subject: str, attributes: dict[str, str]) -> None:
        self.subject = subject
        self.head = orjson.dumps({"specversion": "1.0", **attributes}).decode()[:-1]
        encoded = {f"ce-{name}": percent_encode(value) for name, value in attributes.items()}
        self.lines = header_lines({"ce-specversion": "1.0", **encoded})


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
    quoted = f'"{event_id}"' if correlation is None else orjson.dumps(correlation).decode()
    more = "," + orjson.dumps(extensions).decode()[1:-1] if extensions else ""
    head = f'{plan.head},"id":"{event_id}","correlationid":{quoted},"time":"{stamp}","recordedtime":"{stamp}"{more}'
    if message.payload:
        body = b"".join((head.encode(), data.opening(message), data.value(message.payload), b"}"))
    else:
        body = head.encode() + b"}"
    return _new(Encoded, (event_id, plan.subject, f"Nats-Msg-Id: {event_id}\r\n{_STRUCTURED}", body, message))


_new = tuple.__new__
"""Makes a named tuple at half the price of its own constructor, which is worth it once for each message."""

_STRUCTURED = header_lines({"Content-Type": STRUCTURED_CONTENT_TYPE})


def encode_binary(
    plan: Plan,
    message: Message,
    stamp: str,
    correlation: str | None,
    data: Data,
    extensions: Extensions | None = None,
) -> Encoded:
    """Return the event as headers around the untouched payload (NATS binding §3.1); else as `encode_structured`."""
    event_id = message.id
    quoted = event_id if correlation is None else percent_encode(correlation)
    lines = (
        f"Nats-Msg-Id: {event_id}\r\nce-id: {event_id}\r\n{plan.lines}ce-correlationid: {quoted}\r\n"
        f"ce-time: {stamp}\r\nce-recordedtime: {stamp}\r\n"
    )
    if extensions:
        lines += header_lines({f"ce-{name}": percent_encode(_attribute(v)) for name, v in extensions.items()})
    if message.payload:
        data.value(message.payload)
        lines += f"Content-Type: {data.content_type or content_type_of(message)}\r\n"
    return _new(Encoded, (event_id, plan.subject, lines, message.payload, message))


def _attribute(value: str | int | bool) -> str:
    """Return the canonical string form (CloudEvents §2.2)."""
    return str(value).lower() if isinstance(value, bool) else str(value)
