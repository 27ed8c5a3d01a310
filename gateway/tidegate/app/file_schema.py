"""The JSON Schema of configuration files, for editors."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import WithDefaultSchema

from tidegate.app.config import Config
from tidegate.app.quantity import parse_duration, parse_size, written_duration, written_size

_WRITTEN = {parse_duration: written_duration, parse_size: written_size}


def file_schema() -> dict[str, Any]:
    """Return the schema, draft 2020-12."""
    schema = Config.model_json_schema(schema_generator=_AsWritten)
    return {"$schema": _AsWritten.schema_dialect, **schema}


class _AsWritten(GenerateJsonSchema):
    """Shows defaults as a file has them: `30s` and not 30.0; and none for a section, whose keys have their own."""

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        found = super().default_schema(schema)
        value = schema.get("default")
        if isinstance(value, BaseModel):
            found.pop("default", None)
        elif value is not None and (write := _WRITTEN.get(_reader(schema["schema"]))):
            found["default"] = write(value)
        return found


def _reader(schema: Any) -> Any:
    """Return the function that reads a field's text, or None."""
    while schema["type"] == "nullable":
        schema = schema["schema"]
    return schema["function"]["function"] if schema["type"] == "function-before" else None
