"""Spans, and where they come from (W3C Trace Context)."""

from __future__ import annotations

from contextlib import suppress
from random import getrandbits
from typing import Literal, NamedTuple

import orjson

from tidegate.bridge.correlation import context
from tidegate.core import DeliveryError, Message, Properties

_NAMES = ("traceparent", "tracestate")
MEMBER = b'"traceparent"'
"""What is in every event that came as a document with a trace."""
_SAMPLED = 1


class Origin(NamedTuple):
    """Where a sampled message comes from: its trace, the span that sent it (0: none), and the trace's state."""

    trace_id: int
    span_id: int = 0
    state: str | None = None


class Span(NamedTuple):
    """What one step did. start, end: ns since 1970. error: why it failed."""

    name: str
    kind: Literal["consumer", "producer"]
    origin: Origin
    span_id: int
    start: int
    end: int
    attributes: dict[str, str | int | bool]
    error: DeliveryError | None = None


def new_span_id() -> int:
    """Return a random id."""
    return getrandbits(64)


def new_origin() -> Origin:
    """Return the origin of a new trace."""
    return Origin(getrandbits(128))


def said_origin(message: Message) -> tuple[Origin, bool] | None:
    """Return the origin that a message names, and whether its sender samples it; None if it names none, or no good one
    (Trace Context §3.2.2)."""
    found = context(message.properties) if message.properties is not None else {}
    if _NAMES[0] not in found:
        found = context(_of_document(message.payload))
    parent = found.get(_NAMES[0])
    if parent is None:
        return None
    _, trace_id, span_id, flags = str(parent).split("-")[:4]
    state = found.get(_NAMES[1])
    origin = Origin(int(trace_id, 16), int(span_id, 16), None if state is None else str(state))
    return origin, bool(int(flags, 16) & _SAMPLED)


def _of_document(payload: bytes) -> Properties:
    """Return the trace of an event that came as one JSON document."""
    if MEMBER in payload and b'"specversion"' in payload:
        with suppress(orjson.JSONDecodeError):
            document = orjson.loads(payload)
            if isinstance(document, dict) and "specversion" in document:
                found = ((name, document.get(name)) for name in _NAMES)
                return Properties(user=tuple((name, value) for name, value in found if isinstance(value, str)))
    return Properties()


def sent_by(message: Message, origin: Origin, span_id: int) -> Message:
    """Return a message that names a span as the one that sent it. A new trace has no state yet (§3.3.1.1)."""
    properties = message.properties or Properties()
    old = _NAMES if not origin.span_id else _NAMES[:1]
    user = tuple(pair for pair in properties.user if pair[0] not in old)
    parent = f"00-{origin.trace_id:032x}-{span_id:016x}-{_SAMPLED:02x}"
    return message._replace(properties=properties._replace(user=(*user, (_NAMES[0], parent))))
