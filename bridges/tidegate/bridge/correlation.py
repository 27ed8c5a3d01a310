"""The correlation id that a device gave with a message."""

from __future__ import annotations

import orjson

from tidegate.core import Message, Properties

MAX_CORRELATION = 256
"""Characters that are kept of a correlation id that a device sent."""


def correlation_id(message: Message, path: tuple[str, ...] = ()) -> str | None:
    """Return the device's correlation id: from MQTT 5, else from `path` in a JSON payload, or None."""
    correlation = None if message.properties is None else _from_properties(message.properties)
    if correlation is None and path:
        correlation = _from_payload(path, message.payload)
    return correlation


def _from_properties(properties: Properties) -> str | None:
    """Return a user property, else Correlation Data (MQTT 5 §3.3.2.3.6)."""
    if given := properties.get("correlationid"):
        return given[:MAX_CORRELATION]
    if data := properties.correlation_data:
        return _as_text(data[:MAX_CORRELATION])[:MAX_CORRELATION]
    return None


def _from_payload(path: tuple[str, ...], payload: bytes) -> str | None:
    """Return the text or number at a path in a JSON payload, or None. What is wrong with the payload, others say."""
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)[:MAX_CORRELATION] or None
    return None


def _as_text(data: bytes) -> str:
    """Return binary correlation data as itself where it is printable ASCII, else in hexadecimal."""
    if data.isascii() and (text := data.decode()).isprintable():
        return text
    return data.hex()
