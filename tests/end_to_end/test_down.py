"""The way down: what a service publishes arrives at a device, whatever breaks on the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from tests.support.checker import flushed
from tests.support.gateway import GatewayProcess, gateway
from tests.support.proxy import Proxy, proxy
from tests.support.receiver import Receiver, publish_numbers, receiver
from tests.support.server import Server, mosquitto, nats_server, needs_mosquitto
from tests.support.wait import eventually
from tidegate.app.embedded import free_port
from tidegate.core.envelope import STRUCTURED_CONTENT_TYPE

pytestmark = needs_mosquitto

CONFIG = """\
gateway: test
state_dir: state
mqtt: {{url: "mqtt://127.0.0.1:{mqtt}", protocol: "{protocol}", receive_maximum: {window}}}
nats: {{servers: ["nats://127.0.0.1:{nats}"]}}
streams: [{{name: NOTICES, subjects: ["notices.>"]}}]
bridges:
  - {{name: notices, direction: down, nats: "notices.{{customer}}", mqtt: "customers/{{customer}}/notice", {options}}}
http: {{listen: "127.0.0.1:{http}"}}
"""
KEPT = "allow_anonymous true\nuser root\npersistence true\npersistence_location {folder}/\n"
EVENT = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "orders",
    "type": "order.ready",
    "recordedtime": "2026-01-02T03:04:05Z",
}


@dataclass
class Site:
    """Everything that runs."""

    gateway: GatewayProcess
    nats_server: Server
    broker: Server
    proxy: Proxy
    device: Receiver
    client: Client
    stream: JetStreamContext

    async def balanced(self) -> bool:
        """Whether every message received is accounted for, and none is in flight."""
        metrics = await self.gateway.metrics()
        counts = {name: sum(v for (n, _), v in metrics.items() if n == f"tidegate_messages_{name}") for name in COUNTS}
        return not counts["in_flight"] and counts["received_total"] == sum(counts.values()) - counts["received_total"]


COUNTS = (
    "received_total", "delivered_total", "dead_lettered_total", "filtered_total", "dropped_total",
    "in_flight", "spooled",
)  # fmt: skip


@asynccontextmanager
async def site(
    folder: Path,
    *,
    protocol: str = "5",
    options: str = "qos: 1",
    window: int = 1000,
    broker: str = "",
    taken_qos: int = 1,
) -> AsyncIterator[Site]:
    """Run a gateway with one down bridge, between real servers; the broker is behind a proxy."""
    (folder / "mqtt").mkdir()
    kept = KEPT.format(folder=folder / "mqtt")
    async with (
        nats_server(folder / "nats") as server,
        mosquitto(folder / "mqtt", kept + broker) as mqtt,
        proxy(mqtt.port) as between,
        receiver(mqtt.port, protocol=protocol, qos=taken_qos) as device,
    ):
        http = free_port()
        config = folder / "tidegate.yaml"
        config.write_text(
            CONFIG.format(
                mqtt=between.port, nats=server.port, http=http, protocol=protocol, options=options, window=window
            )
        )
        client = await nats.connect(
            f"nats://127.0.0.1:{server.port}", max_reconnect_attempts=-1, reconnect_time_wait=0.1
        )
        try:
            async with gateway(config, http) as running:
                yield Site(running, server, mqtt, between, device, client, client.jetstream())
        finally:
            await client.close()


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_command_arrives_with_its_qos_and_its_properties(protocol: str, qos: int, tmp_path: Path) -> None:
    async with site(tmp_path, protocol=protocol, options=f"qos: {qos}", taken_qos=2) as at:
        event = json.dumps(EVENT | {"data": {"price": 21.50}}).encode().replace(b"21.5", b"21.50")
        await at.stream.publish("notices.c//1", event, headers={"Content-Type": STRUCTURED_CONTENT_TYPE})
        await at.stream.publish(
            "notices.c%202", b"\x00plain", headers={"Content-Type": "image/png", "Nats-Msg-Id": "p-1"}
        )
        await eventually(lambda: len(at.device.messages) == 2, "both arrive")
        await eventually(at.balanced, "all are accounted for")
        first, second = at.device.messages
    assert [str(one.topic) for one in (first, second)] == ["customers/c.1/notice", "customers/c 2/notice"]
    assert at.device.payloads == [b'{"price": 21.50}', b"\x00plain"]
    assert {one.qos for one in (first, second)} == {qos}
    if protocol == "5":
        assert dict(first.properties.UserProperty) == EVENT
        assert first.properties.ContentType == "application/json"
        assert second.properties.UserProperty == [("id", "p-1")]
        assert second.properties.ContentType == "image/png"


async def test_a_whole_event_arrives_as_one_document(tmp_path: Path) -> None:
    """In binary mode too; what is no event becomes a dead letter, and the next one flows."""
    async with site(tmp_path, options="payload: event, retain: true") as at:
        headers = {f"ce-{name}": value for name, value in EVENT.items()} | {"Content-Type": "application/json"}
        await at.stream.publish("notices.c1", b"no event")
        await at.stream.publish("notices.c1", b'{"price": 21.50}', headers=headers)
        await eventually(lambda: at.device.messages, "it arrives")
        await eventually(at.balanced, "all are accounted for")
        assert await at.gateway.total("tidegate_messages_dead_lettered_total") == 1
    (message,) = at.device.messages
    assert json.loads(message.payload) == EVENT | {"datacontenttype": "application/json", "data": {"price": 21.5}}
    assert b'"data":{"price": 21.50}' in bytes(message.payload)
    assert message.properties.ContentType == STRUCTURED_CONTENT_TYPE
    assert message.properties.UserProperty == [("id", "e-1")]


@pytest.mark.slow
@pytest.mark.parametrize("qos", [1, 2])
async def test_a_killed_gateway_loses_nothing(qos: int, tmp_path: Path) -> None:
    """Killed three times under load. What it had not acknowledged comes again at once, and before what is newer."""
    async with site(tmp_path, options=f"qos: {qos}", window=50) as at:
        at.proxy.rate = 20_000
        publishing = asyncio.create_task(publish_numbers(at.stream, range(1500)))
        for kills in range(1, 4):
            await eventually(lambda: len(at.device.messages) >= 200 * kills, "some have arrived")  # noqa: B023
            await at.gateway.kill()
            await at.gateway.start()
        at.proxy.rate = None
        published = await publishing
        await eventually(lambda: len(set(at.device.payloads)) == len(published), "all arrive")
        await eventually(at.balanced, "all are accounted for")
    assert at.device.firsts == published
    assert len(at.device.messages) - len(published) <= 3 * 50


@pytest.mark.slow
async def test_a_clean_stop_finishes_what_is_in_flight_so_that_nothing_comes_twice(tmp_path: Path) -> None:
    async with site(tmp_path, window=50) as at:
        at.proxy.rate = 20_000
        publishing = asyncio.create_task(publish_numbers(at.stream, range(600)))
        for stops in range(1, 3):
            await eventually(lambda: len(at.device.messages) >= 150 * stops, "some have arrived")  # noqa: B023
            assert await at.gateway.stop() == 0
            await at.gateway.start()
        published = await publishing
        await eventually(lambda: len(at.device.messages) >= len(published), "all arrive")
        await eventually(at.balanced, "all are accounted for")
        assert "not settled" not in at.gateway.log_text()
    assert at.device.payloads == published


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("qos", [1, 2])
async def test_a_broker_that_restarts_loses_nothing_and_the_order_is_kept(
    qos: int, protocol: str, tmp_path: Path
) -> None:
    async with site(tmp_path, options=f"qos: {qos}", protocol=protocol) as at:
        publishing = asyncio.create_task(publish_numbers(at.stream, range(3000)))
        for restarts in range(1, 4):
            await eventually(lambda: len(at.device.messages) >= 600 * restarts, "some have arrived")  # noqa: B023
            await at.broker.stop()
            await eventually(at.gateway.problems, "the gateway says so")
            await at.broker.start()
            await eventually(at.gateway.ready, "it is there again")
        published = await publishing
        await eventually(lambda: len(set(at.device.payloads)) == len(published), "all arrive")
        await eventually(at.balanced, "all are accounted for")
    assert at.device.firsts == published


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_nats_server_that_restarts_loses_nothing_and_the_order_is_kept(how: str, tmp_path: Path) -> None:
    async with site(tmp_path, window=50) as at:
        publishing = asyncio.create_task(publish_numbers(at.stream, range(3000)))
        for restarts in range(1, 4):
            await eventually(lambda: len(at.device.messages) >= 600 * restarts, "some have arrived")  # noqa: B023
            await getattr(at.nats_server, how)()
            await at.nats_server.start()
        published = await publishing
        await eventually(lambda: len(set(at.device.payloads)) == len(published), "all arrive", timeout=30)
        await eventually(at.balanced, "all are accounted for")
    assert at.device.firsts == published


@pytest.mark.slow
async def test_a_slow_broker_fills_the_window_and_no_more(tmp_path: Path) -> None:
    async with site(tmp_path, window=40) as at:
        at.proxy.rate = 2_000
        published = await publish_numbers(at.stream, range(400))
        await eventually(lambda: len(at.device.messages) >= 10, "some have arrived")
        held = []
        while len(at.device.messages) < 100:
            info = await at.stream.consumer_info("NOTICES", "tidegate-test-notices")
            held.append((info.num_ack_pending, await at.gateway.total("tidegate_messages_in_flight")))
        at.proxy.rate = None
        await eventually(lambda: len(at.device.messages) == len(published), "all arrive")
    assert max(pending for pending, _ in held) == 40
    assert 0 < max(in_flight for _, in_flight in held) <= 40
    assert at.device.payloads == published


async def test_hostile_subjects_become_dead_letters_and_hold_nobody_up(tmp_path: Path) -> None:
    hostile = ["+", "#", "a/b", "%2F", "%00", "%0A", "%2B", "%C2%85", "a%23b", "$SYS%2Fx"]
    async with site(tmp_path) as at:
        for token in hostile:
            await at.stream.publish(f"notices.{token}", b"bad")
        await at.stream.publish("notices.good", b"good")
        await eventually(lambda: at.device.messages, "the good one arrives")
        await eventually(at.balanced, "all are accounted for")
        refused = {
            dict(labels)["reason"]: count
            for (name, labels), count in (await at.gateway.metrics()).items()
            if name == "tidegate_messages_dead_lettered_total"
        }
        letters = await at.stream.pull_subscribe("dead.notices", "reader")
        subjects = [json.loads(one.data)["subject"] for one in await letters.fetch(20, timeout=2)]
        assert await at.gateway.ready()
    assert at.device.payloads == [b"good"]
    assert refused == {"topic_invalid": len(hostile)}
    assert subjects == [f"notices.{token}" for token in hostile]


async def test_what_is_too_large_for_the_broker_becomes_a_dead_letter(tmp_path: Path) -> None:
    async with site(tmp_path, broker="max_packet_size 2000") as at:
        await at.stream.publish("notices.c1", b"x" * 3000)
        await at.stream.publish("notices.c1", b"small")
        await eventually(lambda: at.device.messages, "the small one arrives")
        await eventually(at.balanced, "all are accounted for")
        metrics = await at.gateway.metrics()
    assert at.device.payloads == [b"small"]
    labels = (("bridge", "notices"), ("reason", "too_large"))
    assert metrics["tidegate_messages_dead_lettered_total", labels] == 1


async def test_without_a_stream_messages_come_while_the_gateway_listens(tmp_path: Path) -> None:
    async with site(tmp_path, options="deliver: core") as at:
        await at.client.publish("notices.c1", b"now", headers={"ce-id": "x"})
        await eventually(lambda: at.device.messages, "it arrives")
        at.proxy.accepting = False
        at.proxy.cut()
        await eventually(at.gateway.problems, "the broker is away")
        for number in range(1500):
            await at.client.publish("notices.c1", b"%d" % number)
        await flushed(at.client)

        async def all_came() -> bool:
            return await at.gateway.total("tidegate_messages_received_total") == 1501

        await eventually(all_came, "all were received")
        at.proxy.restore()
        await eventually(at.balanced, "all are accounted for")
        assert await at.gateway.total("tidegate_messages_dropped_total") == 500
        await eventually(lambda: len(at.device.messages) == 1001, "the window's arrive")
    assert at.device.payloads[1:] == [b"%d" % number for number in range(1000)]
