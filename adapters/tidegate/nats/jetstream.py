"""JetStream's API: JSON requests on subjects under $JS.API."""

from __future__ import annotations

import json
from typing import Any

from tidegate.core import TidegateError
from tidegate.nats import wire
from tidegate.nats.link import Link

_TIMEOUT = 10.0

NOT_FOUND = 404
NO_MESSAGE, NO_SEQUENCE = 10037, 10043
"""err_codes for a message that is not in the stream."""


class ApiError(TidegateError):
    """JetStream's answer is an error. code: as in HTTP. kind: its own err_code, 0 if it gave none."""

    def __init__(self, code: int, kind: int, description: str) -> None:
        self.code = code
        self.kind = kind
        self.description = description
        super().__init__(description)


async def call(link: Link, api: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the answer of `$JS.API.<api>`. Raises ApiError, and ConnectError where no answer comes."""
    body = b"" if request is None else json.dumps(request).encode()
    answer = await link.request(lambda reply: wire.encode_request(f"$JS.API.{api}", reply, body), _TIMEOUT)
    return read_answer(answer)


def read_answer(answer: wire.Answer) -> dict[str, Any]:
    """Return what an answer of JetStream says. Raises ApiError if that is an error."""
    if answer.status == wire.NO_RESPONDERS:
        raise ApiError(answer.status, 0, "JetStream does not answer; is it on?")
    try:
        fields = json.loads(answer.payload)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise ApiError(500, 0, f"an answer that is not JetStream's: {answer.payload[:80]!r}")
    if isinstance(error := fields.get("error"), dict):
        raise ApiError(
            error.get("code", 500), error.get("err_code", 0), str(error.get("description") or "an unknown error")
        )
    return fields
