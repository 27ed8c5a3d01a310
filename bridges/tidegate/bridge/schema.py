"""Schemas that an event's data must keep to: JSON Schema (2020-12 unless it says otherwise) or Avro."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import orjson

from tidegate.bridge.avro_json import find_fault
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

    if not isinstance(document, dict | bool):
        raise ValueError("not a JSON Schema: it should be an object")
    try:
        validator = jsonschema_rs.validator_for(
            document,
            retriever=_no_retrieving,
            validate_formats=True,
            pattern_options=jsonschema_rs.RegexOptions(),  # linear in a text's length, whatever a device sends
        )
    except jsonschema_rs.ValidationError as error:
        raise ValueError(f"not a JSON Schema: {_schema_fault(error)}") from None
    except ValueError as error:
        raise ValueError(f"not a JSON Schema: {_line(str(error))}") from None

    def check(value: object) -> None:
        try:
            validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            raise DeliveryError("schema_failed", f"{_path(error.instance_path)}: {_line(error.message)}") from None

    uri = document.get("$id") if isinstance(document, dict) else None
    return Schema(check, uri, document, "application/schema+json")


def _no_retrieving(uri: str) -> NoReturn:
    """A gateway does not fetch a schema from elsewhere, or other files of this machine, because a schema names them."""
    raise ValueError(f"{uri} is not in this file")


def _schema_fault(error: Any) -> str:
    if found := _REFERENCE(error.message):
        return f"it refers to {found[1][:_SHOWN]!r}, which is not in this file, and nothing is fetched: put it in $defs"
    return f"{_path(error.instance_path)}: {_line(error.message)}"


_REFERENCE = re.compile(r"Resource '([^']*)' is not present").match


def _avro(document: Any) -> Schema:
    from tidegate.bridge.decode.avro_datum import AvroSchema

    schema = AvroSchema(document)

    def check(value: object) -> None:
        try:
            fault = find_fault(value, schema.parsed, schema.names)
        except RecursionError:
            raise DeliveryError("schema_failed", "nested too deep") from None
        if fault is not None:
            raise DeliveryError("schema_failed", f"{_path(fault.path)}: {fault.problem[:_SHOWN]}")

    return Schema(check, None, document, "application/vnd.apache.avro+json")


def _line(text: str) -> str:
    """Return the first line of a text, without its middle if it is long, as where it quotes a whole payload."""
    line = text.partition("\n")[0]
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN // 2]} ... {line[-_SHOWN // 2 :]}"


def _path(parts: Sequence[str | int]) -> str:
    """Return the place of a fault as people and JSONPath (RFC 9535) write it: `$.readings[3].value`."""
    steps = [f"[{part}]" if isinstance(part, int) else f".{part}" if _NAME(part) else f"[{part!r}]" for part in parts]
    path = f"${''.join(steps)}"
    return path if len(path) <= _SHOWN else f"{path[:_SHOWN]}..."


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*").fullmatch
