"""Sparkplug B, each message by itself; `tidegate.bridge.sparkplug` knows what came before. Section numbers are of
Eclipse Sparkplug 3.0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from tidegate.bridge.decode.decoder import Decoder
from tidegate.bridge.decode.json import read_json
from tidegate.bridge.decode.sparkplug_payload import MAX_VALUES, Payload
from tidegate.bridge.decode.sparkplug_type import BOOLEAN_ARRAY, datatype_of, read_bytes, read_float, read_same
from tidegate.core import DeliveryError

_NODE_TYPES = frozenset(("NBIRTH", "NDEATH", "NDATA", "NCMD"))
_DEVICE_TYPES = frozenset(("DBIRTH", "DDEATH", "DDATA", "DCMD"))
_METADATA = ("is_multi_part", "content_type", "size", "seq", "file_name", "file_type", "md5", "description")
_SHOWN = 80


def new(events: str = "message") -> Decoder:
    """Return the decoder. Its value is an object: `type`, `group`, `node` and `device` as the topic says them;
    `timestamp`, `seq`, `uuid` and `body` where the payload has them; and `metrics`. A metric has `name`, `timestamp`,
    `datatype` by name, `value`, and `is_historical`, `is_transient`, `metadata` and `properties` where they are given.

    In values a DateTime is RFC 3339 text, bytes are base64, a DataSet is `{columns, types, rows}`, a Template is an
    object with `metrics`, an array is one. What JSON does not have (NaN, infinity) is refused, and so is what does not
    fit its datatype. A message of a host (`spBv1.0/STATE/HOST`) is its JSON with `type` and `host`.

    events: with `metric` the value is a list with an object for each metric: its members, and `type`, `group`, `node`,
    `device` and `seq` of its message; its timestamp is the message's where it has none. A message without metrics, as
    most deaths, is one object. Raises ValueError for anything but `message` and `metric`.
    """
    if events == "message":
        return Decoder(_message)
    if events == "metric":
        return Decoder(_metrics, is_list=True)
    raise ValueError(f"the decoder 'sparkplug_b': events should be 'message' or 'metric', not {events!r}")


def _message(payload: bytes, topic: str) -> dict[str, Any]:
    head = _head(topic)
    if head["type"] == "STATE":
        return _state(head, payload)
    message = _parse(payload)
    metrics = _Reader().metrics(message.metrics)
    return {**head, **_present(message, "timestamp", "seq"), **_extra(message), "metrics": metrics}


def _metrics(payload: bytes, topic: str) -> list[dict[str, Any]]:
    head = _head(topic)
    if head["type"] == "STATE":
        return [_state(head, payload)]
    message = _parse(payload)
    stamp = _present(message, "timestamp")
    head |= _present(message, "seq")
    if not message.metrics:
        return [{**head, **stamp, **_extra(message)}]
    return [{**head, **stamp, **metric} for metric in _Reader().metrics(message.metrics)]


def _head(topic: str) -> dict[str, Any]:
    """Return what a topic says (§4.1)."""
    namespace, *levels = topic.split("/")
    if namespace == "spBv1.0" and all(levels):
        match levels:
            case ["STATE", host]:
                return {"type": "STATE", "host": host}
            case [group, kind, node] if kind in _NODE_TYPES:
                return {"type": kind, "group": group, "node": node}
            case [group, kind, node, device] if kind in _DEVICE_TYPES:
                return {"type": kind, "group": group, "node": node, "device": device}
    raise ValueError("the topic is not spBv1.0/GROUP/TYPE/NODE, with /DEVICE for what is of one, or spBv1.0/STATE/HOST")


def _state(head: dict[str, Any], payload: bytes) -> dict[str, Any]:
    """§6.4.27: whether a host application is online."""
    document = read_json(payload)
    if not isinstance(document, dict):
        raise ValueError("the state of a host is a JSON object")
    return document | head


def _parse(payload: bytes) -> Any:
    try:
        return Payload.FromString(payload)
    except (DecodeError, ValueError):  # the library in pure Python has another error for text that is not UTF-8
        raise ValueError(
            "no Sparkplug B payload: it is no protobuf, is cut short, or has text that is not UTF-8"
        ) from None


def _extra(message: Any) -> dict[str, Any]:
    found = _present(message, "uuid")
    return found | {"body": read_bytes(message.body)} if message.HasField("body") else found


def _present(message: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(message, name) for name in names if message.HasField(name)}


class _Reader:
    """Reads one message, of which all parts together have no more than MAX_VALUES values."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = MAX_VALUES

    def metrics(self, metrics: Any) -> list[dict[str, Any]]:
        self._take(len(metrics))
        return [self._metric(metric, number) for number, metric in enumerate(metrics)]

    def _take(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise ValueError(f"a message of more than {MAX_VALUES} values")

    def _metric(self, metric: Any, number: int) -> dict[str, Any]:
        """Return a metric (§6.4.6). Its name is what it is known by; an alias means nothing alone, and is not shown."""
        name = metric.name
        if not name:
            raise _nameless(metric, number)
        found: dict[str, Any] = {"name": name}
        if metric.HasField("timestamp"):
            found["timestamp"] = metric.timestamp
        try:
            if datatype := metric.datatype:
                found["datatype"] = datatype_of(datatype).name
            found["value"] = None if metric.is_null else self._value(metric, datatype)
            if metric.HasField("is_historical"):
                found["is_historical"] = metric.is_historical
            if metric.HasField("is_transient"):
                found["is_transient"] = metric.is_transient
            if metric.HasField("metadata"):
                found["metadata"] = _present(metric.metadata, *_METADATA)
            if metric.HasField("properties"):
                found["properties"] = self._properties(metric.properties)
        except ValueError as error:
            raise ValueError(f"metric {name[:_SHOWN]!r}: {error}") from None
        except DeliveryError as error:
            raise DeliveryError(error.reason, f"metric {name[:_SHOWN]!r}: {error.detail}") from None
        return found

    def _value(self, holder: Any, datatype: int) -> Any:
        """Return the value of a metric, a property, a parameter or a cell. datatype: 0 where none is given."""
        field = holder.WhichOneof("value")
        if field is None:
            return None
        value = getattr(holder, field)
        if datatype:
            name, fields, read = datatype_of(datatype)
            if field not in fields:
                raise ValueError(f"a value of datatype {name} can't be in {field}")
            if datatype == BOOLEAN_ARRAY:  # as JSON it has some fifty times its size
                self._take(8 * len(value))
        else:
            read = _UNTYPED.get(field)
        if read is not None:
            return read(value)
        if field in _MESSAGES:
            return _MESSAGES[field](self, value)
        raise DeliveryError(
            "datatype_unknown",
            f"{field} without a datatype: its birth has not been seen; the node is asked for another",
        )

    def _properties(self, properties: Any) -> dict[str, Any]:
        """§6.4.8."""
        self._take(len(properties.values))
        keys, values = list(properties.keys), properties.values
        if len(keys) != len(values) or len(set(keys)) < len(keys):
            raise ValueError(f"{len(values)} properties with {len(set(keys))} names")
        pairs = zip(keys, values, strict=True)
        return {key: None if value.is_null else self._value(value, value.type) for key, value in pairs}

    def _property_list(self, properties: Any) -> list[dict[str, Any]]:
        self._take(len(properties.propertyset))
        return [self._properties(one) for one in properties.propertyset]

    def _data_set(self, data: Any) -> dict[str, Any]:
        """§6.4.11: cells by row, each of its column's datatype."""
        columns, types = list(data.columns), list(data.types)
        if len(columns) != len(types) or data.num_of_columns not in (0, len(types)):
            raise ValueError(f"a DataSet with {len(columns)} names of columns and {len(types)} types")
        self._take((1 + len(types)) * (1 + len(data.rows)))
        rows = []
        for number, row in enumerate(data.rows):
            if len(row.elements) != len(types):
                raise ValueError(f"a DataSet of {len(types)} columns with {len(row.elements)} cells in row {number}")
            rows.append([self._value(cell, datatype) for cell, datatype in zip(row.elements, types, strict=True)])
        return {"columns": columns, "types": [datatype_of(datatype).name for datatype in types], "rows": rows}

    def _template(self, template: Any) -> dict[str, Any]:
        """§6.4.14. What a definition gives as default is not filled in: definitions are in births alone."""
        found = _present(template, "version", "template_ref", "is_definition")
        found["metrics"] = self.metrics(template.metrics)
        if template.parameters:
            self._take(len(template.parameters))
            found["parameters"] = [self._parameter(parameter) for parameter in template.parameters]
        return found

    def _parameter(self, parameter: Any) -> dict[str, Any]:
        """§6.4.15."""
        datatype = parameter.type
        typed = {"datatype": datatype_of(datatype).name} if datatype else {}
        return {"name": parameter.name, **typed, "value": self._value(parameter, datatype)}


def _nameless(metric: Any, number: int) -> Exception:
    if not metric.HasField("alias"):
        return ValueError(f"metric {number} has neither a name nor an alias")
    return DeliveryError(
        "alias_unknown",
        f"alias {metric.alias} of metric {number}: its birth has not been seen; the node is asked for another",
    )


_MESSAGES: dict[str, Callable[[_Reader, Any], Any]] = {
    "dataset_value": _Reader._data_set,
    "template_value": _Reader._template,
    "propertyset_value": _Reader._properties,
    "propertysets_value": _Reader._property_list,
}
"""What reads a value that is a message."""

_UNTYPED: dict[str, Callable[[Any], Any]] = {
    "float_value": read_float,
    "double_value": read_float,
    "boolean_value": read_same,
    "string_value": read_same,
}
"""What has one meaning without its datatype, as messages have. An integer may have a sign, or be a time; bytes may be
an array."""
