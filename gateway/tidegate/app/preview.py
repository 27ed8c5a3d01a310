"""What the gateway would make of messages, by its own conversion and without any server."""

from __future__ import annotations

import json
from base64 import b64encode
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import unquote

from pydantic_core import from_json

from tidegate.app.config import Bridge, Config
from tidegate.app.running import new_converter
from tidegate.app.topic_map import bridges_for
from tidegate.bridge import Converter, SparkplugHost
from tidegate.core import DeliveryError, Encoded, Message
from tidegate.core.envelope import STRUCTURED_CONTENT_TYPE


class Event(NamedTuple):
    """An event: its NATS subject, and the CloudEvents document."""

    nats: str
    document: dict[str, Any]


class Made(NamedTuple):
    """What a bridge makes of a message: events, or a dead letter for a reason; or neither, then it is filtered out.

    commands: the topics on which the gateway would send something to a device because of it.
    """

    bridge: str
    events: list[Event]
    error: DeliveryError | None = None
    commands: tuple[str, ...] = ()


class Preview:
    """The bridges of a configuration as they would convert one message after the other; they remember what the
    gateway's would."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._commands: list[str] = []
        self._converters = {bridge.name: self._converter(bridge) for bridge in config.up_bridges}

    def of(self, message: Message, bridge: str | None = None) -> list[Made]:
        """Return what becomes of a message at each bridge that takes its topic, in the order of the configuration, or
        at the one that is named."""
        if bridge is not None:
            return [self._made(bridge, message)]
        topic = message.topic.decode(errors="surrogateescape")  # a broker hands out what is no topic, too
        return [self._made(one.name, message) for one in bridges_for(self._config, topic)]

    def _made(self, bridge: str, message: Message) -> Made:
        _, events, rejected, _ = self._converters[bridge].convert([message])
        commands, self._commands = tuple(self._commands), []
        error = rejected[0].error if rejected else None
        return Made(bridge, [Event(event.subject, document_of(event)) for event in events], error, commands)

    def _converter(self, bridge: Bridge) -> Converter:
        host = SparkplugHost(self._note) if bridge.decoder_name == "sparkplug_b" else None
        return new_converter(self._config, bridge, host.restore if host else None)

    def _note(self, topic: str, _payload: bytes) -> bool:
        """Take what a bridge has to send to a device. Nothing is sent."""
        self._commands.append(topic)
        return True


def document_of(event: Encoded) -> dict[str, Any]:
    """Return an event as a document, whichever mode it is in. In binary mode all attributes are text, and the data is
    what its media type says, where it is that (NATS binding §3)."""
    headers, body = event.headers, event.body
    content_type = headers.get("Content-Type", "")
    if content_type == STRUCTURED_CONTENT_TYPE:
        document: dict[str, Any] = json.loads(body)
        return document
    document = {name[3:]: unquote(value) for name, value in headers.items() if name.startswith("ce-")}
    if not body:
        return document
    document["datacontenttype"] = content_type
    with suppress(ValueError):
        if content_type.partition(";")[0].endswith(("/json", "+json")):
            return document | {"data": from_json(body, allow_inf_nan=False)}
        if content_type.startswith("text/"):
            return document | {"data": body.decode()}
    return document | {"data_base64": b64encode(body).decode()}
