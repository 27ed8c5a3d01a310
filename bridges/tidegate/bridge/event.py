"""Messages that are CloudEvents already (CloudEvents 1.0, MQTT binding §3)."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

import orjson

from tidegate.bridge.decode.json import read_json
from tidegate.core import DeliveryError, Message, Properties

Attribute = str | int | bool

_STRUCTURED = "application/cloudevents"
_NAME = re.compile(r"[a-z0-9]{1,64}").fullmatch
_REQUIRED = ("id", "source", "type")
_TEXTS = (*_REQUIRED, "subject", "time", "datacontenttype", "dataschema")
_OUR_TEXTS = ("correlationid", "causationid", "traceparent", "tracestate")
_DATA = ("data", "data_base64")
_NOT_THE_DEVICES = (*_DATA, "recordedtime", "retained", "emptypayload", "timefallback")
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII).fullmatch
_MAX_ATTRIBUTE = 4096
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}").fullmatch


class Incoming(NamedTuple):
    """An event as a device sent it.

    attributes: all but the data. is_json: the data is a JSON `value`. payload: the data's bytes, where the device sent
    them on their own; neither for an event without data. document: it came as one JSON document.
    """

    attributes: dict[str, Attribute]
    value: Any
    payload: bytes | None
    is_json: bool
    document: bool = False


def read_event(message: Message, payload: bytes, *, is_json: bool, whole: bool = False) -> Incoming | None:
    """Return the event that a message carries, or None if it carries none. whole: with the attributes, too, that only
    a gateway can know, and so no device may set.

    With MQTT 5 the publisher says so: by the content type (structured mode), or by user properties of the attributes'
    names (binary mode). Else only a JSON payload (`is_json`) that is a whole event is one.

    Raises DeliveryError, `event_invalid`, if it is said to be one and is not.
    """
    properties = message.properties
    if properties is not None and says_event(properties):
        content_type = properties.content_type or ""
        if _is_structured(content_type):
            return _structured(payload, content_type, whole=whole)
        user = dict(reversed(properties.user))  # of several with one name the first counts
        return _binary(user, content_type, payload, whole=whole)
    if is_json and b'"specversion"' in payload:
        document = read_json(payload)
        if isinstance(document, dict) and _problem(document) is None:
            return _from_document(document, whole=whole)
    return None


def says_event(properties: Properties) -> bool:
    """Whether MQTT 5 properties say that their message is an event."""
    return _is_structured(properties.content_type) or any(name == "specversion" for name, _ in properties.user)


def _is_structured(content_type: str | None) -> bool:
    return content_type is not None and content_type[: len(_STRUCTURED)].lower() == _STRUCTURED


def deduplication_key(bridge: str, source: str, event_id: str) -> str:
    """Return what is unique for an event that a device named: its id is so together with its source only (CloudEvents
    §3.1.1), unless it is a UUID. Two devices that both count from 1 must not hide each other's events."""
    if _UUID(event_id.partition(".")[0]):
        return event_id
    return sha256(orjson.dumps((bridge, source, event_id))).hexdigest()


def _structured(payload: bytes, content_type: str, *, whole: bool) -> Incoming:
    if content_type.lower().partition(";")[0].strip() != f"{_STRUCTURED}+json":
        raise DeliveryError("event_invalid", f"an event in the format {content_type[:80]!r}; only JSON is read")
    document = read_json(payload)
    if not isinstance(document, dict):
        raise DeliveryError("event_invalid", "an event is a JSON object")
    if problem := _problem(document):
        raise DeliveryError("event_invalid", problem)
    return _from_document(document, whole=whole)


def _from_document(document: dict[str, Any], *, whole: bool) -> Incoming:
    attributes = _attributes(document, whole=whole)
    if "data_base64" in document:
        return Incoming(attributes, None, b64decode(document["data_base64"]), is_json=False, document=True)
    if "data" not in document:
        return Incoming(attributes, None, None, is_json=False, document=True)
    value = document["data"]
    if isinstance(value, str) and not _is_json_type(str(attributes.get("datacontenttype", "application/json"))):
        return Incoming(attributes, None, value.encode(), is_json=False, document=True)
    return Incoming(attributes, value, None, is_json=True, document=True)


def _attributes(document: Mapping[str, Any], *, whole: bool) -> dict[str, Attribute]:
    """Return the attributes that are set; unless it is to be whole, without those that only the gateway can know."""
    hidden = _DATA if whole else _NOT_THE_DEVICES
    found = {name: value for name, value in document.items() if name not in hidden and value is not None}
    return {name: str(value) if name in _OUR_TEXTS else value for name, value in found.items()}


def _binary(user: dict[str, str], content_type: str, payload: bytes, *, whole: bool) -> Incoming:
    attributes: dict[str, Attribute] = {name: value for name, value in user.items() if _NAME(name) and value}
    if content_type:
        attributes["datacontenttype"] = content_type
    if problem := _problem(attributes):
        raise DeliveryError("event_invalid", problem)
    attributes = _attributes(attributes, whole=whole)
    if not payload:
        return Incoming(attributes, None, None, is_json=False)
    if _is_json_type(str(attributes.get("datacontenttype", ""))):
        return Incoming(attributes, read_json(payload), payload, is_json=True)
    return Incoming(attributes, None, payload, is_json=False)


def _is_json_type(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type.endswith(("/json", "+json"))


def _problem(document: dict[str, Any]) -> str | None:
    """Return what keeps a document from being an event, or None."""
    if document.get("specversion") != "1.0":
        return "specversion is not 1.0"
    for name in _REQUIRED:
        if not document.get(name):
            return f"an event needs {', '.join(_REQUIRED)}; {name} is missing or empty"
    for name, value in document.items():
        if name in ("data", "data_base64") or value is None:
            continue
        if not _NAME(name):
            return f"{name[:80]!r} can't be the name of an attribute: lower-case letters and digits"
        if not isinstance(value, str | int | bool) or (name in _TEXTS and not isinstance(value, str)):
            return f"the attribute {name} has a value of the wrong type"
        if isinstance(value, str) and len(value) > _MAX_ATTRIBUTE:
            return f"the attribute {name} has more than {_MAX_ATTRIBUTE} characters"
    return _problem_with_time(document.get("time")) or _problem_with_data(document)


def _problem_with_time(stamp: str | None) -> str | None:
    if stamp is None:
        return None
    try:
        valid = _RFC_3339(stamp) is not None and datetime.fromisoformat(stamp.upper()) is not None
    except ValueError:
        valid = False
    return None if valid else "time is not RFC 3339, as 2026-01-02T03:04:05Z"


def _problem_with_data(document: dict[str, Any]) -> str | None:
    encoded = document.get("data_base64")
    if encoded is None:
        return None
    if "data" in document:
        return "data and data_base64 exclude each other"
    try:
        b64decode(encoded, validate=True)
    except (ValueError, TypeError):
        return "data_base64 is not base64"
    return None
