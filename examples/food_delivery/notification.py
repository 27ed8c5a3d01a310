"""Notification: tells the customer's phone each step of an order, once and in order.

One consumer for all kinds of events, one event at a time: two consumers would each be in order, but not with each
other, and after an absence a customer would hear "delivered" before "ready".
"""

from __future__ import annotations

import asyncio
import os

from events import CourierDispatched, Notice, OrderDelivered, OrderPlaced, OrderReady, OrderStep
from journal import note
from tidegate.client import Event, Once, connect, serve, subscribe

NATS_URL = os.environ.get("NATS_URL", "nats://127.0.0.1:4222")
STEPS = {
    OrderPlaced.event_type: ("placed", "Thank you! Your order {order} is with the kitchen."),
    OrderReady.event_type: ("ready", "Your order {order} is ready."),
    CourierDispatched.event_type: ("under way", "Your order {order} is under way."),
    OrderDelivered.event_type: ("delivered", "Your order {order} is there. Enjoy!"),
}


async def main() -> None:
    """Serve until SIGTERM."""
    async with connect(NATS_URL, source="urn:example:food:notification") as client:
        once = Once(client, "notification_steps", lease=5.0)

        async def tell(event: Event[OrderStep]) -> None:
            """The data are read as what all kinds of events have; `type` says which one this is."""
            if event.type not in STEPS:
                return
            order, customer = event.data.order, event.data.customer
            step, text = STEPS[event.type]
            # An event that a dead letter's replay brings again, or an order that was sent twice, is no news.
            async with once(event, key=f"{order} {step}") as first:
                if first:
                    note("notification", f"tells {customer}: {step}", order)
                    notice = Notice(order=order, customer=customer, step=step, text=text.format(order=order))
                    await client.publish(f"notices.{customer}", notice)

        # An event in the hands of a process that died holds up all behind it, for `ack_wait` seconds.
        await serve(subscribe(client, "orders.*", OrderStep, tell, durable="notification", partitions=1, ack_wait=5.0))


if __name__ == "__main__":
    asyncio.run(main())
