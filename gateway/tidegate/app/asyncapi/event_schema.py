"""JSON Schemas (draft-07) of what is on NATS: events in both modes, and dead letters."""

from __future__ import annotations

from typing import Any

from tidegate.app.asyncapi.address import text_pattern
from tidegate.core import DEAD_LETTER_TYPE, percent_encode
from tidegate.core.envelope import STRUCTURED_CONTENT_TYPE

Schema = dict[str, Any]

_SCHEMAS = "#/components/schemas"
_TIME = {"type": "string", "format": "date-time"}
_BASE64 = {"type": "string", "contentEncoding": "base64"}

_ATTRIBUTES: dict[str, Schema] = {
    "specversion": {"const": "1.0"},
    "id": {"type": "string", "minLength": 1, "description": "Unique among the events of its source."},
    "source": {"type": "string", "format": "uri-reference"},
    "type": {"type": "string"},
    "subject": {"type": "string", "description": "The MQTT topic, exactly."},
    "time": {**_TIME, "description": "Of the occurrence; where the device does not say, of receipt."},
    "datacontenttype": {"type": "string"},
    "dataschema": {"type": "string", "format": "uri"},
    "correlationid": {"type": "string", "description": "The same for all events of one story."},
    "causationid": {"type": "string", "description": "The id of the event that led to this one."},
    "recordedtime": {**_TIME, "description": "When the gateway received it."},
    "traceparent": {"type": "string", "description": "W3C Trace Context."},
    "tracestate": {"type": "string", "description": "W3C Trace Context."},
}
_FLAGS: dict[str, Schema] = {
    "retained": {"type": "boolean", "description": "The broker had kept the message; it is not news."},
    "emptypayload": {"type": "boolean", "description": "The message had no payload, so the event has no data."},
    "timefallback": {"type": "boolean", "description": "The device gave no time, or an absurd one."},
}
_REQUIRED = ("specversion", "id", "source", "type")
_ALWAYS = ("subject", "time", "recordedtime", "correlationid")

_LETTER: dict[str, Schema] = {
    "reason": {"type": "string", "description": "Why, in one word."},
    "detail": {"type": "string", "description": "Why, in a sentence."},
    "stage": {"type": "string", "description": "The step that gave up on it."},
    "bridge": {"type": "string"},
    "size": {"type": "integer", "minimum": 0, "description": "Bytes of the payload as sent."},
    "attempts": {"type": "integer", "minimum": 1},
    "qos": {"enum": [0, 1, 2]},
}
_LETTER_MORE: dict[str, Schema] = {
    "topicbase64": {**_BASE64, "description": "The topic, where it is not text or too long."},
    "defect": {"type": "string", "description": "What was wrong with it as it came."},
    "properties": {"type": "string", "description": "Its MQTT 5 properties, as JSON."},
    "truncated": {"const": True, "description": "Not all of the message was kept."},
    "data_base64": {**_BASE64, "description": "The payload, byte for byte."},
}


def shared_schemas() -> dict[str, Schema]:
    """Return what the schemas of a document's messages refer to, by their names under `#/components/schemas`."""
    headers = {name: _as_header(schema) for name, schema in (_ATTRIBUTES | _FLAGS).items() if name != "datacontenttype"}
    message_id = {"type": "string", "description": "By which the stream knows a copy."}
    return {
        "CloudEvent": {
            "type": "object",
            "required": list(_REQUIRED),
            "properties": {**_ATTRIBUTES, "data": True, "data_base64": _BASE64},
        },
        "Event": _also("CloudEvent", {"required": list(_ALWAYS), "properties": _FLAGS}),
        "EventHeaders": {
            "type": "object",
            "required": ["Nats-Msg-Id", "Content-Type"],
            "properties": {"Nats-Msg-Id": message_id, "Content-Type": {"const": STRUCTURED_CONTENT_TYPE}},
        },
        "BinaryEventHeaders": {
            "type": "object",
            "description": "Values are percent-encoded.",
            "required": ["Nats-Msg-Id", *(f"ce-{name}" for name in (*_REQUIRED, *_ALWAYS))],
            "properties": {
                "Nats-Msg-Id": message_id,
                "Content-Type": {"type": "string", "description": "Of the body, if there is one."},
                **{f"ce-{name}": header for name, header in headers.items()},
            },
        },
    }


def event(constants: dict[str, str], content_type: str | None, data: Any) -> Schema:
    """Return the schema of an event in structured mode.

    constants: attributes that it always has; may have {captures}. content_type: of its data; None: it is bytes.
    """
    properties = _texts(constants)
    if content_type is None:
        properties["data_base64"] = {**_BASE64, "description": "The payload, byte for byte."}
    else:
        properties |= {"datacontenttype": {"const": content_type}, "data": data}
    return _also("Event", {"required": list(constants), "properties": properties})


def event_headers(constants: dict[str, str], content_type: str | None) -> Schema:
    """Return the schema of the headers of an event in binary mode. See `event`."""
    properties = _headers(constants)
    required = list(properties)
    if content_type is not None:
        properties["Content-Type"] = {"const": content_type}
    return _also("BinaryEventHeaders", {"required": required, "properties": properties})


def other_event(own: dict[str, str], constants: dict[str, str], data: Any) -> Schema:
    """Return the schema of an event of someone else in structured mode.

    own: the attributes by which the gateway's events are known; it has not the same. constants: see `event`.
    """
    properties = {**_texts(constants), "data": data}
    more = {"required": list(_ALWAYS), "properties": properties, "not": {"properties": _texts(own)}}
    return _also("CloudEvent", more)


def other_event_headers(own: dict[str, str], constants: dict[str, str]) -> Schema:
    """Return the schema of the headers of an event of someone else in binary mode. See `other_event`."""
    return _also("BinaryEventHeaders", {"properties": _headers(constants), "not": {"properties": _headers(own)}})


def dead_letter(sources: dict[str, str]) -> Schema:
    """Return the schema of a dead letter, which is always in structured mode. sources: by the names of the bridges."""
    own = {
        "type": {"const": DEAD_LETTER_TYPE},
        "source": {"enum": list(sources.values())},
        **_LETTER,
        "bridge": {"enum": list(sources)},
    }
    return _also("Event", {"required": list(own), "properties": {**own, **_LETTER_MORE}})


def _also(name: str, *more: Schema) -> Schema:
    return {"allOf": [{"$ref": f"{_SCHEMAS}/{name}"}, *more]}


def _texts(constants: dict[str, str]) -> dict[str, Schema]:
    return {name: text_pattern(text) for name, text in constants.items()}


def _headers(constants: dict[str, str]) -> dict[str, Schema]:
    """Return the schemas of headers; percent-encoding leaves {captures} as they are."""
    return _texts({f"ce-{name}": percent_encode(text) for name, text in constants.items()})


def _as_header(schema: Schema) -> Schema:
    said = {"description": schema["description"]} if "description" in schema else {}
    return {"const": schema["const"]} if "const" in schema else {"type": "string", **said}
