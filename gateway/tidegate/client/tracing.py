"""Spans of what a service handles, by OpenTelemetry: needs the extra `otel`, or an SDK of the service's own."""

from __future__ import annotations

from functools import wraps
from importlib.metadata import version
from typing import TypeVar

from opentelemetry.trace import SpanKind, Tracer, get_tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tidegate.client.delivery import Delivery, current_delivery
from tidegate.client.event import Event
from tidegate.client.worker import Handler

T = TypeVar("T")

_CONTEXT = TraceContextTextMapPropagator()


def traced(handler: Handler[T], tracer: Tracer | None = None) -> Handler[T]:
    """Return a handler, for a `Worker` or `subscribe`, that runs in a span *process*, whose parent is the event's
    `traceparent`. What the handler publishes has that span as its parent.

    What the handler raises makes the span an error, and goes on to the worker. tracer: by default that of the global
    provider, which is the service's to set up; without one nothing is recorded, and traces go on as they came.
    """
    spans = tracer or get_tracer("tidegate.client", version("tidegate"))

    @wraps(handler)
    async def handle(event: Event[T]) -> None:
        delivery = current_delivery()
        assert delivery is not None, "a traced handler is for a worker or a subscriber"
        came = {"traceparent": event.traceparent, "tracestate": (event.model_extra or {}).get("tracestate")}
        parent = _CONTEXT.extract({name: value for name, value in came.items() if value is not None})
        name = " ".join(filter(None, ("process", delivery.stream)))
        attributes = _attributes(delivery)
        with spans.start_as_current_span(name, parent, SpanKind.CONSUMER, attributes) as span:
            carried: dict[str, str] = {}
            _CONTEXT.inject(carried)
            delivery.event = event.model_copy(update={"traceparent": carried.get("traceparent", event.traceparent)})
            try:
                await handler(event)
            except Exception as error:
                span.set_attribute("error.type", type(error).__name__)
                raise

    return handle


def _attributes(delivery: Delivery) -> dict[str, str | int]:
    """OpenTelemetry's conventions for messaging spans."""
    event = delivery.event
    attributes: dict[str, str | int] = {
        "messaging.system": "nats",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": delivery.subject,
        "messaging.message.id": event.id,
        "messaging.message.conversation_id": event.correlationid or event.id,
        "tidegate.attempt": delivery.attempt,
    }
    if delivery.consumer:
        attributes["messaging.consumer.group.name"] = delivery.consumer
    return attributes
