"""The devices, which speak MQTT alone and know nothing of NATS: tablets, couriers' and customers' phones.

    python devices.py tablet NAME             reads orders, a line each: ORDER CUSTOMER DISH...
    python devices.py courier NAME...         a phone for each, which says when an order is delivered
    python devices.py customer NAME...        a phone for each, which shows the notices

Each has a client id that stays the same and a session that outlives the connection, so a device that ends, because
its broker does, goes on where it was when it is started again; everything is QoS 1.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from journal import note

HOST, PORT = os.environ.get("MQTT_HOST", "127.0.0.1"), int(os.environ.get("MQTT_PORT", "1883"))
RIDE = 0.4  # seconds that a courier is under way
HOUR = 3600


async def tablet(name: str) -> None:
    """Publish each order that is typed; it is safe once the broker has acknowledged it."""
    lines: asyncio.StreamReader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with connection(name) as client:
        note(name, "is on")
        async for line in lines:
            if len(words := line.decode().split()) < 2:
                continue
            order, customer, *dishes = words
            placed = {"order": order, "customer": customer, "address": f"{customer}'s door", "dishes": dishes}
            correlation = f"order-{order}"
            note(name, "sends the order", order, correlation)
            await client.publish("orders", json.dumps(placed), qos=1, properties=story(correlation))
            note(name, "placed", order, correlation)


async def courier(name: str) -> None:
    """Ride wherever the delivery says, and say so on arrival; that belongs to the story of the assignment."""
    async with connection(name) as client:

        async def ride(job: dict[str, Any], correlation: str) -> None:
            note(name, f"rides to {job['address']}", job["order"], correlation)
            await asyncio.sleep(RIDE)
            done = {"order": job["order"], "customer": job["customer"], "courier": name}
            topic = f"couriers/{name}/delivered"
            await client.publish(topic, json.dumps(done), qos=1, properties=story(correlation))
            note(name, "delivered", job["order"], correlation)

        await listen(client, name, f"couriers/{name}/assignment", ride)


async def customer(name: str) -> None:
    """Show the notices."""
    async with connection(name) as client:

        async def show(notice: dict[str, Any], correlation: str) -> None:
            note(name, f"heard: {notice['step']}", notice["order"], correlation)

        await listen(client, name, f"customers/{name}/notice", show)


def connection(name: str) -> aiomqtt.Client:
    """A connection of MQTT 5 that goes on with the session of the last one."""
    session = Properties(PacketTypes.CONNECT)
    session.SessionExpiryInterval = HOUR
    return aiomqtt.Client(
        HOST, PORT, identifier=name, protocol=aiomqtt.ProtocolVersion.V5, clean_start=False, properties=session
    )


def story(correlation: str) -> Properties:
    """The properties of a message that belongs to a story."""
    properties = Properties(PacketTypes.PUBLISH)
    properties.UserProperty = ("correlationid", correlation)
    return properties


async def listen(
    client: aiomqtt.Client, name: str, topic: str, handle: Callable[[dict[str, Any], str], Awaitable[None]]
) -> None:
    """Handle what comes on a topic, one after another. QoS 1 may bring a message twice: its event's id tells."""
    await client.subscribe(topic, qos=1)
    note(name, "is on")
    seen = set()
    async for message in client.messages:
        attributes = dict(message.properties.UserProperty)
        if attributes["id"] not in seen:
            seen.add(attributes["id"])
            await handle(json.loads(message.payload), attributes["correlationid"])


async def main(kind: str, names: list[str]) -> None:
    """Run devices of a kind until they are stopped."""
    device = {"tablet": tablet, "courier": courier, "customer": customer}[kind]
    async with asyncio.TaskGroup() as devices:
        for name in names:
            devices.create_task(device(name))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
