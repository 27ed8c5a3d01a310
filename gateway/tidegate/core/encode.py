"""The fast path from a message to an event's bytes.

It builds the same document as `Envelope.to_json`, by joining constant bytes around the payload: no dictionary, no model
and no second JSON encoding. Measured in ARCHITECTURE.md; that both give the same document is a property test.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Literal, NamedTuple

import orjson

from tidegate.core.envelope import STRUCTURED_CONTENT_TYPE, format_time, percent_encode
from tidegate.core.message import Message, new_tuple

Mode = Literal["structured", "binary"]
Extensions = dict[str, str | int | bool]


class Encoded(NamedTuple):
    """An event, encoded for a sink. `message` is what it came from.

    lines: the headers as NATS and HTTP write them, each line with its CR LF (see `header_lines`). time: when it
    happened, in seconds since 1970, where that is told; None: when the message was received.
    """

    id: str
    subject: str
    lines: str
    body: bytes
    message: Message
    time: float | None = None

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


class Moment:
    """A time of receipt, which is the same for messages that came together, as both forms of an event have it.

    seconds: since 1970. members: of the JSON document. lines: headers.
    """

    __slots__ = ("lines", "members", "seconds")

    def __init__(self, seconds: float) -> None:
        stamp = format_time(seconds)
        self.seconds = seconds
        self.members = f'"time":"{stamp}","recordedtime":"{stamp}"'
        self.lines = f"ce-time: {stamp}\r\nce-recordedtime: {stamp}\r\n"


class Data:
    """How a payload becomes the event's data.

    content_type: what `datacontenttype` says; None takes it from the message, or says `application/octet-stream`.
    member: the JSON member that holds it, `data` or `data_base64`.
    value: checks a payload and returns that member's JSON value; raises DeliveryError.
    are_values: whether all of these payloads surely are their own values; False means that `value` has to look.
    constant: what `opening` returns where that is the same for every message, else None.
    """

    __slots__ = ("are_values", "constant", "content_type", "member", "value")

    def __init__(
        self,
        content_type: str | None,
        member: Literal["data", "data_base64"],
        value: Callable[[bytes], bytes],
        are_values: Callable[[Sequence[bytes]], bool] = lambda _: False,
    ) -> None:
        self.content_type = content_type
        self.member = member
        self.value = value
        self.are_values = are_values
        self.constant = self._open(content_type) if content_type else None

    def opening(self, message: Message) -> str:
        """Return the document from `datacontenttype` up to the value."""
        return self.constant or self._open(content_type_of(message))

    def _open(self, content_type: str) -> str:
        return f',"datacontenttype":{orjson.dumps(content_type).decode()},"{self.member}":'


BYTES = Data(None, "data_base64", lambda payload: b'"' + b64encode(payload) + b'"')
"""Any payload, as bytes."""

_MEDIA_TYPE = re.compile(r"(?!(?i:nats-|application/cloudevents))[!#-~]{1,127}/[ -~]{1,127}")


def content_type_of(message: Message) -> str:
    """Return the message's own content type if it can be one, else `application/octet-stream`."""
    return checked_content_type(message.properties.content_type if message.properties else None)


def checked_content_type(declared: str | None) -> str:
    """Return a device's content type if it can be one (RFC 6838 §4.2), else `application/octet-stream`. One of
    CloudEvents' own would have a reader of binary mode take the device's payload for the whole event."""
    return declared if declared and _MEDIA_TYPE.fullmatch(declared) else "application/octet-stream"


class Plan(NamedTuple):
    """What is constant for one topic of one bridge, so that it is worked out once for each topic.

    subject: the NATS subject. head: in structured mode the document's constant members, up to the comma; in binary mode
    the constant header lines.
    """

    subject: str
    head: str


def new_plan(mode: Mode, subject: str, attributes: dict[str, str]) -> Plan:
    """Return the plan for a topic. attributes: the event's constant ones, but for `specversion`."""
    attributes = {"specversion": "1.0", **attributes}
    if mode == "structured":
        return Plan(subject, orjson.dumps(attributes).decode()[:-1])
    return Plan(subject, header_lines({f"ce-{name}": percent_encode(value) for name, value in attributes.items()}))


def encode_structured(
    plan: Plan,
    message: Message,
    moment: Moment,
    correlation: str | None,
    data: Data,
    extensions: Extensions | None = None,
) -> Encoded:
    """Return the event as one JSON document (NATS binding §3.2).

    moment: of receipt, which is `time` and `recordedtime`. correlation: None means the event's own id.
    Raises DeliveryError if the payload is not what `data` says.
    """
    event_id, payload = message.id, message.payload
    quoted = f'"{event_id}"' if correlation is None else orjson.dumps(correlation).decode()
    more = "," + orjson.dumps(extensions).decode()[1:-1] if extensions else ""
    opening = (data.constant or data.opening(message)) if payload else ""
    head = f'{plan.head},"id":"{event_id}","correlationid":{quoted},{moment.members}{more}{opening}'
    value = data.value(payload) if payload else b""
    body = b"".join((head.encode(), value, b"}"))
    lines = f"Nats-Msg-Id: {event_id}\r\n{_STRUCTURED}"
    return new_tuple(Encoded, (event_id, plan.subject, lines, body, message, None))


def encode_plain(plans: Sequence[Plan], messages: Sequence[Message], moment: Moment, data: Data) -> list[Encoded]:
    """Return what `encode_structured` does, for messages with a payload that is its own value, a constant opening, and
    nothing of their own: one expression for each, because a call for each would double its price."""
    members = f"{moment.members}{data.constant}"
    ids = [message.id for message in messages]
    lines = [f"Nats-Msg-Id: {event_id}\r\n{_STRUCTURED}" for event_id in ids]
    bodies = [
        f'{plan.head},"id":"{event_id}","correlationid":"{event_id}",{members}'.encode() + message.payload + b"}"
        for plan, event_id, message in zip(plans, ids, messages, strict=True)
    ]
    subjects = [plan.subject for plan in plans]
    times = repeat(None, len(messages))
    return list(map(new_tuple, repeat(Encoded), zip(ids, subjects, lines, bodies, messages, times, strict=True)))


_STRUCTURED = header_lines({"Content-Type": STRUCTURED_CONTENT_TYPE})


def encode_binary(
    plan: Plan,
    message: Message,
    moment: Moment,
    correlation: str | None,
    data: Data,
    extensions: Extensions | None = None,
) -> Encoded:
    """Return the event as headers around the untouched payload (NATS binding §3.1); else as `encode_structured`."""
    event_id = message.id
    quoted = event_id if correlation is None else percent_encode(correlation)
    lines = f"Nats-Msg-Id: {event_id}\r\nce-id: {event_id}\r\n{plan.head}ce-correlationid: {quoted}\r\n{moment.lines}"
    if extensions:
        lines += header_lines({f"ce-{name}": percent_encode(_attribute(v)) for name, v in extensions.items()})
    if message.payload:
        data.value(message.payload)
        lines += f"Content-Type: {data.content_type or content_type_of(message)}\r\n"
    return new_tuple(Encoded, (event_id, plan.subject, lines, message.payload, message, None))


class Content(NamedTuple):
    """An event's data: its media type, the JSON member that holds it, its value there, and its bytes on their own."""

    content_type: str
    member: Literal["data", "data_base64"]
    value: bytes
    body: bytes


def encode_event(
    mode: Mode,
    subject: str,
    attributes: Extensions,
    content: Content | None,
    key: str,
    message: Message,
    time: float | None = None,
) -> Encoded:
    """Return an event of any attributes: what the faster ways make of the usual ones.

    key: what the stream knows a copy by, its `Nats-Msg-Id`; the `id` unless that is not unique on its own. time: see
    `Encoded`.
    """
    lines = f"Nats-Msg-Id: {percent_encode(key)}\r\n"
    if mode == "binary":
        lines += header_lines({f"ce-{name}": percent_encode(_attribute(value)) for name, value in attributes.items()})
        if content:
            lines += header_lines({"Content-Type": content.content_type})
        return Encoded(key, subject, lines, content.body if content else b"", message, time)
    if content:
        attributes = {**attributes, "datacontenttype": content.content_type}
    body = orjson.dumps(attributes)
    if content:
        body = b"".join((body[:-1], b',"', content.member.encode(), b'":', content.value, b"}"))
    return Encoded(key, subject, lines + _STRUCTURED, body, message, time)


def _attribute(value: str | int | bool) -> str:
    """Return the canonical string form (CloudEvents §2.2)."""
    return str(value).lower() if isinstance(value, bool) else str(value)
