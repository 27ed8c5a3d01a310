"""Traces through the gateway, between real servers and a collector that decodes what arrives."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.support.checker import envelopes, nats_client, stored
from tests.support.gateway import GatewayProcess, gateway, write_config
from tests.support.server import Server, any_broker, nats_server
from tests.support.wait import eventually
from tests.tracing.collector import (
    CONSUMER,
    DEVICE,
    NOT_SAMPLED,
    PRODUCER,
    SAMPLED,
    TRACE,
    Collector,
    collector,
    publish,
)
from tidegate.client import Event, Worker, connect
from tidegate.client.tracing import traced


@dataclass
class Site:
    """Everything that runs. mqtt: the broker's port."""

    gateway: GatewayProcess
    collector: Collector
    nats: Server
    mqtt: int

    async def delivered(self, count: int) -> None:
        """Return once the gateway has delivered so many."""

        async def reached() -> bool:
            return await self.gateway.total("tidegate_messages_delivered_total") >= count

        await eventually(reached, f"{count} are delivered")


@asynccontextmanager
async def site(folder: Path, sample: float = 0.0) -> AsyncIterator[Site]:
    """Run a gateway with tracing."""
    async with (
        any_broker(folder / "mqtt") as mqtt,
        nats_server(folder / "nats") as server,
        collector() as spans,
    ):
        more = f"tracing: {{endpoint: 'http://127.0.0.1:{spans.port}', sample: {sample}}}\n"
        config, http = write_config(folder, mqtt, server.port, more=more)
        async with gateway(config, http) as running:
            yield Site(running, spans, server, mqtt)


async def test_a_devices_trace_goes_on_through_the_gateway_to_the_service_that_handles_the_event(
    tmp_path: Path,
) -> None:
    handled = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(handled))
    async with site(tmp_path) as at, connect(f"nats://127.0.0.1:{at.nats.port}", source="urn:x") as client:
        await client.jetstream.add_stream(name="DONE", subjects=["done.>"])

        async def handle(event: Event[dict[str, float]]) -> None:
            await client.publish("done.x", {"ok": True}, type="done.v1")

        worker = Worker(
            client, "SENSORS", "c", dict[str, float], traced(handle, provider.get_tracer("x")), dead_letters="done.dead"
        )
        work = asyncio.create_task(worker.run())
        await publish(at.mqtt, '{"v": 1}', traceparent=SAMPLED, tracestate="vendor=1")
        spans = await at.collector.has(2)
        await eventually(lambda: worker.counters.handled == 1)
        worker.stop()
        await work
        (event,) = [one async for one in _events(at, "SENSORS")]
        (published,) = [one async for one in _events(at, "DONE")]
    send, process = sorted(spans, key=lambda span: span.name, reverse=True)
    assert (process.name, process.kind) == ("process sensors/{site}/{device}/reading", CONSUMER)
    assert (send.name, send.kind) == ("send plant.sensors.{site}.{device}", PRODUCER)
    assert {span.trace for span in spans} == {TRACE}
    assert (process.parent, send.parent) == (DEVICE, process.id)
    assert {span.state for span in spans} == {"vendor=1"}
    assert event.traceparent == f"00-{TRACE}-{send.id}-01"
    assert event.model_extra == {"tracestate": "vendor=1"}
    assert {span.outcome for span in spans} == {"delivered"}
    assert process.seconds >= send.seconds >= 0
    assert spans[0].resource == {"service.name": "tidegate", "service.instance.id": "test"}
    (consumer,) = handled.get_finished_spans()
    assert consumer.name == "process SENSORS"
    assert consumer.context is not None
    assert consumer.parent is not None
    assert (f"{consumer.parent.span_id:016x}", f"{consumer.context.trace_id:032x}") == (send.id, TRACE)
    assert published.traceparent == f"00-{TRACE}-{consumer.context.span_id:016x}-01"
    assert send.attributes.pop("messaging.message.body.size") > process.attributes.pop("messaging.message.body.size")
    assert send.attributes == {
        "messaging.system": "nats",
        "messaging.operation.type": "send",
        "messaging.operation.name": "send",
        "messaging.destination.template": "plant.sensors.{site}.{device}",
        "messaging.destination.name": "plant.sensors.hall.d1",
        "messaging.message.id": event.id,
        "tidegate.bridge": "readings",
        "tidegate.outcome": "delivered",
    }
    assert process.attributes == {
        "messaging.system": "mqtt",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.template": "sensors/{site}/{device}/reading",
        "messaging.destination.name": "sensors/hall/d1/reading",
        "messaging.message.id": event.id,
        "messaging.client.id": "tidegate-test-readings",
        "server.address": "127.0.0.1",
        "server.port": at.mqtt,
        "tidegate.bridge": "readings",
        "tidegate.outcome": "delivered",
    }


async def _events(at: Site, stream: str) -> AsyncIterator[Event]:
    async with nats_client(at.nats.port) as client:
        for event in await envelopes(client, stream):
            yield event


async def test_what_nobody_traced_gets_a_trace_of_its_own_where_it_is_sampled(tmp_path: Path) -> None:
    async with site(tmp_path, sample=1.0) as at:
        await publish(at.mqtt, '{"v": 1}', '{"v": 2}', '{"v": 3}', tracestate="of=nothing")
        spans = await at.collector.has(6)
        events = [event async for event in _events(at, "SENSORS")]
    sends = {f"00-{span.trace}-{span.id}-01": span for span in spans if span.kind == PRODUCER}
    roots = {span.id: span for span in spans if span.kind == CONSUMER}
    assert len({span.trace for span in spans}) == 3
    assert [span.parent for span in roots.values()] == [""] * 3
    for event in events:
        assert roots[sends[event.traceparent].parent].trace == sends[event.traceparent].trace
        assert sends[event.traceparent].attributes["messaging.message.id"] == event.id
        assert event.model_extra == {}


async def test_what_is_no_traceparent_and_what_nobody_samples_passes_as_without_tracing(tmp_path: Path) -> None:
    bad = [
        f"00-{TRACE}-{DEVICE}-0g",
        f"00-{'0' * 32}-{DEVICE}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{DEVICE}-01",
        f"{SAMPLED}-{'x' * 300}",
        "",
    ]
    async with site(tmp_path, sample=0.0) as at:
        for trace in bad:
            await publish(at.mqtt, "1", traceparent=trace, tracestate="vendor=1")
        await publish(at.mqtt, "1")
        await at.delivered(len(bad) + 1)
        events = [event async for event in _events(at, "SENSORS")]
    assert [(event.traceparent, event.model_extra) for event in events] == [(None, {})] * (len(bad) + 1)
    assert at.collector.spans == []


async def test_what_its_sender_does_not_sample_passes_with_its_trace_whatever_the_share(tmp_path: Path) -> None:
    async with site(tmp_path, sample=1.0) as at:
        await publish(at.mqtt, "1", traceparent=NOT_SAMPLED, tracestate="vendor=1")
        await at.delivered(1)
        (event,) = [event async for event in _events(at, "SENSORS")]
    assert (event.traceparent, event.model_extra) == (NOT_SAMPLED, {"tracestate": "vendor=1"})
    assert at.collector.spans == []


async def test_a_message_that_waited_on_the_disk_goes_on_in_its_trace(tmp_path: Path) -> None:
    async with site(tmp_path) as at:
        await at.nats.stop()
        await publish(at.mqtt, '{"v": 1}', traceparent=SAMPLED)
        process, send = sorted(await at.collector.has(2), key=lambda span: span.name)
        assert [span.outcome for span in (process, send)] == ["spooled"] * 2
        assert not process.failed
        await at.nats.start()
        await at.collector.has(4)
        (event,) = [event async for event in _events(at, "SENSORS")]
    (drained,) = at.collector.named("process", outcome="delivered")
    (sent,) = at.collector.named("send", outcome="delivered")
    assert {span.trace for span in at.collector.spans} == {TRACE}
    assert (drained.parent, sent.parent) == (send.id, drained.id)
    assert drained.attributes["tidegate.from_spool"] is True
    assert event.traceparent == f"00-{TRACE}-{sent.id}-01"


async def test_tracing_begins_and_ends_with_a_reload(tmp_path: Path) -> None:
    async with site(tmp_path) as at:
        path = at.gateway.config
        configured = path.read_text()
        for number, text in enumerate((configured[: configured.index("tracing:")], configured), 1):
            path.write_text(text)
            assert at.gateway.process is not None
            at.gateway.process.send_signal(signal.SIGHUP)
            await eventually(lambda n=number: at.gateway.log_text().count("reload: ") == n)  # type: ignore[misc]
            await eventually(at.gateway.delivering)
            await publish(at.mqtt, str(number), traceparent=SAMPLED)
            await eventually(lambda n=number: _stored(at, n))  # type: ignore[misc]
        await at.collector.has(2)
        assert at.gateway.log_text().count("applied") == 2
        unseen, seen = [event.traceparent async for event in _events(at, "SENSORS")]
    assert unseen == SAMPLED
    assert seen == f"00-{TRACE}-{at.collector.named('send')[0].id}-01"


async def _stored(at: Site, count: int) -> bool:
    return len([event async for event in _events(at, "SENSORS")]) == count


async def test_a_dead_letter_makes_its_span_an_error_and_names_it(tmp_path: Path) -> None:
    async with site(tmp_path) as at:
        await publish(at.mqtt, "no JSON", '{"v": 1}', traceparent=SAMPLED)
        await at.collector.has(3)
        await at.delivered(1)
        async with nats_client(at.nats.port) as client:
            (letter,) = await stored(client, "DEAD_LETTERS")
    (bad,) = at.collector.named("process", outcome="dead_lettered")
    (good,) = at.collector.named("process", outcome="delivered")
    assert bad.failed
    assert not good.failed
    assert bad.attributes["error.type"] == "decode_failed"
    (user,) = json.loads(json.loads(letter.data)["properties"])["user"]
    assert user == ["traceparent", f"00-{TRACE}-{bad.id}-01"]


async def test_a_refused_event_makes_both_spans_errors(tmp_path: Path) -> None:
    async with site(tmp_path) as at:
        async with nats_client(at.nats.port) as client:
            config = (await client.jetstream().stream_info("SENSORS")).config
            await client.jetstream().update_stream(config.evolve(max_msg_size=600))
        await publish(at.mqtt, json.dumps("x" * 1000), traceparent=SAMPLED)
        spans = await at.collector.has(2)
    assert [(span.outcome, span.failed) for span in spans] == [("dead_lettered", True)] * 2
    assert {span.attributes["error.type"] for span in spans} == {"too_large"}
