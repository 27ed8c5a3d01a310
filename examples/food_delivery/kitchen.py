"""The kitchen: makes a task of every dish of an order, and calls the order ready when its last dish is cooked.

Orders come on `orders.placed`. Tasks go to the work queue KITCHEN, where the chefs share them; what they finish comes
back on `orders.cooked`. NATS_URL says where NATS is, MENU which file has the dishes and their seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path

from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue

from events import CookTask, OrderPlaced, OrderReady, TaskCooked
from journal import note
from tidegate.client import Client, Event, Once, PoisonError, connect, serve, subscribe

NATS_URL = os.environ.get("NATS_URL", "nats://127.0.0.1:4222")
MENU = Path(os.environ.get("MENU", Path(__file__).with_name("menu.json")))
DAY = 86_400.0


class Kitchen:
    """tickets: which dishes of an order are cooked, where a crash of this process can't take it."""

    def __init__(self, client: Client, tickets: KeyValue) -> None:
        self.client = client
        self.tickets = tickets
        self.once = Once(client, "kitchen_orders", lease=5.0)

    async def split(self, event: Event[OrderPlaced]) -> None:
        """Publish a task for every dish, once for each order number, however often a tablet sends the order."""
        placed = event.data
        menu = json.loads(MENU.read_text())  # read each time: a dish that is added needs no new kitchen
        if missing := [dish for dish in placed.dishes if dish not in menu]:
            raise PoisonError(f"{missing[0]} is not on the menu")  # trying again would not help: a dead letter
        async with self.once(event, key=placed.order) as first:
            if not first:
                note("kitchen", "has this order already", placed.order)
                return
            note("kitchen", f"makes {len(placed.dishes)} tasks", placed.order)
            for number, dish in enumerate(placed.dishes, start=1):
                task = CookTask(
                    order=placed.order,
                    customer=placed.customer,
                    number=number,
                    dishes=len(placed.dishes),
                    dish=dish,
                    seconds=menu[dish],
                )
                await self.client.publish(f"kitchen.tasks.{placed.order}", task)

    async def join(self, event: Event[TaskCooked]) -> None:
        """Tick a dish off its order's ticket, and publish OrderReady with the last one."""
        task = event.data
        try:
            entry = await self.tickets.get(task.order)
            before, revision = json.loads(entry.value or b"[]"), entry.revision
        except KeyNotFoundError:
            before, revision = [], 0
        cooked = tick(before, task.number)
        if cooked != before:
            # If somebody wrote since we read, this raises, and the event is tried again: compare and set.
            await self.tickets.update(task.order, json.dumps(cooked).encode(), last=revision)
        if is_last(cooked, task):
            note("kitchen", "has all dishes", task.order)
            await self.client.publish("orders.ready", OrderReady(order=task.order, customer=task.customer))


def tick(cooked: Sequence[int], number: int) -> list[int]:
    """Return the dishes that are cooked, in the order in which they were. The same dish twice is one."""
    return [*cooked, *([number] if number not in cooked else [])]


def is_last(cooked: Sequence[int], task: TaskCooked) -> bool:
    """Whether this dish made the order complete. So it does when its event comes again: if the kitchen died between
    the ticket and OrderReady, the order would wait for ever otherwise."""
    return len(cooked) == task.dishes and cooked[-1] == task.number


async def main() -> None:
    """Serve until SIGTERM."""
    async with connect(NATS_URL, source="urn:example:food:kitchen") as client:
        kitchen = Kitchen(client, await client.jetstream.create_key_value(bucket="tickets", ttl=DAY))
        split, join = kitchen.split, kitchen.join
        await serve(
            subscribe(client, "orders.placed", OrderPlaced, split, durable="kitchen", ack_wait=5.0),
            subscribe(client, "orders.cooked", TaskCooked, join, durable="kitchen-pass", partitions=1, ack_wait=5.0),
        )


if __name__ == "__main__":
    asyncio.run(main())
