"""Spans of messages on their way through the gateway, by OpenTelemetry. Imported only where it is configured."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress
from functools import cache
from ssl import SSLContext
from typing import Self
from urllib.parse import urlsplit

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from tidegate.app.config import Bridge, Config, Tls
from tidegate.app.options import otlp_headers
from tidegate.app.span import Span
from tidegate.app.span_exporter import OtlpExporter
from tidegate.app.tls import client_context
from tidegate.app.traced import Attributes, Step, TracedConverter, TracedSink, Way
from tidegate.app.version import VERSION
from tidegate.bridge import Conversion
from tidegate.core import Sink

log = logging.getLogger(__name__)

_QUEUE = 4096
_BATCH = 512
_INTERVAL = 1000  # ms
_MAX_DETAIL = 200
_LAST_SPANS = 2.0
"""Seconds that a stop gives to the last spans, if `shutdown_timeout` is not shorter."""

_KINDS = {"consumer": SpanKind.CONSUMER, "producer": SpanKind.PRODUCER}


class Tracing:
    """Sends spans to a collector, from a thread of its own. Use as `async with`.

    The queue is bounded: what does not fit is lost, and that is said once. Leaving takes 2 s at most.
    """

    def __init__(self, config: Config) -> None:
        assert config.tracing is not None
        tracing = config.tracing
        self._sample = tracing.sample
        self._last = min(config.shutdown_timeout, _LAST_SPANS)
        self._resource = Resource({"service.name": "tidegate", "service.instance.id": config.gateway})
        self._scope = InstrumentationScope("tidegate", VERSION)
        self._dropped = False
        self._ended = 0

        @cache
        def tls() -> SSLContext:
            return client_context(Tls(ca=tracing.ca))

        self._exporter = OtlpExporter(tracing.endpoint, otlp_headers(tracing), tls)

    async def __aenter__(self) -> Self:
        logging.getLogger("opentelemetry").setLevel(logging.ERROR)  # the rest is told here, once
        self._processor = BatchSpanProcessor(
            self._exporter, max_queue_size=_QUEUE, max_export_batch_size=_BATCH, schedule_delay_millis=_INTERVAL
        )
        return self

    async def __aexit__(self, *_exc: object) -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def close() -> None:
            self._processor.shutdown()  # type: ignore[no-untyped-call]
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(done.set)

        # A daemon, as the processor's own thread is: a collector that does not answer must not keep the process alive.
        threading.Thread(target=close, name="tracing close", daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._last):
                await done.wait()

    def around(
        self, converter: Conversion, sink: Sink, config: Config, bridge: Bridge, *, live: bool
    ) -> tuple[Conversion, Sink]:
        """Return both steps of a way up, with spans around them. live: it begins at the broker, and not at the disk,
        where only what was sampled when it came is sampled."""
        way = _way_up(config, bridge, live=live)
        traced = TracedConverter(converter, way, self._sample if live else 0.0, self.end)
        return traced, TracedSink(sink, traced, way, self.end)

    def end(self, span: Span) -> None:
        """Queue a span that has ended.

        It is made here rather than by the SDK's tracer, at a sixth of the price: the ids are in the event before
        anything is known of how the step ends.
        """
        origin = span.origin
        state = TraceState.from_header([origin.state]) if origin.state else None
        sampled = TraceFlags(TraceFlags.SAMPLED)
        status = Status(StatusCode.UNSET)
        attributes = span.attributes
        if span.error is not None:
            attributes = {**attributes, "error.type": span.error.reason}
            detail = span.error.detail[:_MAX_DETAIL].encode(errors="backslashreplace")  # half a surrogate pair, perhaps
            status = Status(StatusCode.ERROR, detail.decode())
        self._ended += 1
        self._processor.on_end(
            ReadableSpan(
                name=span.name,
                context=SpanContext(origin.trace_id, span.span_id, False, sampled, state),
                parent=SpanContext(origin.trace_id, origin.span_id, True, sampled) if origin.span_id else None,
                resource=self._resource,
                attributes=attributes,
                kind=_KINDS[span.kind],
                status=status,
                start_time=span.start,
                end_time=max(span.start, span.end),
                instrumentation_scope=self._scope,
            )
        )
        if not self._dropped and self._ended - self._exporter.taken > _QUEUE:
            self._dropped = True
            log.warning("tracing: spans come faster than they are sent, and some are lost; a smaller `sample` helps")


def _way_up(config: Config, bridge: Bridge, *, live: bool) -> Way:
    """Return what the spans of a bridge have in common (OpenTelemetry's conventions for messaging spans)."""
    broker = urlsplit(config.mqtt.url)
    process: Attributes = {
        **_step("mqtt", "process", bridge.mqtt),
        "messaging.client.id": config.client_id(bridge.name),
        "server.address": broker.hostname or "",
        "server.port": broker.port or 0,
        "tidegate.bridge": bridge.name,
    }
    if not live:
        process["tidegate.from_spool"] = True
    send = {**_step("nats", "send", bridge.nats), "tidegate.bridge": bridge.name}
    return Way(Step(bridge.mqtt, process), Step(bridge.nats, send), live)


def _step(system: str, operation: str, template: str) -> Attributes:
    return {
        "messaging.system": system,
        "messaging.operation.type": operation,
        "messaging.operation.name": operation,
        "messaging.destination.template": template,
    }
