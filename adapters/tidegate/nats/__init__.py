"""NATS and JetStream, over nats-py."""

from tidegate.nats.connection import Connection, Login, NatsOptions, TlsContext
from tidegate.nats.core_publisher import CorePublisher
from tidegate.nats.dead_letter import DeadLetterStream, Stored, StreamAccessError, dead_letter_stream
from tidegate.nats.publisher import Publisher
from tidegate.nats.stream import StreamError, StreamSpec, ensure_stream, find_stream

__all__ = [
    "Connection",
    "CorePublisher",
    "DeadLetterStream",
    "Login",
    "NatsOptions",
    "Publisher",
    "Stored",
    "StreamAccessError",
    "StreamError",
    "StreamSpec",
    "TlsContext",
    "dead_letter_stream",
    "ensure_stream",
    "find_stream",
]
