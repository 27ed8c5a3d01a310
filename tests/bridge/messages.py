"""Messages, a converter and dead letters for tests of the bridge."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tidegate.bridge import Converter, DeadLetters, Expression, Shape, Steps, new_decoder
from tidegate.bridge.convert import FEW
from tidegate.bridge.correlation import correlation_id
from tidegate.bridge.dead_letter import Rejected
from tidegate.core import DeliveryError, Encoded, Envelope, IdSource, Mapping, Message, Properties
from tidegate.memory import MemorySink

RECEIVED = 1_700_000_000.0
_IDS = IdSource()


def message(topic: str | bytes = "a/b", payload: bytes = b"1", **more: Any) -> Message:
    """Return a message with a new id."""
    raw = topic.encode() if isinstance(topic, str) else topic
    return Message(raw, payload, _IDS.take(1)[0], **{"received": RECEIVED, **more})


def converter(
    decoder: str = "json", mode: str = "structured", template: str = "plant.{all...}", steps: Steps | None = None
) -> Converter:
    """Return a converter for any topic."""
    shape = Shape(
        bridge="b", mapping=Mapping("{all...}", template), source="urn:tidegate:test:b", type="t.v1", mode=mode
    )
    return Converter(shape, new_decoder(decoder), steps)


def convert_all(some: Converter, *messages: Message) -> tuple[list[Encoded], list[Rejected]]:
    """Convert messages as one batch."""
    events: list[Encoded] = []
    rejected: list[Rejected] = []
    rest: Sequence[Message] = messages
    while rest:
        converted = some.convert(rest)
        rest = rest[len(converted.messages) :]
        events += converted.events
        rejected += converted.rejected
    return events, rejected


def document(event: Encoded) -> dict[str, Any]:
    """Return a structured event's JSON."""
    found: dict[str, Any] = json.loads(event.body)
    return found


def converted(decoder: str = "json", mode: str = "structured", **more: Any) -> Encoded:
    """Return the event of one message, which is the same alone and in a batch that is worth columns."""
    some, given = converter(decoder, mode), message(**more)
    events, rejected = convert_all(some, given)
    assert convert_all(some, *[given] * FEW) == (events * FEW, rejected * FEW)
    assert not rejected, rejected
    return events[0]


def refused(decoder: str = "json", mode: str = "structured", **more: Any) -> Rejected:
    """Return the rejection of one message. A good message beside it must not suffer (law 8)."""
    bad, good = message(**more), [message("good/one", b'{"a":1}') for _ in range(FEW)]
    events, rejected = convert_all(converter(decoder, mode), bad, *good)
    assert [event.message for event in events] == good
    assert len(rejected) == 1
    return rejected[0]


def properties(**more: Any) -> Properties:
    """Return MQTT 5 properties; `correlationid` is a user property."""
    if (given := more.pop("correlationid", None)) is not None:
        more["user"] = (("other", "x"), ("correlationid", given))
    return Properties(**more)


def dead_letters(sink: MemorySink) -> DeadLetters:
    """Return the dead letters of a bridge called `b`."""
    return DeadLetters(sink, "b", "urn:tidegate:test:b", "dead.b", lambda one: correlation_id(one.properties))


def shaped(
    decoder: str = "json",
    *,
    pattern: str = "{all...}",
    template: str = "plant.{all...}",
    mode: str = "structured",
    type: str = "t.v1",  # noqa: A002 - CloudEvents' own word
    source: str = "urn:tidegate:test:b",
    attributes: dict[str, str] | None = None,
    pass_events: bool = True,
    **steps: Any,
) -> Converter:
    """Return a converter that looks into messages. Steps that are text are expressions, but for `time_property`."""
    texts = {"each", "filter", "select", "time", "correlation", "causation"}
    found = {name: Expression(step) if name in texts else step for name, step in steps.items()}
    mapping = Mapping(pattern, template)
    shape = Shape(bridge="b", mapping=mapping, source=source, type=type, mode=mode, attributes=attributes or {})
    return Converter(shape, new_decoder(decoder), Steps(**found), pass_events=pass_events)


def events_of(some: Converter, given: Message) -> list[Envelope]:
    """Return what a message becomes. A good one before and after it must not suffer from it, nor it from them."""
    found = some.convert([given])
    assert not found.rejected, found.rejected[0].error
    assert found.filtered == (not found.events)
    assert all(event.message is given for event in found.events)
    assert convert_all(some, given, given)[0] == found.events * 2
    return [Envelope.from_nats(event.headers, event.body) for event in found.events]


def rejection(some: Converter, given: Message) -> DeliveryError:
    """Return why a message can't become an event."""
    found = some.convert([given])
    assert (found.events, found.filtered, len(found.rejected)) == ([], 0, 1)
    return found.rejected[0].error
