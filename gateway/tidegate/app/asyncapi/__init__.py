"""The AsyncAPI document of a configuration (AsyncAPI 3.0.0, MQTT bindings 0.2.0, NATS bindings 0.1.0)."""

from tidegate.app.asyncapi.document import asyncapi

__all__ = ["asyncapi"]
