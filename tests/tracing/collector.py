"""A collector of spans: a real HTTP server that takes OTLP, and what makes messages with a trace."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from ssl import SSLContext
from typing import Any, NamedTuple

import aiomqtt
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.wait import eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
DEVICE = "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{DEVICE}-01"
NOT_SAMPLED = f"00-{TRACE}-{DEVICE}-00"
CONSUMER, PRODUCER = 5, 4
"""`Span.kind` in OTLP."""


class Seen(NamedTuple):
    """A span as it arrived. Ids in hexadecimal, `parent` empty for the first of a trace. seconds: how long it took."""

    name: str
    kind: int
    trace: str
    id: str
    parent: str
    state: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    failed: bool
    seconds: float

    @property
    def outcome(self) -> Any:
        return self.attributes.get("tidegate.outcome")


class Collector:
    """spans: all that came. requests: the first line and the headers of each. status: its answer, or None."""

    def __init__(self) -> None:
        self.port = 0
        self.spans: list[Seen] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.status: int | None = 200
        self.hanging = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            body = await reader.readexactly(int(headers["content-length"]))
            self.requests.append((first, headers))
            if self.status is None:
                await self.hanging.wait()
            elif self.status == 200:
                self._take(gzip.decompress(body))
            writer.write(f"HTTP/1.1 {self.status} X\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()

    def _take(self, body: bytes) -> None:
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _attributes(group.resource.attributes)
            for span in (one for scope in group.scope_spans for one in scope.spans):
                ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(), span.trace_state)
                seconds = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
                failed = span.status.code == 2
                found = _attributes(span.attributes)
                self.spans.append(Seen(span.name, span.kind, *ids, found, resource, failed, seconds))

    async def has(self, count: int) -> list[Seen]:
        """Return all spans once there are so many; there must not be more."""
        await eventually(lambda: len(self.spans) >= count, f"{count} spans arrive")
        assert len(self.spans) == count, self.spans
        return self.spans

    def named(self, start: str, **attributes: Any) -> list[Seen]:
        """Return the spans whose name begins so, with this outcome if it is given."""
        return [
            span
            for span in self.spans
            if span.name.startswith(start)
            and all(span.attributes.get(f"tidegate.{name}") == value for name, value in attributes.items())
        ]


def _attributes(found: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in found}


@asynccontextmanager
async def collector(port: int = 0, tls: SSLContext | None = None) -> AsyncIterator[Collector]:
    """Run a collector."""
    running = Collector()
    server = await asyncio.start_server(running.serve, "127.0.0.1", port, ssl=tls)
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        running.hanging.set()
        server.close()


async def publish(port: int, *payloads: str, topic: str = "sensors/hall/d1/reading", **user: str) -> None:
    """Publish as a device with MQTT 5, with these user properties; returns once the broker has them."""
    properties = Properties(PacketTypes.PUBLISH)
    if user:
        properties.UserProperty = list(user.items())
    async with aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        for payload in payloads:
            await client.publish(topic, payload, qos=1, properties=properties)
