"""The datatypes of Sparkplug B (Eclipse Sparkplug 3.0 §6.4.16, §6.4.17).

Where the examples there show arrays of floats in big-endian order, the text says little-endian, and so do devices.
"""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Callable
from math import isfinite
from typing import Any, NamedTuple

from tidegate.core import format_time

BOOLEAN_ARRAY = 32


class Datatype(NamedTuple):
    """A datatype: its name, the fields of the oneof that may hold its value, and what makes JSON's value of that. It
    raises ValueError. None: the field is a message, whose reading is not a matter of the datatype."""

    name: str
    fields: tuple[str, ...]
    read: Callable[[Any], Any] | None


def datatype_of(number: int) -> Datatype:
    """Return the datatype of that number. Raises ValueError if there is none."""
    if not 0 < number < len(_DATATYPES):
        raise ValueError(f"Sparkplug B has no datatype {number}")
    return _DATATYPES[number]


def _signed(bits: int) -> Callable[[int], int]:
    """A signed integer is in two's complement, of its own width with some devices, and of its field's with others."""
    half, whole = 1 << bits - 1, 1 << bits

    def read(value: int) -> int:
        if value < half:
            return value
        for width in (whole, 1 << 32, 1 << 64):
            if width - half <= value < width:
                return value - width
        raise ValueError(f"{value} is no integer of {bits} bits")

    return read


def _unsigned(bits: int) -> Callable[[int], int]:
    def read(value: int) -> int:
        if value >> bits:
            raise ValueError(f"{value} is no unsigned integer of {bits} bits")
        return value

    return read


def read_float(value: float) -> float:
    """Return a number that JSON has. Raises ValueError."""
    if not isfinite(value):
        raise ValueError(f"{value} is no number that JSON has")
    return value


def read_same(value: Any) -> Any:
    """Return what JSON has as it is."""
    return value


def read_bytes(value: bytes) -> str:
    """Return bytes as base64."""
    return b64encode(value).decode()


_FIRST, _LAST = -62_135_596_800_000, 253_402_300_799_999  # the years 1 to 9999, in milliseconds


def _date_time(value: int) -> str:
    """Milliseconds since 1970; some devices write what was before it as a signed integer."""
    milliseconds = value - (1 << 64) if value >> 63 else value
    if not _FIRST <= milliseconds <= _LAST:
        raise ValueError(f"{value} ms is no time that RFC 3339 can write")
    return format_time(milliseconds / 1000)


def _array(form: str, read: Callable[[Any], Any] = read_same) -> Callable[[bytes], list[Any]]:
    def unpack(value: bytes) -> list[Any]:
        try:
            return [read(item) for (item,) in struct.iter_unpack(form, value)]
        except struct.error:
            raise ValueError(f"an array whose {len(value)} bytes are not whole elements") from None

    return unpack


def _booleans(value: bytes) -> list[bool]:
    """A count in four bytes, then a bit for each, the highest of a byte first."""
    count = int.from_bytes(value[:4], "little")
    if len(value) != 4 + (count + 7) // 8:
        raise ValueError(f"an array of booleans that is said to have {count}, in {len(value)} bytes")
    return [bool(value[4 + number // 8] & 0x80 >> number % 8) for number in range(count)]


def _strings(value: bytes) -> list[str]:
    """Each ends with a zero byte."""
    *texts, rest = value.split(b"\0")
    if rest:
        raise ValueError("an array of strings whose last has no end")
    try:
        return [text.decode() for text in texts]
    except UnicodeDecodeError:
        raise ValueError("an array of strings that are not UTF-8") from None


_INTEGER, _DECIMAL, _BYTES = ("int_value", "long_value"), ("float_value", "double_value"), ("bytes_value",)
_TEXT = ("string_value",)
_DATATYPES = (
    Datatype("Unknown", (), read_same),
    Datatype("Int8", _INTEGER, _signed(8)),
    Datatype("Int16", _INTEGER, _signed(16)),
    Datatype("Int32", _INTEGER, _signed(32)),
    Datatype("Int64", _INTEGER, _signed(64)),
    Datatype("UInt8", _INTEGER, _unsigned(8)),
    Datatype("UInt16", _INTEGER, _unsigned(16)),
    Datatype("UInt32", _INTEGER, _unsigned(32)),
    Datatype("UInt64", _INTEGER, _unsigned(64)),
    Datatype("Float", _DECIMAL, read_float),
    Datatype("Double", _DECIMAL, read_float),
    Datatype("Boolean", ("boolean_value",), read_same),
    Datatype("String", _TEXT, read_same),
    Datatype("DateTime", _INTEGER, _date_time),
    Datatype("Text", _TEXT, read_same),
    Datatype("UUID", _TEXT, read_same),
    Datatype("DataSet", ("dataset_value",), None),
    Datatype("Bytes", _BYTES, read_bytes),
    Datatype("File", _BYTES, read_bytes),
    Datatype("Template", ("template_value",), None),
    Datatype("PropertySet", ("propertyset_value",), None),
    Datatype("PropertySetList", ("propertysets_value",), None),
    Datatype("Int8Array", _BYTES, _array("<b")),
    Datatype("Int16Array", _BYTES, _array("<h")),
    Datatype("Int32Array", _BYTES, _array("<i")),
    Datatype("Int64Array", _BYTES, _array("<q")),
    Datatype("UInt8Array", _BYTES, _array("<B")),
    Datatype("UInt16Array", _BYTES, _array("<H")),
    Datatype("UInt32Array", _BYTES, _array("<I")),
    Datatype("UInt64Array", _BYTES, _array("<Q")),
    Datatype("FloatArray", _BYTES, _array("<f", read_float)),
    Datatype("DoubleArray", _BYTES, _array("<d", read_float)),
    Datatype("BooleanArray", _BYTES, _booleans),
    Datatype("StringArray", _BYTES, _strings),
    Datatype("DateTimeArray", _BYTES, _array("<Q", _date_time)),
)
"""By number."""
