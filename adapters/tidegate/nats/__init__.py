"""NATS and JetStream."""

from tidegate.nats.backlog import Backlog, consumer_backlog
from tidegate.nats.bucket import BucketSpec, ensure_bucket
from tidegate.nats.connection import Connection, NatsOptions
from tidegate.nats.consumer import Consumer
from tidegate.nats.core_publisher import CorePublisher
from tidegate.nats.dead_letter import DeadLetterStream, Stored, StreamAccessError, dead_letter_stream
from tidegate.nats.durable import ConsumerSpec
from tidegate.nats.jetstream import ApiError
from tidegate.nats.login import Login
from tidegate.nats.publisher import Publisher
from tidegate.nats.stream import StreamError, ensure_stream, find_stream
from tidegate.nats.stream_spec import StreamSpec
from tidegate.nats.subscription import Subscription

__all__ = [
    "ApiError",
    "Backlog",
    "BucketSpec",
    "Connection",
    "Consumer",
    "ConsumerSpec",
    "CorePublisher",
    "DeadLetterStream",
    "Login",
    "NatsOptions",
    "Publisher",
    "Stored",
    "StreamAccessError",
    "StreamError",
    "StreamSpec",
    "Subscription",
    "consumer_backlog",
    "dead_letter_stream",
    "ensure_bucket",
    "ensure_stream",
    "find_stream",
]
