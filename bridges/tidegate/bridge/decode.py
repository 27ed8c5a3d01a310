"""Decoders: what a device's bytes must be, and how they become an event's data."""

from __future__ import annotations

import orjson

from tidegate.core import BYTES, Data, DeliveryError


def _json(payload: bytes) -> bytes:
    """Check strictly (RFC 8259, UTF-8, no NaN, no trailing bytes), then keep the device's own bytes: numbers keep
    their digits, and nothing is encoded twice."""
    try:
        orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise DeliveryError("decode_failed", f"not JSON: {error}") from None
    return payload


def _text(payload: bytes) -> bytes:
    try:
        return orjson.dumps(payload.decode())
    except UnicodeDecodeError as error:
        raise DeliveryError("decode_failed", f"not UTF-8 at byte {error.start}") from None


DECODERS: dict[str, Data] = {
    "json": Data("application/json", "data", _json),
    "text": Data("text/plain; charset=utf-8", "data", _text),
    "raw": BYTES,
}
"""By the name that the configuration uses."""
