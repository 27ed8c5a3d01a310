"""A number written as text, which is what the simplest sensors send: `21.5`."""

from __future__ import annotations

import re
from typing import Any

import orjson

from tidegate.bridge.decode.decoder import Decoder
from tidegate.core import Data, DeliveryError

_NUMBER = re.compile(rb"[ \t\r\n]*-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?[ \t\r\n]*").fullmatch
_SHOWN = 40


def new() -> Decoder:
    """Return the decoder. Its value is a number as JSON writes it (RFC 8259 §6), with white space around it or not;
    `NaN`, `+1`, `1,5`, `0x1F` and a number with a unit are none."""
    return Decoder(_read, Data("application/json", "data", _checked))


def _read(payload: bytes, _topic: str = "") -> Any:
    if not _NUMBER(payload):
        raise DeliveryError("decode_failed", f"not a number: {payload[:_SHOWN]!r}")
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        raise DeliveryError("decode_failed", f"a number out of range: {payload[:_SHOWN]!r}") from None


def _checked(payload: bytes) -> bytes:
    _read(payload)
    return payload
