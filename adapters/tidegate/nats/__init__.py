"""NATS and JetStream."""

from tidegate.nats.connection import Connection, NatsOptions
from tidegate.nats.core_publisher import CorePublisher
from tidegate.nats.dead_letter import DeadLetterStream, Stored, StreamAccessError, dead_letter_stream
from tidegate.nats.jetstream import ApiError
from tidegate.nats.login import Login
from tidegate.nats.publisher import Publisher
from tidegate.nats.stream import StreamError, StreamSpec, ensure_stream, find_stream

__all__ = [
    "ApiError",
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
    "dead_letter_stream",
    "ensure_stream",
    "find_stream",
]
