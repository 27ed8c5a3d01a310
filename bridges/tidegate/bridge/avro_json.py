"""Whether JSON is what an Avro schema describes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

_SHOWN = 40
_RANGES = {"int": 1 << 31, "long": 1 << 63}
_TEXTS = ("string", "bytes", "fixed")


class Fault(NamedTuple):
    """Where a value is not as it should be, and what is wrong there."""

    path: tuple[str | int, ...]
    problem: str


def find_fault(value: Any, schema: Any, names: dict[str, Any]) -> Fault | None:
    """Return the first fault of a JSON value, or None.

    schema: as the library parsed it. names: its named types.

    Bytes and fixed are text in JSON, and what has a logical type may be text as well as its plain type, as a time in
    RFC 3339. An integer is a fine double; a number with a fraction is no int. A field with a default may be missing.
    Members that the record does not have are not looked at. A value of a union is not wrapped.
    """
    if isinstance(schema, list):
        faults: list[Fault] = []
        for branch in schema:
            fault = find_fault(value, branch, names)
            if fault is None:
                return None
            faults.append(fault)
        return _nearest(value, schema, faults)
    if isinstance(schema, str):
        schema = names.get(schema, {"type": schema})
    kind = schema["type"]
    if kind in names:
        return find_fault(value, kind, names)
    if kind in ("record", "error"):
        return _record_fault(value, schema, names)
    if kind in ("array", "map"):
        return _items_fault(value, kind, schema, names)
    return None if _fits(value, kind, schema) else _unfit(value, schema)


def _fits(value: Any, kind: str, schema: Any) -> bool:
    """Whether a value is of a type that holds no others."""
    found, logical = type(value), schema.get("logicalType")
    if kind == "enum":
        return value in schema["symbols"]
    if found is str:
        return kind in _TEXTS or logical is not None
    if kind in ("float", "double") or logical == "decimal":
        return found in (int, float)
    if kind in _RANGES:
        return found is int and -_RANGES[kind] <= value < _RANGES[kind]
    return (kind == "boolean" and found is bool) or (kind == "null" and value is None)


def _unfit(value: Any, schema: Any) -> Fault:
    return Fault((), f"{_shown(value)} is not {_described(schema)}")


def _record_fault(value: Any, schema: Any, names: dict[str, Any]) -> Fault | None:
    if not isinstance(value, dict):
        return _unfit(value, schema)
    for field in schema["fields"]:
        name = field["name"]
        if name not in value:
            if "default" in field:
                continue
            return Fault((), f"the field {name} is missing")
        if fault := find_fault(value[name], field["type"], names):
            return _inside(name, fault)
    return None


def _items_fault(value: Any, kind: str, schema: Any, names: dict[str, Any]) -> Fault | None:
    if not isinstance(value, list if kind == "array" else dict):
        return _unfit(value, schema)
    places: Iterable[tuple[int | str, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
    inner = schema["items" if kind == "array" else "values"]
    for place, item in places:
        if fault := find_fault(item, inner, names):
            return _inside(place, fault)
    return None


def _nearest(value: Any, branches: list[Any], faults: list[Fault]) -> Fault:
    """Return what is wrong with a value in the branch of a union that it is most like."""
    nearest = max(faults, key=lambda fault: len(fault.path), default=Fault((), ""))
    return nearest if nearest.path else Fault((), f"{_shown(value)} is not {' or '.join(map(_described, branches))}")


def _inside(place: str | int, fault: Fault) -> Fault:
    return Fault((place, *fault.path), fault.problem)


def _described(schema: Any) -> str:
    if not isinstance(schema, dict):
        return str(schema)
    return f"{schema['type']} {schema['name']}" if "name" in schema else str(schema.get("logicalType", schema["type"]))


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    if isinstance(value, int) and value.bit_length() > 64:
        return "an integer of more than 64 bits"
    return json.dumps(f"{value[:_SHOWN]}..." if isinstance(value, str) and len(value) > _SHOWN else value)
