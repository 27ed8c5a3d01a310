"""Law 6 at every turn of the loop: a scrape can come at any."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.app.helpers import gateway_config, load
from tests.support.generator import device, publish_packet
from tests.support.server import any_broker, nats_server
from tests.support.wait import eventually
from tidegate.app.gateway import Gateway
from tidegate.app.running import RunningBridge, Totals
from tidegate.app.running_down import RunningDownBridge

SPOOL = "http: null\nspool: {{max_bytes: 64KiB, when_full: {when_full}}}\n"


def _unbalanced(totals: Totals) -> int:
    finished = totals.delivered + totals.dead_lettered.total() + totals.filtered + totals.dropped.total()
    return totals.received - finished - totals.in_flight - totals.spooled


async def _watch(running: RunningBridge | RunningDownBridge, found: list[Totals]) -> None:
    """Look at every turn of the loop."""
    while True:
        if _unbalanced(running.totals) or min(running.totals.in_flight, running.totals.spooled) < 0:
            found.append(running.totals)
        await asyncio.sleep(0)


@pytest.mark.parametrize("when_full", ["drop_newest", "drop_oldest", "block"])
async def test_every_message_is_accounted_for_while_the_spool_fills_is_full_and_drains(
    tmp_path: Path, when_full: str
) -> None:
    """With good messages and such as become dead letters; each is whole in one of the numbers, never below none."""
    async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server, Gateway() as gateway:
        config = load(tmp_path, gateway_config(broker, server.port, more=SPOOL.format(when_full=when_full)))
        await gateway.apply(config)
        await eventually(lambda: not gateway.problems and gateway.away is None, "it delivers")
        (running,) = gateway.bridges.values()
        wrong: list[Totals] = []
        watching = asyncio.create_task(_watch(running, wrong))
        async with device(broker) as sensor:
            await server.stop()
            for number in range(300):
                payload = b"{not json" if number % 10 == 0 else b'"%s"' % (b"x" * 1000)
                await sensor.send_raw(publish_packet(b"sensors/a/b/reading", payload))
            if when_full == "block":
                await eventually(lambda: bool(gateway.problems), "it is full", 30)
            else:
                await eventually(lambda: running.totals.dropped.total() > 100, "messages are given up", 30)
            await server.start()
            await eventually(lambda: running.totals.received >= 300, "all have come", 30)
            await eventually(lambda: running.totals.in_flight + running.totals.spooled == 0, "all are settled", 30)
        watching.cancel()
        assert wrong == []
