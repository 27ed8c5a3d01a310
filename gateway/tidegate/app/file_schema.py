"""The JSON Schema of configuration files, for editors."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import TaggedUnionSchema, WithDefaultSchema

from tidegate.app.config import Config
from tidegate.app.quantity import parse_duration, parse_size
from tidegate.core import written_duration, written_size

_WRITTEN = {parse_duration: written_duration, parse_size: written_size}


def file_schema() -> dict[str, Any]:
    """Return the schema, draft 2020-12."""
    schema = Config.model_json_schema(schema_generator=_AsWritten)
    return {"$schema": _AsWritten.schema_dialect, **schema}


class _AsWritten(GenerateJsonSchema):
    """Shows defaults as a file has them: `30s` and not 30.0; and none for a section, whose keys have their own. A
    bridge's direction says which keys it has, so that an editor tells of the wrong key, and not of the wrong bridge."""

    def tagged_union_schema(self, schema: TaggedUnionSchema) -> JsonSchemaValue:
        up, down = map(self.generate_inner, schema["choices"].values())
        is_down = {"properties": {"direction": {"const": "down"}}, "required": ["direction"]}
        return {"if": is_down, "then": down, "else": up}

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
