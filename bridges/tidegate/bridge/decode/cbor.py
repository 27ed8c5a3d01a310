"""CBOR (RFC 8949).

Read here and by no library: those that there are build the object that a tag stands for before anybody can look, and
so a device can fill the memory (shared references) or the time (a bignum as the mantissa of a decimal).
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from tidegate.bridge.decode.decoder import Decoder
from tidegate.bridge.decode.json_value import check_depth, json_value, key_text

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)  # major types, §3.1
_INDEFINITE = 31
_BREAK = 0xFF
_ARGUMENTS = {24: struct.Struct(">B"), 25: struct.Struct(">H"), 26: struct.Struct(">I"), 27: struct.Struct(">Q")}
_FLOATS = {25: struct.Struct(">e"), 26: struct.Struct(">f"), 27: struct.Struct(">d")}
_SIMPLE_VALUES = {20: False, 21: True, 22: None, 23: None}  # the last is `undefined`

_REFERENCES = (25, 29)
"""Tags of numbers that stand for a value elsewhere in the payload."""

_MAX_EXPONENT = 1000
"""Of a decimal. Somebody may write out its zeros."""

_RFC3339 = re.compile(
    r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?"
    r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
).fullmatch

_Read = tuple[Any, int]
"""A value, and where the next one begins."""


def new() -> Decoder:
    """Return the decoder. Its value is the data item as JSON (RFC 8949 §6.1). Refused are what JSON can't hold (NaN,
    integers over 64 bits, simple values without a meaning), a map with the same key twice, keys that are neither text,
    numbers, truth values nor bytes, more than 190 levels, and bytes after the item.

    Bytes become base64, `undefined` becomes null. Tags: times (0, 1) become RFC 3339, bignums (2, 3) integers,
    decimals (4) text, UUIDs (37) text. References to other values (25, 29) are refused. With any other tag the value
    stands for itself, as §6.1 has it.
    """
    return Decoder(_decode)


def _decode(payload: bytes, _topic: str) -> Any:
    try:
        value, end = _item(payload, 0, 0)
    except (IndexError, struct.error):
        raise ValueError("CBOR that is cut short") from None
    if end != len(payload):
        raise ValueError(f"CBOR that ends at byte {end} of {len(payload)}")
    return value


def _item(data: bytes, at: int, depth: int) -> _Read:
    initial = data[at]
    at += 1
    if initial < 24:
        return initial, at
    major = initial >> 5
    size: int | None = initial & 31
    if initial & 31 > 23 and major != _SIMPLE:
        size, at = _argument(data, at, initial & 31)
    if major == _TEXT:
        return _text(data, at, size)
    if major == _SIMPLE:
        return _simple(data, at, initial & 31)
    if major == _MAP:
        return _map(data, at, size, depth)
    if major == _ARRAY:
        return _array(data, at, size, depth)
    if major == _BYTES:
        raw, at = _raw(data, at, size)
        return json_value(raw), at
    if size is None:
        raise ValueError("CBOR that is not well-formed: a number or tag without an end")
    if major == _TAG:
        return _tag(data, at, size, depth)
    return (size if major == _UNSIGNED else json_value(-1 - size)), at


def _head(data: bytes, at: int) -> tuple[int, int | None, int]:
    """Return an item's major type, its argument, and where it goes on."""
    major, argument = data[at] >> 5, data[at] & 31
    if argument < 24:
        return major, argument, at + 1
    return major, *_argument(data, at + 1, argument)


def _argument(data: bytes, at: int, argument: int) -> tuple[int | None, int]:
    """Return the argument that follows an initial byte (§3), None where the length is indefinite."""
    if argument == _INDEFINITE:
        return None, at
    form = _ARGUMENTS.get(argument)
    if form is None:
        raise ValueError(f"CBOR that is not well-formed: additional information {argument}")
    return form.unpack_from(data, at)[0], at + form.size


def _text(data: bytes, at: int, size: int | None) -> _Read:
    if size is None:
        chunks, at = _chunks(data, at, _TEXT)
        return "".join([chunk.decode() for chunk in chunks]), at
    end = at + size
    if end > len(data):
        raise IndexError
    return data[at:end].decode(), end


def _raw(data: bytes, at: int, size: int | None) -> tuple[bytes, int]:
    """Return a string's bytes."""
    if size is None:
        chunks, at = _chunks(data, at, _BYTES)
        return b"".join(chunks), at
    end = at + size
    if end > len(data):
        raise IndexError
    return data[at:end], end


def _chunks(data: bytes, at: int, major: int) -> tuple[list[bytes], int]:
    """Return the parts of a string of indefinite length: strings of definite length, of its own type (§3.2.3)."""
    chunks = []
    while data[at] != _BREAK:
        found, size, at = _head(data, at)
        if found != major or size is None:
            raise ValueError("CBOR that is not well-formed: a part of a string that is something else")
        chunk, at = _raw(data, at, size)
        chunks.append(chunk)
    return chunks, at + 1


def _array(data: bytes, at: int, size: int | None, depth: int) -> _Read:
    check_depth(depth)
    values: list[Any] = []
    while size is None or len(values) < size:
        if size is None and data[at] == _BREAK:
            return values, at + 1
        value, at = _item(data, at, depth + 1)
        values.append(value)
    return values, at


def _map(data: bytes, at: int, size: int | None, depth: int) -> _Read:
    check_depth(depth)
    found: dict[str, Any] = {}
    while size is None or len(found) < size:
        if size is None and data[at] == _BREAK:
            return found, at + 1
        key, at = _item(data, at, depth + 1)
        if type(key) is not str:
            key = key_text(key)
        if key in found:
            raise ValueError("a map with the same key twice")
        found[key], at = _item(data, at, depth + 1)
    return found, at


def _tag(data: bytes, at: int, number: int, depth: int) -> _Read:
    check_depth(depth)
    if number in _REFERENCES:
        raise ValueError(f"tag {number}, which refers to a value elsewhere in the payload")
    if number in _OF_BYTES:
        major, size, at = _head(data, at)
        if major != _BYTES:
            raise ValueError(f"tag {number} of what is no bytes")
        raw, at = _raw(data, at, size)
        return _OF_BYTES[number](raw), at
    value, at = _item(data, at, depth + 1)
    meaning = _OF_VALUES.get(number)
    return (meaning(value) if meaning else value), at


def _simple(data: bytes, at: int, argument: int) -> _Read:
    """Return a floating-point number or a simple value (§3.3)."""
    if form := _FLOATS.get(argument):
        number = form.unpack_from(data, at)[0]
        return (number if math.isfinite(number) else json_value(number)), at + form.size
    if argument in _SIMPLE_VALUES:
        return _SIMPLE_VALUES[argument], at
    if argument < 20 or (argument == 24 and data[at] >= 32):
        raise ValueError(f"the simple value {argument if argument < 20 else data[at]}, which has no form in JSON")
    problem = "a break with nothing to end" if argument == _INDEFINITE else f"additional information {argument}"
    raise ValueError(f"CBOR that is not well-formed: {problem}")


def _bignum(raw: bytes) -> int:
    if len(raw.lstrip(b"\0")) > 8:
        raise ValueError("an integer of more than 64 bits")
    return int.from_bytes(raw)


def _uuid(raw: bytes) -> str:
    if len(raw) != 16:
        raise ValueError(f"tag 37, a UUID, of {len(raw)} bytes")
    return str(UUID(bytes=raw))


def _time(value: Any) -> str:
    if not isinstance(value, str) or not _RFC3339(value):
        raise ValueError("tag 0, a time, of what is not RFC 3339")
    return value


def _epoch(value: Any) -> Any:
    if type(value) not in (int, float):
        raise ValueError("tag 1, seconds since 1970, of what is no number")
    try:
        return json_value(datetime.fromtimestamp(value, UTC))
    except (OverflowError, OSError, ValueError):
        raise ValueError("tag 1, seconds since 1970, outside the years 1 to 9999") from None


def _decimal(value: Any) -> Any:
    if type(value) is not list or [type(part) for part in value] != [int, int]:
        raise ValueError("tag 4, a decimal, of other than two integers")
    exponent, mantissa = value
    if abs(exponent) > _MAX_EXPONENT:
        raise ValueError(f"tag 4, a decimal, with an exponent beyond {_MAX_EXPONENT}")
    return json_value(Decimal(f"{mantissa}E{exponent}"))


_OF_BYTES: dict[int, Callable[[bytes], Any]] = {
    2: _bignum,
    3: lambda raw: json_value(-1 - _bignum(raw)),
    37: _uuid,
}
_OF_VALUES: dict[int, Callable[[Any], Any]] = {0: _time, 1: _epoch, 4: _decimal}
