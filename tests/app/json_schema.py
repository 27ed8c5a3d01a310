"""As much of JSON Schema (draft 2020-12) as our own schema uses; a keyword that is not known here is an error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_TYPES = {
    "string": str,
    "integer": int,
    "number": int | float,
    "array": list,
    "object": dict,
    "null": type(None),
    "boolean": bool,
}
_NOTES = {"title", "description", "default", "examples", "$schema", "$defs", "format", "writeOnly"}


def violations(schema: dict[str, Any], value: Any, root: dict[str, Any] | None = None) -> Iterator[str]:
    """Give a sentence for each way in which the value breaks the schema."""
    root = schema if root is None else root
    for keyword, wanted in schema.items():
        if keyword not in _NOTES:
            yield from _CHECKS[keyword](wanted, value, schema, root)


def _ref(wanted: str, value: Any, _schema: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    assert wanted.startswith("#/$defs/")
    yield from violations(root["$defs"][wanted.removeprefix("#/$defs/")], value, root)


def _any_of(wanted: list[dict[str, Any]], value: Any, _schema: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    if all(list(violations(one, value, root)) for one in wanted):
        yield f"{value!r} is none of {wanted}"


def _if(wanted: dict[str, Any], value: Any, schema: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    holds = not list(violations(wanted, value, root))
    yield from violations(schema["then" if holds else "else"], value, root)


def _type(wanted: str, value: Any, _schema: dict[str, Any], _root: dict[str, Any]) -> Iterator[str]:
    if not isinstance(value, _TYPES[wanted]) or (isinstance(value, bool) and wanted != "boolean"):
        yield f"{value!r} is not a {wanted}"


def _properties(wanted: dict[str, Any], value: Any, schema: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    for name, inner in wanted.items():
        if name in value:
            yield from violations(inner, value[name], root)


def _additional(
    wanted: bool | dict[str, Any], value: Any, schema: dict[str, Any], root: dict[str, Any]
) -> Iterator[str]:
    others = [name for name in value if name not in schema.get("properties", {})] if isinstance(value, dict) else []
    if isinstance(wanted, dict):
        for name in others:
            yield from violations(wanted, value[name], root)
    elif not wanted:
        yield from (f"{name!r} is not known" for name in others)


def _required(wanted: list[str], value: Any, _schema: dict[str, Any], _root: dict[str, Any]) -> Iterator[str]:
    yield from (f"{name!r} is missing" for name in wanted if name not in value)


def _items(wanted: dict[str, Any], value: Any, _schema: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    for item in value:
        yield from violations(wanted, item, root)


def _simple(holds: Any) -> Any:
    def check(wanted: Any, value: Any, _schema: dict[str, Any], _root: dict[str, Any]) -> Iterator[str]:
        if not holds(wanted, value):
            yield f"{value!r} against {wanted!r}"

    return check


def _number(value: Any) -> bool:
    return isinstance(value, int | float)


_CHECKS = {
    "$ref": _ref,
    "anyOf": _any_of,
    "if": _if,
    "then": _simple(lambda _wanted, _value: True),
    "else": _simple(lambda _wanted, _value: True),
    "type": _type,
    "properties": _properties,
    "additionalProperties": _additional,
    "required": _required,
    "items": _items,
    "const": _simple(lambda wanted, value: value == wanted),
    "enum": _simple(lambda wanted, value: value in wanted),
    "pattern": _simple(lambda wanted, value: not isinstance(value, str) or re.search(wanted, value)),
    "minLength": _simple(lambda wanted, value: not isinstance(value, str) or len(value) >= wanted),
    "maxLength": _simple(lambda wanted, value: not isinstance(value, str) or len(value) <= wanted),
    "minProperties": _simple(lambda wanted, value: not isinstance(value, dict) or len(value) >= wanted),
    "maxProperties": _simple(lambda wanted, value: not isinstance(value, dict) or len(value) <= wanted),
    "minItems": _simple(lambda wanted, value: not isinstance(value, list) or len(value) >= wanted),
    "minimum": _simple(lambda wanted, value: not _number(value) or value >= wanted),
    "maximum": _simple(lambda wanted, value: not _number(value) or value <= wanted),
}
