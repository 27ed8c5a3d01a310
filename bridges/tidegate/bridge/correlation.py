"""The ids that a device gave with a message, by which events are joined into one story."""

from __future__ import annotations

import re

from tidegate.core import Extensions, Properties

MAX_CORRELATION = 256
"""Characters that are kept of an id that a device sent."""

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?").fullmatch
_MAX_TRACESTATE = 512


def correlation_id(properties: Properties | None) -> str | None:
    """Return the device's correlation id from MQTT 5: a user property, else Correlation Data (§3.3.2.3.6), or None."""
    if properties is None:
        return None
    if given := properties.get("correlationid"):
        return given[:MAX_CORRELATION]
    if data := properties.correlation_data:
        return _as_text(data[:MAX_CORRELATION])[:MAX_CORRELATION]
    return None


def id_from_value(value: object) -> str | None:
    """Return an id that was found in a payload: a text or a whole number, else None."""
    if isinstance(value, str | int) and not isinstance(value, bool):
        text = str(value)[:MAX_CORRELATION]
        return text if text and text.isprintable() else None  # half of a surrogate pair is not printable either
    return None


def context(properties: Properties) -> Extensions:
    """Return the attributes that say where a message belongs: `causationid`, and W3C Trace Context's `traceparent` and
    `tracestate`, from user properties of these names. A `traceparent` that is none is left out (§3.2 there)."""
    found: Extensions = {}
    if causation := properties.get("causationid"):
        found["causationid"] = causation[:MAX_CORRELATION]
    trace = properties.get("traceparent")
    if trace and len(trace) <= MAX_CORRELATION and _TRACEPARENT(trace):
        found["traceparent"] = trace
        state = properties.get("tracestate")
        if state and len(state) <= _MAX_TRACESTATE:
            found["tracestate"] = state
    return found


def _as_text(data: bytes) -> str:
    """Return binary correlation data as itself where it is printable ASCII, else in hexadecimal."""
    if data.isascii() and (text := data.decode()).isprintable():
        return text
    return data.hex()
