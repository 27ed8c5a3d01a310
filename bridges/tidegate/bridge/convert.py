"""The step from messages to events or dead letters. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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

PORTION = 64 * 1024
"""Bytes of payload that are converted at once where a message can become many events: an array of digits becomes
some hundred times its size."""


class Converted(NamedTuple):
    """What became of messages: events, in order; those that can't be one; and how many were left out on purpose."""

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
        self._splits = steps.each is not None or decoder.is_list
        # A message counts for more than its bytes where they say less about what becomes of it.
        self._least = PORTION if steps.inflate else PORTION // 8 if restore else 0
        self._pass_events = pass_events
        self._pass_json = pass_events and decoder.data is not None and decoder.data.content_type == JSON_TYPE
        self._by_column = not self._looks_inside and restore is None and shape.mode == "structured"
        self._encode = encode_structured if shape.mode == "structured" else encode_binary
        self._plans: dict[bytes, Plan] = {}

    def portions(self, messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
        """Yield a batch's messages as they are to be converted and sent: all at once, unless they could become too many
        events for that."""
        if not self._splits and self._restore is None:
            yield messages
            return
        start = size = 0
        for number, message in enumerate(messages):
            size += max(self._least, len(message.payload))
            if size >= PORTION:
                yield messages[start : number + 1]
                start, size = number + 1, 0
        if start < len(messages) or not messages:
            yield messages[start:]

    def convert(self, messages: Sequence[Message]) -> Converted:
        """Return what becomes of messages that came together."""
        if self._by_column and (events := self._convert_plain(messages)) is not None:
            return Converted(events, [])
        return self._convert_each(messages)

    def correlation_of(self, message: Message) -> str | None:
        """Return the correlation id that a device gave with a message, good or bad, or None."""
        return self._normaliser.correlation_of(message)

    def _convert_plain(self, messages: Sequence[Message]) -> list[Encoded] | None:
        """Return the events of messages that came together and have nothing of their own but topic and payload, as
        nearly all do; or None if one of them has, or can't be an event."""
        data = self._data
        if len(messages) < FEW or data is None:
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
        plans, encode, data, restore = self._plans, self._encode, self._data, self._restore
        for message in messages:
            topic, payload, _, _, retained, _, properties, _, defect, received = message
            try:
                if defect is not None:
                    raise DeliveryError(defect, _DEFECTS.get(defect, "found while it was received"))
                if restore is not None:
                    message = restore(message)
                if (
                    data is None
                    or self._looks_inside
                    or (properties is not None and self._pass_events and says_event(properties))
                    or (self._pass_json and b'"specversion"' in payload)
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
        return Converted(events, rejected, filtered)

    def _plan(self, raw: bytes) -> Plan:
        topic = decode_topic(raw)
        mapping = self._shape.mapping
        subject = mapping.subject(topic)
        plan = new_plan(self._shape.mode, subject, self._shape.constants(topic, mapping.captures(topic) or {}))
        if len(raw) <= MAX_TOPIC:
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            self._plans[raw] = plan
        return plan


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
