"""Schemas that an event's data must keep to: JSON Schema (2020-12 unless it says otherwise) or Avro."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import orjson

from tidegate.core import DeliveryError

_SHOWN = 200


class Schema(NamedTuple):
    """A compiled schema.

    check: raises DeliveryError, `schema_failed`, with the path of what failed. uri: how it is called, if it says so.
    document: the schema itself. media_type: of the document.
    """

    check: Callable[[object], None]
    uri: str | None
    document: Any
    media_type: str


def load_schema(path: Path) -> Schema:
    """Return the schema in a file: Avro where its name ends with `.avsc`, else JSON Schema.

    Raises ValueError with a sentence that says what is wrong.
    """
    try:
        document = orjson.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"the file {path} can't be read: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        raise ValueError(f"the file {path} is not JSON: {error}") from None
    try:
        return _avro(document) if path.suffix == ".avsc" else _json_schema(document)
    except ModuleNotFoundError as error:
        extra = "avro" if path.suffix == ".avsc" else "schema"
        raise ValueError(f"a schema of this kind needs the extra {extra!r}: pip install 'tidegate[{extra}]'") from error


def _json_schema(document: Any) -> Schema:
    import jsonschema_rs

    try:
        validator = jsonschema_rs.validator_for(document, retriever=_no_retrieving, validate_formats=True)
    except ValueError as error:
        raise ValueError(f"not a JSON Schema: {str(error).partition(chr(10))[0][:_SHOWN]}") from None

    def check(value: object) -> None:
        try:
            validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            raise DeliveryError("schema_failed", f"{_path(error.instance_path)}: {error.message[:_SHOWN]}") from None

    uri = document.get("$id") if isinstance(document, dict) else None
    return Schema(check, uri, document, "application/schema+json")


def _no_retrieving(uri: str) -> NoReturn:
    """A gateway does not fetch a schema from elsewhere, or other files of this machine, because a schema names them."""
    raise ValueError(f"{uri} is not in this file, and nothing is fetched; put it under $defs")


def _avro(document: Any) -> Schema:
    import fastavro
    from fastavro.schema import SchemaParseException, UnknownType
    from fastavro.validation import ValidationError, validate

    try:
        parsed = fastavro.parse_schema(document)
    except (SchemaParseException, UnknownType, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not an Avro schema: {str(error)[:_SHOWN]}") from None

    def check(value: object) -> None:
        try:
            validate(value, parsed, raise_errors=True, strict=True)
        except ValidationError as error:
            raise DeliveryError("schema_failed", "; ".join(map(_avro_fault, error.errors))[:_SHOWN]) from None

    return Schema(check, None, document, "application/vnd.apache.avro+json")


def _avro_fault(error: Any) -> str:
    return f"{error.field or '$'}: {error.datum!r} is not {error.schema!r}"


def _path(parts: list[str | int]) -> str:
    """Return the place of a fault as people and JSONPath (RFC 9535) write it: `$.readings[3].value`."""
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
