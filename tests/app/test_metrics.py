"""What Prometheus sees: exactly the documented series, balanced, and as many as ever whatever devices send."""

from __future__ import annotations

import asyncio
from pathlib import Path

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.support.fake_broker import fake_broker
from tests.support.gateway import GatewayProcess, gateway, get, write_config
from tests.support.generator import device, publish_packet
from tests.support.server import any_broker, nats_server
from tests.support.wait import eventually

SERIES = {
    "tidegate_messages_received_total": {"bridge"},
    "tidegate_messages_delivered_total": {"bridge"},
    "tidegate_messages_dead_lettered_total": {"bridge", "reason"},
    "tidegate_messages_filtered_total": {"bridge"},
    "tidegate_messages_in_flight": {"bridge"},
    "tidegate_window_messages": {"bridge"},
    "tidegate_bridge_ready": {"bridge"},
    "tidegate_messages_spooled": {"bridge"},
    "tidegate_spool_bytes": {"bridge"},
    "tidegate_spool_max_bytes": set(),
    "tidegate_spool_damaged_total": set(),
    "tidegate_received_bytes_total": {"bridge"},
    "tidegate_delivered_bytes_total": {"bridge"},
    "tidegate_duplicates_total": {"bridge"},
    "tidegate_connection_up": {"bridge", "endpoint"},
    "tidegate_reconnects_total": {"bridge", "endpoint"},
    "tidegate_sessions_lost_total": {"bridge"},
    "tidegate_delivery_duration_seconds_bucket": {"bridge", "le"},
    "tidegate_delivery_duration_seconds_count": {"bridge"},
    "tidegate_delivery_duration_seconds_sum": {"bridge"},
    "tidegate_event_lag_seconds_bucket": {"bridge", "le"},
    "tidegate_event_lag_seconds_count": {"bridge"},
    "tidegate_event_lag_seconds_sum": {"bridge"},
    "tidegate_config_last_reload_successful": set(),
    "tidegate_build_info": {"version"},
}
"""Once there is a dead letter. `messages_dropped_total{bridge,reason}` has no sample before something is dropped."""

SPARKPLUG = {"tidegate_sparkplug_sequence_gaps_total", "tidegate_sparkplug_rebirth_requests_total"}
"""Of bridges that decode Sparkplug B alone."""

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


async def test_the_series_are_the_documented_ones_and_stay_as_many(tmp_path: Path) -> None:
    """Messages on 2,000 different topics, good and bad, add none after the first of their kind."""
    async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, broker, server.port)
        async with gateway(config, http) as running, device(broker) as sensor:
            await sensor.send_raw(publish_packet(b"sensors/a/b/reading", b"{}"))
            await sensor.send_raw(publish_packet(b"sensors/a/b/reading", b"{not json"))
            await eventually(lambda: _settled(running, 2), "both are settled")
            first = await running.metrics()
            ours = {(name, labels) for name, labels in first if not name.startswith("process_")}
            assert {name: {label for label, _ in labels} for name, labels in ours} == SERIES
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


async def test_a_bridge_that_decodes_sparkplug_has_series_of_its_own(tmp_path: Path) -> None:
    async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, broker, server.port)
        more = '  - {name: cells, mqtt: "spBv1.0/#", nats: plant.sensors.cells, decode: sparkplug_b}\nhttp:'
        config.write_text(config.read_text().replace("http:", more))
        async with gateway(config, http) as running:
            metrics = await running.metrics()
    names = {name for name, _ in metrics}
    assert names >= SPARKPLUG
    assert {(name, labels): 0.0 for name in SPARKPLUG for labels in [(("bridge", "cells"),)]} == {
        sample: value for sample, value in metrics.items() if sample[0] in SPARKPLUG
    }


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
