"""A tablet in a restaurant: places orders over MQTT 5 at QoS 1.

python examples/redis_bonus/tablet.py --mqtt 1883 --count 3
"""

from __future__ import annotations

import argparse
import asyncio
import json

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


async def main(options: argparse.Namespace) -> None:
    """Place the orders; each publish returns once the broker has acknowledged it."""
    async with aiomqtt.Client(options.host, options.mqtt, protocol=aiomqtt.ProtocolVersion.V5) as client:
        for number in range(1, options.count + 1):
            order = {"order": f"o-{number}", "customer": "c-1", "restaurant": "r-1", "dishes": ["soup", "noodles"]}
            properties = Properties(PacketTypes.PUBLISH)
            properties.UserProperty = ("correlationid", f"{options.name}-{number}")
            await client.publish("orders", json.dumps(order), qos=1, properties=properties)
            print(f"ordered {order['order']}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1", help="of the broker (%(default)s)")
    parser.add_argument("--mqtt", type=int, default=1883, metavar="PORT", help="the MQTT broker's (%(default)s)")
    parser.add_argument("--name", default="tablet-7", help="begins the orders' correlation ids (%(default)s)")
    parser.add_argument("--count", type=int, default=3, help="orders to place (%(default)s)")
    asyncio.run(main(parser.parse_args()))
