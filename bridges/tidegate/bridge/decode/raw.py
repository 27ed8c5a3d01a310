"""Any payload, as bytes."""

from __future__ import annotations

from typing import NoReturn

from tidegate.bridge.decode.decoder import Decoder
from tidegate.core import BYTES, DeliveryError


def new() -> Decoder:
    """Return the decoder. It has no value to look into."""
    return Decoder(_none, BYTES)


def _none(_payload: bytes, _topic: str) -> NoReturn:
    raise DeliveryError("decode_failed", "raw bytes have no value to look into")
