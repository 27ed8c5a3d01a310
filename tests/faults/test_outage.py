"""NATS is away: the spool takes over, in order, and gives back."""

from __future__ import annotations

from pathlib import Path

from tests.faults.observe import gateway
from tests.support.checker import balance, envelopes, nats_client
from tests.support.gateway import write_config
from tests.support.generator import device
from tests.support.server import any_broker, nats_server
from tests.support.wait import eventually


async def test_f6_an_outage_of_nats_loses_nothing_and_keeps_the_order(tmp_path: Path) -> None:
    """MQTT goes on being acknowledged; then the backlog drains first, and live messages do not overtake it."""
    async with any_broker(tmp_path / "mqtt") as port, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, port, server.port)
        async with gateway(config, http) as running, device(port) as sensor:
            await sensor.send(range(500))
            await server.stop()
            await sensor.send(range(500, 3000))
            await eventually(lambda: _total(running, "spooled", 1), "the spool holds messages")
            await eventually(lambda: _total(running, "in_flight", 0, exactly=True), "everything is settled to MQTT")
            assert await running.ready()
            await server.start()
            await sensor.send(range(3000, 5000))
            await eventually(lambda: _total(running, "delivered_total", 5000), "everything is delivered", 30)
            assert await running.total("tidegate_messages_spooled") == 0
            async with nats_client(server.port) as client:
                events = await envelopes(client)
            result = balance(events, sensor.name, sensor.acknowledged)
            assert (result.stored, result.lost, result.doubled) == (5000, set(), {})
            assert [event.data["seq"] for event in events] == list(range(5000))


async def _total(running, name: str, least: int, *, exactly: bool = False) -> bool:
    count = await running.total(f"tidegate_messages_{name}")
    return count == least if exactly else count >= least
