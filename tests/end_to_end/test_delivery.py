"""From a device through a real broker and the real gateway into a real stream."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.checker import balance, envelopes, nats_client
from tests.support.gateway import gateway, write_config
from tests.support.generator import device
from tests.support.server import mosquitto, nats_server, needs_mosquitto
from tests.support.wait import eventually

COUNT = 20_000


@needs_mosquitto
@pytest.mark.slow
@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_20_000_messages_are_stored_once_each_as_valid_events(tmp_path: Path, qos: int, protocol: str) -> None:
    """None lost, none doubled, in the order in which the device sent them."""
    async with mosquitto(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, broker.port, server.port, qos=qos, protocol=protocol)
        async with gateway(config, http) as running, device(broker.port) as sensor, nats_client(server.port) as client:
            await sensor.send(range(COUNT), qos=qos)
            await eventually(lambda: _delivered(running, COUNT), "every message is delivered", 60)
            events = await envelopes(client)
            result = balance(events, sensor.name, sensor.acknowledged)
            assert len(sensor.acknowledged) == COUNT
            assert (result.stored, result.lost, result.doubled) == (COUNT, set(), {})
            assert [event.data["seq"] for event in events] == list(range(COUNT))
            assert len({event.id for event in events}) == COUNT


async def _delivered(running, count: int) -> bool:
    return await running.total("tidegate_messages_delivered_total") >= count
