"""A service asks what a device said last, and gets the right answer, whoever was away meanwhile."""

from __future__ import annotations

from pathlib import Path

from nats.js.errors import KeyNotFoundError

from tests.support.checker import nats_client
from tests.support.gateway import gateway, write_config
from tests.support.generator import device
from tests.support.server import any_broker, nats_server
from tests.support.wait import eventually
from tidegate.core import Envelope


async def test_the_last_value_of_a_silent_device_is_right_after_gateway_and_nats_were_killed(tmp_path: Path) -> None:
    async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, broker, server.port)
        config.write_text(config.read_text().replace("    qos: 1\n", "    qos: 1\n    last_value: LAST\n"))
        async with gateway(config, http) as running:
            async with device(broker, "silent") as silent, device(broker, "busy") as busy:
                await silent.send(range(50))
                await busy.send(range(500))
                await eventually(lambda: _is(server.port, silent.name, 49), "the bucket has it")
                await running.kill()
                await server.kill()
                await server.start()
                await running.start()
                assert await _last(server.port, silent.name) == 49
                await busy.send(range(500, 600))
                await eventually(lambda: _is(server.port, busy.name, 599), "the bucket goes on", 30)
            await server.kill()
            await server.start()
            assert await _last(server.port, silent.name) == 49
            assert await _last(server.port, busy.name) == 599


async def _is(port: int, name: str, number: int) -> bool:
    return await _last(port, name) == number


async def _last(port: int, name: str) -> int | None:
    """Return the number of a device's last reading, as a service asks for it."""
    async with nats_client(port) as client:
        bucket = await client.jetstream().key_value("LAST")
        try:
            entry = await bucket.get(f"plant.sensors.hall.{name}")
        except KeyNotFoundError:
            return None
        return Envelope.model_validate_json(entry.value or b"").data["seq"]
