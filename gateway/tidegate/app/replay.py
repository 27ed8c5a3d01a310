"""Dead letters, sent again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import orjson

from tidegate.app.config import Config
from tidegate.app.running import new_converter
from tidegate.bridge import message_of
from tidegate.core import DEAD_LETTER_TYPE, DeliveryError, Encoded, Message, header_lines
from tidegate.nats import DeadLetterStream

UNREADABLE = "unreadable"
"""Shown as the reason of what lies among the dead letters and is none."""


def read_letter(body: bytes) -> dict[str, Any] | None:
    """Return a dead letter's attributes, or None if it is none."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) and found.get("type") == DEAD_LETTER_TYPE else None


class Replayer:
    """Sends what dead letters hold again. What came up goes through the converters that the configured bridges have;
    what was to go down, and what a service gave up, is published as it was."""

    def __init__(self, config: Config) -> None:
        self._bridges = {bridge.name: bridge for bridge in config.bridges}
        self._converters = {bridge.name: new_converter(config, bridge) for bridge in config.up_bridges}

    async def replay(self, stream: DeadLetterStream, document: dict[str, Any] | None) -> None:
        """Return once the message is durable again. Raises DeliveryError."""
        if document is None:
            raise DeliveryError(UNREADABLE, "it is not a dead letter")
        if document.get("truncated"):
            raise DeliveryError("truncated", "not all of the message was kept")
        if "consumer" in document:
            await stream.publish(_of_service(document))
            return
        name = document.get("bridge")
        if name not in self._bridges:
            raise DeliveryError("no_bridge", f"bridge {name!r} is not configured")
        for event in self._events(name, document):
            if self._bridges[name].deliver == "core":
                await stream.publish_to_core(event)
            else:
                await stream.publish(event)

    def _events(self, name: str, document: dict[str, Any]) -> list[Encoded]:
        try:
            message = message_of(document)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DeliveryError(UNREADABLE, "it is not a whole dead letter") from None
        if name not in self._converters:
            return [_as_published(message)]
        converted = self._converters[name].convert([message])
        for one in converted.rejected:
            raise one.error
        return converted.events


def _of_service(document: dict[str, Any]) -> Encoded:
    """Return the event that a service gave up, for its subject again: under its own id, so that other services can know
    it again, and to the stream as something new, for it may still know the old."""
    try:
        message = message_of(document)
        headers = json.loads(document["headers"]).items()
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DeliveryError(UNREADABLE, "it is not a whole dead letter") from None
    return _encoded(message, f"replay-{message.id}", headers)


def _as_published(message: Message) -> Encoded:
    """Return what a down bridge took, for its subject again."""
    return _encoded(message, message.id, message.properties.user if message.properties else ())


def _encoded(message: Message, key: str, headers: Iterable[tuple[str, str]]) -> Encoded:
    """NATS's own headers are not repeated: a stream knows the old id, and others are instructions. Headers that are not
    printable ASCII are left out."""
    lines = [header_lines({"Nats-Msg-Id": key})]
    for name, value in headers:
        if not name.lower().startswith("nats-"):
            with suppress(ValueError):
                lines.append(header_lines({name: value}))
    try:
        subject = message.topic.decode()
    except UnicodeDecodeError:
        raise DeliveryError("refused", "its subject is not UTF-8") from None
    return Encoded(key, subject, "".join(lines), message.payload, message)
