"""NATS and JetStream, over nats-py."""

from tidegate.nats.connection import Connection, Login, NatsOptions, TlsContext
from tidegate.nats.core_publisher import CorePublisher
from tidegate.nats.publisher import Publisher
from tidegate.nats.stream import StreamError, StreamSpec, ensure_stream

__all__ = [
    "Connection",
    "CorePublisher",
    "Login",
    "NatsOptions",
    "Publisher",
    "StreamError",
    "StreamSpec",
    "TlsContext",
    "ensure_stream",
]
