"""Spans on their way to a collector: OTLP over HTTP."""

from __future__ import annotations

import gzip
import logging
import ssl
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

log = logging.getLogger(__name__)

_TIMEOUT = 5.0  # seconds, of each step of a request
_PATH = "/v1/traces"


class OtlpExporter(SpanExporter):
    """Posts spans (OTLP 1.x, OTLP/HTTP, binary). Called by the threads of the SDK's processor, one at a time.

    What a collector does not take is lost, and counted: nothing is tried again, because the next spans wait behind it.
    Of a collector that is away the log has one line, and one when it is back. The SDK's own exporter tries again for
    10 s, logs each try, and may take that long to stop.

    headers: returns those to send, read again each time; raises OSError or ValueError.
    tls: returns the context for https; raises OSError.
    """

    def __init__(
        self, endpoint: str, headers: Callable[[], Mapping[str, str]], tls: Callable[[], ssl.SSLContext]
    ) -> None:
        self.taken = 0
        self._endpoint = endpoint
        self._url = urlsplit(endpoint)
        self._headers = headers
        self._tls = tls
        self._lost: int | None = None  # since it was said that spans are lost

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans. Returns whether the collector has them."""
        self.taken += len(spans)
        try:
            self._post(gzip.compress(encode_spans(spans).SerializeToString(), 1))
        except (OSError, HTTPException, ValueError) as error:
            self._on_loss(len(spans), _reason(error))
            return SpanExportResult.FAILURE
        if self._lost is not None:
            log.info("tracing: %s takes spans again; %d were lost", self._endpoint, self._lost)
            self._lost = None
        return SpanExportResult.SUCCESS

    def _on_loss(self, count: int, reason: str) -> None:
        if self._lost is None:
            log.warning("tracing: %s does not take spans, and they are lost: %s", self._endpoint, reason)
        self._lost = (self._lost or 0) + count

    def _post(self, body: bytes) -> None:
        """Raises OSError or HTTPException, and ValueError for an answer that is no success."""
        headers = {
            **self._headers(),
            "Content-Type": "application/x-protobuf",
            "Content-Encoding": "gzip",
            "Connection": "close",
        }
        host, port = self._url.hostname or "", self._url.port
        connection = (
            HTTPSConnection(host, port, timeout=_TIMEOUT, context=self._tls())
            if self._url.scheme == "https"
            else HTTPConnection(host, port, timeout=_TIMEOUT)
        )
        try:
            connection.request("POST", self._url.path + _PATH, body, headers)
            status = connection.getresponse().status
        finally:
            connection.close()
        if not 200 <= status < 300:
            raise ValueError(f"it answers with status {status}")


def _reason(error: Exception) -> str:
    """An answer that is not HTTP is not quoted: it may repeat what was sent to it."""
    if isinstance(error, HTTPException):
        return "its answer is not HTTP"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__)[:200]
