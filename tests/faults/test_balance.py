"""Law 6 for every kind of bridge and every fate of a message, while servers come and go: each answer balances."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from tests.faults.observe import balanced, gateway, until_settled
from tests.support.checker import nats_client
from tests.support.gateway import GatewayProcess
from tests.support.generator import Device, device
from tests.support.proxy import proxy
from tests.support.receiver import publish_numbers, receiver
from tests.support.server import any_broker, nats_server
from tests.support.wait import eventually
from tidegate.app.embedded import free_port
from tidegate.bridge import Overflow
from tidegate.core import Encoded, Message, Outcome
from tidegate.spool import Spool, SpoolOptions

CONFIG = """\
gateway: test
state_dir: state
mqtt: {{url: "mqtt://127.0.0.1:{mqtt}"}}
nats: {{servers: ["nats://127.0.0.1:{nats}"]}}
streams:
  - {{name: SENSORS, subjects: ["plant.>"]}}
  - {{name: NOTICES, subjects: ["notices.>"], retention: workqueue}}
spool: {{max_bytes: 64KiB, when_full: drop_newest}}
bridges:
  - {{name: good, mqtt: "sensors/hall/{{device}}/reading", nats: "plant.good.{{device}}"}}
  - {{name: bad, mqtt: "sensors/hall/{{device}}/reading", nats: "plant.bad.{{device}}", decode: number}}
  - {{name: some, mqtt: "sensors/hall/{{device}}/reading", nats: "plant.some.{{device}}", filter: "seq < `100`"}}
  - {{name: fast, mqtt: "sensors/hall/{{device}}/reading", nats: "plain.fast.{{device}}", deliver: core}}
  - {{name: notices, direction: down, nats: "notices.{{c}}", mqtt: "customers/{{c}}/notice"}}
  - {{name: shouts, direction: down, nats: "shouts.{{c}}", mqtt: "customers/{{c}}/shout", deliver: core}}
http: {{listen: 127.0.0.1:{http}}}
"""


@pytest.mark.slow
async def test_each_bridge_balances_at_every_moment_of_every_fault_and_every_fate(tmp_path: Path) -> None:
    http = free_port()
    async with (
        any_broker(tmp_path / "mqtt") as broker,
        nats_server(tmp_path / "nats") as server,
        proxy(broker) as mqtt_link,
    ):
        config = tmp_path / "tidegate.yaml"
        config.write_text(CONFIG.format(mqtt=mqtt_link.port, nats=server.port, http=http))
        async with (
            gateway(config, http) as running,
            device(broker) as sensor,
            receiver(broker),
            nats_client(server.port) as client,
        ):
            await eventually(lambda: _consumer_stands(client), "the way down stands")
            await _all_ways(sensor, client, range(300))
            await until_settled(running)
            found = balanced(await running.metrics())
            assert {name: one.settled for name, one in found.items()} == {
                "good": 300, "bad": 300, "some": 300, "fast": 300, "notices": 300, "shouts": 300,
            }  # fmt: skip
            for _ in range(3):
                sending = asyncio.create_task(_all_ways(sensor, client, range(300, 1500)))
                mqtt_link.cut()
                await asyncio.sleep(0.1)  # the moment is what varies; nothing depends on it
                mqtt_link.black_hole()
                await asyncio.sleep(0.1)
                mqtt_link.restore()
                await sending
            await until_settled(running)
            await server.stop()
            await sensor.send(range(3000))
            await eventually(lambda: _gave_up(running), "the spool gives messages up")
            await server.kill()
            await server.start()
            await until_settled(running)
            assert await running.ready(), await running.problems()
            totals = {name: await _count(running, name) for name in ("filtered_total", "dead_lettered_total")}
            assert min(totals.values()) > 300 - 100, totals


async def _all_ways(sensor: Device, client, numbers: range) -> None:
    stream = client.jetstream()
    for number in numbers:
        await client.publish("shouts.c1", b"%d" % number)
    await asyncio.gather(sensor.send(numbers), publish_numbers(stream, [n for n in numbers if n < 300]))


async def _consumer_stands(client) -> bool:
    return bool(await client.jetstream().consumers_info("NOTICES"))


async def _gave_up(running: GatewayProcess) -> bool:
    return await running.total("tidegate_messages_dropped_total") > 0


async def _count(running: GatewayProcess, name: str) -> float:
    return await running.total(f"tidegate_messages_{name}")


class _Away:
    """A sink that takes nothing."""

    blocked = "away"

    def offer(self, _events: Sequence[Encoded]) -> None:
        return None

    async def changed(self) -> None:
        await asyncio.Event().wait()

    room = changed

    def withdraw(self, _outcome: asyncio.Future[Outcome]) -> NoReturn:
        raise AssertionError


async def test_what_a_full_spool_turns_away_is_at_no_moment_counted_as_being_there(tmp_path: Path) -> None:
    """The way to the disk and the disk agree on every turn of the loop, or a scrape would miss messages."""
    messages = [Message(b"t", bytes(1000), f"id{number}") for number in range(10)]
    events = [Encoded(message.id, "s", "", b"", message) for message in messages]
    options = SpoolOptions(path=tmp_path / "spool.db", max_bytes=25_000, when_full="drop_newest")
    async with Spool(options) as spool, Overflow(_Away(), queue := spool.queue("one"), "one") as overflow:
        outcomes = []
        for _ in range(5):
            outcomes.append(await overflow.send(events))
            while True:
                assert overflow.stored - queue.turned_away == queue.messages
                if outcomes[-1].done():
                    break
                await asyncio.sleep(0)
        assert [len(outcome.result().dropped) for outcome in outcomes] == [0, 0, 10, 10, 10]
