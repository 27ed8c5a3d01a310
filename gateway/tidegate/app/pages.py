"""What the gateway shows over HTTP: metrics, health and its status, read-only."""

from __future__ import annotations

import orjson
from prometheus_client.exposition import choose_encoder

from tidegate.app.gateway import Gateway
from tidegate.app.http import Page, Response, plain
from tidegate.app.metrics import new_registry
from tidegate.app.page import status_page
from tidegate.app.status import status


def gateway_pages(gateway: Gateway) -> dict[str, Page]:
    """Return the pages of a gateway."""
    registry = new_registry(gateway)
    page = status_page()

    def metrics(accept: str) -> Response:
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # a version that is no number
            encode, content_type = choose_encoder("")
        return Response(200, content_type, encode(registry))

    def healthy(_accept: str) -> Response:
        if gateway.failed.done():
            return plain(503, "it is about to stop: a part of it has ended")
        if gateway.stalled is not None:
            return plain(503, f"stalled: {gateway.stalled}")
        return plain(200, "healthy")

    def ready(_accept: str) -> Response:
        problems = gateway.problems
        body = orjson.dumps({"ready": not problems, "problems": problems, "nats_away": gateway.away}) + b"\n"
        return Response(503 if problems else 200, "application/json", body)

    def status_json(_accept: str) -> Response:
        if gateway.config is None:
            return plain(503, "nothing is configured now")
        return Response(200, "application/json", orjson.dumps(status(gateway, gateway.config)) + b"\n")

    return {
        "/": lambda _accept: page,
        "/metrics": metrics,
        "/-/healthy": healthy,
        "/-/ready": ready,
        "/status.json": status_json,
    }
