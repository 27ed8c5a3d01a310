"""The way of a message that is looked into: from any payload to events of one shape. Pure: no I/O."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Any, NamedTuple

import orjson

from tidegate.bridge.correlation import context, correlation_id, id_from_value
from tidegate.bridge.decode import Decoder
from tidegate.bridge.decode.json_value import json_value
from tidegate.bridge.device_time import Unit, read_time
from tidegate.bridge.event import Incoming, deduplication_key, read_event
from tidegate.bridge.expression import Expression, is_true
from tidegate.core import (
    BYTES,
    Captures,
    Content,
    Data,
    DeliveryError,
    Encoded,
    Extensions,
    Mapping,
    Message,
    Mode,
    checked_content_type,
    decode_topic,
    encode_event,
    fill,
    format_time,
)

MAX_EVENTS = 1000
"""Events that one message can become."""

MAX_SECONDS = 1.0
"""Of processor time for the events of one message: an expression can look at all of it for each element."""

MAX_BYTES = 16 * 1024 * 1024
"""Bytes of all the events that one message can become."""

MAX_TOPICS = 4096
"""Topics whose constants are remembered here."""

MAX_TOPIC = 512
"""Bytes of the longest topic whose constants are remembered: devices choose their topics."""

JSON_TYPE = "application/json"


@dataclass(frozen=True, kw_only=True)
class Steps:
    """What happens to a value between its payload and its events, in this order. None: nothing.

    inflate: decompresses a payload. each: finds the array whose elements are the events. filter: an element goes on
    only where this is true. time: finds the device's time; time_property: the user property that has it. select: makes
    an event's data. check: raises DeliveryError where the data is not as its schema says. correlation, causation: find
    the ids where MQTT 5 brings none.
    """

    inflate: Callable[[bytes], bytes] | None = None
    each: Expression | None = None
    filter: Expression | None = None
    select: Expression | None = None
    time: Expression | None = None
    time_property: str | None = None
    time_unit: Unit | None = None
    time_zone: tzinfo = UTC
    correlation: Expression | None = None
    causation: Expression | None = None
    check: Callable[[object], None] | None = None

    @property
    def look_inside(self) -> bool:
        """Whether any of them needs the payload's value."""
        inside = (self.each, self.filter, self.select, self.time, self.correlation, self.causation, self.check)
        return any(step is not None for step in inside)

    @property
    def any(self) -> bool:
        """Whether there is anything to do."""
        return self.look_inside or self.inflate is not None or self.time_property is not None


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How the events of a bridge look. Texts may have captures of the topic pattern, as `{site}`.

    bridge: its name. mapping: topic to subject. source, type: of the events. attributes: more constant ones; without
    one whose captures are empty. dataschema: how the schema of their data is called.
    """

    bridge: str
    mapping: Mapping
    source: str
    type: str
    mode: Mode = "structured"
    attributes: dict[str, str] = field(default_factory=dict)
    dataschema: str | None = None

    def constants(self, topic: str, captures: Captures) -> dict[str, str]:
        """Return the attributes that all events of a topic share, but for those that are configured by name."""
        source, event_type = fill(self.source, captures, as_uri=True), fill(self.type, captures)
        return {"source": source, "type": event_type, "subject": topic}

    def configured(self, captures: Captures) -> dict[str, str]:
        """Return the attributes that are configured by name, which no device can change."""
        found = {name: fill(text, captures) for name, text in self.attributes.items()}
        if self.dataschema is not None:
            found["dataschema"] = self.dataschema
        return {name: text for name, text in found.items() if text}


class _Topic(NamedTuple):
    name: str
    subject: str
    captures: Captures
    constants: Extensions
    configured: Extensions


class _Found(NamedTuple):
    """What a message holds: a value, if there is one and something has to look at it; and the data, where nothing has
    to change it. Neither for a message without a payload. incoming: the event that the message is."""

    value: Any = None
    has_value: bool = False
    content: Content | None = None
    incoming: Incoming | None = None


class Normaliser:
    """Turns a message into events, for one bridge."""

    def __init__(self, shape: Shape, decoder: Decoder, steps: Steps, *, pass_events: bool = True) -> None:
        self._shape = shape
        self._decoder = decoder
        self._steps = steps
        self._pass_events = pass_events
        self._is_json = decoder.data is not None and decoder.data.content_type == JSON_TYPE
        self._splits = steps.each is not None or decoder.is_list
        self._reshapes = self._splits or steps.select is not None
        self._looks_inside = steps.look_inside
        self._topics: dict[bytes, _Topic] = {}
        self._received = (math.nan, "")

    def correlation_of(self, message: Message) -> str | None:
        """Return the correlation id that a device gave, or None; whatever else is wrong with the message."""
        if (found := correlation_id(message.properties)) or self._steps.correlation is None:
            return found
        try:
            topic = self._topic(message.topic)
            value = self._read(message, topic).value
            return id_from_value(self._steps.correlation.search(value, value, topic.captures))
        except Exception:  # noqa: BLE001 - what is wrong with the message has been said; a dead letter must not fail
            return None

    def events(self, message: Message) -> list[Encoded]:
        """Return the events of a message; none means that all of it was filtered out. Raises DeliveryError."""
        topic = self._topics.get(message.topic) or self._topic(message.topic)
        found = self._read(message, topic)
        steps, events, size = self._steps, [], 0
        start = time.process_time()
        for number, value in self._parts(found, topic):
            if steps.filter and not is_true(_search("filter", steps.filter, value, found, topic)):
                continue
            try:
                events.append(self._event(message, topic, found, number, value))
            except DeliveryError as error:
                where = "" if number is None else f"[{number}] "
                raise DeliveryError(error.reason, f"{where}{error.detail}") from None
            size += len(events[-1].body)
            if size > MAX_BYTES:
                raise DeliveryError("normalise_failed", f"its events have more than {MAX_BYTES} bytes")
            if time.process_time() - start > MAX_SECONDS:
                raise DeliveryError("normalise_failed", f"its events take more than {MAX_SECONDS:g} s to make")
        return events

    def _read(self, message: Message, topic: _Topic) -> _Found:
        payload = message.payload
        if self._steps.inflate and payload:
            payload = self._steps.inflate(payload)
        if self._pass_events:
            incoming = read_event(message, payload, is_json=self._is_json)
            if incoming is not None:
                return self._read_incoming(incoming, topic)
        if not payload:
            return _Found()
        data = self._decoder.data
        if data is not None and not self._looks_inside:
            return _Found(content=_content(data, message, payload))
        value = self._decode(payload, topic)
        if data is None or self._reshapes:
            return _Found(value, True)
        if self._is_json:  # which has been read by now
            return _Found(value, True, Content(JSON_TYPE, "data", payload, payload))
        return _Found(value, True, _content(data, message, payload))

    def _decode(self, payload: bytes, topic: _Topic) -> Any:
        try:
            return self._decoder.decode(payload, topic.name)
        except DeliveryError:
            raise
        except Exception as error:  # noqa: BLE001 - it is anybody's code on anybody's bytes (law 8)
            name = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            raise DeliveryError("decode_failed", f"{name}{' '.join(str(error).split())}"[:300]) from None

    def _read_incoming(self, incoming: Incoming, topic: _Topic) -> _Found:
        """An event's data takes the way of a payload: a device can't get around a filter or a schema."""
        content_type = checked_content_type(str(incoming.attributes.get("datacontenttype", "")))
        if incoming.is_json:
            said = content_type if "datacontenttype" in incoming.attributes else JSON_TYPE
            content = None if self._reshapes else _json_content(incoming.value, said, incoming.payload)
            return _Found(incoming.value, True, content, incoming)
        if incoming.payload is None:
            return _Found(incoming=incoming)
        content = None if self._reshapes else _bytes_content(content_type, incoming.payload)
        if self._decoder.data is None:
            return _Found(self._decode(incoming.payload, topic), True, None, incoming)
        if self._looks_inside:
            return _Found(self._decode(incoming.payload, topic), True, content, incoming)
        return _Found(content=content, incoming=incoming)

    def _parts(self, found: _Found, topic: _Topic) -> Iterator[tuple[int | None, Any]]:
        """Yield the values that become events, with their place in the array if they come from one."""
        if not self._splits or not found.has_value:
            yield None, found.value
            return
        values = found.value
        if self._steps.each:
            values = _search("each", self._steps.each, values, found, topic)
        if not isinstance(values, list):
            raise DeliveryError("normalise_failed", f"each: finds no array, but {_kind(values)}")
        if len(values) > MAX_EVENTS:
            raise DeliveryError("normalise_failed", f"each: {len(values)} elements; {MAX_EVENTS} are allowed")
        yield from enumerate(values)

    def _event(self, message: Message, topic: _Topic, found: _Found, number: int | None, value: Any) -> Encoded:
        content, incoming = found.content, found.incoming
        if found.has_value:
            content = self._data(topic, found, value)
        attributes: Extensions = {"specversion": "1.0", **topic.constants}
        event_id = message.id
        if incoming is not None:
            attributes |= incoming.attributes
            event_id = str(incoming.attributes["id"])
        attributes |= topic.configured
        attributes.pop("datacontenttype", None)
        attributes["id"] = event_id  # what the events of one message have in common, as their correlation id
        attributes |= self._ids(message, topic, found, value, attributes)
        if number is not None:
            attributes["id"] = event_id = f"{event_id}.{number}"
        times, occurred = self._times(message, topic, found, value, attributes)
        attributes |= times
        if message.retained:
            attributes["retained"] = True
        if not message.payload:
            attributes["emptypayload"] = True
        key = (
            event_id if incoming is None else deduplication_key(self._shape.bridge, str(attributes["source"]), event_id)
        )
        return encode_event(self._shape.mode, topic.subject, attributes, content, key, message, occurred)

    def _data(self, topic: _Topic, found: _Found, value: Any) -> Content:
        """Return what an event holds, once it is what `select` and the schema want."""
        if self._steps.select:
            value = _search("select", self._steps.select, value, found, topic)
            if value is None:
                raise DeliveryError("normalise_failed", "select: finds nothing")
            try:
                value = json_value(value)
            except ValueError as error:  # to_number('nan') is one
                raise DeliveryError("normalise_failed", f"select: {error}") from None
        if self._steps.check:
            self._steps.check(value)
        return found.content or _json_content(value)

    def _ids(self, message: Message, topic: _Topic, found: _Found, value: Any, given: Extensions) -> Extensions:
        """Return the correlation and causation ids: MQTT 5's, else the event's own, else from the payload."""
        steps, properties = self._steps, message.properties
        ids = context(properties) if properties else {}
        correlation = correlation_id(properties) or _text(given.get("correlationid"))
        if not correlation and steps.correlation:
            correlation = id_from_value(_search("correlation", steps.correlation, value, found, topic))
        causation = ids.get("causationid") or _text(given.get("causationid"))
        if not causation and steps.causation:
            causation = id_from_value(_search("causation", steps.causation, value, found, topic))
        if causation:
            ids["causationid"] = causation
        return ids | {"correlationid": correlation or str(given["id"])}

    def _times(
        self, message: Message, topic: _Topic, found: _Found, value: Any, given: Extensions
    ) -> tuple[Extensions, float | None]:
        """Return `time`, of the occurrence, and `recordedtime`, of receipt; and the former in seconds where it is not
        the latter."""
        steps, received = self._steps, message.received
        if received != self._received[0]:  # which is the same for what came together
            self._received = (received, format_time(received))
        stamp = self._received[1]
        times: Extensions = {"recordedtime": stamp}
        if found.incoming is not None and "time" in given:
            return times, read_time(given["time"], received)
        if steps.time is None and steps.time_property is None:
            return times | {"time": stamp}, None
        if steps.time_property is not None:
            said = message.properties.get(steps.time_property) if message.properties else None
        else:
            said = _search("time", steps.time, value, found, topic) if steps.time else None
        found_time = read_time(said, received, steps.time_unit, steps.time_zone)
        if found_time is None:
            return times | {"time": stamp, "timefallback": True}, None
        return times | {"time": format_time(found_time)}, found_time

    def _topic(self, raw: bytes) -> _Topic:
        name = decode_topic(raw)
        mapping = self._shape.mapping
        subject = mapping.subject(name)
        captures = mapping.captures(name) or {}
        constants: Extensions = {**self._shape.constants(name, captures)}
        topic = _Topic(name, subject, captures, constants, {**self._shape.configured(captures)})
        if len(raw) <= MAX_TOPIC:
            if len(self._topics) >= MAX_TOPICS:
                self._topics.clear()
            self._topics[raw] = topic
        return topic


def _content(data: Data, message: Message, payload: bytes) -> Content:
    declared = message.properties.content_type if message.properties else None
    return Content(data.content_type or checked_content_type(declared), data.member, data.value(payload), payload)


def _json_content(value: Any, content_type: str = JSON_TYPE, written: bytes | None = None) -> Content:
    """Return a value as data; `written`: how it came, where that is known."""
    try:
        text = orjson.dumps(value) if written is None else written
    except TypeError as error:
        raise DeliveryError("normalise_failed", f"the value has no form in JSON: {error}") from None
    return Content(content_type, "data", text, text)


def _bytes_content(content_type: str, payload: bytes) -> Content:
    if content_type.startswith("text/"):
        with suppress(UnicodeDecodeError):
            return Content(content_type, "data", orjson.dumps(payload.decode()), payload)
    return Content(content_type, "data_base64", BYTES.value(payload), payload)


def _search(step: str, expression: Expression, value: Any, found: _Found, topic: _Topic) -> Any:
    try:
        return expression.search(value, found.value, topic.captures)
    except ValueError as error:
        raise DeliveryError("normalise_failed", f"{step}: {error}") from None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a value of type {type(value).__name__}"
