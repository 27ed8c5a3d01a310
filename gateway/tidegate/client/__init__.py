"""What a backend service imports: typed events, publishing, pub/sub, work queues, and effects that are not repeated.

async with connect("nats://127.0.0.1:4222", source="urn:example:kitchen") as client:
    await serve(Worker(client, "KITCHEN", "chefs", Task, cook, concurrency=4))
"""

from tidegate.client.connection import Client, connect
from tidegate.client.counter import WorkerCounters
from tidegate.client.delivery import Delivery, current_delivery
from tidegate.client.error import PoisonError, PublishError, RetryError
from tidegate.client.event import Event, EventData
from tidegate.client.log import CorrelationFilter
from tidegate.client.metrics import WorkerCollector
from tidegate.client.once import Once
from tidegate.client.serve import serve
from tidegate.client.subscriber import Service, Subscriber, subscribe
from tidegate.client.worker import Handler, Worker, partition
from tidegate.core import ConnectError, Envelope

__all__ = [
    "connect",
    "Client",
    "Event",
    "EventData",
    "Envelope",
    "subscribe",
    "Subscriber",
    "Worker",
    "Handler",
    "partition",
    "Once",
    "serve",
    "Service",
    "current_delivery",
    "Delivery",
    "CorrelationFilter",
    "WorkerCollector",
    "WorkerCounters",
    "PoisonError",
    "RetryError",
    "PublishError",
    "ConnectError",
]
