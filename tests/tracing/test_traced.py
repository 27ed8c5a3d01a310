"""The spans around a bridge's two steps, without servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from tests.tracing.collector import DEVICE, NOT_SAMPLED, SAMPLED, TRACE
from tidegate.app.config import Config
from tidegate.app.running import new_converter
from tidegate.app.span import Span
from tidegate.app.traced import Step, TracedConverter, TracedSink, Way
from tidegate.bridge import Conversion, Converted
from tidegate.core import DeliveryError, IdSource, Message, Properties
from tidegate.memory import MemorySink

WAY = Way(Step("a/{x}", {}), Step("p.{x}", {}), live=True)
IDS = IdSource()


def converter(**options: Any) -> Conversion:
    bridge = {"name": "b", "mqtt": "a/{x}", "nats": "p.{x}", **options}
    config = Config.model_validate({"gateway": "g", "bridges": [bridge]})
    return new_converter(config, config.up_bridges[0])


def message(payload: bytes, trace: str | None = None, *more: tuple[str, str]) -> Message:
    user = (("traceparent", trace), *more) if trace is not None else more
    properties = Properties(user=user) if user else None
    return Message(b"a/x", payload, IDS.take(1)[0], 1, properties=properties, received=time.time())


def trace_of(body: bytes) -> str | None:
    found: str | None = orjson.loads(body).get("traceparent")
    return found


class Slow:
    """A conversion that says after the first message that it was much work."""

    def convert(self, messages: Sequence[Message]) -> Converted:
        return converter().convert(messages[:1])


def mixed() -> list[Message]:
    traces = [None, None, SAMPLED, None, NOT_SAMPLED, SAMPLED, SAMPLED, None, None, None, None, None]
    messages = [message(b"%d" % number, trace) for number, trace in enumerate(traces)]
    messages[3] = message(b"no JSON")
    messages[6] = message(b"no JSON", SAMPLED)
    return messages


def test_what_is_not_sampled_is_the_same_byte_for_byte_and_all_stays_in_order() -> None:
    messages = mixed()
    plain = converter().convert(messages)
    spans: list[Span] = []
    traced = TracedConverter(converter(), WAY, 0.0, spans.append)
    rest, events, rejected, taken = messages, [], [], []
    while rest:  # at once, unless the machine stands still
        converted = traced.convert(rest)
        rest = rest[len(converted.messages) :]
        events += converted.events
        rejected += converted.rejected
        taken += list(traced.take())
        assert traced.take() == {}
    assert [event.id for event in events] == [event.id for event in plain.events]
    assert [one.message.id for one in rejected] == [one.message.id for one in plain.rejected]
    sampled = [messages[2].id, messages[5].id]
    for ours, theirs in zip(events, plain.events, strict=True):
        assert (ours == theirs) is (ours.id not in sampled)
    assert taken == sampled
    assert [span.attributes["messaging.message.id"] for span in spans] == [messages[6].id]


def test_a_batch_that_is_much_work_goes_on_where_it_was_left() -> None:
    rest: Sequence[Message] = mixed()
    traced = TracedConverter(Slow(), WAY, 0.0, lambda _: None)
    events, taken = [], []
    while rest:
        converted = traced.convert(rest)
        assert converted.messages
        rest = rest[len(converted.messages) :]
        events += [event.body for event in converted.events]
        taken += list(traced.take())
    assert [orjson.loads(body)["data"] for body in events] == [0, 1, 2, 4, 5, 7, 8, 9, 10, 11]
    assert len(taken) == len(set(taken)) == 2


@pytest.mark.parametrize("payloads", [(b"1", b"1"), (b"none", b"none"), (b"1", b"none"), (b"none", b"1")])
async def test_a_message_that_is_there_twice_is_no_defect(
    payloads: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.app.traced.PORTION", 60.0)  # both at once, however busy the machine is
    spans: list[Span] = []
    traced = TracedConverter(converter(), WAY, 1.0, spans.append)
    first = message(payloads[0])
    converted = traced.convert([first, first._replace(payload=payloads[1])])
    await (await TracedSink(MemorySink(), traced, WAY, spans.append).send(converted.events))
    await asyncio.sleep(0)
    assert len(converted.events) + len(converted.rejected) == 2
    assert spans


def test_the_share_is_kept_about() -> None:
    traced = TracedConverter(converter(), WAY, 0.25, lambda _: None)
    sampled = done = 0
    while done < 4000:
        converted = traced.convert([message(b"1") for _ in range(80)])
        assert len(converted.events) == len(converted.messages) > 0
        done += len(converted.messages)
        sampled += len(traced.take())
    assert 0.2 < sampled / done < 0.3


def test_a_new_trace_has_no_state_of_another_and_replaces_what_is_no_traceparent() -> None:
    traced = TracedConverter(converter(), WAY, 1.0, lambda _: None)
    (event,) = traced.convert([message(b"1", "none", ("tracestate", "a=1"), ("other", "x"))]).events
    assert event.message.properties is not None
    assert [name for name, _ in event.message.properties.user] == ["other", "traceparent"]


@pytest.mark.parametrize("sample", [0.0, 1.0])
@pytest.mark.parametrize("flag", ["00", "01"])
def test_an_event_that_came_as_a_document_keeps_its_trace(sample: float, flag: str) -> None:
    said = f"00-{TRACE}-{DEVICE}-{flag}"
    document = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "traceparent": said, "data": 1}
    traced = TracedConverter(converter(), WAY, sample, lambda _: None)
    (event,) = traced.convert([message(orjson.dumps(document))]).events
    (taken,) = traced.take().values() if flag == "01" else [None]
    assert trace_of(event.body) == (f"00-{TRACE}-{taken.send_id:016x}-01" if taken else said)
    assert traced.take() == {}


@pytest.mark.parametrize(
    ("payload", "outcome", "names"),
    [
        (b'[{"a": 1}, {"a": 2}]', "delivered", ["send p.{x}", "process a/{x}"]),
        (b"[]", "filtered", ["process a/{x}"]),
        (b"5", "dead_lettered", ["process a/{x}"]),
    ],
)
async def test_a_message_has_one_span_of_each_step_however_many_events_it_becomes(
    payload: bytes, outcome: str, names: list[str]
) -> None:
    spans: list[Span] = []
    traced = TracedConverter(converter(each="@"), WAY, 1.0, spans.append)
    sink = TracedSink(MemorySink(), traced, WAY, spans.append)
    converted = traced.convert([message(payload)])
    await (await sink.send(converted.events))
    await asyncio.sleep(0)  # what waits for the outcome is told in the loop's next round
    assert [span.name for span in spans] == names
    assert {span.attributes["tidegate.outcome"] for span in spans} == {outcome}
    if outcome == "delivered":
        assert spans[0].attributes["messaging.batch.message_count"] == 2
        assert {trace_of(event.body) for event in converted.events} == {
            f"00-{spans[0].origin.trace_id:032x}-{spans[0].span_id:016x}-01"
        }


async def test_the_spans_tell_what_became_of_each_message_of_a_batch() -> None:
    spans: list[Span] = []
    traced = TracedConverter(converter(), WAY, 1.0, spans.append)
    memory = MemorySink()
    memory.refuse = lambda event: DeliveryError("refused", "odd") if event.message.payload == b"2" else None
    sink = TracedSink(memory, traced, WAY, spans.append)
    messages = [message(b"1"), message(b"2")]
    await (await sink.send(traced.convert(messages).events))
    await asyncio.sleep(0)
    found = {(span.name[:4], str(span.attributes["messaging.message.id"])): span for span in spans}
    for name in ("send", "proc"):
        good, bad = (found[name, one.id] for one in messages)
        assert (good.attributes["tidegate.outcome"], good.error) == ("delivered", None)
        assert bad.attributes["tidegate.outcome"] == "dead_lettered"
        assert bad.error is not None
        assert bad.error.reason == "refused"


async def test_a_stop_before_the_outcome_is_known_tells_nothing() -> None:
    spans: list[Span] = []
    traced = TracedConverter(converter(), WAY, 1.0, spans.append)
    async with MemorySink() as memory:
        memory.holding = True
        outcome = await TracedSink(memory, traced, WAY, spans.append).send(traced.convert([message(b"1")]).events)
    await asyncio.sleep(0)
    assert outcome.cancelled()
    assert spans == []
