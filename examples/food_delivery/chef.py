"""A chef: takes tasks from the work queue, one at a time, and cooks. Start as many as there is work for.

    python chef.py NAME

A task is one chef's. Should that one die, another gets it after `ack_wait`.
"""

from __future__ import annotations

import asyncio
import os
import sys

from events import CookTask, TaskCooked
from journal import note
from tidegate.client import Event, Worker, connect, serve

NATS_URL = os.environ.get("NATS_URL", "nats://127.0.0.1:4222")


async def main(name: str) -> None:
    """Serve until SIGTERM."""
    # All chefs publish as one source. An event's id follows from what led to it, who publishes it and what it says, so
    # a task that two chefs did (the first died before it could say so) makes one event, and the stream stores it once.
    async with connect(NATS_URL, source="urn:example:food:chefs") as client:

        async def cook(event: Event[CookTask]) -> None:
            task = event.data
            note(name, f"begins {task.dish}", task.order)
            await asyncio.sleep(task.seconds)
            cooked = TaskCooked(
                order=task.order, customer=task.customer, number=task.number, dishes=task.dishes, dish=task.dish
            )
            await client.publish("orders.cooked", cooked)
            note(name, f"cooked {task.dish}", task.order)

        await serve(Worker(client, "KITCHEN", "chefs", CookTask, cook, ack_wait=3.0))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
