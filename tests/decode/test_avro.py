"""Avro 1.11: data with a schema of ours, alone or as single objects, and container files with a device's own."""

from __future__ import annotations

import io
import json
import math
import struct
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bridge.messages import message
from tests.decode.rig import (
    DEEP,
    LENGTHS,
    REFUSED,
    check_cheap,
    check_cut_short,
    converter_of,
    data_of,
    outcome,
    refusal,
)
from tidegate.bridge import Converter, Expression, Shape, Steps, new_decoder
from tidegate.bridge.decode.avro_datum import AvroSchema, Source
from tidegate.bridge.decode.json_value import json_value
from tidegate.core import Mapping

READING = {
    "type": "record", "name": "plant.Reading", "doc": "of a sensor", "fields": [
        {"name": "device", "type": "string"}, {"name": "seq", "type": "long"},
        {"name": "temperature", "type": "double"}, {"name": "unit", "type": ["null", "string"], "default": None},
    ],
}  # fmt: skip
ROW = {"device": "boiler-7", "seq": 182736, "temperature": 21.5, "unit": "C"}
ROW_BYTES = b"\x10boiler-7" + b"\xa0\xa7\x16" + struct.pack("<d", 21.5) + b"\x02\x02C"


@pytest.fixture
def with_schema(tmp_path: Path) -> Callable[[Any], Converter]:
    """Return what makes a converter for a schema."""

    def make(schema: Any) -> Converter:
        path = tmp_path / "some.avsc"
        path.write_text(json.dumps(schema))
        return converter_of("avro", schema=path)

    return make


FILES = converter_of("avro")


def long(value: int) -> bytes:
    """Return an integer in Avro's encoding."""
    number = (value << 1) ^ (value >> 63)
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return long(len(raw)) + raw


def datum(schema: Any, payload: bytes) -> Any:
    """Return a payload's value by a schema."""
    source = Source(payload)
    value = AvroSchema(schema).read(source)
    source.check_end()
    return value


def fixed(size: int, **more: Any) -> dict[str, Any]:
    return {"type": "fixed", "name": "F", "size": size, **more}


def logical(kind: str, name: str) -> dict[str, str]:
    return {"type": kind, "logicalType": name}


def _decimal(precision: int, scale: int) -> dict[str, Any]:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


_ENUM = {"type": "enum", "name": "Unit", "symbols": ["C", "F", "K"]}

# By hand from the specification, "Primitive Types" and "Complex Types"; the first ones are its own examples.
_DATA: list[tuple[Any, str, Any]] = [
    ("long", "00", 0), ("long", "01", -1), ("long", "02", 1), ("long", "03", -2), ("long", "04", 2),
    ("long", "7f", -64), ("long", "8001", 64), ("string", "06666f6f", "foo"),
    ({"type": "record", "name": "test", "fields": [{"name": "a", "type": "long"}, {"name": "b", "type": "string"}]},
     "3606666f6f", {"a": 27, "b": "foo"}),
    ({"type": "array", "items": "long"}, "04063600", [3, 27]),
    (["null", "string"], "00", None), (["null", "string"], "020261", "a"),
    ("null", "", None), ("boolean", "00", False), ("boolean", "01", True),
    ("int", "feffffff0f", 2**31 - 1), ("int", "ffffffff0f", -(2**31)), ("int", "808000", 0),
    ("long", "feffffffffffffffff01", 2**63 - 1), ("long", "ffffffffffffffffff01", -(2**63)),
    ("float", "0000c03f", 1.5), ("double", "9a9999999999f13f", 1.1), ("double", "0000000000000080", -0.0),
    ("bytes", "0400ff", "AP8="), ("bytes", "00", ""), ("string", "06e6b0b4", "水"),
    (fixed(2), "00ff", "AP8="), (fixed(0), "", ""), (_ENUM, "00", "C"), (_ENUM, "04", "K"),
    ({"type": "array", "items": "long"}, "00", []), ({"type": "array", "items": "long"}, "0206020600", [3, 3]),
    ({"type": "array", "items": "long"}, "0304063600", [3, 27]),
    ({"type": "array", "items": "long"}, "010202060000", REFUSED),
    ({"type": "map", "values": "int"}, "04026102026204 00", {"a": 1, "b": 2}),
    ({"type": "map", "values": "int"}, "0106026102 00", {"a": 1}),
    ({"type": "map", "values": "null"}, "02026100", {"a": None}),
    (logical("int", "date"), "02", "1970-01-02"), (logical("int", "date"), "01", "1969-12-31"),
    (logical("int", "time-millis"), "02", "00:00:00.001000"),
    (logical("long", "time-micros"), long(86_399_999_999).hex(), "23:59:59.999999"),
    (logical("long", "timestamp-millis"), long(1_700_000_000_000).hex(), "2023-11-14T22:13:20.000000Z"),
    (logical("long", "timestamp-millis"), "01", "1969-12-31T23:59:59.999000Z"),
    (logical("long", "timestamp-micros"), "02", "1970-01-01T00:00:00.000001Z"),
    (logical("long", "timestamp-nanos"), long(1_999).hex(), "1970-01-01T00:00:00.000001Z"),
    (logical("long", "local-timestamp-millis"), "02", "1970-01-01T00:00:00.001000"),
    (logical("long", "local-timestamp-micros"), "00", "1970-01-01T00:00:00"),
    (logical("string", "uuid"), "48" + b"01234567-89ab-cdef-0123-456789abcdef".hex(),
     "01234567-89ab-cdef-0123-456789abcdef"),
    (logical("long", "unheard-of"), "02", 1), (logical("string", "date"), "0261", "a"),
    (_decimal(4, 2), "02ff", "-0.01"), (_decimal(4, 2), "04270f", "99.99"), (_decimal(4, 0), "0200", "0"),
    (_decimal(4, 2), "00", "0.00"), (_decimal(38, 10), "20" + "00" * 15 + "01", "1E-10"),
    (fixed(4, logicalType="decimal", precision=5, scale=1), "fffffff6", "-1.0"),
    (fixed(16, logicalType="uuid"), "00" * 15 + "01", "00000000-0000-0000-0000-000000000001"),
    (fixed(12, logicalType="duration"), "010000000200000003000000", "AQAAAAIAAAADAAAA"),
    ({"type": "error", "name": "E", "fields": [{"name": "a", "type": "int"}]}, "02", {"a": 1}),
    ({"type": "record", "name": "a.R", "fields": [{"name": "x", "type": fixed(1)}, {"name": "y", "type": "F"},
                                                   {"name": "z", "type": "a.F"}]}, "010203",
     {"x": "AQ==", "y": "Ag==", "z": "Aw=="}),
    ({"type": "record", "name": "Node", "fields": [{"name": "v", "type": "int"},
                                                   {"name": "next", "type": ["null", "Node"]}]}, "0202040200",
     REFUSED),
    ({"type": "record", "name": "Node", "fields": [{"name": "v", "type": "int"},
                                                   {"name": "next", "type": ["null", "Node"]}]}, "02020400",
     {"v": 1, "next": {"v": 2, "next": None}}),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "payload", "value"), _DATA)
def test_data_have_the_values_that_the_specification_gives_them(schema: Any, payload: str, value: Any) -> None:
    raw = bytes.fromhex(payload)
    if value == REFUSED:
        with pytest.raises(ValueError, match=r"."):
            datum(schema, raw)
        return
    found = datum(schema, raw)
    assert found == value
    assert type(found) is type(value)
    if isinstance(value, float):
        assert math.copysign(1, found) == math.copysign(1, value)


_BAD_DATA = {
    "a boolean of two": ("boolean", b"\x02", "boolean"),
    "an int of 33 bits": ("int", long(2**31), "32 bits"),
    "an int of -33 bits": ("int", long(-(2**31) - 1), "32 bits"),
    "a long of 65 bits": ("long", b"\xff" * 9 + b"\x02", "64 bits"),
    "a long without an end": ("long", b"\xff" * 100 + b"\x01", "64 bits"),
    "a long of nothing": ("long", b"\x80" * 10 + b"\x00", "64 bits"),
    "a text of less than nothing": ("string", long(-1), "length of -1"),
    "bytes of less than nothing": ("bytes", long(-(2**63)), "length of -"),
    "text that is not UTF-8": ("string", text(b"\xff"), "codec"),
    "a surrogate": ("string", text(b"\xed\xa0\x80"), "codec"),
    "a key that is not UTF-8": ({"type": "map", "values": "int"}, b"\x02" + text(b"\xff") + b"\x02\x00", "codec"),
    "the same key twice": (
        {"type": "map", "values": "int"}, b"\x04" + text("a") + b"\x02" + text("a") + b"\x04\x00", "twice",
    ),
    "the same key in two blocks": (
        {"type": "map", "values": "int"}, b"\x02" + text("a") + b"\x02\x02" + text("a") + b"\x04\x00", "twice",
    ),
    "a symbol that is not there": (_ENUM, b"\x06", "symbol 3"),
    "a symbol below the first": (_ENUM, b"\x01", "symbol -1"),
    "a branch that is not there": (["null", "int"], b"\x04", "branch 2"),
    "a branch below the first": (["null", "int"], b"\x01\x02", "branch -1"),
    "a branch of an empty union": ([], b"\x00", "branch 0"),
    "a block of another size": ({"type": "array", "items": "int"}, b"\x01\x04\x02\x00", "block"),
    "a block of a negative size": ({"type": "array", "items": "int"}, b"\x01\x01\x02\x00", "block"),
    "no number": ("double", struct.pack("<d", math.nan), "nan"),
    "no end": ("float", struct.pack("<f", -math.inf), "inf"),
    "no date": (logical("int", "date"), long(2**31 - 1), "years"),
    "no date before": (logical("int", "date"), long(-(2**31)), "years"),
    "no time of day": (logical("int", "time-millis"), long(86_400_000), "day"),
    "no time before midnight": (logical("long", "time-micros"), long(-1), "day"),
    "no time": (logical("long", "timestamp-millis"), long(2**63 - 1), "years"),
    "no time before": (logical("long", "timestamp-micros"), long(-(2**63)), "years"),
    "no local time": (logical("long", "local-timestamp-micros"), long(2**63 - 1), "years"),
    "a decimal of more digits": (_decimal(4, 2), text(b"\x27\x10"), "4 digits"),
    "a negative decimal of more digits": (_decimal(4, 2), text(b"\xd8\xf0"), "4 digits"),
}  # fmt: skip


@pytest.mark.parametrize(("schema", "payload", "problem"), _BAD_DATA.values(), ids=_BAD_DATA)
def test_data_that_are_none_are_refused_with_a_sentence(
    schema: Any, payload: bytes, problem: str, with_schema: Callable[[Any], Converter]
) -> None:
    pair = {
        "type": "record",
        "name": "Pair",
        "fields": [{"name": "a", "type": ["null", "int"]}, {"name": "b", "type": "int"}],
    }
    some = with_schema([pair, {"type": "record", "name": "X", "fields": [{"name": "x", "type": schema}]}])
    assert problem in refusal(some, b"\x02" + payload, b"\x00\x00\x02")


CANONICAL = (
    b'{"name":"plant.Reading","type":"record","fields":[{"name":"device","type":"string"},{"name":"seq","type":"long"},'
    b'{"name":"temperature","type":"double"},{"name":"unit","type":["null","string"]}]}'
)
"""The schema of a reading in "Parsing Canonical Form", written by hand."""


def _crc_64_avro(canonical: bytes) -> bytes:
    """Return the fingerprint as the specification computes it ("Schema Fingerprints"), in its order of bytes."""
    empty = 0xC15D213AA4D7A795
    fingerprint = empty
    for byte in canonical:
        fingerprint ^= byte
        for _ in range(8):
            fingerprint = fingerprint >> 1 ^ (empty if fingerprint & 1 else 0)
    return fingerprint.to_bytes(8, "little")


@pytest.mark.parametrize("payload", [ROW_BYTES, b"\xc3\x01" + _crc_64_avro(CANONICAL) + ROW_BYTES])
def test_a_payload_that_is_cut_short_or_goes_on_is_never_taken(
    payload: bytes, with_schema: Callable[[Any], Converter]
) -> None:
    some = with_schema(READING)
    assert data_of(some, payload) == ROW
    check_cut_short(some, payload, ROW_BYTES, as_such=payload == ROW_BYTES)


def test_a_single_object_has_the_fingerprint_of_the_schema(with_schema: Callable[[Any], Converter]) -> None:
    assert _crc_64_avro(b'"int"') == bytes.fromhex("8f5c393f1ad57572")  # which Avro's own tests have
    assert data_of(with_schema(READING), b"\xc3\x01" + _crc_64_avro(CANONICAL) + ROW_BYTES) == ROW
    assert data_of(with_schema("int"), b"\xc3\x01" + _crc_64_avro(b'"int"') + b"\x02") == 1


def test_a_single_object_of_another_schema_is_refused_and_why_is_said(with_schema: Callable[[Any], Converter]) -> None:
    some = with_schema(READING)
    for other in (_crc_64_avro(b'"int"'), bytes(8), _crc_64_avro(CANONICAL)[::-1]):
        assert "fingerprint of another schema" in refusal(some, b"\xc3\x01" + other + ROW_BYTES, ROW_BYTES)


def test_a_datum_that_begins_as_a_single_object_does_is_still_a_datum(with_schema: Callable[[Any], Converter]) -> None:
    pair = {"type": "record", "name": "P", "fields": [{"name": "a", "type": "long"}, {"name": "b", "type": "double"}]}
    payload = b"\xc3\x01" + struct.pack("<d", 2.5)
    assert data_of(with_schema(pair), payload) == {"a": -98, "b": 2.5}
    assert data_of(with_schema("long"), b"\xc3\x01") == -98


_RECURSIVE = {
    "a list": (
        {"type": "record", "name": "R", "fields": [{"name": "a", "type": ["null", "R"]}]}, b"\x02", b"\x00", 190,
    ),
    "arrays": (
        {"type": "record", "name": "R", "fields": [{"name": "a", "type": {"type": "array", "items": "R"}}]},
        b"\x02", b"\x00", 95,
    ),
    "maps": (
        {"type": "record", "name": "R", "fields": [{"name": "a", "type": {"type": "map", "values": "R"}}]},
        b"\x02\x00", b"\x00", 95,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("schema", "opening", "end", "_most"), _RECURSIVE.values(), ids=_RECURSIVE)
def test_depth_100_000_is_refused_at_once(
    schema: Any, opening: bytes, end: bytes, _most: int, with_schema: Callable[[Any], Converter]
) -> None:
    some = with_schema(schema)
    check_cheap(lambda: refusal(some, opening * DEEP + end * DEEP, end))
    check_cheap(lambda: refusal(FILES, container(schema, opening * DEEP + end * DEEP), container("int", b"\x02")))


@pytest.mark.parametrize(("schema", "opening", "end", "most"), _RECURSIVE.values(), ids=_RECURSIVE)
def test_every_depth_is_read_by_all_readers_or_refused(
    schema: Any, opening: bytes, end: bytes, most: int, with_schema: Callable[[Any], Converter]
) -> None:
    some = with_schema(schema)
    closed = len(opening) > 1 or most == 95
    taken = [n for n in range(200) if outcome(some, opening * n + end + end * n * closed) != REFUSED]
    assert taken == [*range(most)]


def test_a_record_that_contains_itself_has_no_data_and_ends_nothing(with_schema: Callable[[Any], Converter]) -> None:
    some = with_schema({"type": "record", "name": "R", "fields": [{"name": "a", "type": "R"}]})
    assert outcome(some, b"\x00") == REFUSED


@pytest.mark.parametrize("count", [number for number in LENGTHS if number < 2**63])
@pytest.mark.parametrize(
    "schema", ["string", "bytes", {"type": "array", "items": "int"}, {"type": "map", "values": "int"}]
)
def test_a_length_that_is_not_there_costs_nothing(
    schema: Any, count: int, with_schema: Callable[[Any], Converter]
) -> None:
    some = with_schema([schema])
    for head in (b"\x00" + long(count), b"\x00" + long(-count) + long(count)):
        for payload in (head, head + b"\x02" * 50):
            check_cheap(lambda payload=payload: refusal(some, payload, b"\x00\x00"), mib=1)


_WITHOUT_BYTES = {
    "null": "null",
    "an empty record": {"type": "record", "name": "E", "fields": []},
    "a record of nothing": {"type": "record", "name": "E", "fields": [{"name": "a", "type": "null"}]},
    "records in records": {"type": "record", "name": "E", "fields": [
        {"name": "a", "type": {"type": "record", "name": "G", "fields": []}}, {"name": "b", "type": "G"}]},
    "fixed of 0": fixed(0),
}  # fmt: skip


@pytest.mark.parametrize("items", _WITHOUT_BYTES.values(), ids=_WITHOUT_BYTES)
def test_items_without_bytes_are_refused_in_a_configuration_and_in_a_file(
    items: Any, with_schema: Callable[[Any], Converter]
) -> None:
    for schema in (
        {"type": "array", "items": items},
        {"type": "record", "name": "R", "fields": [{"name": "r", "type": {"type": "array", "items": items}}]},
        {"type": "map", "values": {"type": "array", "items": items}},
        ["null", {"type": "array", "items": items}],
    ):
        with pytest.raises(ValueError, match=r"some\.avsc: .*items without bytes: a few bytes could claim any number"):
            with_schema(schema)
        payload = container(schema, long(2**60) + b"\x00")
        check_cheap(lambda payload=payload: refusal(FILES, payload, container("int", b"\x02")))
    endless = container(items, b"", count=2**60)
    check_cheap(lambda: refusal(FILES, endless, container("int", b"\x02")))
    with_schema({"type": "array", "items": ["null", "int"]})
    with_schema({"type": "map", "values": items})


def test_a_type_may_be_named_in_an_array_inside_itself(with_schema: Callable[[Any], Converter]) -> None:
    tree = {"type": "record", "name": "T", "fields": [{"name": "t", "type": {"type": "array", "items": "T"}}]}
    assert data_of(with_schema(tree), b"\x04\x00\x00\x00") == {"t": [{"t": []}, {"t": []}]}


_BAD_SCHEMAS: dict[str, tuple[Any, str]] = {
    "a type that is not there": ("nope", "no type nope"),
    "another record's name": ({"type": "array", "items": "R"}, "no type R"),
    "a number": (5, "wrong kind"),
    "null": (None, "wrong kind"),
    "an empty object": ({}, "missing"),
    "an array without items": ({"type": "array"}, "missing"),
    "a record with one field twice": (
        {"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}, {"name": "a", "type": "int"}]},
        "same name",
    ),
    "a field without a type": ({"type": "record", "name": "R", "fields": [{"name": "a"}]}, "missing 'type'"),
    "fields that are none": ({"type": "record", "name": "R", "fields": 5}, "wrong kind"),
    "a name that is none": ({"type": "record", "name": 5, "fields": []}, "wrong kind"),
    "symbols that are text": ({"type": "enum", "name": "E", "symbols": "ab"}, "list"),
    "a fixed of no size": ({"type": "fixed", "name": "F"}, "missing"),
    "a fixed of less than nothing": (fixed(-1), "size -1"),
    "a fixed of text": ({"type": "fixed", "name": "F", "size": "2"}, "size '2'"),
    "a decimal without digits": ({"type": "bytes", "logicalType": "decimal"}, "missing"),
    "a decimal of too many digits": (_decimal(10**18, 2), "digits"),
    "a decimal of text": (
        {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": "a"}, "scale",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("schema", "problem"), _BAD_SCHEMAS.values(), ids=_BAD_SCHEMAS)
def test_a_schema_that_is_none_is_refused_in_a_configuration_and_in_a_file(
    schema: Any, problem: str, with_schema: Callable[[Any], Converter]
) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        with_schema(schema)
    assert "some.avsc" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert problem in refusal(FILES, container(schema, b"\x02"), container("int", b"\x02"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "not JSON"),
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"type":"array","items":' * 900 + '"int"' + "}" * 900, ""),
    ],
)
def test_a_file_that_is_no_schema_is_refused_or_works(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "some.avsc"
    path.write_text(text)
    if problem:
        with pytest.raises(ValueError, match=problem):
            new_decoder("avro", {"schema": path})
    else:
        assert outcome(converter_of("avro", schema=path), b"\x02" * 5000) == REFUSED


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"schema": 5}, "schema should be the path"),
        ({"schema": {"type": "int"}}, "schema should be the path"),
        ({"schema": Path("/nowhere/x.avsc")}, "can't be read"),
        ({"schema": Path("/tmp")}, "can't be read"),
        ({"descriptor": "x"}, "its options: schema"),
    ],
)
def test_options_that_can_not_be_are_refused_with_a_sentence(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        new_decoder("avro", options)


def test_a_schema_may_be_given_as_text(tmp_path: Path) -> None:
    (tmp_path / "a.avsc").write_text('"int"')
    assert data_of(converter_of("avro", schema=str(tmp_path / "a.avsc")), b"\x02") == 1


SYNC = bytes(range(16))


def container(
    schema: Any,
    *blocks: bytes,
    count: int = 1,
    codec: bytes | None = None,
    sync: bytes = SYNC,
    more: bytes = b"",
) -> bytes:
    """Return an object container file, written by hand from the specification ("Object Container Files")."""
    body = schema if isinstance(schema, bytes) else json.dumps(schema).encode()
    meta = text("avro.schema") + text(body)
    meta = long(2) + meta + text("avro.codec") + text(codec) if codec is not None else long(1) + meta
    return b"Obj\x01" + meta + b"\x00" + SYNC + b"".join(long(count) + text(block) + sync for block in blocks) + more


def deflate(data: bytes) -> bytes:
    """Return raw deflate, as the codec of that name has it."""
    stream = zlib.compressobj(9, wbits=-15)
    return stream.compress(data) + stream.flush()


def test_a_container_file_is_the_list_of_its_records() -> None:
    assert data_of(FILES, container(READING, ROW_BYTES)) == [ROW]
    assert data_of(FILES, container(READING, ROW_BYTES * 2, ROW_BYTES * 2, count=2)) == [ROW] * 4
    assert data_of(FILES, container(READING)) == []
    assert data_of(FILES, container(READING, ROW_BYTES, codec=b"null")) == [ROW]
    assert data_of(FILES, container(READING, deflate(ROW_BYTES * 3), count=3, codec=b"deflate")) == [ROW] * 3
    left = zlib.compress(ROW_BYTES)[2:-1]  # with a part of zlib's checksum
    assert data_of(FILES, container(READING, left, codec=b"deflate")) == [ROW]
    assert data_of(FILES, container("long", b"\x02\x04", b"\x06\x08", count=2)) == [1, 2, 3, 4]
    negative = long(-1) + long(20) + text("avro.schema") + text('"int"')
    assert data_of(FILES, b"Obj\x01" + negative + b"\x00" + SYNC + b"\x02\x02\x02" + SYNC) == [1]


def test_each_makes_an_event_of_each_record() -> None:
    shape = Shape(bridge="b", mapping=Mapping("{all...}", "plant.{all...}"), source="urn:x", type="t")
    some = Converter(shape, new_decoder("avro"), Steps(each=Expression("@"), select=Expression("temperature")))
    found = some.convert([message(payload=container(READING, ROW_BYTES * 3, count=3))])
    assert [json.loads(event.body)["data"] for event in found.events] == [21.5] * 3


@pytest.mark.parametrize("codec", [None, b"deflate"])
def test_a_container_file_that_is_cut_short_or_goes_on_is_never_taken(codec: bytes | None) -> None:
    block = deflate(ROW_BYTES * 2) if codec else ROW_BYTES * 2
    whole = container(READING, block, count=2, codec=codec)
    check_cut_short(FILES, whole[: -len(block) - 18], container("int"), as_such=False)
    data_of(FILES, whole)
    for end in range(len(container(READING, codec=codec)) + 1, len(whole)):
        refusal(FILES, whole[:end], container("int"))


_BAD_FILES = {
    "no file": (ROW_BYTES, "the decoder needs `schema`"),
    "a single object": (b"\xc3\x01" + bytes(8) + ROW_BYTES, "the decoder needs `schema`"),
    "an older file": (b"Obj\x00" + container(READING)[4:], "the decoder needs `schema`"),
    "another codec": (container(READING, b"x", codec=b"snappy"), "snappy"),
    "a long codec": (container(READING, b"x", codec=b"x" * 1000), "codec"),
    "no schema": (b"Obj\x01\x00" + SYNC, "not JSON"),
    "a schema that is not JSON": (container(b"{"), "not JSON"),
    "a schema that is too long": (container(json.dumps("int").encode() + b" " * 65_536), "65536 are allowed"),
    "another marker": (container("int", b"\x02", sync=bytes(16)), "marker"),
    "fewer records than it says": (container("int", b"\x02", count=2), "cut short"),
    "more records than it says": (container("int", b"\x02\x02", count=1), "ends at byte"),
    "records of less than nothing": (container("int", b"\x02", count=-1), "ends at byte"),
    "no deflate": (container("int", b"\x07\x02", codec=b"deflate"), "not deflate"),
    "deflate that is cut short": (container("int", deflate(b"\x02")[:-1], codec=b"deflate"), "do not end"),
    "deflate that goes on": (container("int", deflate(b"\x02") + b"xxxxx", codec=b"deflate"), "do not end"),
    "zlib": (container("int", zlib.compress(b"\x02"), codec=b"deflate"), "deflate"),
    "a bad record": (container(["null"], b"\x02"), "branch 1"),
    "a schema twice": (
        b"Obj\x01" + long(2) + (text("avro.schema") + text('"int"')) * 2 + b"\x00" + SYNC, "twice",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("payload", "problem"), _BAD_FILES.values(), ids=_BAD_FILES)
def test_a_file_that_is_none_is_refused_with_a_sentence(payload: bytes, problem: str) -> None:
    assert problem in refusal(FILES, payload, container("int", b"\x02"))


_WIDE = {"type": "record", "name": "W", "fields": [
    {"name": "a", "type": "int"}, *({"name": f"n{number}", "type": "null"} for number in range(1000))]}  # fmt: skip
_LONG_NAMES = {"type": "record", "name": "L", "fields": [{"name": "x" * 60_000, "type": "int"}]}
_LONG_SYMBOL = {"type": "enum", "name": "E", "symbols": ["x" * 60_000]}


def _of(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _nested(depth: int) -> Any:
    schema: Any = "int"
    for number in range(depth):
        schema = {"type": "record", "name": f"R{number}", "fields": [{"name": "a", "type": schema}]}
    return schema


_MANY = long(200_000) + b"\x00" * 200_000 + b"\x00"
_COSTLY = {
    "16 MiB of zeros": container("int", deflate(bytes(16 << 20)), count=16 << 20, codec=b"deflate"),
    "64 MiB of zeros": container("int", deflate(bytes(64 << 20)), count=64 << 20, codec=b"deflate"),
    "16 MiB of records": container(_nested(1), deflate(bytes(16 << 20)), count=16 << 20, codec=b"deflate"),
    "many blocks of 1 MiB": container("bytes", *[deflate(text(bytes(1 << 20)))] * 40, codec=b"deflate"),
    "many nulls for each byte": container(_of(_WIDE), _MANY),
    "records of many nulls": container(_WIDE, bytes(200_000), count=200_000),
    "a long name": container(_of(_LONG_NAMES), _MANY),
    "a long symbol": container(_of(_LONG_SYMBOL), _MANY),
    "a hundred records for each byte": container(_of(_nested(100)), _MANY),
    "empty arrays": container(_of(_of("int")), _MANY),
    "empty maps": container(_of({"type": "map", "values": "int"}), _MANY),
    "blocks without records": container("int", *[b""] * 20_000, count=0),
    "metadata": b"Obj\x01" + b"".join(long(1) + text(b"%d" % number) + text("") for number in range(50_000)),
    "a schema of many names": container(
        [{"type": "fixed", "name": f"F{number}", "size": 1} for number in range(1300)], b"\x00\x00"
    ),
    "a schema that nests": container(_nested(300), b"\x02"),
}  # fmt: skip


@pytest.mark.parametrize("payload", _COSTLY.values(), ids=_COSTLY)
def test_no_file_fills_the_time_or_the_memory(payload: bytes) -> None:
    check_cheap(lambda: outcome(FILES, payload), seconds=4, mib=None)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("64 MiB of zeros", "an Avro file of more than 16777216 bytes"),
        ("many blocks of 1 MiB", "an Avro file of more than 16777216 bytes"),
        ("a long name", "too large"),
        ("a long symbol", "too large"),
    ],
)
def test_a_file_that_would_be_huge_is_refused_before_it_is_there(name: str, problem: str) -> None:
    check_cheap(lambda: refusal(FILES, _COSTLY[name], container("int", b"\x02")), mib=40)
    assert problem in refusal(FILES, _COSTLY[name], container("int", b"\x02"))


def test_a_datum_that_would_be_huge_is_refused(with_schema: Callable[[Any], Converter]) -> None:
    some = with_schema(_of("int"))
    assert data_of(some, long(200_000) + bytes(200_000) + b"\x00") == [0] * 200_000
    assert "too large" in refusal(some, long(600_000) + bytes(600_000) + b"\x00", b"\x00")


@pytest.mark.parametrize("size", [10_000, 1 << 20])
def test_a_decimal_of_any_number_of_bytes_takes_no_time(size: int, with_schema: Callable[[Any], Converter]) -> None:
    some = with_schema([_decimal(38, 2)])
    check_cheap(lambda: refusal(some, b"\x00" + text(b"\x7f" * size), b"\x00\x02\x01"))


def test_a_large_file_is_taken() -> None:
    assert len(data_of(FILES, container(READING, ROW_BYTES * 20_000, count=20_000))) == 20_000


_types = st.recursive(
    st.sampled_from(
        ["null", "boolean", "int", "long", "float", "double", "bytes", "string", logical("int", "date"),
         logical("int", "time-millis"), logical("long", "time-micros"), logical("long", "timestamp-millis"),
         logical("long", "timestamp-micros"), logical("long", "local-timestamp-micros"), _decimal(20, 3)]
    ),
    lambda inner: st.builds(_of, inner.filter(lambda kind: kind != "null"))
    | st.builds(lambda values: {"type": "map", "values": values}, inner)
    | st.builds(lambda kind: ["null", kind] if isinstance(kind, str | dict) and kind != "null" else kind, inner)
    | st.lists(inner, min_size=1, max_size=4).map(tuple),
    max_leaves=6,
)  # fmt: skip
_SAMPLES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(), "boolean": st.booleans(), "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1), "float": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "double": st.floats(allow_nan=False, allow_infinity=False), "bytes": st.binary(max_size=70),
    "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=70), "date": st.dates(),
    "time-millis": st.times().map(lambda value: value.replace(microsecond=value.microsecond // 1000 * 1000)),
    "time-micros": st.times(),
    "timestamp-millis": st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)).map(
        lambda value: value.replace(microsecond=value.microsecond // 1000 * 1000)
    ),
    "timestamp-micros": st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),
    "local-timestamp-micros": st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)),
    "decimal": st.decimals(-(10**15), 10**15, places=3, allow_nan=False, allow_infinity=False),
}  # fmt: skip


def _named(kind: Any, names: list[str]) -> Any:
    """Return a drawn type with records for its tuples, which need a name each."""
    if isinstance(kind, tuple):
        names.append(f"R{len(names)}")
        name = names[-1]
        fields = [{"name": f"f{number}", "type": _named(part, names)} for number, part in enumerate(kind)]
        return {"type": "record", "name": name, "fields": [*fields, {"name": "last", "type": "boolean"}]}
    if isinstance(kind, list):
        return [_named(branch, names) for branch in kind]
    if isinstance(kind, dict) and kind["type"] in ("array", "map"):
        inner = "items" if kind["type"] == "array" else "values"
        return {**kind, inner: _named(kind[inner], names)}
    return kind


def _sample(kind: Any) -> st.SearchStrategy[Any]:
    if isinstance(kind, str):
        return _SAMPLES[kind]
    if isinstance(kind, list):
        return st.one_of([_sample(branch) for branch in kind])
    if kind["type"] == "array":
        return st.lists(_sample(kind["items"]), max_size=4)
    if kind["type"] == "map":
        return st.dictionaries(_SAMPLES["string"], _sample(kind["values"]), max_size=4)
    if kind["type"] == "record":
        return st.fixed_dictionaries({field["name"]: _sample(field["type"]) for field in kind["fields"]})
    return _SAMPLES[kind["logicalType"]]


@settings(deadline=None, max_examples=80)
@given(st.data(), _types)
def test_what_a_library_writes_is_read_as_it_was(data: st.DataObject, drawn: Any) -> None:
    schema = _named(drawn, [])
    value = data.draw(_sample(schema))
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    assert datum(schema, out.getvalue()) == json_value(value)
    if AvroSchema(schema).least:
        file = io.BytesIO()
        fastavro.writer(file, fastavro.parse_schema(schema), [value] * 3, codec="deflate")
        assert data_of(FILES, file.getvalue()) == [json_value(value)] * 3


@settings(deadline=None, max_examples=60)
@given(st.data(), _types, st.binary(max_size=40))
def test_any_bytes_become_a_value_or_a_sentence(data: st.DataObject, drawn: Any, payload: bytes) -> None:
    schema = _named(drawn, [])
    try:
        datum(schema, payload)
    except ValueError as error:
        problem = str(error)
        assert problem


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_file_with_a_byte_changed_becomes_an_event_or_a_dead_letter(data: st.DataObject) -> None:
    whole = container(READING, deflate(ROW_BYTES * 2), count=2, codec=b"deflate")
    place = data.draw(st.integers(0, len(whole) - 1))
    outcome(FILES, whole[:place] + bytes([data.draw(st.integers(0, 255))]) + whole[place + 1 :])


def test_what_a_library_makes_of_logical_types_is_what_is_read() -> None:
    schema = {"type": "record", "name": "R", "fields": [
        {"name": "a", "type": logical("int", "date")}, {"name": "b", "type": logical("int", "time-millis")},
        {"name": "c", "type": logical("long", "timestamp-millis")}, {"name": "d", "type": logical("string", "uuid")},
        {"name": "e", "type": _decimal(6, 2)}]}  # fmt: skip
    moment = datetime(2024, 5, 1, 1, 2, 3, 4000, tzinfo=UTC)
    row = {"a": moment.date(), "b": moment.time(), "c": moment, "d": UUID(int=7), "e": Decimal("-12.50")}
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), row)
    assert datum(schema, out.getvalue()) == {
        "a": "2024-05-01", "b": "01:02:03.004000", "c": "2024-05-01T01:02:03.004000Z",
        "d": "00000000-0000-0000-0000-000000000007", "e": "-12.50",
    }  # fmt: skip
