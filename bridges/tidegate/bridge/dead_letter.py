"""Dead letters: messages set aside with their reason, as events of their own."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from tidegate.core import (
    DEAD_LETTER_TYPE,
    Backoff,
    DeliveryError,
    Encoded,
    Message,
    Outcome,
    Properties,
    Sink,
    format_time,
    header_lines,
)

log = logging.getLogger(__name__)

MAX_KEPT = 512 * 1024
"""Bytes of the payload that a dead letter keeps at first; in base64 that fits NATS's default limit of 1 MiB."""

_MAX_TOPIC = 4096
"""Bytes of the topic that a dead letter shows as its `subject`; a longer one is whole in `topicbase64`."""

_EMPTY_TOPIC = "(empty)"

MAX_NOTES = 20
"""Dead letters that are remembered to be shown."""

_MAX_NOTED = 200
"""Characters, or bytes of the topic, of each text in a note."""


class Rejected(NamedTuple):
    """A message that can't be delivered, why, the step that gave up on it, and how often its delivery was tried."""

    message: Message
    error: DeliveryError
    stage: str
    attempts: int = 1


class DeadLetterNote(NamedTuple):
    """What is remembered of a dead letter, to be shown. time: when it was stored, in seconds since 1970.

    topic, detail, correlation_id: a device's text, cut short.
    """

    time: float
    bridge: str
    reason: str
    detail: str
    topic: str
    correlation_id: str | None


class DeadLetters:
    """Where a bridge puts the messages that can't be delivered. The sink must be durable, whatever the bridge's is.

    correlation_of: returns the correlation id that a device gave with a message, or None. notes: of the newest ones,
    newest last. problem: why none can be stored now, or None.
    """

    def __init__(
        self, sink: Sink, bridge: str, source: str, subject: str, correlation_of: Callable[[Message], str | None]
    ) -> None:
        self._sink = sink
        self._bridge = bridge
        self._source = source
        self._subject = subject
        self._correlation_of = correlation_of
        self.notes: deque[DeadLetterNote] = deque(maxlen=MAX_NOTES)
        self.problem: str | None = None

    async def store(self, rejected: list[Rejected]) -> Outcome:
        """Return once a dead letter for each is durable, or the message itself is in the spool to be rejected again
        from there, which the outcome tells.

        Messages wait here rather than be lost: if the sink refuses dead letters too, this goes on trying, with less
        and less of the payload where that is the reason.
        """
        spooled: list[Encoded] = []
        dropped: list[Encoded] = []
        waiting = rejected
        backoff = Backoff()
        kept = MAX_KEPT
        while waiting:
            letters = [self._letter(one, kept) for one in waiting]
            outcome = await (await self._sink.send(letters))
            spooled += outcome.spooled
            dropped += outcome.dropped
            again = {event.id for event, _ in outcome.refused}
            waiting = [one for one in waiting if one.message.id in again]
            if any(error.reason == "too_large" for _, error in outcome.refused) and kept:
                kept //= 4
            elif waiting:
                self.problem = f"the dead-letter stream refuses too: {outcome.refused[0].error}"
                log.error("%s: %s; messages wait", self._bridge, self.problem)
                await asyncio.sleep(backoff.next())
        self.problem = None
        elsewhere = {event.id for event in (*spooled, *dropped)}
        self.notes.extend(self._note(one) for one in rejected[-MAX_NOTES:] if one.message.id not in elsewhere)
        return Outcome(spooled=spooled, dropped=dropped)

    def _note(self, rejected: Rejected) -> DeadLetterNote:
        message, error = rejected.message, rejected.error
        topic, detail = _as_text(message.topic[:_MAX_NOTED])[0], error.detail[:_MAX_NOTED]
        detail = detail.encode(errors="backslashreplace").decode()
        correlation = (self._correlation_of(message) or message.id)[:_MAX_NOTED]
        return DeadLetterNote(time.time(), self._bridge, error.reason, detail, topic, correlation)

    def _letter(self, rejected: Rejected, kept: int) -> Encoded:
        """Return the event that says which message could not be delivered and why.

        The original payload is `data_base64`, byte for byte. Extension attributes: `reason` (one word), `detail`,
        `stage`, `bridge`, `size` (of the payload as sent), `attempts`, `qos`; `topicbase64` where the topic is not text
        or too long for `subject`; `retained`, `defect` and `properties` (MQTT 5's, as JSON) where the message has them;
        `truncated` where not all of it was kept. Its id is the message's, so that a redelivery is stored once.
        """
        message, error, stage, attempts = rejected
        stamp = format_time(message.received)
        payload = message.payload[:kept]
        topic = message.topic[: max(_MAX_TOPIC, kept)]
        subject, is_text = _as_text(topic[:_MAX_TOPIC])
        properties = _properties_text(message.properties)
        document: dict[str, str | int | bool] = {
            "specversion": "1.0",
            "id": message.id,
            "source": self._source,
            "type": DEAD_LETTER_TYPE,
            "subject": subject or _EMPTY_TOPIC,
            "time": stamp,
            "recordedtime": stamp,
            "correlationid": self._correlation_of(message) or message.id,
            "reason": error.reason,
            "detail": error.detail.encode(errors="backslashreplace").decode(),  # it may quote half of a surrogate pair
            "stage": stage,
            "bridge": self._bridge,
            "size": message.size,
            "attempts": attempts,
            "qos": message.qos,
        }
        if not is_text or len(topic) > _MAX_TOPIC or subject == _EMPTY_TOPIC:
            document["topicbase64"] = b64encode(topic).decode()
        if message.retained:
            document["retained"] = True
        if message.defect is not None:
            document["defect"] = message.defect
        if fits := len(properties) <= kept // 8:
            document |= {"properties": properties} if properties else {}
        if len(payload) < message.size or len(topic) < len(message.topic) or (properties and not fits):
            document["truncated"] = True
        if payload:
            document["datacontenttype"] = "application/octet-stream"
            document["data_base64"] = b64encode(payload).decode()
        lines = header_lines({"Nats-Msg-Id": message.id, "Content-Type": "application/cloudevents+json"})
        return Encoded(message.id, self._subject, lines, orjson.dumps(document), message)


def topic_of(letter: dict[str, Any]) -> bytes:
    """Return the topic of the message that a dead letter, as a JSON document, holds. Raises as `message_of` does."""
    if "topicbase64" in letter:
        return b64decode(letter["topicbase64"])
    return b"" if letter["subject"] == _EMPTY_TOPIC else str(letter["subject"]).encode()


def message_of(letter: dict[str, Any]) -> Message:
    """Return the message that a dead letter holds. Raises ValueError, KeyError or TypeError if it is not whole."""
    return Message(
        topic_of(letter),
        b64decode(letter.get("data_base64", "")),
        letter["id"],
        letter.get("qos", 0),
        letter.get("retained", False),
        False,
        _read_properties(letter.get("properties")),
        letter["size"],
        letter.get("defect"),
        datetime.fromisoformat(letter["recordedtime"]).timestamp(),
    )


def _properties_text(properties: Properties | None) -> str:
    """Return properties as JSON in ASCII, or nothing for none."""
    if properties is None:
        return ""
    data = properties.correlation_data
    found = {
        "content_type": properties.content_type,
        "correlation_data": None if data is None else b64encode(data).decode(),
        "response_topic": properties.response_topic,
        "user": properties.user or None,
    }
    return json.dumps({name: value for name, value in found.items() if value is not None})


def _read_properties(text: str | None) -> Properties | None:
    if not text:
        return None
    found = json.loads(text)
    data = found.get("correlation_data")
    return Properties(
        found.get("content_type"),
        None if data is None else b64decode(data),
        found.get("response_topic"),
        tuple((name, value) for name, value in found.get("user", ())),
    )


def _as_text(raw: bytes) -> tuple[str, bool]:
    """Return a topic as text, with a mark for what is not UTF-8, and whether all of it was."""
    try:
        return raw.decode(), True
    except UnicodeDecodeError:
        return raw.decode(errors="replace"), False
