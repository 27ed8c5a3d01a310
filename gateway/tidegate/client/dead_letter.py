"""Events that a service gives up: set aside with their reason, in the form that `tidegate dlq` reads."""

from __future__ import annotations

import hashlib
import json
import time
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple
from uuid import UUID

import orjson

from tidegate.client.connection import Client
from tidegate.core import DEAD_LETTER_TYPE, DeliveryError, Envelope, format_time

_TIMEOUT = 10.0
_MAX_DETAIL = 4096
_ROOM = 1024  # for its own headers, and what is said of the payload


class Place(NamedTuple):
    """Where a message is stored, and for whom."""

    stream: str
    sequence: int
    consumer: str


class Letter(NamedTuple):
    """A message that is set aside. attempts: deliveries it had."""

    place: Place
    subject: str
    headers: Mapping[str, str]
    body: bytes
    error: DeliveryError
    attempts: int


async def bury(client: Client, subject: str, letter: Letter) -> None:
    """Return once a stream has the dead letter: a CloudEvent with the original bytes in `data_base64`.

    Its attributes: `reason`, `detail`, `stage`, `stream`, `consumer`, `attempts`, `size`, `subject` (NATS's), and
    `headers` (the original ones, as JSON). Its id follows from the message's place in the stream, so that it is stored
    once. Raises PublishError.
    """
    event: Envelope | None = None
    with suppress(ValueError):
        event = Envelope.from_nats(letter.headers, letter.body)
    stamp = format_time(time.time())
    letter_id = _letter_id(letter)
    document: dict[str, str | int | bool] = {
        "specversion": "1.0",
        "id": letter_id,
        "source": client.source,
        "type": DEAD_LETTER_TYPE,
        "subject": letter.subject,
        "time": stamp,
        "recordedtime": stamp,
        "correlationid": (event.correlationid or event.id) if event else letter_id,
        "reason": letter.error.reason,
        "detail": letter.error.detail[:_MAX_DETAIL].encode(errors="backslashreplace").decode(),
        "stage": "handle",
        "stream": letter.place.stream,
        "consumer": letter.place.consumer,
        "attempts": letter.attempts,
        "size": len(letter.body),
        "headers": json.dumps(dict(letter.headers)),
    }
    if event is not None:
        document["causationid"] = event.id
    room = client.connection.max_payload - len(orjson.dumps(document)) - _ROOM
    kept = letter.body[: max(0, room * 3 // 4)]
    if len(kept) < len(letter.body):
        document["truncated"] = True
    if kept:
        document["datacontenttype"] = "application/octet-stream"
        document["data_base64"] = b64encode(kept).decode()
    await client.store(subject, Envelope.model_validate(document), letter_id, _TIMEOUT)


def _letter_id(letter: Letter) -> str:
    """A stream that was deleted and made again has the same sequences, and hardly the same bodies."""
    stream, sequence, consumer = letter.place
    digest = hashlib.sha256(f"{stream} {consumer} {sequence} ".encode() + letter.body).digest()
    return str(UUID(bytes=digest[:16]))
