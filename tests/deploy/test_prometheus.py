"""A real Prometheus beside a real gateway: what it is told is what happened, and its alerts come and go."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.deploy.plant import Plant, outage, plant, recovery, work
from tests.faults.observe import books
from tests.support.prometheus import Prometheus, prometheus, scrape
from tests.support.wait import eventually

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "rules.yml"
BALANCED = """
  tidegate_messages_received_total == tidegate_messages_delivered_total + tidegate_messages_filtered_total
  + (sum without (reason) (tidegate_messages_dead_lettered_total) or 0 * tidegate_messages_received_total)
  + (sum without (reason) (tidegate_messages_dropped_total) or 0 * tidegate_messages_received_total)
  + tidegate_messages_in_flight + tidegate_messages_spooled
"""

UNACCOUNTED = "bridge:tidegate_messages_unaccounted:sum"

pytestmark = pytest.mark.slow


@asynccontextmanager
async def _watched(folder: Path) -> AsyncIterator[tuple[Plant, Prometheus]]:
    """Run everything, with the operators' rules over seconds where they say minutes."""
    rules = folder / "rules.yml"
    rules.write_text(re.sub(r"(?<=[\[ ])(\d+)m\b", r"\1s", RULES.read_text()))
    async with plant(folder) as running:
        config = scrape(running.gateway.http, rules=str(rules), gateway="plant")
        async with prometheus(folder / "prometheus", config) as server:
            await eventually(lambda: server.query('up{job="tidegate", gateway="plant"} == 1'), "the target is up", 30)
            yield running, server


async def _by_bridge(server: Prometheus, expression: str) -> dict[str, float]:
    return {sample.labels["bridge"]: sample.value for sample in await server.query(expression)}


async def _scraped(server: Prometheus, received: float) -> None:
    """Return once Prometheus has a scrape with that many messages, none of them in flight."""
    wanted = f"sum(tidegate_messages_received_total) == {received} and sum(tidegate_messages_in_flight) == 0"
    await eventually(lambda: server.query(wanted), wanted, 30)


async def _state(server: Prometheus, alert: str) -> str | None:
    """Return "pending" or "firing", or None for an alert that is not active."""
    return next((active["state"] for active in (await server.alerts()).get(alert, ())), None)


async def test_a_process_is_new_for_a_while_and_again_after_a_restart(tmp_path: Path) -> None:
    """As its own start time tells: alerts look at that for what was counted before the first scrape."""
    new = 'gateway:tidegate_new_process{gateway="plant"}'
    async with _watched(tmp_path) as (running, server):
        await eventually(lambda: server.query(new), "it is new", 30)
        await eventually(lambda: server.query(f"absent({new})"), "it is known", 60)
        await running.gateway.stop()
        await running.gateway.start()
        await eventually(lambda: server.query(new), "another one is new", 30)


async def test_its_queries_give_what_the_gateway_counted(tmp_path: Path) -> None:
    """At one scrape; and everything balances there, also while NATS is away."""
    async with _watched(tmp_path) as (running, server):
        await work(running, range(2000))
        await _scraped(server, 2020)
        counted = await running.gateway.metrics()
        for name in ("received_total", "delivered_total", "dead_lettered_total", "in_flight", "spooled"):
            series = f"tidegate_messages_{name}"
            assert await _by_bridge(server, series) == {
                dict(labels)["bridge"]: value for (found, labels), value in counted.items() if found == series
            }
        assert await _by_bridge(server, BALANCED) == {"readings": 2000, "cells": 0, "notices": 20}

        await outage(running, range(2000, 5000))
        received = (await books(running.gateway)).received
        await _scraped(server, received)
        assert await _by_bridge(server, BALANCED) == {"readings": received - 20, "cells": 0, "notices": 20}
        assert (await _by_bridge(server, "tidegate_messages_spooled"))["readings"] > 0
        await recovery(running)


async def test_recording_rules_have_right_values_over_an_outage(tmp_path: Path) -> None:
    """Rules are evaluated a little later than the scrape, so what they must say is waited for."""
    async with _watched(tmp_path) as (running, server):

        async def readings(record: str, low: float, high: float) -> None:
            wanted = f'{low} <= {record}{{bridge="readings"}} <= {high}'
            await eventually(lambda: server.query(wanted), wanted)

        await work(running, range(2000))
        await readings("bridge:tidegate_messages_received:rate5m", 1, 2000)
        await readings("bridge:tidegate_messages_delivered:rate5m", 1, 1600)
        await readings("bridge:tidegate_delivery_duration_seconds:p99_5m", 0.0001, 60)
        await readings("bridge:tidegate_messages_dead_lettered:sum", 400, 400)
        await readings("bridge:tidegate_messages_dropped:sum", 0, 0)
        await readings("bridge:tidegate_lag:seconds", 0, 0)

        await outage(running, range(2000, 5000))
        counted = await running.gateway.metrics()
        fill = counted["tidegate_spool_bytes", (("bridge", "readings"),)] / counted["tidegate_spool_max_bytes", ()]
        full = f"abs(gateway:tidegate_spool_fill:ratio - {fill}) < 0.001"
        await eventually(lambda: server.query(full), full)
        oldest = counted["tidegate_spool_oldest_timestamp_seconds", (("bridge", "readings"),)]
        behind = f'0 < bridge:tidegate_lag:seconds{{bridge="readings"}} <= time() - {oldest}'
        await eventually(lambda: server.query(behind), behind)

        await recovery(running)
        await readings("bridge:tidegate_lag:seconds", 0, 0)
        assert [sample.value for sample in await server.history(f"{UNACCOUNTED} != 0", 60)] == []
        assert len(await server.history(UNACCOUNTED, 60)) > 10
        assert [rule["lastError"] for rule in await server.rules() if rule.get("lastError")] == []


async def test_an_alert_is_pending_and_fires_when_nats_stops_and_resolves(tmp_path: Path) -> None:
    async with _watched(tmp_path) as (running, server):

        async def is_(state: str | None) -> bool:
            return await _state(server, "TidegateLinkDown") == state

        assert await is_(None)
        await running.nats.stop()
        await eventually(lambda: is_("pending"), "it is pending", 30)
        await eventually(lambda: is_("firing"), "it fires", 30)
        (alert,) = (await server.alerts())["TidegateLinkDown"]
        assert (alert["labels"]["gateway"], alert["labels"]["endpoint"]) == ("plant", "nats")
        assert alert["annotations"]["summary"].startswith("Gateway plant has no nats connection")
        await recovery(running)
        await eventually(lambda: is_(None), "it has resolved", 30)
