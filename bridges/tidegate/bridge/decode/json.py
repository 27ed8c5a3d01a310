"""JSON, read strictly (RFC 8259)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import repeat
from typing import Any

import orjson
from pydantic_core import from_json

from tidegate.bridge.decode.decoder import Decoder
from tidegate.core import Data, DeliveryError

_loads = orjson.loads

_SHALLOW = 128
"""No more brackets than this can't nest too deep."""


def new() -> Decoder:
    """Return the decoder."""
    return Decoder(read_json, JSON)


def read_json(payload: bytes, _topic: str = "") -> Any:
    """Return the value: UTF-8, no NaN, no trailing bytes, no repeated key, no deeper than others can read.

    Raises DeliveryError.
    """
    try:
        value = _loads(payload)
    except orjson.JSONDecodeError as error:
        raise DeliveryError("decode_failed", f"not JSON: {error}") from None
    if len(payload) > 2 * _SHALLOW and payload.count(b"[") + payload.count(b"{") > _SHALLOW:
        _check_depth(payload)
    colons = payload.count(b":")
    if colons and (type(value) is not dict or len(value) != colons):  # an object as flat as most are has no key twice
        _check_keys(payload, value, colons)
    return value


def _checked(payload: bytes) -> bytes:
    """Return the device's own bytes: numbers keep their digits, and nothing is encoded twice."""
    read_json(payload)
    return payload


def _are_flat_objects(payloads: Sequence[bytes]) -> bool:
    """Whether all payloads are what `read_json` takes, and no events, found without a look at each: objects as flat as
    most are."""
    try:
        values = list(map(_loads, payloads))
    except orjson.JSONDecodeError:
        return False
    return (
        set(map(type, values)) == {dict}
        and (max(map(len, payloads)) <= 2 * _SHALLOW or max(map(bytes.count, payloads, repeat(b"["))) <= _SHALLOW)
        and list(map(len, values)) == list(map(bytes.count, payloads, repeat(b":")))
        and not any(map(dict.__contains__, values, repeat("specversion")))
    )


def _check_depth(payload: bytes) -> None:
    """Refuse what a reader of the event could not read: `Envelope` gives up at 200 levels, others not much later."""
    try:
        from_json(b"[%b]" % payload)
    except ValueError:
        raise DeliveryError("decode_failed", "JSON that is nested too deep") from None


def _check_keys(payload: bytes, value: object, colons: int) -> None:
    """Refuse repeated keys, of which readers keep different ones. A value that was read has none of them any more, so
    written again it has fewer colons, unless some of the payload's were written as escapes."""
    if b"\\u003" in payload or orjson.dumps(value).count(b":") != colons:
        json.loads(payload, object_pairs_hook=_unique)


def _unique(members: list[tuple[str, Any]]) -> None:
    keys = [key for key, _ in members]
    if len(set(keys)) < len(keys):
        raise DeliveryError("decode_failed", "JSON with the same key twice in one object")


JSON = Data("application/json", "data", _checked, _are_flat_objects)
"""A payload that is JSON, as it came."""
