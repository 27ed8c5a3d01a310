"""The step from a message to an event, or to a dead letter. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Sequence

from tidegate.bridge.correlation import correlation_id
from tidegate.bridge.dead_letter import Rejected
from tidegate.core import (
    Batch,
    Data,
    DeliveryError,
    Encoded,
    Extensions,
    Mapping,
    Message,
    Moment,
    Plan,
    decode_topic,
    encode_binary,
    encode_plain,
    encode_structured,
    new_plan,
)
from tidegate.core.encode import Mode

MAX_PLANS = 32_768
"""Topics whose constants are remembered. Beyond that they are worked out again: memory stays bounded."""

MAX_PLAN_TOPIC = 512
"""Bytes of the longest topic whose constants are remembered. Devices choose their topics; a plan holds some copies."""


FEW = 4
"""Messages of a batch below which columns do not pay."""


class Converter:
    """Turns batches into events for one bridge.

    source, event_type: the events' `source` and `type`. correlation_path: where in a JSON payload a correlation id
    may be, used where MQTT 5 brings none.
    """

    def __init__(
        self,
        mapping: Mapping,
        data: Data,
        source: str,
        event_type: str,
        mode: Mode = "structured",
        correlation_path: tuple[str, ...] = (),
    ) -> None:
        self._mapping = mapping
        self._data = data
        self._source = source
        self._type = event_type
        self._mode = mode
        self._encode = encode_structured if mode == "structured" else encode_binary
        self._correlation_path = correlation_path
        self._plans: dict[bytes, Plan] = {}

    def convert(self, batch: Batch) -> tuple[list[Encoded], list[Rejected]]:
        """Return an event for each message, in order, and the messages that can't be one."""
        events = self._convert_plain(batch.messages)
        return self._convert_each(batch.messages) if events is None else (events, [])

    def _convert_plain(self, messages: Sequence[Message]) -> list[Encoded] | None:
        """Return the events of messages that came together and have nothing of their own but topic and payload, as
        nearly all do; or None if one of them has, or can't be an event."""
        if len(messages) < FEW or self._mode == "binary" or self._correlation_path:
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
            or not self._data.are_values(payloads)
        ):
            return None
        return encode_plain(plans, messages, Moment(received[0]), self._data)

    def _convert_each(self, messages: Sequence[Message]) -> tuple[list[Encoded], list[Rejected]]:
        events = []
        rejected = []
        moment: Moment | None = None
        plans, encode, data = self._plans, self._encode, self._data
        for message in messages:
            topic, payload, _, _, retained, _, properties, _, defect, received = message
            if moment is None or received != moment.seconds:  # which is the same for what came together
                moment = Moment(received)
            try:
                if defect is not None:
                    raise DeliveryError(defect, _DEFECTS.get(defect, "found while it was received"))
                plan = plans.get(topic) or self._plan(topic)
                correlation = flags = None
                if properties is not None or self._correlation_path:
                    correlation = correlation_id(message, self._correlation_path)
                if retained or not payload:
                    flags = _flags(message)
                events.append(encode(plan, message, moment, correlation, data, flags))
            except DeliveryError as error:
                rejected.append(Rejected(message, error, "convert"))
        return events, rejected

    def _plan(self, raw: bytes) -> Plan:
        topic = decode_topic(raw)
        attributes = {"source": self._source, "type": self._type, "subject": topic}
        plan = new_plan(self._mode, self._mapping.subject(topic), attributes)
        if len(raw) <= MAX_PLAN_TOPIC:
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
