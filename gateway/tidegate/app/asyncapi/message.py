"""Messages of an AsyncAPI document: what devices send, and what is on NATS."""

from __future__ import annotations

from typing import Any

from tidegate.app import config as c
from tidegate.app.asyncapi.event_schema import dead_letter, event, event_headers, other_event, other_event_headers
from tidegate.app.asyncapi.known import ANY, OCTETS, VALUES, Known, passes_events
from tidegate.app.asyncapi.server import MQTT_BINDING
from tidegate.core.envelope import STRUCTURED_CONTENT_TYPE

_Object = dict[str, Any]

CORRELATION_IDS = {
    "mqtt": {"location": "$message.header#/correlationid"},
    "structured": {"location": "$message.payload#/correlationid"},
    "binary": {"location": "$message.header#/ce-correlationid"},
}
"""Where a correlation id is, in a message from MQTT and in the modes of events."""

_OCTETS_TYPE = "application/octet-stream"
_PAYLOAD_TYPES = {
    "json": "application/json",
    "text": "text/plain; charset=utf-8",
    "number": "application/json",
    "cbor": "application/cbor",
    "msgpack": "application/vnd.msgpack",
    "csv": "text/csv",
    "avro": "avro/binary",
    "protobuf": "application/protobuf",
    "sparkplug_b": "application/protobuf",
}
_USER_PROPERTIES = {
    "correlationid": "The same for all events of one story; without it Correlation Data is taken.",
    "causationid": "The id of the event that led to this one.",
    "traceparent": "W3C Trace Context.",
    "tracestate": "W3C Trace Context.",
}


def user_properties() -> _Object:
    """Return the schema of the MQTT 5 user properties that mean something."""
    described = {name: {"type": "string", "description": text} for name, text in _USER_PROPERTIES.items()}
    return {"type": "object", "description": "MQTT 5 user properties.", "properties": described}


def mqtt_message(config: c.Config, bridge: c.Bridge, known: Known) -> _Object:
    """Return the message that devices send."""
    message: _Object = {
        "name": f"{bridge.name}.message",
        "contentType": _PAYLOAD_TYPES.get(bridge.decoder_name, _OCTETS_TYPE),
        "payload": _mqtt_payload(config, bridge, known),
    }
    if bridge.decompress is not None:
        message["contentType"] = f"application/{bridge.decompress}"
    if passes_events(config, bridge):
        message["summary"] = "What a device sends. What is a CloudEvent already stays that event."
    if config.mqtt.protocol == "5":
        message |= _properties(bridge)
    return message


def _mqtt_payload(config: c.Config, bridge: c.Bridge, known: Known) -> Any:
    if bridge.decompress is not None:
        return OCTETS
    if known.reshaped:
        return VALUES.get(bridge.decoder_name, ANY)
    if known.alone == ANY or not passes_events(config, bridge):
        return known.alone
    return {"anyOf": [known.value, _schema("CloudEvent")]}


def _properties(bridge: c.Bridge) -> _Object:
    """Return what a message has that came with MQTT 5 (§3.3.2.3)."""
    headers: _Object = _schema("UserProperties")
    if bridge.time is not None and bridge.time.startswith("header:"):
        time = {bridge.time.removeprefix("header:"): {"type": "string", "description": "The device's own time."}}
        headers = {"allOf": [headers, {"properties": time}]}
    correlation = {"type": "string", "description": "Taken where there is no user property `correlationid`."}
    return {
        "headers": headers,
        "correlationId": _correlation_id("mqtt"),
        "bindings": {"mqtt": {"correlationData": correlation, "bindingVersion": MQTT_BINDING}},
    }


def event_message(config: c.Config, bridge: c.Bridge, known: Known) -> _Object:
    """Return the message with the event that the gateway makes of what a device sent."""
    constants = {**_own(config, bridge), **bridge.attributes, **_dataschema(known)}
    found = {"name": f"{bridge.name}.event", "correlationId": _correlation_id(bridge.mode)}
    if bridge.mode == "structured":
        return found | _structured(event(constants, known.content_type, known.value))
    headers = event_headers(constants, known.content_type)
    return found | {"contentType": known.content_type or _OCTETS_TYPE, "headers": headers, "payload": known.alone}


def passed_message(config: c.Config, bridge: c.Bridge, known: Known) -> _Object:
    """Return the message with an event that a device sent as such."""
    own, constants = _own(config, bridge), _dataschema(known)
    found: _Object = {
        "name": f"{bridge.name}.passed",
        "summary": "An event that a device sent as such, with a source and a type of its own.",
        "correlationId": _correlation_id(bridge.mode),
    }
    if bridge.mode == "structured":
        return found | _structured(other_event(own, constants, known.value if known.reshaped else ANY))
    found["headers"] = other_event_headers(own, constants)
    if known.reshaped:
        return found | {"contentType": known.content_type, "payload": known.alone}
    said = "What its data is, its Content-Type says."
    return found | {"description": said, "contentType": _OCTETS_TYPE, "payload": ANY}


def dead_letter_message(config: c.Config) -> _Object:
    """Return the message with a dead letter."""
    schema = dead_letter({bridge.name: config.source(bridge.name) for bridge in config.bridges})
    return {"name": "dead_letter", "correlationId": _correlation_id("structured"), **_structured(schema)}


def _structured(payload: _Object) -> _Object:
    return {"contentType": STRUCTURED_CONTENT_TYPE, "headers": _schema("EventHeaders"), "payload": payload}


def _own(config: c.Config, bridge: c.Bridge) -> dict[str, str]:
    """Return the attributes that tell the gateway's own events of a bridge from those that devices sent."""
    return {"source": bridge.source or config.source(bridge.name), "type": bridge.type}


def _dataschema(known: Known) -> dict[str, str]:
    return {} if known.dataschema is None else {"dataschema": known.dataschema}


def _schema(name: str) -> _Object:
    return {"$ref": f"#/components/schemas/{name}"}


def _correlation_id(name: str) -> _Object:
    return {"$ref": f"#/components/correlationIds/{name}"}
