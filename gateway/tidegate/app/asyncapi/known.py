"""What a configuration tells of a bridge's data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from tidegate.app import config as c
from tidegate.app.asyncapi.schema_object import schema_object
from tidegate.core import BYTES

_JSON = "application/json"
_AVRO = "application/vnd.apache.avro;version=1.9.0"

ANY: dict[str, Any] = {}
"""Whatever there is. The official JSON Schema of AsyncAPI 3.0.0 does not take `true` for a whole payload."""

VALUES: dict[str, dict[str, Any]] = {"text": {"type": "string"}, "number": {"type": "number"}}
"""What decoders read, by their names, where that is known."""

OCTETS = {"type": "string", "format": "binary"}
"""Any bytes (AsyncAPI 3.0.0, Data Type Formats)."""


class Known(NamedTuple):
    """What is known of a bridge's data.

    reshaped: it is not what the device sent. content_type: of it; None where the device says it. value: the schema of
    it in an event. alone: the schema of it as a payload. components: what these refer to, by their names.
    dataschema: how the configured schema is called.
    """

    reshaped: bool
    content_type: str | None
    value: Any
    alone: Any
    components: dict[str, Any]
    dataschema: str | None


def known_data(config: c.Config, bridge: c.Bridge) -> Known:
    """Return what is known of a bridge's data."""
    decoder = bridge.decoder()
    reshaped = bridge.each is not None or bridge.select is not None or decoder.is_list
    content_type = decoder.data.content_type if decoder.data is not None and not reshaped else _JSON
    schema = bridge.data_schema()
    if schema is None or bridge.schema_file is None:
        value = ANY if reshaped else VALUES.get(bridge.decoder_name, ANY)
        return Known(reshaped, content_type, value, value if content_type else OCTETS, {}, None)
    uri = config.dataschema(bridge)
    described = {"description": f"As the schema {uri} says."}
    name = _schema_name(config, bridge.schema_file)
    reference = {"$ref": f"#/components/schemas/{name}"}
    if schema.media_type != "application/schema+json":  # no Schema Object can hold it as a part
        avro = {"schemaFormat": _AVRO, "schema": schema.document}
        return Known(reshaped, content_type, described, reference, {name: avro}, uri)
    component = schema_object(schema.document, reference["$ref"])
    if component is None:
        return Known(reshaped, content_type, described, described, {}, uri)
    return Known(reshaped, content_type, reference, reference, {name: component}, uri)


def _schema_name(config: c.Config, file: Path) -> str:
    """Return the name of a schema's component: `data.reading`, and `data.reading.2` for another file of that name."""
    files = list(dict.fromkeys(bridge.schema_file for bridge in config.up_bridges if bridge.schema_file is not None))
    names = [re.sub("[^A-Za-z0-9_-]", "_", one.stem) for one in files]
    number = files.index(file)
    before = names[:number].count(names[number])
    return f"data.{names[number]}{f'.{before + 1}' if before else ''}"


def passes_events(config: c.Config, bridge: c.Bridge) -> bool:
    """Whether a device can send an event as such: MQTT 5 tells, else only JSON does."""
    data = bridge.decoder().data
    tells = config.mqtt.protocol == "5" or (data is not None and data.content_type == _JSON)
    return bridge.cloudevents == "pass" and data is not BYTES and tells
