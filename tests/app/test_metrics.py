"""What Prometheus sees: exactly the documented series, balanced, and as many as ever whatever devices send."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.support.checker import nats_client
from tests.support.fake_broker import fake_broker
from tests.support.gateway import GatewayProcess, gateway, get, write_config
from tests.support.generator import device, publish_packet
from tests.support.server import any_broker, nats_server
from tests.support.wait import eventually

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


def _documented() -> dict[str, tuple[str, set[str]]]:
    """Return the type and the labels of each series in the table."""
    rows = re.findall(r"^\| `(tidegate_\w+)` \| (\w+) \| ([\w, ]*) ?\| .+ \|$", DOCUMENT.read_text(), re.MULTILINE)
    return {name: (kind, {label.strip() for label in labels.split(",")} - {""}) for name, kind, labels in rows}


def _exported(text: str) -> dict[str, tuple[str, set[str]]]:
    """Return the same of a scrape, of the series that have a sample; the parts of a histogram count as one."""
    found: dict[str, tuple[str, set[str]]] = {}
    for family in parse_text(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        for sample in family.samples:
            if name.startswith("tidegate_"):
                _, labels = found.setdefault(name, (family.type, set()))
                labels.update(sample.labels.keys() - {"le"})
    return found


OPENMETRICS = "Accept: application/openmetrics-text; version=1.0.0\r\n"
BALANCE = ("delivered_total", "dead_lettered_total", "filtered_total", "dropped_total", "in_flight", "spooled")


def _unbalanced(metrics: dict[tuple[str, tuple[tuple[str, str], ...]], float]) -> float:
    """Return what was received and is not accounted for."""
    sums: dict[str, float] = {}
    for (name, _), value in metrics.items():
        sums[name] = sums.get(name, 0) + value
    accounted = sum(sums.get(f"tidegate_messages_{name}", 0) for name in BALANCE)
    return sums["tidegate_messages_received_total"] - accounted


async def _settled(running: GatewayProcess, count: int) -> bool:
    metrics = await running.metrics()
    names = ("tidegate_messages_delivered_total", "tidegate_messages_dead_lettered_total")
    return sum(value for (name, _), value in metrics.items() if name in names) >= count


async def test_the_series_stay_as_many(tmp_path: Path) -> None:
    """Messages on 2,000 different topics, good and bad, add none after the first of their kind."""
    async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, broker, server.port)
        async with gateway(config, http) as running, device(broker) as sensor:
            await sensor.send_raw(publish_packet(b"sensors/a/b/reading", b"{}"))
            await sensor.send_raw(publish_packet(b"sensors/a/b/reading", b"{not json"))
            await eventually(lambda: _settled(running, 2), "both are settled")
            first = await running.metrics()
            for number in range(2000):
                payload = b"{}" if number % 2 else b"{not json"
                await sensor.send_raw(publish_packet(b"sensors/s%d/d%d/reading" % (number % 7, number), payload))
            await eventually(lambda: _settled(running, 2002), "all are settled")
            last = await running.metrics()
            assert last.keys() == first.keys()
            assert last["tidegate_messages_received_total", (("bridge", "readings"),)] == 2002
            dead = (("bridge", "readings"), ("reason", "decode_failed"))
            assert last["tidegate_messages_dead_lettered_total", dead] == 1001
            assert last["tidegate_delivery_duration_seconds_count", (("bridge", "readings"),)] == 1001
            assert _unbalanced(last) == 0


SMALL_SPOOL = "spool: {max_bytes: 64KiB, when_full: drop_newest}\nconsumers: [{stream: SENSORS, name: history}]\n"
MORE_BRIDGES = """\
  - {name: cells, mqtt: "spBv1.0/#", nats: plant.sensors.cells, decode: sparkplug_b}
  - {name: orders, direction: down, nats: "plant.sensors.orders.{device}", mqtt: "orders/{device}"}
http:"""


@pytest.mark.slow
async def test_every_documented_series_is_exported_and_no_other(tmp_path: Path) -> None:
    """With a dead letter, a consumer, messages in flight, on the disk, and given up: some are absent before that."""
    found: dict[str, tuple[str, set[str]]] = {}
    async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, broker, server.port, more=SMALL_SPOOL)
        config.write_text(config.read_text().replace("http:", MORE_BRIDGES))
        async with gateway(config, http), device(broker) as sensor:

            async def scraped(name: str) -> bool:
                _, body = await get(http, "/metrics")
                found.update(_exported(body.decode()))
                return name in found

            async with nats_client(server.port) as client:
                await client.jetstream().add_consumer("SENSORS", durable_name="history", ack_policy="explicit")
            await sensor.send_raw(publish_packet(b"sensors/a/b/reading", b"{not json"))
            await eventually(lambda: scraped("tidegate_messages_dead_lettered_total"), "a dead letter")
            await eventually(lambda: scraped("tidegate_consumer_pending_messages"), "the consumer is seen", 30)
            server.pause()
            try:
                await sensor.send_raw(publish_packet(b"sensors/a/b/reading", b"{}"))
                await eventually(lambda: scraped("tidegate_oldest_unsettled_timestamp_seconds"), "one is in flight")
                await eventually(lambda: scraped("tidegate_spool_oldest_timestamp_seconds"), "one is spooled", 30)
                for _ in range(100):
                    await sensor.send_raw(publish_packet(b"sensors/a/b/reading", b'"%s"' % (b"x" * 1000)))
                await eventually(lambda: scraped("tidegate_messages_dropped_total"), "one is given up", 30)
            finally:
                server.resume()
    assert found == _documented()


async def test_a_bridge_that_decodes_sparkplug_has_series_of_its_own(tmp_path: Path) -> None:
    async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, broker, server.port)
        more = '  - {name: cells, mqtt: "spBv1.0/#", nats: plant.sensors.cells, decode: sparkplug_b}\nhttp:'
        config.write_text(config.read_text().replace("http:", more))
        async with gateway(config, http) as running:
            metrics = await running.metrics()
    ours = {sample: value for sample, value in metrics.items() if sample[0].startswith("tidegate_sparkplug")}
    names = ("tidegate_sparkplug_sequence_gaps_total", "tidegate_sparkplug_rebirth_requests_total")
    assert ours == {(name, (("bridge", "cells"),)): 0.0 for name in names}


async def test_a_malformed_topic_is_counted_by_its_reason(tmp_path: Path) -> None:
    """No real broker lets one through, so a scripted one sends it; good messages around it arrive."""
    async with fake_broker() as broker, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, broker.port, server.port)
        async with gateway(config, http, ready=False) as running:
            connection = await broker.connection()
            await connection.accept()
            await eventually(running.delivering, "it delivers")
            for number, topic in enumerate((b"sensors/a/b/reading", b"sensors/\xff/b/reading", b"sensors/+/b/reading")):
                await connection.send(publish_packet(topic, b"{}", 1, number + 1, properties=b""))
            assert [await connection.read_packet() for _ in range(3)]
            metrics = await running.metrics()
            dead = (("bridge", "readings"), ("reason", "topic_invalid"))
            assert metrics["tidegate_messages_dead_lettered_total", dead] == 2
            assert metrics["tidegate_messages_delivered_total", (("bridge", "readings"),)] == 1
            assert _unbalanced(metrics) == 0
            connection.cut()


async def test_metrics_are_text_and_open_metrics_by_the_accept_header(tmp_path: Path) -> None:
    async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, broker, server.port)
        async with gateway(config, http) as running:
            text = (await get(http, "/metrics"))[1].decode()
            opened = (await get(http, "/metrics", OPENMETRICS))[1].decode()
            assert opened.endswith("# EOF\n")
            names = {sample.name for family in parse_text(text) for sample in family.samples}
            assert names == {sample.name for family in parse_openmetrics(opened) for sample in family.samples}
            assert all(family.documentation for family in parse_text(text))
            for accept in ("application/openmetrics-text; version=abc", "text/plain; version=", ";;,=", "x" * 9000):
                status, body = await get(http, "/metrics", f"Accept: {accept}\r\n")
                assert status == 200
                assert b"tidegate_build_info" in body
            assert "rror" not in running.log_text()


async def test_the_counters_balance_under_load_and_at_the_end(tmp_path: Path) -> None:
    """Law 6, at every scrape, with good messages and bad ones, and over an outage of NATS."""
    async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, broker, server.port)
        async with gateway(config, http) as running, device(broker) as sensor, asyncio.TaskGroup() as group:
            sending = group.create_task(sensor.send(range(2000), window=100, payload=_often_bad))
            while not sending.done():
                assert _unbalanced(await running.metrics()) == 0
            await eventually(lambda: _settled(running, 2000), "all are settled")
            await server.stop()
            await sensor.send(range(2000, 2100), payload=_often_bad)
            await eventually(lambda: _received(running, 2100), "all are received")
            metrics = await running.metrics()
            assert _unbalanced(metrics) == 0
            assert metrics["tidegate_messages_in_flight", (("bridge", "readings"),)] > 0
            await server.start()
            await eventually(lambda: _settled(running, 2100), "all are settled")
            metrics = await running.metrics()
            assert _unbalanced(metrics) == 0
            assert metrics["tidegate_messages_in_flight", (("bridge", "readings"),)] == 0
            assert await running.total("tidegate_messages_dead_lettered_total") == 420
            assert metrics["tidegate_reconnects_total", (("bridge", ""), ("endpoint", "nats"))] == 1


def _often_bad(name: str, number: int) -> bytes:
    return b"not json" if number % 5 == 0 else b'{"device": "%s", "seq": %d}' % (name.encode(), number)


async def _received(running: GatewayProcess, count: int) -> bool:
    return await running.total("tidegate_messages_received_total") >= count
