"""What a user would write first: aiomqtt, and one awaited publish for each message.

    python -m tests.benchmarks.naive MQTT_PORT NATS_PORT

It acknowledges each message to the broker when it arrives, so a crash loses what was not published yet.
"""

from __future__ import annotations

import asyncio
import sys
import uuid

import aiomqtt
import nats


async def main(mqtt_port: int, nats_port: int) -> None:
    """Bridge sensors/# until killed."""
    client = await nats.connect(f"nats://127.0.0.1:{nats_port}")
    jetstream = client.jetstream()
    async with aiomqtt.Client("127.0.0.1", mqtt_port, identifier="naive", clean_session=False) as broker:
        await broker.subscribe("sensors/#", qos=1)
        async for message in broker.messages:
            _, site, device, _ = message.topic.value.split("/")
            headers = {"Nats-Msg-Id": str(uuid.uuid4())}
            assert isinstance(message.payload, bytes)
            await jetstream.publish(f"plant.sensors.{site}.{device}", message.payload, headers=headers)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
