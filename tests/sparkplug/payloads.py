"""Payloads, written with the library, and a node that numbers them."""

from __future__ import annotations

from typing import Any

from tests.bridge.messages import document, message
from tidegate.bridge import Converter, Shape, SparkplugHost, new_decoder
from tidegate.bridge.decode.sparkplug_payload import Payload
from tidegate.core import Encoded, Mapping, Message

STAMP = 1_700_000_000_000
INT32, DOUBLE, BOOLEAN, INT64, TEMPLATE = 3, 10, 11, 4, 19


def payload(*metrics: dict[str, Any], seq: int | None = None, **more: Any) -> bytes:
    """Return a payload. A metric is its fields by name."""
    encoded: bytes = Payload(metrics=metrics, seq=seq, **{"timestamp": STAMP, **more}).SerializeToString()
    return encoded


def birth_metric(name: str, datatype: int, alias: int | None = None, **value: Any) -> dict[str, Any]:
    """Return a metric as a birth has it."""
    return {"name": name, "datatype": datatype, "alias": alias, **value}


def bd_seq(number: int) -> dict[str, Any]:
    """Return the metric that a birth and the death of the same connection share."""
    return birth_metric("bdSeq", INT64, long_value=number)


class Node:
    """An edge node with messages in sequence."""

    def __init__(self, name: str = "n", group: str = "g") -> None:
        self.name = name
        self.group = group
        self.seq = 0

    def born(self, *metrics: dict[str, Any], session: int = 0, **more: Any) -> Message:
        """Return an NBIRTH, which starts the sequence again."""
        self.seq = 0
        return self.says("NBIRTH", bd_seq(session), *metrics, **more)

    def died(self, session: int = 0, **more: Any) -> Message:
        """Return an NDEATH, which has no sequence number."""
        return message(f"spBv1.0/{self.group}/NDEATH/{self.name}", payload(bd_seq(session)), **more)

    def says(self, kind: str, *metrics: dict[str, Any], device: str = "", **more: Any) -> Message:
        """Return the next message; of a device if there is one."""
        body = payload(*metrics, seq=self.seq)
        self.seq = (self.seq + 1) % 256
        return message(f"spBv1.0/{self.group}/{kind}/{self.name}{device and '/'}{device}", body, **more)

    def skip(self, count: int = 1) -> None:
        """Let messages get lost."""
        self.seq = (self.seq + count) % 256


class Host:
    """A host under test. requests: topics and payloads that it published. clock: what it takes for the time."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, bytes]] = []
        self.connected = True
        self.clock = 1000.0
        self.host = SparkplugHost(self._publish, lambda: self.clock)
        self.converter = converter(host=self.host)

    def _publish(self, topic: str, body: bytes) -> bool:
        if self.connected:
            self.requests.append((topic, body))
        return self.connected

    def takes(self, *messages: Message) -> list[Message]:
        """Return the messages as the host completes them."""
        return [self.host.restore(one) for one in messages]

    def values(self, *messages: Message) -> list[Any]:
        """Return what the messages become: data, or the reason for which they are refused."""
        return values(self.converter, *messages)


def converter(events: str = "message", host: SparkplugHost | None = None) -> Converter:
    """Return a converter of Sparkplug messages; stateless without a host."""
    shape = Shape(bridge="b", mapping=Mapping("{all...}", "plant.{all...}"), source="urn:tidegate:test:b", type="t.v1")
    decoder = new_decoder("sparkplug_b", {"events": events})
    return Converter(shape, decoder, restore=host.restore if host else None)


def values(some: Converter, *messages: Message) -> list[Any]:
    """Return what a converter makes of messages, in order: data, or the reason for a refusal."""
    found: list[Any] = []
    for one in messages:
        _, events, rejected, _ = some.convert([one])
        found += [data(event) for event in events] + [each.error.reason for each in rejected]
    return found


def data(event: Encoded) -> Any:
    """Return an event's data."""
    return document(event)["data"]


def metrics_of(value: dict[str, Any]) -> dict[str, Any]:
    """Return a message's values by name."""
    return {metric["name"]: metric["value"] for metric in value["metrics"]}
