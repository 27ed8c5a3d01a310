"""A gateway as a Sparkplug host, between a real broker and a real nats-server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from tests.hostile.rig import write_config
from tests.sparkplug.payloads import BOOLEAN, DOUBLE, INT32, Node, birth_metric, metrics_of
from tests.support.checker import envelopes, nats_client
from tests.support.gateway import GatewayProcess, gateway
from tests.support.server import any_broker, nats_server
from tests.support.wait import eventually
from tidegate.bridge.decode.sparkplug_payload import Payload
from tidegate.core import Message

BRIDGES = """\
  - name: cells
    mqtt: spBv1.0/{group}/{kind}/{node...}
    nats: plant.{group}.{kind}.{node...}
    decode: sparkplug_b
"""
TEMP, LEVEL = birth_metric("temp", DOUBLE, 5), birth_metric("level", INT32, 6)
OTHER_TEMP, OTHER_LEVEL = birth_metric("temp", DOUBLE, 6), birth_metric("level", INT32, 5)
"""A birth may give the aliases to other metrics than the one before."""

LABELS = (("bridge", "cells"),)


def data(temp: int, level: int, number: float) -> list[dict[str, Any]]:
    """Return a reading under these aliases."""
    return [
        {"alias": temp, "double_value": number},
        {"alias": level, "int_value": (1 << 32) - 5},
    ]


async def send(edge: aiomqtt.Client, *messages: Message) -> None:
    """Publish messages; return once the broker has them."""
    for message in messages:
        await edge.publish(message.topic.decode(), message.payload, qos=1)


async def settled(running: GatewayProcess, state: str, count: int) -> bool:
    """Whether so many messages came to this, and none is on its way."""
    found = await running.metrics()
    in_flight = found["tidegate_messages_in_flight", LABELS]
    return (found[f"tidegate_messages_{state}", LABELS], in_flight) == (count, 0)


@pytest.mark.slow
async def test_names_gaps_and_rebirths_over_an_outage_of_nats(tmp_path: Path) -> None:
    node = Node("edge", "plant")
    async with any_broker(tmp_path / "mqtt") as port, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, port, server.port, BRIDGES)
        async with gateway(config, http) as running, aiomqtt.Client("127.0.0.1", port) as edge:
            await edge.subscribe("spBv1.0/plant/NCMD/edge")
            await send(edge, node.born(birth_metric("Node Control/Rebirth", BOOLEAN, boolean_value=False)))
            await send(edge, node.says("DBIRTH", TEMP, LEVEL, device="press"))
            await send(edge, *(node.says("DDATA", *data(5, 6, number), device="press") for number in range(3)))
            node.skip()
            await send(edge, node.says("DDATA", *data(5, 6, 3), device="press"))
            async with asyncio.timeout(10):
                command = await anext(aiter(edge.messages))
            (metric,) = Payload.FromString(command.payload).metrics
            assert (metric.name, metric.boolean_value) == ("Node Control/Rebirth", True)
            assert (str(command.topic), command.qos, command.retain) == ("spBv1.0/plant/NCMD/edge", 0, False)
            await send(edge, node.born(), node.says("DBIRTH", TEMP, LEVEL, device="press"))
            await eventually(lambda: settled(running, "delivered_total", 8), "all so far is delivered")

            await server.stop()
            await send(edge, *(node.says("DDATA", *data(5, 6, number), device="press") for number in range(4, 7)))
            await send(edge, node.born(), node.says("DBIRTH", OTHER_TEMP, OTHER_LEVEL, device="press"))
            await send(edge, *(node.says("DDATA", *data(6, 5, number), device="press") for number in range(7, 10)))
            await eventually(lambda: settled(running, "spooled", 8), "the spool holds what came meanwhile")
            await send(edge, node.born())  # the spooled messages are decoded when no alias means anything any more
            await server.start()
            await eventually(lambda: settled(running, "delivered_total", 17), "all is delivered")

            metrics = await running.metrics()
            assert metrics["tidegate_sparkplug_sequence_gaps_total", LABELS] == 1
            assert metrics["tidegate_sparkplug_rebirth_requests_total", LABELS] == 1
            async with nats_client(server.port) as client:
                events = [event.data for event in await envelopes(client, "EVENTS")]
    readings = [metrics_of(event) for event in events if event["type"] == "DDATA"]
    assert readings == [{"temp": float(number), "level": -5} for number in range(10)]
    assert [event["type"] for event in events if event["type"] != "DDATA"] == ["NBIRTH", "DBIRTH"] * 3 + ["NBIRTH"]


async def test_a_node_that_was_born_before_the_gateway_came_is_asked_for_a_rebirth(tmp_path: Path) -> None:
    """Its data under an alias are dead letters until then."""
    node = Node("edge", "plant")
    node.born(TEMP)
    async with any_broker(tmp_path / "mqtt") as port, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, port, server.port, BRIDGES)
        async with gateway(config, http) as running, aiomqtt.Client("127.0.0.1", port) as edge:
            await edge.subscribe("spBv1.0/plant/NCMD/edge")
            await send(edge, node.says("NDATA", {"alias": 5, "double_value": 1.0}))
            async with asyncio.timeout(10):
                await anext(aiter(edge.messages))
            await send(edge, node.born(TEMP), node.says("NDATA", {"alias": 5, "double_value": 2.0}))
            await eventually(lambda: settled(running, "delivered_total", 2), "the birth and the data are delivered")
            metrics = await running.metrics()
            assert metrics["tidegate_messages_dead_lettered_total", (*LABELS, ("reason", "alias_unknown"))] == 1
            assert metrics["tidegate_sparkplug_sequence_gaps_total", LABELS] == 0
