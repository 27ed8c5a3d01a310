"""A gateway to which everything happens that has a series, so that every query has something to say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from tests.faults.observe import books, until_link, until_received, until_settled
from tests.support.checker import nats_client
from tests.support.gateway import GatewayProcess, gateway
from tests.support.generator import Device, device
from tests.support.receiver import publish_numbers
from tests.support.server import Server, any_broker, nats_server
from tests.support.wait import eventually
from tidegate.app.embedded import free_port

CONFIG = """\
gateway: plant
state_dir: state
mqtt: {{url: "mqtt://127.0.0.1:{mqtt}"}}
nats: {{servers: ["nats://127.0.0.1:{nats}"]}}
streams:
  - {{name: SENSORS, subjects: ["plant.>"]}}
  - {{name: NOTICES, subjects: ["notices.>"]}}
bridges:
  - {{name: readings, mqtt: "sensors/{{site}}/{{device}}/reading", nats: "plant.sensors.{{site}}.{{device}}"}}
  - {{name: cells, mqtt: "spBv1.0/#", nats: plant.cells, decode: sparkplug_b}}
  - {{name: notices, direction: down, nats: "notices.{{customer}}", mqtt: "customers/{{customer}}/notice"}}
spool: {{max_bytes: 1MiB, when_full: drop_oldest}}
http: {{listen: 127.0.0.1:{http}}}
"""


class Plant(NamedTuple):
    """What runs."""

    gateway: GatewayProcess
    nats: Server
    sensor: Device


@asynccontextmanager
async def plant(folder: Path) -> AsyncIterator[Plant]:
    """Run a broker, nats-server, the gateway and a device."""
    async with any_broker(folder / "mqtt") as broker, nats_server(folder / "nats") as server:
        http = free_port()
        config = folder / "tidegate.yaml"
        config.write_text(CONFIG.format(mqtt=broker, nats=server.port, http=http))
        async with gateway(config, http) as running, device(broker) as sensor:
            yield Plant(running, server, sensor)


def _often_bad(name: str, number: int) -> bytes:
    """Return a reading of some 500 bytes, or what becomes a dead letter."""
    return b"bad" if number % 5 == 0 else b'{"device":"%s","seq":%d,"pad":"%500d"}' % (name.encode(), number, 0)


async def work(running: Plant, numbers: range) -> None:
    """Send messages up, some of them bad, and a few notices down; return once all is settled."""
    await running.sensor.send(numbers, payload=_often_bad)
    async with nats_client(running.nats.port) as client:
        await publish_numbers(client.jetstream(), numbers[:20])

    async def notified() -> bool:
        metrics = await running.gateway.metrics()
        return metrics["tidegate_messages_received_total", (("bridge", "notices"),)] >= 20

    await eventually(notified, "the notices are received")
    await until_settled(running.gateway)


async def outage(running: Plant, numbers: range) -> None:
    """Stop NATS, and send more than the spool takes; return once all of it is on the disk or dropped."""
    received = (await books(running.gateway)).received
    await running.nats.stop()
    await until_link(running.gateway, "nats", up=False)
    await running.sensor.send(numbers, payload=_often_bad)
    await until_received(running.gateway, int(received) + len(numbers))

    async def full() -> bool:
        return not (await books(running.gateway)).in_flight

    await eventually(full, "nothing is in flight", 30)
    assert await running.gateway.total("tidegate_messages_dropped_total") > 0


async def recovery(running: Plant) -> None:
    """Start NATS again; return once the spool is empty."""
    await running.nats.start()
    await until_link(running.gateway, "nats", up=True)
    await until_settled(running.gateway)
