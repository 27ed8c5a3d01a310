"""Spans around the two steps of a bridge, for those of its messages that are sampled. The rest passes as it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from random import random
from typing import NamedTuple

from tidegate.app.span import MEMBER, Origin, Span, new_origin, new_span_id, said_origin, sent_by
from tidegate.bridge import Conversion, Converted, Rejected
from tidegate.bridge.convert import PORTION
from tidegate.core import DeliveryError, Encoded, Message, Outcome, Sink

_MAX_NAME = 256
"""Characters of a topic or a subject."""

Attributes = dict[str, str | int | bool]


class Step(NamedTuple):
    """What is the same for all spans of a step. template: of its topics or subjects."""

    template: str
    attributes: Attributes


class Way(NamedTuple):
    """What is the same for all messages of a way. live: they come from a broker, and not from the disk."""

    process: Step
    send: Step
    live: bool


class Traced(NamedTuple):
    """A sampled message on its way. message: names the span `send_id` as its sender. start: ns since 1970."""

    message: Message
    origin: Origin
    process_id: int
    send_id: int
    start: int


class TracedConverter:
    """A `Conversion` that begins the spans.

    A span *process* lasts from receipt until what became of the message is known, and *send*, its child, from when the
    events are given to the sink. The events name *send* as their parent (messaging conventions, "Producer spans").

    What the sender says of sampling counts; else `sample` is the share. end: takes a span that has ended.
    """

    def __init__(self, converter: Conversion, way: Way, sample: float, end: Callable[[Span], None]) -> None:
        self._converter = converter
        self._way = way
        self._sample = sample
        self._end = end
        self._converted: dict[str, Traced] = {}

    def convert(self, messages: Sequence[Message]) -> Converted:
        """See `Conversion.convert`. What is not sampled stays together, so that it goes by column."""
        end = time.monotonic() + PORTION
        origins = self._origins(messages, end)
        messages = messages[: len(origins)]
        if not any(origins):
            return self._converter.convert(messages)
        events: list[Encoded] = []
        rejected: list[Rejected] = []
        done = filtered = 0
        for is_sampled, run in groupby([origin is not None for origin in origins]):
            count = len(list(run))
            part = messages[done : done + count]
            converted = (
                self._convert_sampled(part, origins[done : done + count])
                if is_sampled
                else self._converter.convert(part)
            )
            done += len(converted.messages)
            events += converted.events
            rejected += converted.rejected
            filtered += converted.filtered
            if len(converted.messages) < count or time.monotonic() > end:
                break
        return Converted(messages[:done], events, rejected, filtered)

    def take(self) -> dict[str, Traced]:
        """Return the sampled messages that were converted last and have events, by their ids; each once."""
        taken, self._converted = self._converted, {}
        return taken

    def _origins(self, messages: Sequence[Message], end: float) -> list[Origin | None]:
        """Return the origin of each message that is sampled, or of the first where looking into documents lasts until
        `end`, in monotonic seconds."""
        share = self._sample
        if not any(message.properties is not None or MEMBER in message.payload for message in messages):
            return [new_origin() if random() < share else None for message in messages]
        origins: list[Origin | None] = []
        for message in messages:
            if origins and time.monotonic() > end:
                break
            origins.append(self._origin(message))
        return origins

    def _origin(self, message: Message) -> Origin | None:
        """Return the origin of a message that may name one, if it is sampled, else None."""
        if (said := said_origin(message)) is not None:
            origin, is_sampled = said
            return origin if is_sampled else None
        return new_origin() if random() < self._sample else None

    def _convert_sampled(self, messages: Sequence[Message], origins: list[Origin | None]) -> Converted:
        begun = [self._begin(message, origin) for message, origin in zip(messages, origins, strict=True) if origin]
        converted = self._converter.convert([one.message for one in begun])
        traced = {one.message.id: one for one in begun[: len(converted.messages)]}
        rejected = []
        for one in converted.rejected:
            found = traced.pop(one.message.id, None)
            if found is not None:  # a message that was spooled twice is there twice, with one id
                self._end(self.processed(found, "dead_lettered", one.error))
                one = one._replace(message=sent_by(one.message, found.origin, found.process_id))
            rejected.append(one)
        with_events = {event.message.id for event in converted.events}
        for found in traced.values():
            if found.message.id in with_events:
                self._converted[found.message.id] = found
            else:
                self._end(self.processed(found, "filtered"))
        return converted._replace(rejected=rejected)

    def _begin(self, message: Message, origin: Origin) -> Traced:
        process_id, send_id = new_span_id(), new_span_id()
        start = int(message.received * 1e9) if self._way.live else time.time_ns()
        return Traced(sent_by(message, origin, send_id), origin, process_id, send_id, start)

    def processed(self, traced: Traced, outcome: str, error: DeliveryError | None = None) -> Span:
        """Return the span of a message of which it is known what became."""
        template, attributes = self._way.process
        message = traced.message
        attributes = {
            **attributes,
            "messaging.destination.name": message.topic[:_MAX_NAME].decode(errors="replace"),
            "messaging.message.id": message.id,
            "messaging.message.body.size": message.size,
            "tidegate.outcome": outcome,
        }
        return Span(
            f"process {template}", "consumer", traced.origin, traced.process_id, traced.start, time.time_ns(),
            attributes, error,
        )  # fmt: skip


class TracedSink:
    """A `Sink` that ends the spans which a `TracedConverter` began, once what became of the events is known."""

    def __init__(self, sink: Sink, converter: TracedConverter, way: Way, end: Callable[[Span], None]) -> None:
        self._sink = sink
        self._converter = converter
        self._way = way
        self._end = end

    async def send(self, events: Sequence[Encoded]) -> asyncio.Future[Outcome]:
        """See `Sink.send`."""
        traced = self._converter.take()
        if not traced:
            return await self._sink.send(events)
        start = time.time_ns()
        outcome = await self._sink.send(events)
        outcome.add_done_callback(partial(self._on_outcome, traced, events, start))
        return outcome

    def _on_outcome(
        self, traced: dict[str, Traced], events: Sequence[Encoded], start: int, future: asyncio.Future[Outcome]
    ) -> None:
        if future.cancelled():
            return  # the gateway stops; the message comes again, under its sender's span
        outcome = future.result()
        refused = {event.message.id: error for event, error in outcome.refused}
        spooled = {event.message.id for event in outcome.spooled}
        dropped = {event.message.id for event in outcome.dropped}
        sent: dict[str, list[Encoded]] = {}
        for event in events:
            if event.message.id in traced:
                sent.setdefault(event.message.id, []).append(event)
        for event_id, one in traced.items():
            became, error = "delivered", None
            if event_id in spooled:
                became = "spooled"
            elif event_id in refused:
                became, error = "dead_lettered", refused[event_id]
            elif event_id in dropped:
                became, error = "dropped", DeliveryError("spool_full", "the disk buffer is full")
            self._end(self._sent(one, sent[event_id], start, became, error))
            self._end(self._converter.processed(one, became, error))

    def _sent(
        self, traced: Traced, events: list[Encoded], start: int, outcome: str, error: DeliveryError | None
    ) -> Span:
        template, attributes = self._way.send
        attributes = {
            **attributes,
            "messaging.destination.name": events[0].subject[:_MAX_NAME],
            "messaging.message.id": events[0].id,
            "messaging.message.body.size": sum(len(event.body) for event in events),
            "tidegate.outcome": outcome,
        }
        if len(events) > 1:
            attributes["messaging.batch.message_count"] = len(events)
            del attributes["messaging.message.id"]
        origin = traced.origin._replace(span_id=traced.process_id)
        return Span(f"send {template}", "producer", origin, traced.send_id, start, time.time_ns(), attributes, error)
