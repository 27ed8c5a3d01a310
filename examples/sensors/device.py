"""A sensor: publishes readings over MQTT 5 at QoS 1.

    python examples/sensors/device.py --device s1 --count 10

Each reading carries a correlation id in two ways that a gateway understands: as the user property `correlationid`,
or as MQTT 5 Correlation Data.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


async def main(options: argparse.Namespace) -> None:
    """Publish the readings; each publish returns once the broker has acknowledged it."""
    topic = f"sensors/{options.site}/{options.device}/reading"
    async with aiomqtt.Client(
        options.host, options.port, identifier=options.device, protocol=aiomqtt.ProtocolVersion.V5
    ) as client:
        for number in range(options.count):
            reading = {"seq": number, "temperature": round(random.gauss(21, 1), 2), "unit": "C", "ts": time.time()}
            await client.publish(topic, json.dumps(reading), qos=1, properties=correlation(options.device, number))
            print(f"acknowledged {topic} {reading}", flush=True)
            await asyncio.sleep(options.every)


def correlation(device: str, number: int) -> Properties:
    """Return a correlation id, in turn as a user property and as correlation data."""
    properties = Properties(PacketTypes.PUBLISH)
    if number % 2:
        properties.CorrelationData = f"{device}-{number}".encode()
    else:
        properties.UserProperty = ("correlationid", f"{device}-{number}")
    return properties


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--site", default="hall")
    parser.add_argument("--device", default="s1")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--every", type=float, default=1.0, metavar="SECONDS")
    asyncio.run(main(parser.parse_args()))
