"""Dead letters: messages set aside with their reason, as events of their own."""

from __future__ import annotations

import asyncio
import logging
from base64 import b64encode
from typing import NamedTuple

import orjson

from tidegate.core import Backoff, DeliveryError, Encoded, Message, Outcome, Sink, format_time

log = logging.getLogger(__name__)

DEAD_LETTER_TYPE = "io.tidegate.dead_letter.v1"

MAX_KEPT = 512 * 1024
"""Bytes of the payload that a dead letter keeps at first; in base64 that fits NATS's default limit of 1 MiB."""

_MAX_TOPIC = 4096


class Rejected(NamedTuple):
    """A message that can't be delivered, why, and the step that gave up on it."""

    message: Message
    error: DeliveryError
    stage: str


class DeadLetters:
    """Where a bridge puts the messages that can't be delivered. The sink must be durable, whatever the bridge's is."""

    def __init__(self, sink: Sink, bridge: str, source: str, subject: str) -> None:
        self._sink = sink
        self._bridge = bridge
        self._source = source
        self._subject = subject

    async def store(self, rejected: list[Rejected]) -> Outcome:
        """Return once a dead letter for each is durable, or the message itself is in the spool to be rejected again
        from there, which the outcome tells.

        Messages wait here rather than be lost: if the sink refuses dead letters too, this goes on trying, with less
        and less of the payload where that is the reason.
        """
        spooled: list[Encoded] = []
        dropped: list[Encoded] = []
        backoff = Backoff()
        kept = MAX_KEPT
        while rejected:
            letters = [self._letter(one, kept) for one in rejected]
            outcome = await (await self._sink.send(letters))
            spooled += outcome.spooled
            dropped += outcome.dropped
            again = {event.id for event, _ in outcome.refused}
            rejected = [one for one in rejected if one.message.id in again]
            if any(error.reason == "too_large" for _, error in outcome.refused) and kept:
                kept //= 4
            elif rejected:
                reason = outcome.refused[0].error
                log.error("%s: the dead-letter stream refuses too; messages wait: %s", self._bridge, reason)
                await asyncio.sleep(backoff.next())
        return Outcome(spooled=spooled, dropped=dropped)

    def _letter(self, rejected: Rejected, kept: int) -> Encoded:
        """Return the event that says which message could not be delivered and why.

        The original payload is `data_base64`, byte for byte. Extension attributes: `reason` (one word), `detail`,
        `stage`, `bridge`, `size` (of the payload as sent), `truncated` where not all of it was kept, `topicbase64`
        where the topic is not text. Its id is the message's, so that a redelivery is stored once.
        """
        message, error, stage = rejected
        stamp = format_time(message.received)
        payload = message.payload[:kept]
        topic, is_text = _as_text(message.topic[:_MAX_TOPIC])
        document: dict[str, str | int | bool] = {
            "specversion": "1.0",
            "id": message.id,
            "source": self._source,
            "type": DEAD_LETTER_TYPE,
            "subject": topic or "(empty)",
            "time": stamp,
            "recordedtime": stamp,
            "correlationid": message.id,
            "reason": error.reason,
            "detail": error.detail,
            "stage": stage,
            "bridge": self._bridge,
            "size": message.size,
        }
        if not is_text:
            document["topicbase64"] = b64encode(message.topic[:_MAX_TOPIC]).decode()
        if len(payload) < message.size:
            document["truncated"] = True
        if payload:
            document["datacontenttype"] = "application/octet-stream"
            document["data_base64"] = b64encode(payload).decode()
        headers = {"Nats-Msg-Id": message.id, "Content-Type": "application/cloudevents+json"}
        return Encoded(message.id, self._subject, headers, orjson.dumps(document), message)


def _as_text(raw: bytes) -> tuple[str, bool]:
    """Return a topic as text, with a mark for what is not UTF-8, and whether all of it was."""
    try:
        return raw.decode(), True
    except UnicodeDecodeError:
        return raw.decode(errors="replace"), False
