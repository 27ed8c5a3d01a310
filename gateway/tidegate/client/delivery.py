"""A message that a consumer got, from its delivery to the server's word that it is settled."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from asyncio import CancelledError
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from typing import Any
from uuid import UUID

import nats.errors
from nats.aio.client import Client as Connection

from tidegate.core import Envelope

log = logging.getLogger(__name__)

NATS_ERRORS = (nats.errors.Error, OSError, TimeoutError)
"""What nats-py raises where the server is away, slow, or says no."""

_CONFIRM_TIMEOUT = 2.0
_CONFIRM_TRIES = 3


class Delivery:
    """One delivery of an event to a handler.

    event: what is handled. subject: what it came on. stream, sequence: where it is stored; None and 0 if it is not.
    consumer: whose copy it is. attempt: 1 for the first delivery, as the server counts.
    """

    def __init__(
        self,
        event: Envelope,
        subject: str,
        stream: str | None = None,
        consumer: str = "",
        sequence: int = 0,
        attempt: int = 1,
    ) -> None:
        self.event = event
        self.subject = subject
        self.stream = stream
        self.consumer = consumer
        self.sequence = sequence
        self.attempt = attempt
        self._numbers: defaultdict[bytes, set[int]] = defaultdict(set)

    @contextmanager
    def new_id(self, subject: str, event: Envelope) -> Iterator[str]:
        """Give the id of what the handler publishes: it follows from the event that is handled, and from what is said.

        What is said twice on purpose is two events, so equal ones are numbered. One that was cancelled has its number
        back: to say it again is to try again.
        """
        cause = self.event
        content = _digest(event.model_dump_json(include={"data"}, by_alias=True))
        parts = (cause.source, cause.id, event.source, self.consumer, subject, event.type)
        key = _digest(*parts, content.hex())
        used = self._numbers[key]
        number = next(number for number in count() if number not in used)
        used.add(number)
        found = _uuid(_digest(key.hex(), str(number)))
        try:
            yield found
        except (CancelledError, TimeoutError):
            used.discard(number)
            raise


def _digest(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode()).digest()


def _uuid(digest: bytes) -> str:
    """Return a hash as a UUID of version 8 (RFC 9562 §5.8)."""
    value = int.from_bytes(digest[:16], "big")
    return str(UUID(int=value & ~(0xF << 76) & ~(0x3 << 62) | 0x8 << 76 | 0x2 << 62))


HANDLING: ContextVar[Delivery | None] = ContextVar("tidegate_handling", default=None)


def current_delivery() -> Delivery | None:
    """Return the delivery that is being handled where this is called, or None outside of a handler."""
    return HANDLING.get()


def is_cancelled() -> bool:
    """Whether this task was asked to end, and not only something that it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def settle(connection: Connection, reply: str, verb: bytes) -> bool:
    """Tell the server what became of a message, and return whether it confirmed that it knows.

    reply: the message's reply subject, where the server listens for it. verb: `+ACK` or `+TERM`. A confirmed message is
    not delivered again (a *double ack*).
    """
    for _ in range(_CONFIRM_TRIES):
        try:
            await connection.request(reply, verb, timeout=_CONFIRM_TIMEOUT)
        except TimeoutError:
            continue
        except NATS_ERRORS as error:
            log.debug("not settled: %s", error)
            return False
        return True
    return False


async def tell(connection: Connection, reply: str, verb: bytes, **options: Any) -> None:
    """Tell the server without an answer: `+WPI`, or `-NAK` with a delay in ns. If that is lost, `ack_wait` does the
    same."""
    body = verb + (b" " + json.dumps(options).encode() if options else b"")
    try:
        await connection.publish(reply, body)
    except NATS_ERRORS as error:
        log.debug("not told: %s", error)
