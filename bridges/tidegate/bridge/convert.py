"""The step from messages to events or dead letters. Pure: no I/O."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from operator import attrgetter
from typing import NamedTuple

from tidegate.bridge.correlation import context, correlation_id
from tidegate.bridge.dead_letter import Rejected
from tidegate.bridge.decode import Decoder
from tidegate.bridge.event import says_event
from tidegate.bridge.normalise import JSON_TYPE, MAX_TOPIC, Normaliser, Shape, Steps
from tidegate.core import (
    BYTES,
    DeliveryError,
    Encoded,
    Extensions,
    Message,
    Moment,
    Plan,
    decode_topic,
    encode_binary,
    encode_plain,
    encode_structured,
    new_plan,
)

MAX_PLANS = 32_768
"""Topics whose constants are remembered. Beyond that they are worked out again: memory stays bounded."""

FEW = 4
"""Messages of a batch below which columns do not pay."""

PORTION = 0.02
"""Seconds of work after which the rest of a batch has to wait: the loop has others to serve, and events take memory."""

SMALL = 4096
"""Bytes of a payload that takes too little of that to look at the clock."""

PLAIN_PORTION = 256 * 1024
"""Bytes of payload that can be read by column in that time."""


class Converted(NamedTuple):
    """What became of messages: events, in order; those that can't be one; and how many were left out on purpose."""

    messages: Sequence[Message]
    events: list[Encoded]
    rejected: list[Rejected]
    filtered: int = 0


class Converter:
    """Turns messages into events for one bridge.

    pass_events: a message that is an event already stays that event. restore: completes a message by what earlier ones
    said, before all else; for the live messages of a stateful format.
    """

    def __init__(
        self,
        shape: Shape,
        decoder: Decoder,
        steps: Steps | None = None,
        *,
        pass_events: bool = True,
        restore: Callable[[Message], Message] | None = None,
    ) -> None:
        steps = steps or Steps()
        pass_events = pass_events and decoder.data is not BYTES  # raw bytes are not looked into
        self._shape = shape
        self._normaliser = Normaliser(shape, decoder, steps, pass_events=pass_events)
        self._restore = restore
        self._data = decoder.data
        self._looks_inside = steps.any or decoder.data is None
        self._pass_events = pass_events
        self._pass_json = pass_events and decoder.data is not None and decoder.data.content_type == JSON_TYPE
        self._by_column = not self._looks_inside and restore is None and shape.mode == "structured"
        self._encode = encode_structured if shape.mode == "structured" else encode_binary
        self._plans: dict[bytes, Plan] = {}

    def convert(self, messages: Sequence[Message]) -> Converted:
        """Return what becomes of messages that came together: of all, or of the first where all are much work."""
        if self._by_column and len(messages) >= FEW:
            first = messages
            if sum(map(_SIZE, messages)) > PLAIN_PORTION:
                first = _first(messages)
            if (events := self._convert_plain(first)) is not None:
                return Converted(first, events, [])
        return self._convert_each(messages)

    def correlation_of(self, message: Message) -> str | None:
        """Return the correlation id that a device gave with a message, good or bad, or None."""
        return self._normaliser.correlation_of(message)

    def _convert_plain(self, messages: Sequence[Message]) -> list[Encoded] | None:
        """Return the events of messages that came together and have nothing of their own but topic and payload, as
        nearly all do; or None if one of them has, or can't be an event."""
        data = self._data
        if data is None:
            return None
        topics, payloads, _, _, retained, _, properties, _, defects, received = zip(*messages, strict=True)
        try:
            plans = [self._plans.get(topic) or self._plan(topic) for topic in topics]
        except DeliveryError:
            return None
        if (
            len(set(received)) > 1
            or any(retained)
            or any(properties)
            or any(defects)
            or not all(payloads)
            or not data.are_values(payloads)
        ):
            return None
        return encode_plain(plans, messages, Moment(received[0]), data)

    def _convert_each(self, messages: Sequence[Message]) -> Converted:
        events: list[Encoded] = []
        rejected = []
        filtered = 0
        moment: Moment | None = None
        end = time.monotonic() + PORTION
        plans, encode, data, restore = self._plans, self._encode, self._data, self._restore
        pass_events, pass_json = self._pass_events, self._pass_json
        looks_inside = data is None or self._looks_inside
        for number, message in enumerate(messages):
            topic, payload, _, _, retained, _, properties, _, defect, received = message
            if (looks_inside or len(payload) > SMALL) and number and time.monotonic() > end:
                messages = messages[:number]
                break
            try:
                if defect is not None:
                    raise DeliveryError(defect, _DEFECTS.get(defect, "found while it was received"))
                if restore is not None:
                    message = restore(message)
                if (
                    looks_inside
                    or data is None
                    or (properties is not None and pass_events and says_event(properties))
                    or (pass_json and b'"specversion"' in payload)
                ):
                    found = self._normaliser.events(message)
                    events += found
                    filtered += not found
                    continue
                if moment is None or received != moment.seconds:  # which is the same for what came together
                    moment = Moment(received)
                plan = plans.get(topic) or self._plan(topic)
                correlation = extensions = None
                if properties is not None:
                    correlation, extensions = correlation_id(properties), context(properties)
                if retained or not payload:
                    extensions = {**(extensions or {}), **_flags(message)}
                events.append(encode(plan, message, moment, correlation, data, extensions))
            except DeliveryError as error:
                rejected.append(Rejected(message, error, "convert"))
            except Exception as error:  # noqa: BLE001 - a defect that one message brought out must not stop all (law 8)
                defect_found = DeliveryError("conversion_failed", f"a defect: {error!r}"[:300])
                rejected.append(Rejected(message, defect_found, "convert"))
        return Converted(messages, events, rejected, filtered)

    def _plan(self, raw: bytes) -> Plan:
        topic = decode_topic(raw)
        mapping = self._shape.mapping
        subject = mapping.subject(topic)
        captures = mapping.captures(topic) or {}
        attributes = {**self._shape.constants(topic, captures), **self._shape.configured(captures)}
        plan = new_plan(self._shape.mode, subject, attributes)
        if len(raw) <= MAX_TOPIC:
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            self._plans[raw] = plan
        return plan


_SIZE = attrgetter("size")


def _first(messages: Sequence[Message]) -> Sequence[Message]:
    """Return the messages that can be read by column at once."""
    sizes = accumulate(map(_SIZE, messages))
    return messages[: max(1, bisect_right(list(sizes), PLAIN_PORTION))]


_DEFECTS = {
    "payload_too_large": "the payload is over the configured limit; its first part is kept",
    "properties_invalid": "the MQTT 5 properties are malformed",
}


def _flags(message: Message) -> Extensions:
    """Mark what a reader should not take for a fresh reading: kept by the broker, or without any payload."""
    flags: Extensions = {}
    if message.retained:
        flags["retained"] = True
    if not message.payload:
        flags["emptypayload"] = True
    return flags
