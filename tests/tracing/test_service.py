"""Spans of a service's handlers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, Tracer

from tests.client.rig import Rig, Task, rig, running, worker
from tests.support.checker import envelopes
from tests.support.wait import eventually
from tests.tracing.collector import DEVICE, NOT_SAMPLED, SAMPLED, TRACE
from tidegate.client import Event, subscribe
from tidegate.client.tracing import traced


class Spans(InMemorySpanExporter):
    """What a service's own provider was given."""

    @property
    def tracer(self) -> Tracer:
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self))
        return provider.get_tracer("test")


async def put(at: Rig, trace: str | None, subject: str = "work.a") -> Event[Task]:
    """Publish a task that has this trace."""
    event = Event[Task](id="e-1", source="urn:x", type=Task.event_type, traceparent=trace, data=Task(number=1))
    return await at.client.publish(subject, event)


async def published(at: Rig) -> list[str | None]:
    """Return the traces of what lies in EVENTS."""
    return [event.traceparent for event in await envelopes(at.client.connection, "EVENTS")]


async def test_each_attempt_has_a_span_and_what_is_published_names_it_under_the_same_id(tmp_path: Path) -> None:
    spans, failures = Spans(), [OSError("no"), None]
    async with rig(tmp_path) as at:

        async def handle(event: Event[Task]) -> None:
            assert event.traceparent == SAMPLED
            await at.client.publish("events.a", {"of": event.data.number}, type="done.v1")
            if (failure := failures.pop(0)) is not None:
                raise failure

        one = worker(at, traced(handle, spans.tracer))
        async with running(one):
            await put(at, SAMPLED)
            await eventually(lambda: one.counters.handled == 1)
        found = await published(at)
    failed, good = spans.get_finished_spans()
    assert [span.status.status_code for span in (failed, good)] == [StatusCode.ERROR, StatusCode.UNSET]
    assert {span.name for span in (failed, good)} == {"process WORK"}
    assert {span.kind for span in (failed, good)} == {SpanKind.CONSUMER}
    for attempt, span in enumerate((failed, good), 1):
        assert span.context is not None
        assert span.parent is not None
        assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, DEVICE)
        assert span.attributes is not None
        assert span.attributes["messaging.consumer.group.name"] == "workers"
        assert span.attributes["tidegate.attempt"] == attempt
    assert (failed.attributes or {})["error.type"] == "OSError"
    assert failed.context is not None
    assert found == [f"00-{TRACE}-{failed.context.span_id:016x}-01"]


@pytest.mark.parametrize("trace", [None, SAMPLED, NOT_SAMPLED])
async def test_without_a_provider_traces_go_on_as_they_came(tmp_path: Path, trace: str | None) -> None:
    async with rig(tmp_path) as at:

        async def handle(_: Event[Task]) -> None:
            await at.client.publish("events.a", {"x": 1}, type="done.v1")

        one = worker(at, traced(handle))
        async with running(one):
            await put(at, trace)
            await eventually(lambda: one.counters.handled == 1)
        assert await published(at) == [trace]


async def test_a_subscriber_is_traced_too_and_begins_a_trace_where_there_is_none(tmp_path: Path) -> None:
    spans, handled = Spans(), asyncio.Event()

    async def handle(_: Event[Task]) -> None:
        handled.set()

    async with rig(tmp_path) as at:
        service = subscribe(at.client, "live.>", Task, traced(handle, spans.tracer))
        async with running(service):
            event = Event[Task](id="e-1", source="urn:x", type=Task.event_type, data=Task(number=1))

            async def heard() -> bool:
                await at.client.connection.publish(
                    "live.a", event.to_json(), headers={"Content-Type": "application/cloudevents+json"}
                )
                return handled.is_set()

            await eventually(heard)
            await eventually(lambda: spans.get_finished_spans())
    span = spans.get_finished_spans()[0]
    assert (span.name, span.parent) == ("process", None)
    assert (span.attributes or {})["messaging.destination.name"] == "live.a"
