"""Protocol Buffers: ProtoJSON by a descriptor set, and what no message or no descriptor is."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import any_pb2, duration_pb2, empty_pb2, struct_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.decode.rig import REFUSED, check_cheap, converter_of, data_of, outcome, refusal
from tidegate.bridge import Converter, new_decoder

T = FieldDescriptorProto
_SCALARS = {
    "double": T.TYPE_DOUBLE, "float": T.TYPE_FLOAT, "int32": T.TYPE_INT32, "int64": T.TYPE_INT64,
    "uint32": T.TYPE_UINT32, "uint64": T.TYPE_UINT64, "sint32": T.TYPE_SINT32, "sint64": T.TYPE_SINT64,
    "fixed32": T.TYPE_FIXED32, "fixed64": T.TYPE_FIXED64, "sfixed32": T.TYPE_SFIXED32, "sfixed64": T.TYPE_SFIXED64,
    "bool": T.TYPE_BOOL, "string": T.TYPE_STRING, "bytes": T.TYPE_BYTES,
}  # fmt: skip
_WELL_KNOWN = {
    "at": timestamp_pb2.Timestamp, "lasts": duration_pb2.Duration, "more": struct_pb2.Struct, "any": any_pb2.Any,
    "wrapped": wrappers_pb2.Int64Value, "value": struct_pb2.Value, "list": struct_pb2.ListValue,
}  # fmt: skip


def _field(
    message: DescriptorProto, name: str, number: int, kind: int, type_name: str | None = None, label: int = 1
) -> Any:
    return message.field.add(name=name, number=number, type=kind, type_name=type_name, label=label)


def _reading_file() -> FileDescriptorProto:
    """The .proto file of a usual device: scalars of each type, a message in itself, an enum, maps, a oneof."""
    file = FileDescriptorProto(name="plant/reading.proto", package="plant", syntax="proto3")
    file.enum_type.add(name="Unit").value.add(name="UNIT_NONE", number=0)
    file.enum_type[0].value.add(name="CELSIUS", number=1)
    reading = file.message_type.add(name="Reading")
    for number, (name, kind) in enumerate(_SCALARS.items(), 1):
        _field(reading, f"{name}_value", number, kind)
    for number, (name, kind) in enumerate(_SCALARS.items(), 21):
        _field(reading, f"{name}_list", number, kind, label=3)
    _field(reading, "unit", 41, T.TYPE_ENUM, ".plant.Unit")
    _field(reading, "units", 42, T.TYPE_ENUM, ".plant.Unit", 3)
    _field(reading, "part", 43, T.TYPE_MESSAGE, ".plant.Reading")
    _field(reading, "parts", 44, T.TYPE_MESSAGE, ".plant.Reading", 3)
    reading.oneof_decl.add(name="either")
    for number, name in enumerate(("left", "right"), 45):
        _field(reading, name, number, T.TYPE_INT32).oneof_index = 0
    reading.oneof_decl.add(name="_maybe")
    maybe = _field(reading, "maybe", 47, T.TYPE_INT32)
    maybe.oneof_index, maybe.proto3_optional = 1, True
    for number, (name, key, value) in enumerate(
        (
            ("by_name", T.TYPE_STRING, T.TYPE_INT64),
            ("by_number", T.TYPE_INT32, T.TYPE_MESSAGE),
            ("by_truth", T.TYPE_BOOL, T.TYPE_FLOAT),
        ),
        51,
    ):
        entry = reading.nested_type.add(name="".join(part.title() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        _field(entry, "key", 1, key)
        _field(entry, "value", 2, value, ".plant.Reading" if value == T.TYPE_MESSAGE else None)
        _field(reading, name, number, T.TYPE_MESSAGE, f".plant.Reading.{entry.name}", 3)
    for number, (name, kind) in enumerate(_WELL_KNOWN.items(), 61):
        _field(reading, name, number, T.TYPE_MESSAGE, f".{kind.DESCRIPTOR.full_name}")
        _field(reading, f"{name}_list", number + 10, T.TYPE_MESSAGE, f".{kind.DESCRIPTOR.full_name}", 3)
        if kind.DESCRIPTOR.file.name not in file.dependency:
            file.dependency.append(kind.DESCRIPTOR.file.name)
    reading.nested_type.add(name="Inner")
    return file


def _old_file() -> FileDescriptorProto:
    """A proto2 file: required, with defaults, groups and extensions; without a package."""
    file = FileDescriptorProto(name="old.proto", syntax="proto2")
    old = file.message_type.add(name="Old")
    _field(old, "id", 1, T.TYPE_INT32, label=2)
    _field(old, "name", 2, T.TYPE_STRING).default_value = "none"
    _field(old, "group", 3, T.TYPE_GROUP, ".Old.Group")
    _field(old.nested_type.add(name="Group"), "x", 4, T.TYPE_INT32)
    old.extension_range.add(start=100, end=200)
    extension = file.extension.add(name="extra", number=100, type=T.TYPE_INT64, label=1, extendee=".Old")
    assert extension.name == "extra"
    return file


def _descriptor_set() -> FileDescriptorSet:
    files = FileDescriptorSet()
    for kind in {kind.DESCRIPTOR.file.name: kind for kind in (*_WELL_KNOWN.values(), empty_pb2.Empty)}.values():
        kind.DESCRIPTOR.file.CopyToProto(files.file.add())
    files.file.extend([_reading_file(), _old_file()])
    return files


FILES = _descriptor_set()
POOL = DescriptorPool()
for _file in FILES.file:
    POOL.Add(_file)
Reading: Any = GetMessageClass(POOL.FindMessageTypeByName("plant.Reading"))


@pytest.fixture(scope="module")
def descriptor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("protobuf") / "plant.desc"
    path.write_bytes(FILES.SerializeToString())
    return path


@pytest.fixture(scope="module")
def some(descriptor: Path) -> Converter:
    return converter_of("protobuf", descriptor=descriptor, message="plant.Reading")


@pytest.fixture(scope="module")
def old(descriptor: Path) -> Converter:
    return converter_of("protobuf", descriptor=descriptor, message="Old")


GOOD = bytes.fromhex("189601")

_ALWAYS: dict[str, Any] = {
    **{f"{name}_value": 0 for name in _SCALARS}, **{f"{name}_list": [] for name in (*_SCALARS, *_WELL_KNOWN)},
    "int64_value": "0", "uint64_value": "0", "sint64_value": "0", "fixed64_value": "0", "sfixed64_value": "0",
    "bool_value": False, "string_value": "", "bytes_value": "", "unit": "UNIT_NONE", "units": [], "parts": [],
    "by_name": {}, "by_number": {}, "by_truth": {},
}  # fmt: skip
"""What a reading has that says nothing."""

# By hand from "Encoding" (protobuf.dev); the first three are its own examples, under our field numbers.
_BY_HAND = {
    "150": ("189601", {"int32_value": 150}),
    "text": ("720774657374696e67", {"string_value": "testing"}),
    "packed": ("ba0106038e029ea705", {"int32_list": [3, 270, 86942]}),
    "not packed": ("b80103b8018e02b8019ea705", {"int32_list": [3, 270, 86942]}),
    "a double": ("09" + struct.pack("<d", 21.5).hex(), {"double_value": 21.5}),
    "a float": ("15" + struct.pack("<f", 21.1).hex(), {"float_value": 21.1}),
    "-2 in ten bytes": ("18feffffffffffffffff01", {"int32_value": -2}),
    "-2, zig-zag": ("3803", {"sint32_value": -2}),
    "the largest integer": ("30ffffffffffffffffff01", {"uint64_value": "18446744073709551615"}),
    "fixed": ("4d07000000" "61f9ffffffffffffff", {"fixed32_value": 7, "sfixed64_value": "-7"}),
    "true": ("6801", {"bool_value": True}),
    "bytes": ("7a0200ff", {"bytes_value": "AP8="}),
    "an enum": ("c80201", {"unit": "CELSIUS"}),
    "an enum that is not known": ("c80263", {"unit": 99}),
    "enums": ("d202020001", {"units": ["UNIT_NONE", "CELSIUS"]}),
    "one of two": ("e80200", {"left": 0}),
    "the last of two": ("e80205f00206", {"right": 6}),
    "one that may be missing": ("f80200", {"maybe": 0}),
    "the last of the same": ("18011802", {"int32_value": 2}),
    "a message": ("da02021801", {"part": _ALWAYS | {"int32_value": 1}}),
    "an empty message": ("da0200", {"part": _ALWAYS}),
    "messages": ("e20200e202021801", {"parts": [_ALWAYS, _ALWAYS | {"int32_value": 1}]}),
    "a map": ("9a03050a01611002" "9a03050a01621003", {"by_name": {"a": "2", "b": "3"}}),
    "a map by numbers": (
        "a203080801120418013805", {"by_number": {"1": {**_ALWAYS, "int32_value": 1, "sint32_value": -3}}},
    ),
    "a map by truth": ("aa0307080115" + struct.pack("<f", 0.5).hex(), {"by_truth": {"true": 0.5}}),
    "a time": ("ea03060880e2cfaa06", {"at": "2023-11-14T22:13:20Z"}),
    "a field that is not known": ("18019a3f0161", {"int32_value": 1}),
    "a known field of another type": ("1a0161", {}),
    "no number": ("09" + struct.pack("<d", float("nan")).hex(), {"double_value": "NaN"}),
    "no end": ("15" + struct.pack("<f", float("-inf")).hex(), {"float_value": "-Infinity"}),
}  # fmt: skip


@pytest.mark.parametrize(("payload", "members"), _BY_HAND.values(), ids=_BY_HAND)
def test_a_message_is_proto_json_and_zeros_do_not_vanish(
    payload: str, members: dict[str, Any], some: Converter
) -> None:
    assert data_of(some, bytes.fromhex(payload)) == _ALWAYS | members


_NO_MESSAGES = {
    "cut short": b"\x72\x07test",
    "a number without an end": b"\x18" + b"\xff" * 11,
    "field 0": b"\x00\x00",
    "a group that never ends": b"\x1b\x18\x01",
    "an end of no group": b"\x1c",
    "an unknown wire type": b"\x1e",
    "text that is not UTF-8": b"\x72\x01\xff",
    "a length of 2**63": b"\x72" + b"\xff" * 9 + b"\x01",
    "a length of 2**32": b"\x72\x80\x80\x80\x80\x10a",
    "JSON": b'{"int32_value": 1}',
    "an Any of no type": b"\x82\x04\x05\x0a\x03a/b",
    "an Any of what it is not": b"\x82\x04\x14\x0a\x0fx/plant.Reading\x12\x01\xff",
    "a time of no year": bytes.fromhex("ea03" "0c08ffffffffffffffff7f1000"),
    "a value without an end": bytes.fromhex("9204" "0911000000000000f07f"),
}  # fmt: skip


@pytest.mark.parametrize("payload", _NO_MESSAGES.values(), ids=_NO_MESSAGES)
def test_what_is_no_message_is_refused_and_the_type_is_said(payload: bytes, some: Converter) -> None:
    assert "not a protobuf message plant.Reading: " in refusal(some, payload, GOOD)


def test_proto2_keeps_its_rules(old: Converter) -> None:
    assert data_of(old, bytes.fromhex("0805")) == {"id": 5}
    assert data_of(old, bytes.fromhex("0800120161")) == {"id": 0, "name": "a"}
    assert data_of(old, bytes.fromhex("08051b20071c")) == {"id": 5, "group": {"x": 7}}
    assert data_of(old, bytes.fromhex("0805a00607")) == {"id": 5, "[extra]": "7"}
    assert "without id, which is required" in refusal(old, bytes.fromhex("120161"), b"\x08\x05")


def test_any_is_read_by_the_same_descriptor(some: Converter) -> None:
    message = Reading()
    message.any.Pack(Reading(int32_value=3))
    assert data_of(some, message.SerializeToString())["any"] == {
        "@type": "type.googleapis.com/plant.Reading", **_ALWAYS, "int32_value": 3,
    }  # fmt: skip
    message.any.Pack(wrappers_pb2.Int64Value(value=5))
    assert data_of(some, message.SerializeToString())["any"] == {
        "@type": "type.googleapis.com/google.protobuf.Int64Value", "value": "5",
    }  # fmt: skip
    message.any.Pack(empty_pb2.Empty())
    assert data_of(some, message.SerializeToString())["any"] == {"@type": "type.googleapis.com/google.protobuf.Empty"}
    assert data_of(some, b"\x82\x04\x00")["any"] == {}


_values: dict[str, st.SearchStrategy[Any]] = {
    "double": st.floats(), "float": st.floats(width=32), "bool": st.booleans(),
    "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=8), "bytes": st.binary(max_size=8),
    **dict.fromkeys(("int32", "sint32", "sfixed32"), st.integers(-(2**31), 2**31 - 1)),
    **dict.fromkeys(("uint32", "fixed32"), st.integers(0, 2**32 - 1)),
    **dict.fromkeys(("int64", "sint64", "sfixed64"), st.integers(-(2**63), 2**63 - 1)),
    **dict.fromkeys(("uint64", "fixed64"), st.integers(0, 2**64 - 1)),
}  # fmt: skip
_members = st.fixed_dictionaries(
    {},
    optional={
        **{f"{name}_value": value for name, value in _values.items()},
        **{f"{name}_list": st.lists(value, max_size=3) for name, value in _values.items()},
        "unit": st.integers(0, 3), "units": st.lists(st.integers(0, 3), max_size=3), "left": st.integers(0, 9),
        "maybe": st.integers(0, 9), "by_name": st.dictionaries(_values["string"], _values["int64"], max_size=3),
        "by_truth": st.dictionaries(st.booleans(), _values["float"], max_size=2),
        "at": st.builds(lambda seconds, nanos: timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos),
                        st.integers(-(10**10), 10**11), st.integers(0, 999_999_999)),
        "lasts": st.builds(lambda seconds: duration_pb2.Duration(seconds=seconds), st.integers(-(10**9), 10**9)),
        "wrapped": st.builds(lambda value: wrappers_pb2.Int64Value(value=value), _values["int64"]),
    },
)  # fmt: skip
_readings = st.recursive(
    _members,
    lambda inner: st.builds(
        lambda members, part, parts: {**members, "part": part, "parts": parts},
        _members,
        inner,
        st.lists(inner, max_size=2),
    ),
    max_leaves=4,
)


def _build(members: dict[str, Any]) -> Any:
    plain = {name: value for name, value in members.items() if not hasattr(value, "DESCRIPTOR")}
    for name in ("part", "parts"):
        if name in plain:
            plain[name] = _build(plain[name]) if name == "part" else [_build(part) for part in plain[name]]
    message = Reading(**plain)
    for name, value in members.items():
        if name not in plain:
            getattr(message, name).ParseFromString(value.SerializeToString())
    return message


@settings(deadline=None, max_examples=80)
@given(_readings)
def test_the_value_is_what_the_library_makes_of_it(some: Converter, members: dict[str, Any]) -> None:
    message = _build(members)
    expected = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, descriptor_pool=POOL
    )
    assert data_of(some, message.SerializeToString() or b"\x18\x00") == expected


@settings(deadline=None, max_examples=60)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(-1e9, 1e9) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=8,
    )
)
def test_a_struct_is_the_json_that_it_holds(some: Converter, value: Any) -> None:
    message = Reading()
    message.more.update({"it": value})
    assert data_of(some, message.SerializeToString())["more"] == {"it": value}


@settings(deadline=None, max_examples=100)
@given(st.binary(min_size=1, max_size=40))
def test_any_bytes_are_refused_or_read_as_the_library_reads_them(some: Converter, payload: bytes) -> None:
    found = outcome(some, payload)
    try:
        message = Reading.FromString(payload)
    except Exception:  # noqa: BLE001 - of whatever kind it is
        assert found == REFUSED
        return
    if found != REFUSED:
        assert found == MessageToDict(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, descriptor_pool=POOL
        )


def _wrapped(tag: bytes, depth: int, inner: bytes = b"") -> bytes:
    for _ in range(depth):
        size, length = len(inner), b""
        while size > 0x7F:
            length += bytes([size & 0x7F | 0x80])
            size >>= 7
        inner = tag + length + bytes([size]) + inner
    return inner


@pytest.mark.parametrize(
    ("tag", "most"), [(b"\xda\x02", 100), (b"\xe2\x02", 94)], ids=["messages", "lists of messages"]
)
def test_every_depth_is_read_by_all_readers_or_refused(tag: bytes, most: int, some: Converter) -> None:
    taken = [depth for depth in range(1, 120) if outcome(some, _wrapped(tag, depth)) != REFUSED]
    assert taken == [*range(1, most + 1)]


def test_depth_10_000_is_refused_at_once(some: Converter) -> None:
    for payload in (_wrapped(b"\xda\x02", 10_000), b"\x83\x01" * 100_000, _anys(2_000)):
        check_cheap(lambda payload=payload: refusal(some, payload, GOOD))


def _anys(depth: int) -> bytes:
    """An Any in an Any, and so on: the library counts the levels of each anew."""
    url = b"x/google.protobuf.Any"
    head = b"\x0a" + bytes([len(url)]) + url
    inner = b""
    for _ in range(depth):
        inner = head + _wrapped(b"\x12", 1, inner)
    return _wrapped(b"\x82\x04", 1, inner)


def _structs(depth: int) -> bytes:
    """A ListValue in a ListValue, and so on, inside lists of messages."""
    inner = b""
    for _ in range(depth):
        inner = _wrapped(b"\x0a", 1, _wrapped(b"\x32", 1, inner))
    return inner


def test_a_struct_inside_messages_is_read_by_all_readers_or_refused(some: Converter) -> None:
    taken = 0
    for depth in range(0, 100, 3):
        for structs in range(0, 55, 3):
            payload = _wrapped(b"\xe2\x02", depth, _wrapped(b"\xba\x04", 1, _structs(structs)))
            taken += outcome(some, payload) != REFUSED
    assert taken > 200


def test_what_an_any_holds_is_read_by_all_readers_or_refused(some: Converter) -> None:
    """The library counts the levels of each anew."""
    assert [depth for depth in range(1, 300, 7) if outcome(some, _anys(depth)) != REFUSED] == [*range(1, 190, 7)]
    url = b"x/google.protobuf.ListValue"
    head = b"\x0a" + bytes([len(url)]) + url
    taken = 0
    for structs in range(0, 50, 7):
        held = _wrapped(b"\x82\x04", 1, head + _wrapped(b"\x12", 1, _structs(structs)))
        taken += sum(outcome(some, _wrapped(b"\xe2\x02", depth, held)) != REFUSED for depth in range(0, 98, 3))
    assert taken > 50


_COSTLY = {
    "a message in three bytes": b"\xe2\x02\x00" * 100_000,
    "a time in three bytes": b"\xba\x04\x00" * 100_000,
    "an Any of messages in three bytes": _wrapped(
        b"\x82\x04", 1, b"\x0a\x0fx/plant.Reading" + _wrapped(b"\x12", 1, b"\xe2\x02\x00" * 100_000)
    ),
    "a struct of nulls": _wrapped(b"\x9a\x04", 1, b"\x0a\x02\x08\x00" * 100_000),
    "a map of messages": b"".join(b"\xa2\x03\x04\x08" + bytes([n & 127 | 128, n >> 7 & 127 | 128, n >> 14])
                                  for n in range(50_000)),
    "the same message again and again": b"\xda\x02\x00" * 200_000,
    "fields that are not known": b"\x9a\x3f\x00" * 200_000,
}  # fmt: skip


@pytest.mark.parametrize("payload", _COSTLY.values(), ids=_COSTLY)
def test_no_payload_fills_the_time_or_the_memory(payload: bytes, some: Converter) -> None:
    check_cheap(lambda: outcome(some, payload), seconds=4, mib=None)


def test_messages_that_would_be_huge_are_refused_before_they_are_there(some: Converter) -> None:
    check_cheap(lambda: refusal(some, b"\xe2\x02\x00" * 300_000, GOOD), mib=32)


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("Reading", "no message 'Reading'; it has plant.Reading"),
        ("plant.reading", "no message 'plant.reading'; it has plant.Reading"),
        ("plant.Unit", "no message 'plant.Unit'; it has "),
        ("", "no message ''; it has "),
        (".plant.Reading", "it has plant.Reading"),
        (5, "message should be the full name"),
        (None, "message should be the full name"),
    ],
)
def test_a_message_that_is_not_there_is_refused_and_some_that_are_there_are_named(
    message: Any, problem: str, descriptor: Path
) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        new_decoder("protobuf", {"descriptor": descriptor, "message": message})
    assert len(str(caught.value)) < 400


def test_a_message_in_a_message_has_its_name_and_may_be_without_fields(descriptor: Path) -> None:
    assert data_of(converter_of("protobuf", descriptor=descriptor, message="plant.Reading.Inner"), b"\x08\x01") == {}
    assert (
        data_of(converter_of("protobuf", descriptor=str(descriptor), message="google.protobuf.Duration"), b"\x08\x01")
        == "1s"
    )


def _without_imports() -> FileDescriptorSet:
    return FileDescriptorSet(file=[_reading_file()])


def _broken() -> FileDescriptorSet:
    files = FileDescriptorSet()
    _field(files.file.add(name="a.proto").message_type.add(name="A"), "b", 1, T.TYPE_MESSAGE, ".Nowhere")
    return files


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is no descriptor set"),
        (b"syntax = 'proto3';", "is no descriptor set"),
        (b"\xff" * 100, "is no descriptor set"),
        (_reading_file().SerializeToString(), "is no descriptor set"),
        (_without_imports().SerializeToString(), "timestamp.proto is missing; protoc needs --include_imports"),
        (_broken().SerializeToString(), "a.proto: .*Nowhere"),
    ],
    ids=["empty", "a .proto file", "garbage", "one file", "without imports", "broken"],
)
def test_a_file_that_is_no_descriptor_set_is_refused_with_a_sentence(
    content: bytes, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.desc"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=problem) as caught:
        new_decoder("protobuf", {"descriptor": path, "message": "plant.Reading"})
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "missing a required argument.*its options: descriptor, message"),
        ({"message": "a"}, "missing a required argument: 'descriptor'"),
        ({"descriptor": Path("/nowhere/x.desc"), "message": "a"}, "can't be read"),
        ({"descriptor": Path("/tmp"), "message": "a"}, "can't be read"),
        ({"descriptor": 5, "message": "a"}, "descriptor should be the path"),
        ({"descriptor": Path("x"), "message": "a", "schema": "b"}, "its options: descriptor, message"),
    ],
)
def test_options_that_can_not_be_are_refused_with_a_sentence(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        new_decoder("protobuf", options)


def test_two_bridges_may_have_descriptors_that_disagree(tmp_path: Path, some: Converter) -> None:
    file = FileDescriptorProto(name="plant/reading.proto", package="plant", syntax="proto3")
    _field(file.message_type.add(name="Reading"), "other", 3, T.TYPE_INT32)
    (tmp_path / "other.desc").write_bytes(FileDescriptorSet(file=[file]).SerializeToString())
    other = converter_of("protobuf", descriptor=tmp_path / "other.desc", message="plant.Reading")
    assert data_of(other, GOOD) == {"other": 150}
    assert data_of(some, GOOD)["int32_value"] == 150
