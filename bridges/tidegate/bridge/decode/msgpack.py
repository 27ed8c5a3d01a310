"""MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md).

Read here and by no library: the fast ones do not say where a value ends, keep one of two equal keys without a word,
and take arrays as keys, of which a device can send so many with equal hashes that reading them takes minutes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tidegate.bridge.decode.decoder import Decoder
from tidegate.bridge.decode.json_value import check_depth, json_value, key_text

_Read = tuple[Any, int]
"""A value, and where the next one begins."""

_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_TIMESTAMP = 255  # the type -1 of an extension


def new() -> Decoder:
    """Return the decoder. Its value is the object as JSON: bytes in base64, the timestamp extension in RFC 3339 to the
    microsecond. Refused are what JSON can't hold (NaN), other extensions, a map with the same key twice, keys that are
    neither text, numbers, truth values nor bytes, more than 190 levels, and bytes after the object."""
    return Decoder(_decode)


def _decode(payload: bytes, _topic: str) -> Any:
    try:
        value, end = _item(payload, 0, 0)
    except (IndexError, struct.error):
        raise ValueError("MessagePack that is cut short") from None
    if end != len(payload):
        raise ValueError(f"MessagePack that ends at byte {end} of {len(payload)}")
    return value


def _item(data: bytes, at: int, depth: int) -> _Read:
    kind = data[at]
    at += 1
    if kind < 0x80:
        return kind, at
    if kind < 0xC0:
        if kind >= 0xA0:
            return _text(data, at, kind & 31, depth)
        return _array(data, at, kind & 15, depth) if kind >= 0x90 else _map(data, at, kind & 15, depth)
    if kind >= 0xE0:
        return kind - 256, at
    if form := _NUMBERS.get(kind):
        number = form.unpack_from(data, at)[0]
        return (number if math.isfinite(number) else json_value(number)), at + form.size
    if kind in _SIZED:
        form, read = _SIZED[kind]
        return read(data, at + form.size, form.unpack_from(data, at)[0], depth)
    if kind in _FIXED_EXTENSIONS:
        return _extension(data, at, _FIXED_EXTENSIONS[kind], depth)
    if kind in _CONSTANTS:
        return _CONSTANTS[kind], at
    raise ValueError("not MessagePack: the byte 0xc1, which is never used")


def _text(data: bytes, at: int, size: int, _depth: int) -> _Read:
    return _raw(data, at, size).decode(), at + size


def _bytes(data: bytes, at: int, size: int, _depth: int) -> _Read:
    return json_value(_raw(data, at, size)), at + size


def _raw(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise IndexError
    return data[at : at + size]


def _array(data: bytes, at: int, size: int, depth: int) -> _Read:
    check_depth(depth)
    values = []
    for _ in range(size):
        value, at = _item(data, at, depth + 1)
        values.append(value)
    return values, at


def _map(data: bytes, at: int, size: int, depth: int) -> _Read:
    check_depth(depth)
    found: dict[str, Any] = {}
    for _ in range(size):
        key, at = _item(data, at, depth + 1)
        if type(key) is not str:
            key = key_text(key)
        if key in found:
            raise ValueError("a map with the same key twice")
        found[key], at = _item(data, at, depth + 1)
    return found, at


def _extension(data: bytes, at: int, size: int, _depth: int) -> _Read:
    kind = data[at]
    raw = _raw(data, at + 1, size)
    if kind != _TIMESTAMP:
        raise ValueError(f"an extension of type {kind if kind < 128 else kind - 256}; only timestamps (-1) are read")
    return _timestamp(raw), at + 1 + size


def _timestamp(raw: bytes) -> Any:
    """The timestamp extension: 32 bits of seconds, 30 of nanoseconds and 34 of seconds, or 32 and 64."""
    if len(raw) == 4:
        nanoseconds, seconds = 0, int.from_bytes(raw)
    elif len(raw) == 8:
        nanoseconds, seconds = divmod(int.from_bytes(raw), 1 << 34)
    elif len(raw) == 12:
        nanoseconds, seconds = struct.unpack(">Iq", raw)
    else:
        raise ValueError(f"a timestamp of {len(raw)} bytes; it has 4, 8 or 12")
    if nanoseconds > 999_999_999:
        raise ValueError("a timestamp with a second or more in its nanoseconds")
    try:
        return json_value(datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanoseconds // 1000))
    except (OverflowError, OSError, ValueError):
        raise ValueError("a timestamp outside the years 1 to 9999") from None


_NUMBERS = {
    kind: struct.Struct(form)
    for kind, form in enumerate((">f", ">d", ">B", ">H", ">I", ">Q", ">b", ">h", ">i", ">q"), start=0xCA)
}
_SIZES = (struct.Struct(">B"), struct.Struct(">H"), struct.Struct(">I"))
_SIZED: dict[int, tuple[struct.Struct, Callable[[bytes, int, int, int], _Read]]] = {
    **{0xC4 + number: (form, _bytes) for number, form in enumerate(_SIZES)},
    **{0xC7 + number: (form, _extension) for number, form in enumerate(_SIZES)},
    **{0xD9 + number: (form, _text) for number, form in enumerate(_SIZES)},
    **{0xDC + number: (form, _array) for number, form in enumerate(_SIZES[1:])},
    **{0xDE + number: (form, _map) for number, form in enumerate(_SIZES[1:])},
}
_FIXED_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
