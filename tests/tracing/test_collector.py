"""Collectors that are away, slow or say no, and the secrets they are sent: nothing of it may hurt a message."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanContext

from tests.app.helpers import CANARY
from tests.support.gateway import GatewayProcess, gateway, write_config
from tests.support.server import any_broker, nats_server
from tests.support.wait import eventually
from tests.tracing.collector import collector, publish
from tidegate.app.config import Config
from tidegate.app.embedded import free_port
from tidegate.app.span import Origin, Span, new_origin, new_span_id
from tidegate.app.span_exporter import OtlpExporter
from tidegate.app.tracing import Tracing
from tidegate.core import DeliveryError

OURS = "tracing: "


@asynccontextmanager
async def site(folder: Path, tracing: str) -> AsyncIterator[tuple[GatewayProcess, int]]:
    """Run a gateway that samples everything; gives it and the broker's port."""
    async with any_broker(folder / "mqtt") as mqtt, nats_server(folder / "nats") as server:
        config, http = write_config(folder, mqtt, server.port, more=f"tracing: {{sample: 1, {tracing}}}\n")
        async with gateway(config, http) as running:
            yield running, mqtt


async def delivered(running: GatewayProcess, count: int) -> None:
    async def reached() -> bool:
        return await running.total("tidegate_messages_delivered_total") >= count

    await eventually(reached, f"{count} are delivered")


def said(running: GatewayProcess) -> list[str]:
    """Return what it logged of tracing, and by the libraries of it."""
    lines = running.log_text().splitlines()
    return [line for line in lines if OURS in line or "opentelemetry" in line or "Traceback" in line]


def tracing(**options: object) -> Tracing:
    bridges = [{"name": "b", "mqtt": "a", "nats": "b.c"}]
    return Tracing(Config.model_validate({"gateway": "g", "bridges": bridges, "tracing": options}))


def a_span() -> Span:
    return Span("process a", "consumer", new_origin(), new_span_id(), time.time_ns(), time.time_ns(), {})


async def test_a_collector_that_is_away_costs_one_line_and_no_message_and_is_told_when_it_is_back(
    tmp_path: Path,
) -> None:
    port = free_port()
    async with site(tmp_path, f"endpoint: 'http://127.0.0.1:{port}'") as (running, mqtt):
        await publish(mqtt, *("1" for _ in range(50)))
        await delivered(running, 50)
        await eventually(lambda: said(running))
        async with collector(port) as back:

            async def comes() -> bool:
                await publish(mqtt, "2")
                return bool(back.spans)

            await eventually(comes, "spans come again")
            await eventually(lambda: len(said(running)) == 2)
            away, again = said(running)
    assert f"http://127.0.0.1:{port} does not take spans, and they are lost: Connection refused" in away
    assert "takes spans again" in again


async def test_however_often_it_fails_there_is_one_line_and_then_one_that_counts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    port = free_port()
    exporter = OtlpExporter(f"http://127.0.0.1:{port}", dict, ssl.create_default_context)
    context = SpanContext(1, 1, is_remote=False)
    spans = [ReadableSpan("a", context, start_time=1, end_time=2, resource=Resource({}))] * 5
    for _ in range(3):
        assert await asyncio.to_thread(exporter.export, spans) is SpanExportResult.FAILURE
    async with collector(port) as back:
        assert await asyncio.to_thread(exporter.export, spans) is SpanExportResult.SUCCESS
        assert await asyncio.to_thread(exporter.export, spans) is SpanExportResult.SUCCESS
        assert len(back.spans) == 10
    lost, found = [record.getMessage() for record in caplog.records]
    assert lost.endswith("does not take spans, and they are lost: Connection refused")
    assert found.endswith("takes spans again; 15 were lost")


async def test_a_collector_that_never_answers_holds_up_neither_messages_nor_the_stop(tmp_path: Path) -> None:
    async with collector() as silent:
        silent.status = None
        async with site(tmp_path, f"endpoint: 'http://127.0.0.1:{silent.port}'") as (running, mqtt):
            await publish(mqtt, "1")
            await eventually(lambda: silent.requests)
            await publish(mqtt, "2", "3")
            await delivered(running, 3)
            async with asyncio.timeout(15):  # the last spans have 2 s, of what would be far more
                assert await running.stop() == 0
    assert len(said(running)) <= 1


async def test_headers_reach_the_collector_and_no_log(tmp_path: Path) -> None:
    secret = tmp_path / "headers"
    secret.write_text(f"Authorization: Bearer {CANARY}\n\nX-Scope: plant\n")
    async with collector() as receiving:
        receiving.status = 401
        more = f"endpoint: 'http://127.0.0.1:{receiving.port}/otlp', headers_file: {secret}"
        async with site(tmp_path, more) as (running, mqtt):
            await publish(mqtt, "1")
            await eventually(lambda: said(running))
            secret.write_text(f"Authorization {CANARY}")
            receiving.status = 200
            await publish(mqtt, "2")
            await delivered(running, 2)
    (line,) = said(running)
    assert line.endswith(("it answers with status 401", 'it answers with status 401"}'))
    first, headers = receiving.requests[0]
    assert first == "POST /otlp/v1/traces HTTP/1.1"
    assert headers["authorization"] == f"Bearer {CANARY}"
    assert headers["x-scope"] == "plant"
    assert headers["content-type"] == "application/x-protobuf"
    assert CANARY not in running.log_text()


async def test_spans_go_over_tls_to_a_collector_whose_certificate_is_good(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with collector(tls=context) as receiving:
        endpoint = f"https://127.0.0.1:{receiving.port}"
        async with tracing(endpoint=endpoint, ca=tmp_path / "ca.pem") as spans:
            spans.end(a_span())
            await receiving.has(1)
        async with tracing(endpoint=endpoint) as spans:
            spans.end(a_span())
        assert len(receiving.spans) == 1


async def test_more_spans_than_the_queue_holds_are_told_once_and_lost(caplog: pytest.LogCaptureFixture) -> None:
    async with collector() as silent:
        silent.status = None
        async with tracing(endpoint=f"http://127.0.0.1:{silent.port}") as spans:
            for _ in range(10_000):
                spans.end(a_span())
    told = [record for record in caplog.records if "faster" in record.getMessage()]
    assert len(told) == 1
    assert told[0].levelno == logging.WARNING


@pytest.mark.parametrize(
    "state", ["=,=,;", "\x00", "a=1,a=2", ",".join(f"k{n}=v" for n in range(90)), "a=" + "é" * 200]
)
async def test_no_text_of_a_device_keeps_a_span_from_the_collector(state: str) -> None:
    async with collector() as receiving:
        async with tracing(endpoint=f"http://127.0.0.1:{receiving.port}") as spans:
            error = DeliveryError("decode_failed", "not JSON: \ud800 \x00")
            spans.end(a_span()._replace(origin=Origin(1, 2, state), error=error, attributes={"a": "\x00é"}))
        (span,) = receiving.spans
        assert span.failed


async def test_what_is_queued_at_a_stop_is_sent(tmp_path: Path) -> None:
    async with collector() as receiving:
        async with tracing(endpoint=f"http://127.0.0.1:{receiving.port}") as spans:
            spans.end(a_span())
        assert len(receiving.spans) == 1
