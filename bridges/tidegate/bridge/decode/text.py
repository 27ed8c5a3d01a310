"""Text in UTF-8."""

from __future__ import annotations

import orjson

from tidegate.bridge.decode.decoder import Decoder
from tidegate.core import Data, DeliveryError


def new() -> Decoder:
    """Return the decoder. Its value is a string."""
    return Decoder(_read, Data("text/plain; charset=utf-8", "data", lambda payload: orjson.dumps(_read(payload))))


def _read(payload: bytes, _topic: str = "") -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise DeliveryError("decode_failed", f"not UTF-8 at byte {error.start}") from None
