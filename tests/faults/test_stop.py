"""A stop in order, in the middle of the work."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults.observe import books, gateway, stop, until_in_flight, until_received, verdict
from tests.support.gateway import write_config
from tests.support.generator import device
from tests.support.server import any_broker, nats_server
from tests.support.wait import eventually

SHUTDOWN_TIMEOUT = 10
SLACK = 10
"""Seconds for all of a stop that is not the drain, on a busy machine."""


@pytest.mark.slow
async def test_f27_sigterm_under_load_drains_and_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Stopped and started again while a device never pauses, with the session kept by the broker."""
    async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, broker, server.port)
        async with gateway(config, http) as running, device(broker) as sensor:
            for first in (0, 8000):
                sending = asyncio.create_task(sensor.send(range(first, first + 8000)))
                await until_received(running, 1000)
                assert await stop(running, SHUTDOWN_TIMEOUT + SLACK) == 0
                await running.start()
                await sending
            result = await verdict(running, server.port, sensor)
            assert len(sensor.acknowledged) == 16_000
            assert (result.stored, result.lost, result.doubled) == (16_000, set(), {})
            assert "not settled" not in running.log_text()


@pytest.mark.slow
@pytest.mark.parametrize("away", ["hangs", "is gone"])
async def test_f27_sigterm_with_messages_in_flight_while_nats_is_away_loses_and_doubles_nothing(
    tmp_path: Path, away: str
) -> None:
    """What was published and has no answer is spooled before the end, under the same id."""
    async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, broker, server.port)
        async with gateway(config, http) as running, device(broker) as sensor:
            await sensor.send(range(200))
            await until_received(running, 200)
            server.pause()
            await sensor.send(range(200, 700))
            await until_in_flight(running, 500)
            if away == "is gone":
                await server.kill()
            assert await stop(running, SHUTDOWN_TIMEOUT + SLACK) == 0
            server.resume() if away == "hangs" else await server.start()
            await running.start()
            result = await verdict(running, server.port, sensor)
            assert (result.stored, result.lost, result.doubled) == (700, set(), {})


@pytest.mark.slow
async def test_f27_sigterm_with_a_full_spool_leaves_the_rest_with_the_broker(tmp_path: Path) -> None:
    """Nothing can be settled any more: the stop gives up at its time-out, and the broker sends again."""
    async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        more = "spool: {max_bytes: 16KiB}\nshutdown_timeout: 1s\n"
        config, http = write_config(tmp_path, broker, server.port, more=more)
        async with gateway(config, http) as running, device(broker) as sensor:
            await sensor.send(range(200))
            await until_received(running, 200)
            await server.stop()
            await sensor.send(range(200, 3000))

            async def full() -> bool:
                found = await books(running)
                return found.in_flight > 0 and not await running.ready()

            await eventually(full, "the spool is full", 30)
            assert await stop(running, SHUTDOWN_TIMEOUT + SLACK) == 0
            await running.start(ready=False)
            await server.start()
            result = await verdict(running, server.port, sensor)
            assert (result.stored, result.lost, result.doubled) == (3000, set(), {})
