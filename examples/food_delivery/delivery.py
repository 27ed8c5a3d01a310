"""The delivery: gives each order that is ready to a courier.

It keeps the addresses that it needs from `orders.placed`, rather than ask another service, which could be down, for
them; and it acts on `orders.ready`. The courier hears of it over MQTT, by the gateway.
"""

from __future__ import annotations

import asyncio
import os

from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue

from events import CourierDispatched, OrderPlaced, OrderReady
from journal import note
from tidegate.client import Client, Event, Once, RetryError, connect, partition, serve, subscribe

NATS_URL = os.environ.get("NATS_URL", "nats://127.0.0.1:4222")
COURIERS = os.environ.get("COURIERS", "ada bea cy").split()
DAY = 86_400.0


class Delivery:
    """addresses: where each order goes."""

    def __init__(self, client: Client, addresses: KeyValue) -> None:
        self.client = client
        self.addresses = addresses
        self.once = Once(client, "delivery_orders", lease=5.0)

    async def remember(self, event: Event[OrderPlaced]) -> None:
        """Keep an order's address. To do so twice changes nothing, so this needs no memory of what was done."""
        await self.addresses.put(event.data.order, event.data.address.encode())

    async def dispatch(self, event: Event[OrderReady]) -> None:
        """Tell a courier and everybody else, once for each order."""
        ready = event.data
        try:
            address = (await self.addresses.get(ready.order)).value or b""
        except KeyNotFoundError:
            # Two subjects are two ways: our copy of the order may come later than the word that it is ready.
            raise RetryError(1.0, f"the address of {ready.order} is not known yet") from None
        courier = COURIERS[partition(ready.order, len(COURIERS))]  # the same one if this is run again
        dispatched = CourierDispatched(
            order=ready.order, customer=ready.customer, courier=courier, address=address.decode()
        )
        async with self.once(event, key=ready.order) as first:
            if first:
                note("delivery", f"sends {courier}", ready.order)
                # Should this process die between the two, both are published again, under the same ids.
                await self.client.publish("orders.dispatched", dispatched)
                await self.client.publish(f"couriers.{courier}.assignment", dispatched)


async def main() -> None:
    """Serve until SIGTERM."""
    async with connect(NATS_URL, source="urn:example:food:delivery") as client:
        delivery = Delivery(client, await client.jetstream.create_key_value(bucket="addresses", ttl=DAY))
        # Who waits for another must be more patient than that one can be slow: a process that dies with an address in
        # hand delays it by `ack_wait`, and orders that were given up sooner would be dead letters for no good reason.
        addresses = subscribe(
            client, "orders.placed", OrderPlaced, delivery.remember, durable="delivery-addresses", ack_wait=5.0
        )
        orders = subscribe(
            client, "orders.ready", OrderReady, delivery.dispatch, durable="delivery", ack_wait=5.0, max_deliver=60
        )
        await serve(addresses, orders)


if __name__ == "__main__":
    asyncio.run(main())
