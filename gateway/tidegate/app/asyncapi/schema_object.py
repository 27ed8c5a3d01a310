"""A JSON Schema as an AsyncAPI document can hold it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_DRAFT = re.compile(r"https?://json-schema\.org/(draft/2020-12|draft-07)/schema#?")
_PLACE = re.compile(r"(#(/(\$defs|definitions)/[^/]+)*)?")
_DEFINITIONS = ("$defs", "definitions")
_MAPS = frozenset((*_DEFINITIONS, "properties", "patternProperties", "dependencies"))
_VALUES = frozenset(("const", "enum", "default", "examples"))
_LEFT_OUT = frozenset(
    # Other dialects mean something else by the last two.
    ("$schema", "$vocabulary", "$anchor", "$dynamicAnchor", "discriminator", "externalDocs")
)
_UNSAYABLE = frozenset(("$dynamicRef", "unevaluatedItems", "unevaluatedProperties", "minContains", "maxContains"))


class _UnsayableError(Exception):
    pass


def schema_object(document: Any, place: str) -> Any:
    """Return a JSON Schema as a Schema Object that stands at `place` of an AsyncAPI document, as `#/components/a`; or
    None if it says what can't be said there.

    Such an object is draft-07, and its references are pointers into the whole document (AsyncAPI 3.0.0, Schema Object
    and Reference Object). What 2020-12 says in other words is translated: both accept the same values.
    """
    if not isinstance(document, dict):
        return {} if document else {"not": {}}
    draft = _DRAFT.fullmatch(str(document.get("$schema", "https://json-schema.org/draft/2020-12/schema")))
    if draft is None:
        return None
    own_name = str(document.get("$id", "")).rstrip("#")

    def refer(target: str) -> str:
        found = target.removeprefix(own_name)
        if not _PLACE.fullmatch(found):
            raise _UnsayableError
        return place + found.removeprefix("#")

    root = {name: value for name, value in document.items() if name != "$id"}
    try:
        return _translated(root, refer, is_draft_07=draft[1] == "draft-07")
    except _UnsayableError:
        return None


def _translated(schema: Any, refer: Callable[[str], str], *, is_draft_07: bool) -> Any:
    """Return a schema, wherever it stands. refer: returns the place that a reference means. Raises _UnsayableError."""
    if not isinstance(schema, dict):
        return schema
    if "$id" in schema:
        raise _UnsayableError  # its references are relative to that
    found = dict(schema)
    reference = found.pop("$ref", None)
    if is_draft_07 and reference is not None:  # what stands beside it does not count
        found = {name: value for name, value in found.items() if name in _DEFINITIONS}
    elif not is_draft_07:
        found = _in_draft_07(found)

    def inner(value: Any) -> Any:
        return _translated(value, refer, is_draft_07=is_draft_07)

    def keyword(name: str, value: Any) -> Any:
        if name in _VALUES:
            return value
        if name in _MAPS and isinstance(value, dict):
            return {key: inner(one) for key, one in value.items()}
        return [inner(one) for one in value] if isinstance(value, list) else inner(value)

    found = {name: keyword(name, value) for name, value in found.items() if name not in _LEFT_OUT}
    if reference is None:
        return found
    target = {"$ref": refer(str(reference))}
    return {**found, "allOf": [*found.get("allOf", ()), target]} if found else target


def _in_draft_07(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema of 2020-12 with draft-07's keywords. Raises _UnsayableError."""
    if not _UNSAYABLE.isdisjoint(schema):
        raise _UnsayableError
    found = dict(schema)
    if "prefixItems" in found:
        rest = found.pop("items", True)
        found |= {"items": found.pop("prefixItems"), "additionalItems": rest}
    schemas, required = found.pop("dependentSchemas", {}), found.pop("dependentRequired", {})
    if not schemas.keys().isdisjoint(required):
        raise _UnsayableError
    return {**found, "dependencies": {**schemas, **required}} if schemas or required else found
