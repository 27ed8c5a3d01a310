"""Data in Avro's binary encoding (Avro 1.11, "Binary encoding").

A library parses the schemas, and data are read here: the library recurses in C, so that a datum that nests deep enough
ends the process, and it takes enum symbols and union branches with numbers below zero.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from fastavro.schema import SchemaParseException, UnknownType, parse_schema

from tidegate.bridge.decode.json_value import Room, check_depth, json_value

_MAX_PRECISION = 1000
"""Digits of a decimal."""

CONTAINER, VALUE = 64, 32
"""Bytes that an object or array takes, and a value in it, or more."""

_SHOWN = 200

_FLOAT = struct.Struct("<f")
_DOUBLE = struct.Struct("<d")


class Source:
    """Bytes that are read from the front. room: what may yet become of them; a schema can make many names and objects
    of one byte."""

    __slots__ = ("at", "data", "room")

    def __init__(self, data: bytes, room: Room | None = None) -> None:
        self.data = data
        self.at = 0
        self.room = room or Room()

    def take(self, size: int) -> bytes:
        """Return the next bytes. Raises ValueError if they are not there."""
        end = self.at + size
        if size < 0 or end > len(self.data):
            raise ValueError("Avro that is cut short" if size >= 0 else f"Avro with a length of {size}")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def long(self) -> int:
        """Return the next integer, of variable length and zig-zag. Raises ValueError; IndexError at the end."""
        data, at, shift, value = self.data, self.at, 0, 0
        while (byte := data[at]) > 0x7F:
            value |= (byte & 0x7F) << shift
            at += 1
            shift += 7
            if shift > 63:
                raise ValueError("an integer of more than 64 bits")
        value |= byte << shift
        if value >> 64:
            raise ValueError("an integer of more than 64 bits")
        self.at = at + 1
        return (value >> 1) ^ -(value & 1)

    def check_end(self) -> None:
        """Raise ValueError if anything is left."""
        if self.at != len(self.data):
            raise ValueError(f"Avro that ends at byte {self.at} of {len(self.data)}")


_Read = Callable[[Source, int], Any]
"""Reads a datum of one type. The number is how deep it stands."""


class _Type(NamedTuple):
    """read: of its data. least: bytes that one has at least."""

    read: _Read
    least: int


_Names = dict[str, _Type]


class AvroSchema:
    """A schema that data can be read by. parsed: as the library has it. names: its named types. least: bytes that a
    datum has at least.

    Raises ValueError if it is none, or if a few bytes of data could claim any number of array items.
    """

    def __init__(self, document: Any) -> None:
        self.names: dict[str, Any] = {}
        try:
            self.parsed = parse_schema(document, named_schemas=self.names)
            self._read, self.least = _type(self.parsed, {})
        except UnknownType as error:
            raise ValueError(f"not an Avro schema: there is no type {str(error)[:_SHOWN]}") from None
        except SchemaParseException as error:
            raise ValueError(f"not an Avro schema: {str(error)[:_SHOWN]}") from None
        except (LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            problem = f"a part of it is missing or of the wrong kind ({type(error).__name__}: {error})"
            raise ValueError(f"not an Avro schema: {problem[:_SHOWN]}") from None

    def read(self, source: Source) -> Any:
        """Return the next datum as JSON has it. Raises ValueError."""
        try:
            return self._read(source, 0)
        except (IndexError, struct.error):
            raise ValueError("Avro that is cut short") from None


def _type(schema: Any, names: _Names) -> _Type:
    """Return the reader of a type. Raises ValueError, or whatever a schema's wrong shape leads to."""
    if isinstance(schema, list):
        return _union([_type(branch, names) for branch in schema])
    if isinstance(schema, str):
        return _PRIMITIVES.get(schema) or names[schema]
    kind = schema["type"]
    if kind in ("record", "error"):
        return _record(schema, names)
    if kind == "array":
        return _array(_type(schema["items"], names))
    if kind == "map":
        return _map(_type(schema["values"], names))
    if kind == "enum":
        found = _enum(schema["symbols"])
    elif kind == "fixed":
        found = _fixed(schema)
    else:
        return _logical(schema, _type(kind, names))
    names[schema["name"]] = found
    return found


def _record(schema: Any, names: _Names) -> _Type:
    fields: list[tuple[str, _Read]] = []

    def read(source: Source, depth: int) -> dict[str, Any]:
        check_depth(depth)
        source.room.take(size)
        return {name: read_field(source, depth + 1) for name, read_field in fields}

    names[schema["name"]] = _Type(read, 1)  # its fields may name it, where at least a byte of their own precedes it
    least = 0
    for field in schema["fields"]:
        found = _type(field["type"], names)
        fields.append((field["name"], found.read))
        least += found.least
    if len(dict(fields)) < len(fields):
        raise ValueError(f"not an Avro schema: {schema['name']} has two fields with the same name")
    size = CONTAINER + sum(len(name) + VALUE for name, _ in fields)
    names[schema["name"]] = _Type(read, least)
    return names[schema["name"]]


def _union(branches: list[_Type]) -> _Type:
    reads = [branch.read for branch in branches]

    def read(source: Source, depth: int) -> Any:
        index = source.long()
        if not 0 <= index < len(reads):
            raise ValueError(f"branch {index} of a union that has {len(reads)}")
        return reads[index](source, depth)

    return _Type(read, 1)


def _array(items: _Type) -> _Type:
    if items.least == 0:
        raise ValueError("an Avro schema with an array of items without bytes: a few bytes could claim any number")
    read_item = items.read

    def read(source: Source, depth: int) -> list[Any]:
        check_depth(depth)
        return [read_item(source, depth + 1) for _ in _blocks(source)]

    return _Type(read, 1)


def _map(values: _Type) -> _Type:
    read_value = values.read

    def read(source: Source, depth: int) -> dict[str, Any]:
        check_depth(depth)
        found: dict[str, Any] = {}
        for _ in _blocks(source):
            key = _string(source)
            if key in found:
                raise ValueError("a map with the same key twice")
            found[key] = read_value(source, depth + 1)
        return found

    return _Type(read, 1)


def _blocks(source: Source) -> Iterator[None]:
    """Yield where an item of an array or map comes."""
    source.room.take(CONTAINER)
    while count := source.long():
        end = None
        if count < 0:
            count, size = -count, source.long()
            end = source.at + size
        for _ in range(count):
            source.room.take(VALUE)
            yield
        if end is not None and end != source.at:
            raise ValueError("a block of an array or map that has another size than it says")


def _enum(symbols: Any) -> _Type:
    if not isinstance(symbols, list):
        raise ValueError("not an Avro schema: the symbols of an enum should be a list")

    def read(source: Source, _depth: int) -> str:
        index = source.long()
        if not 0 <= index < len(symbols):
            raise ValueError(f"symbol {index} of an enum that has {len(symbols)}")
        symbol: str = symbols[index]
        source.room.take(len(symbol))
        return symbol

    return _Type(read, 1)


def _fixed(schema: Any) -> _Type:
    size, logical = schema["size"], schema.get("logicalType")
    if type(size) is not int or size < 0:
        raise ValueError(f"not an Avro schema: {schema['name']} has the size {size!r}")
    if logical == "decimal":
        decimal = _decimal(schema)
        return _Type(lambda source, _: decimal(source.take(size)), size)
    if logical == "uuid" and size == 16:
        return _Type(lambda source, _: str(UUID(bytes=source.take(size))), size)
    return _Type(lambda source, _: json_value(source.take(size)), size)


def _logical(schema: Any, plain: _Type) -> _Type:
    """Return the reader of a logical type; of the plain one where there is none, as the specification wants it."""
    kind, logical, read = schema["type"], schema.get("logicalType"), plain.read
    if kind == "bytes" and logical == "decimal":
        decimal = _decimal(schema)
        return _Type(lambda source, _: decimal(source.take(source.long())), 1)
    if meaning := _MEANINGS.get((kind, logical)):
        return _Type(lambda source, depth: meaning(read(source, depth)), 1)
    return plain


def _decimal(schema: Any) -> Callable[[bytes], Any]:
    precision, scale = schema["precision"], schema.get("scale", 0)
    if precision > _MAX_PRECISION:
        raise ValueError(f"an Avro schema with a decimal of {precision} digits; {_MAX_PRECISION} are allowed")
    limit = 10**precision

    def read(raw: bytes) -> Any:
        number = int.from_bytes(raw, signed=True)
        if abs(number) >= limit:  # one of any size would take minutes to be written in digits
            raise ValueError(f"a decimal of more than {precision} digits")
        return json_value(Decimal(f"{number}E-{scale}"))

    return read


def _timestamp(per_second: int, *, local: bool = False) -> Callable[[int], Any]:
    epoch = datetime(1970, 1, 1, tzinfo=None if local else UTC)

    def read(value: int) -> Any:
        seconds, rest = divmod(value, per_second)
        try:
            return json_value(epoch + timedelta(seconds=seconds, microseconds=rest * 1_000_000 // per_second))
        except OverflowError:
            raise ValueError("a time that is not in the years 1 to 9999") from None

    return read


def _time(per_second: int) -> Callable[[int], Any]:
    def read(value: int) -> Any:
        if not 0 <= value < 86_400 * per_second:
            raise ValueError("a time of day that is not within a day")
        return json_value((datetime.min + timedelta(microseconds=value * 1_000_000 // per_second)).time())

    return read


def _date(days: int) -> Any:
    try:
        return json_value((datetime(1970, 1, 1) + timedelta(days)).date())
    except OverflowError:
        raise ValueError("a date that is not in the years 1 to 9999") from None


_MEANINGS: dict[tuple[Any, Any], Callable[[int], Any]] = {
    ("int", "date"): _date,
    ("int", "time-millis"): _time(1000),
    ("long", "time-micros"): _time(1_000_000),
    ("long", "timestamp-millis"): _timestamp(1000),
    ("long", "timestamp-micros"): _timestamp(1_000_000),
    ("long", "timestamp-nanos"): _timestamp(1_000_000_000),
    ("long", "local-timestamp-millis"): _timestamp(1000, local=True),
    ("long", "local-timestamp-micros"): _timestamp(1_000_000, local=True),
}


def _boolean(source: Source, _depth: int) -> bool:
    byte = source.take(1)
    if byte > b"\x01":
        raise ValueError("a boolean that is neither 0 nor 1")
    return byte == b"\x01"


def _int(source: Source, _depth: int) -> int:
    value = source.long()
    if not -(1 << 31) <= value < 1 << 31:
        raise ValueError("an int of more than 32 bits")
    return value


def _string(source: Source, _depth: int = 0) -> str:
    return source.take(source.long()).decode()


_PRIMITIVES = {
    "null": _Type(lambda _source, _depth: None, 0),
    "boolean": _Type(_boolean, 1),
    "int": _Type(_int, 1),
    "long": _Type(lambda source, _: source.long(), 1),
    "float": _Type(lambda source, _: json_value(_FLOAT.unpack(source.take(4))[0]), 4),
    "double": _Type(lambda source, _: json_value(_DOUBLE.unpack(source.take(8))[0]), 8),
    "bytes": _Type(lambda source, _: json_value(source.take(source.long())), 1),
    "string": _Type(_string, 1),
}
