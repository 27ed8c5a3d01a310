"""A backend service: reads the readings as events from JetStream, each at least once, also those it was away for.

python examples/sensors/subscriber.py --count 10
"""

from __future__ import annotations

import argparse
import asyncio

import nats
import nats.errors

from tidegate.core import Envelope


async def main(options: argparse.Namespace) -> None:
    """Take events from a durable consumer and acknowledge each one once it has been handled."""
    client = await nats.connect(options.server)
    try:
        events = await client.jetstream().pull_subscribe("plant.sensors.>", durable="printer", stream="SENSORS")
        seen = 0
        while seen < options.count:
            try:
                messages = await events.fetch(min(100, options.count - seen), timeout=5)
            except nats.errors.TimeoutError:
                continue  # nothing new within five seconds
            for message in messages:
                event = Envelope.from_nats(message.headers, message.data)
                print(f"{event.subject} {event.data} correlation {event.correlationid}", flush=True)
                await message.ack()
            seen += len(messages)
    finally:
        await client.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default="nats://127.0.0.1:4222")
    parser.add_argument("--count", type=int, default=10)
    asyncio.run(main(parser.parse_args()))
