"""The step from a message to an event, or to a dead letter. Pure: no I/O."""

from __future__ import annotations

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
    Plan,
    decode_topic,
    encode_binary,
    encode_structured,
    format_time,
)
from tidegate.core.encode import Mode

MAX_PLANS = 32_768
"""Topics whose constants are remembered. Beyond that they are worked out again: memory stays bounded."""

MAX_PLAN_TOPIC = 512
"""Bytes of the longest topic whose constants are remembered. Devices choose their topics; a plan holds some copies."""


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
        self._encode = encode_structured if mode == "structured" else encode_binary
        self._correlation_path = correlation_path
        self._plans: dict[bytes, Plan] = {}

    def convert(self, batch: Batch) -> tuple[list[Encoded], list[Rejected]]:
        """Return an event for each message, in order, and the messages that can't be one."""
        events = []
        rejected = []
        received, stamp = -1.0, ""
        for message in batch.messages:
            if message.received != received:  # which is the same for what came together
                received = message.received
                stamp = format_time(received)
            try:
                events.append(self._event(message, stamp))
            except DeliveryError as error:
                rejected.append(Rejected(message, error, "convert"))
        return events, rejected

    def _event(self, message: Message, stamp: str) -> Encoded:
        if message.defect is not None:
            raise DeliveryError(message.defect, _DEFECTS.get(message.defect, "found while it was received"))
        plan = self._plans.get(message.topic) or self._plan(message.topic)
        correlation = None
        if message.properties is not None or self._correlation_path:
            correlation = correlation_id(message, self._correlation_path)
        return self._encode(plan, message, stamp, correlation, self._data, _flags(message))

    def _plan(self, raw: bytes) -> Plan:
        topic = decode_topic(raw)
        plan = Plan(
            self._mapping.subject(topic),
            {"source": self._source, "type": self._type, "subject": topic},
        )
        if len(raw) <= MAX_PLAN_TOPIC:
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            self._plans[raw] = plan
        return plan


_DEFECTS = {
    "payload_too_large": "the payload is over the configured limit; its first part is kept",
    "properties_invalid": "the MQTT 5 properties are malformed",
}


def _flags(message: Message) -> Extensions | None:
    """Mark what a reader should not take for a fresh reading: kept by the broker, or without any payload."""
    if message.payload and not message.retained:
        return None
    flags: Extensions = {}
    if message.retained:
        flags["retained"] = True
    if not message.payload:
        flags["emptypayload"] = True
    return flags
