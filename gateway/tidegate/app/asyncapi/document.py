"""An AsyncAPI document: servers, channels, operations, and the components that these refer to."""

from __future__ import annotations

import re
from typing import Any

import orjson

from tidegate.app import config as c
from tidegate.app.asyncapi.address import subject_address, topic_address
from tidegate.app.asyncapi.event_schema import shared_schemas
from tidegate.app.asyncapi.known import Known, known_data, passes_events
from tidegate.app.asyncapi.message import (
    CORRELATION_IDS,
    dead_letter_message,
    event_message,
    mqtt_message,
    passed_message,
    user_properties,
)
from tidegate.app.asyncapi.server import MQTT_BINDING, nats_names, servers
from tidegate.app.version import VERSION

_NATS_BINDING = "0.1.0"
_COMPONENT = re.compile(r'"\$ref":"#/components/(\w+)/([^/"]+)')

_Object = dict[str, Any]


def asyncapi(config: c.Config) -> _Object:
    """Return the AsyncAPI 3.0.0 document of a gateway: what it receives from MQTT and what it sends to NATS.

    It holds no secret, no name of a user, and no path of a file.
    """
    channels: _Object = {}
    operations: _Object = {}
    schemas: _Object = {**shared_schemas(), "UserProperties": user_properties()}
    for bridge in config.up_bridges:
        name, known = bridge.name, known_data(config, bridge)
        channels[f"{name}.mqtt"] = _mqtt_channel(config, bridge, known)
        channels[f"{name}.nats"] = _nats_channel(config, bridge, known)
        schemas |= known.components
        binding = {"qos": bridge.qos, "bindingVersion": MQTT_BINDING}
        operations[f"{name}.receive"] = _operation("receive", f"{name}.mqtt", channels, {"mqtt": binding})
        operations[f"{name}.send"] = {**_send(f"{name}.nats", channels), "description": _steps(bridge)}
    channels["dead_letters"] = _dead_letters(config)
    operations["dead_letters.send"] = _send("dead_letters", channels)
    found, schemes = servers(config)
    document = {
        "asyncapi": "3.0.0",
        "id": f"urn:tidegate:{config.gateway}",
        "info": {
            "title": config.gateway,
            "version": VERSION,
            "description": "A Tidegate gateway: it makes CloudEvents of MQTT messages and publishes them on NATS. "
            "What can't be delivered becomes a dead letter.",
        },
        "defaultContentType": "application/json",
        "servers": found,
        "channels": channels,
        "operations": operations,
    }
    components = {"schemas": schemas, "correlationIds": CORRELATION_IDS, "securitySchemes": schemes}
    return {**document, "components": _referred_to(components, document)}


def _referred_to(components: _Object, document: _Object) -> _Object:
    """Return the components that a document refers to, directly or through others."""
    found: _Object = {}
    parts = [document]
    while parts:
        for kind, name in _COMPONENT.findall(orjson.dumps(parts.pop()).decode()):
            if name in components.get(kind, ()) and name not in found.setdefault(kind, {}):
                found[kind][name] = components[kind][name]
                parts.append(components[kind][name])
    return found


def _send(channel: str, channels: _Object) -> _Object:
    return _operation("send", channel, channels, {"nats": {"bindingVersion": _NATS_BINDING}})


def _operation(action: str, channel: str, channels: _Object, bindings: _Object) -> _Object:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in channels[channel]["messages"]],
        "bindings": bindings,
    }


def _steps(bridge: c.Bridge) -> str:
    """Say what happens between a message and its events."""
    names = ("decompress", "decode", "each", "filter", "select", "time", "correlation", "causation")
    values = {name: bridge.decoder_name if name == "decode" else getattr(bridge, name) for name in names}
    said = "; ".join(f"{name} `` {value} ``" for name, value in values.items() if value is not None)
    return f"What messages on {bridge.name}.mqtt become: {said}."


def _mqtt_channel(config: c.Config, bridge: c.Bridge, known: Known) -> _Object:
    address = topic_address(bridge.mqtt)
    channel: _Object = {
        "address": address.text,
        "servers": [{"$ref": "#/servers/mqtt"}],
        "messages": {"message": mqtt_message(config, bridge, known)},
    }
    if address.share:
        channel["description"] = f"Subscribed to under {address.share}/: shared with the other clients of that group."
    if address.parameters:
        channel["parameters"] = address.parameters
    return channel


def _nats_channel(config: c.Config, bridge: c.Bridge, known: Known) -> _Object:
    address = subject_address(bridge.nats, bridge.mqtt)
    durable = "JetStream: stored once for each Nats-Msg-Id, by the stream that has the subject."
    channel: _Object = {
        "address": address.text,
        "description": durable if bridge.deliver == "jetstream" else "Core NATS: for whoever listens just then.",
        "servers": [{"$ref": f"#/servers/{name}"} for name in nats_names(config)],
        "messages": {"event": event_message(config, bridge, known)},
    }
    if passes_events(config, bridge):
        channel["messages"]["passed"] = passed_message(config, bridge, known)
    if address.parameters:
        channel["parameters"] = address.parameters
    return channel


def _dead_letters(config: c.Config) -> _Object:
    names = [bridge.name for bridge in config.bridges]
    return {
        "address": config.dead_letters.subject,
        "description": "Messages that can't be delivered, each with its reason.",
        "servers": [{"$ref": f"#/servers/{name}"} for name in nats_names(config)],
        "parameters": {"bridge": {"enum": names, "description": "The bridge that gave up on it."}},
        "messages": {"letter": dead_letter_message(config)},
    }
