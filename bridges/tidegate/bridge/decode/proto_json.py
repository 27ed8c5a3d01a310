"""Protobuf messages as ProtoJSON (https://protobuf.dev/programming-guides/json/).

The library's own way looks at a type's fields again for each message, at 4 us a field, also for those that are not
there; and a payload can hold a message in two bytes.
"""

from __future__ import annotations

import math
import struct
from base64 import b64encode
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict
from google.protobuf.message_factory import GetMessageClass

from tidegate.bridge.decode.json_value import Room, check_depth, json_value, key_text

Read = Callable[[Any, Room, int], Any]
"""Makes JSON of a value. The number is how deep it stands. Raises ValueError, or what the library raises."""

_OBJECT, _MEMBER = 64, 32
"""Bytes that an object takes, and each of its members, or more."""

_OWN_FORM = "google.protobuf"
"""The package of the types that have a form of their own in JSON, as Timestamp and Struct."""

_OWN_FORM_WEIGHT = 64
_OWN_FORM_DEPTH = 64
"""Levels of JSON that one of them can have, or more: the library reads 100 levels of messages, two for one of JSON."""

_FLOAT = struct.Struct("<f")


class ProtoJson:
    """Makes JSON of messages of one pool's types: with the names of the fields as the .proto file has them, and with
    all fields that can't tell if they were set."""

    def __init__(self, pool: DescriptorPool) -> None:
        self._pool = pool
        self._readers: dict[str, Read] = {}

    def reader(self, kind: Descriptor) -> Read:
        """Return what makes JSON of messages of a type."""
        name = kind.full_name
        if name not in self._readers:
            if name == f"{_OWN_FORM}.Any":
                self._readers[name] = self._any
            elif kind.file.package == _OWN_FORM:
                self._readers[name] = _own_form
            else:
                self._add(kind)
        return self._readers[name]

    def _add(self, kind: Descriptor) -> None:
        fields: dict[int, tuple[str, Read]] = {}
        absent: dict[str, Any] = {}

        def read(message: Any, room: Room, depth: int) -> dict[str, Any]:
            check_depth(depth)
            room.take(size)
            found = dict(absent)
            for field, value in message.ListFields():  # which are those that are there
                name, read_field = fields.get(field.number) or (f"[{field.full_name}]", self._field(field))
                found[name] = read_field(value, room, depth + 1)
            return found

        self._readers[kind.full_name] = read  # before its fields, which may be of the same type
        for field in kind.fields:
            fields[field.number] = field.name, self._field(field)
            if not field.has_presence:
                absent[field.name] = self._absent(field)
        size = _OBJECT + sum(len(name) + _MEMBER for name, _ in fields.values())

    def _absent(self, field: FieldDescriptor) -> Any:
        """Return what stands for a field that is not on the wire. It is shared; nothing changes a value."""
        if _is_map(field):
            return {}
        return [] if _is_repeated(field) else self._single(field)(field.default_value, Room(), 0)

    def _field(self, field: FieldDescriptor) -> Read:
        if field.message_type is not None and _is_map(field):
            read_value = self._single(field.message_type.fields_by_name["value"])
            return lambda values, room, depth: _map(values, read_value, room, depth)
        read = self._single(field)
        return (lambda values, room, depth: _list(values, read, room, depth)) if _is_repeated(field) else read

    def _single(self, field: FieldDescriptor) -> Read:
        if field.message_type is not None:
            return self.reader(field.message_type)
        if field.enum_type is not None:
            return _enum(field.enum_type)
        return _SCALARS.get(field.type, _same)

    def _any(self, message: Any, room: Room, depth: int) -> dict[str, Any]:
        check_depth(depth)
        if not message.type_url:
            return {}
        try:
            kind = self._pool.FindMessageTypeByName(message.type_url.rpartition("/")[2])
        except KeyError:
            raise ValueError(f"an Any of the unknown type {message.type_url[:80]!r}") from None
        room.take(len(message.type_url))
        value = self.reader(kind)(GetMessageClass(kind).FromString(message.value), room, depth + 1)
        is_object = kind.file.package != _OWN_FORM or not kind.fields
        return {"@type": message.type_url, **(value if is_object else {"value": value})}


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _is_repeated(field: FieldDescriptor) -> bool:
    return bool(field.default_value == [])  # the member that says so has another name in each version of the library


def _own_form(message: Any, room: Room, depth: int) -> Any:
    check_depth(depth + _OWN_FORM_DEPTH)
    room.take(_OBJECT + _OWN_FORM_WEIGHT * message.ByteSize())
    if hasattr(message, "ToJsonString"):  # times, durations and field masks: nothing to look up
        return message.ToJsonString()
    return json_value(MessageToDict(message, preserving_proto_field_name=True))


def _list(values: Any, read: Read, room: Room, depth: int) -> list[Any]:
    check_depth(depth)
    room.take(_MEMBER * len(values))
    return [read(value, room, depth + 1) for value in values]


def _map(values: Any, read: Read, room: Room, depth: int) -> dict[str, Any]:
    check_depth(depth)
    room.take(_MEMBER * len(values))
    return {key_text(key): read(values[key], room, depth + 1) for key in values}


def _enum(kind: EnumDescriptor) -> Read:
    names = {number: value.name for number, value in kind.values_by_number.items()}
    if kind.full_name == f"{_OWN_FORM}.NullValue":
        return lambda _value, _room, _depth: None
    return lambda value, _room, _depth: names.get(value, value)


def _same(value: Any, _room: Room, _depth: int) -> Any:
    return value


def _double(value: float, _room: Room, _depth: int) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _float(value: float, room: Room, depth: int) -> float | str:
    """The shortest number that is the same in 32 bits: 21.1, not 21.100000381469727."""
    if not math.isfinite(value):
        return _double(value, room, depth)
    raw = _FLOAT.pack(value)
    shown = (float(f"{value:.{digits}g}") for digits in range(6, 10))
    return next((short for short in shown if _packed(short) == raw), value)


def _packed(value: float) -> bytes | None:
    try:
        return _FLOAT.pack(value)
    except OverflowError:  # rounded up to more than there is
        return None


_INTEGERS_OF_64_BITS = ("TYPE_INT64", "TYPE_UINT64", "TYPE_FIXED64", "TYPE_SFIXED64", "TYPE_SINT64")
_SCALARS: dict[int, Read] = {
    FieldDescriptor.TYPE_DOUBLE: _double,
    FieldDescriptor.TYPE_FLOAT: _float,
    FieldDescriptor.TYPE_BYTES: lambda value, _room, _depth: b64encode(value).decode(),
    **{getattr(FieldDescriptor, name): lambda value, _room, _depth: str(value) for name in _INTEGERS_OF_64_BITS},
}
