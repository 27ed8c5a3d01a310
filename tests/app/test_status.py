"""/status.json: what is shown is what happens."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.support.checker import nats_client
from tests.support.gateway import GatewayProcess, gateway, get, write_config
from tests.support.generator import device, publish_packet
from tests.support.server import any_broker, nats_server
from tests.support.wait import eventually

CONSUMERS = "consumers: [{stream: SENSORS, name: history}, {stream: SENSORS, name: nobody}]\n"
ORDERS = """\
  - {name: orders, direction: down, nats: "plant.sensors.orders.{device}", mqtt: "orders/{device}"}
http:"""


async def _status(running: GatewayProcess) -> dict[str, Any]:
    code, body = await get(running.http, "/status.json")
    assert code == 200
    found: dict[str, Any] = json.loads(body)
    return found


async def test_it_shows_what_came_what_became_of_it_and_how_far_behind_everybody_is(tmp_path: Path) -> None:
    async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, broker, server.port, more=CONSUMERS)
        text = config.read_text().replace("    qos: 1\n", "    qos: 1\n    time: ts\n")
        config.write_text(text.replace("http:", ORDERS))
        async with gateway(config, http) as running, device(broker) as sensor:
            async with nats_client(server.port) as client:
                await client.jetstream().add_consumer("SENSORS", durable_name="history", ack_policy="explicit")
            old = b'{"ts": %d}' % (time.time() - 2700)
            for number in range(100):
                await sensor.send_raw(publish_packet(b"sensors/a/b/reading", b"{not json" if number < 3 else old))

            async def told() -> bool:
                found = await _status(running)
                return found["bridges"][0]["delivered"] == 97 and found["consumers"][0]["pending"] == 97

            await eventually(told, "everything is told", 30)
            found = await _status(running)
    assert found["ready"]
    assert found["stalled"] is None
    up, down = found["bridges"]
    assert (up["name"], up["direction"], up["state"], up["stream"]) == ("readings", "up", "delivering", "SENSORS")
    assert (up["received"], up["dead_lettered"], up["in_flight"]) == (100, {"decode_failed": 3}, 0)
    assert up["lag"]["oldest_unsettled"] is None
    assert 1800 <= up["lag"]["event_p50"] <= 3600
    assert up["lag"]["delivery_p50"] < 60
    assert up["guarantee"]["promise"].startswith("at least once into SENSORS")
    assert up["mqtt"]["up"]
    assert found["nats"]["url"] == f"nats://127.0.0.1:{server.port}"
    assert (down["direction"], down["spool"], down["lag"]["consumer_pending"]) == ("down", None, 0)
    assert [note["topic"] for note in found["dead_letters"]] == 3 * ["sensors/a/b/reading"]
    assert found["dead_letters"][0]["reason"] == "decode_failed"
    assert [one["name"] for one in found["consumers"]] == ["history", "nobody", "tidegate-test-orders"]
    assert "not found" in found["consumers"][1]["problem"]


async def test_while_nats_is_away_it_says_so_and_shows_the_spool_until_that_is_empty(tmp_path: Path) -> None:
    async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, broker, server.port, more=CONSUMERS)
        async with gateway(config, http) as running, device(broker) as sensor:
            await server.stop()
            await sensor.send(range(20))

            async def spooled() -> bool:
                (bridge,) = (await _status(running))["bridges"]
                return bridge["state"] == "spooling" and bridge["spooled"] == 20

            await eventually(spooled, "all are on the disk", 30)
            found = await _status(running)
            (bridge,) = found["bridges"]
            assert found["ready"]
            assert found["nats_away"]
            assert not found["nats"]["up"]
            assert found["spool"]["bytes"] == bridge["spool"]["bytes"] > 0
            assert bridge["lag"]["spool_oldest"] >= 0
            assert {one["pending"] for one in found["consumers"]} == {None}
            await server.start()

            async def delivered() -> bool:
                (bridge,) = (await _status(running))["bridges"]
                return bridge["state"] == "delivering" and bridge["delivered"] == 20

            await eventually(delivered, "all are delivered", 30)
            (bridge,) = (await _status(running))["bridges"]
    assert bridge["spooled"] == 0
    assert bridge["lag"]["spool_oldest"] is None
    assert "nats: " in bridge["last_error"]["text"]
