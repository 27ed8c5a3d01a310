"""What the services and devices of the food delivery tell each other."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from tidegate.client import EventData

Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""Devices choose these, and they become tokens of subjects and keys of buckets: a dot or a star must not get in."""


class OrderStep(EventData):
    """What every event about an order says, so that a service can follow orders without knowing every kind of event."""

    order: Word
    customer: Word


class OrderPlaced(OrderStep):
    """A tablet took an order."""

    event_type = "com.example.food.order_placed.v1"
    address: str
    dishes: Annotated[tuple[Word, ...], Field(min_length=1)]


class CookTask(OrderStep):
    """One dish for one chef. number: from 1 to `dishes`, which is how many the order has."""

    event_type = "com.example.food.cook_task.v1"
    number: int
    dishes: int
    dish: Word
    seconds: float


class TaskCooked(OrderStep):
    """A dish is cooked. It does not say by whom: a task that is done again by another chef must make the same event."""

    event_type = "com.example.food.task_cooked.v1"
    number: int
    dishes: int
    dish: Word


class OrderReady(OrderStep):
    """Every dish of the order is cooked."""

    event_type = "com.example.food.order_ready.v1"


class CourierDispatched(OrderStep):
    """A courier has the order. It is also what the courier's phone gets."""

    event_type = "com.example.food.courier_dispatched.v1"
    courier: Word
    address: str


class OrderDelivered(OrderStep):
    """A courier's phone said that the customer has it."""

    event_type = "com.example.food.order_delivered.v1"
    courier: Word


class Notice(OrderStep):
    """What the customer's phone shows."""

    event_type = "com.example.food.notice.v1"
    step: str
    text: str
