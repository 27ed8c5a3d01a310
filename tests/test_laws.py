"""The laws of ARCHITECTURE.md, one test each, named after it. The batteries in the folders beside say more of each."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from tests.app.helpers import READINGS, gateway_config, load
from tests.bridge.messages import converter, dead_letters
from tests.mqtt.rig import DUP, PUBACK, rig, sent, sent_until_fence
from tests.support.server import any_broker, nats_server
from tests.support.wait import eventually
from tidegate.app.gateway import Gateway
from tidegate.bridge import Bridge
from tidegate.core import Mapping
from tidegate.memory import MemorySink, MemorySource


async def test_law_1_no_puback_before_the_message_is_settled() -> None:
    async with rig() as ends:
        connection = await ends.accept()
        await connection.send(ends.publish(1))
        await ends.handed_out(1)
        assert await sent_until_fence(connection) == []
        ends.batches[0].settle()
        assert await sent(connection, 1) == [(PUBACK, 1)]


async def test_law_2_every_message_is_settled_exactly_once_and_cancellation_settles_nothing() -> None:
    source, sink = MemorySource(), MemorySink()
    sink.holding = True
    bridge = Bridge("b", source, converter(), sink, dead_letters(MemorySink()))
    task = asyncio.create_task(bridge.run())
    source.put("a", b"1")
    await eventually(lambda: sink.in_flight == 1)
    task.cancel()
    await asyncio.wait([task])
    sink.release()
    assert source.settled == []
    source.reconnect()
    batch = await source.receive()
    batch.settle()
    batch.settle()
    assert len(source.settled) == 1


async def test_law_3_in_flight_is_bounded_by_us_whatever_the_broker_sends() -> None:
    async with rig(receive_maximum=10) as ends:
        connection = await ends.accept()
        await connection.send(b"".join(ends.publish(number) for number in range(1, 101)))
        await ends.handed_out(10)
        for number in range(10, 100, 10):
            assert ends.session.unsettled == 10
            ends.batches[-1].settle()
            await ends.handed_out(number + 10)


async def test_law_4_pubacks_leave_in_arrival_order() -> None:
    async with rig() as ends:
        connection = await ends.accept()
        for count, packet_id in enumerate((7, 3, 5), 1):
            await connection.send(ends.publish(packet_id))
            await ends.handed_out(count)
        for batch in reversed(ends.batches):
            batch.settle()
        assert await sent(connection, 3) == [(PUBACK, 7), (PUBACK, 3), (PUBACK, 5)]


async def test_law_5_an_acknowledgement_from_an_earlier_epoch_is_a_counted_no_op() -> None:
    async with rig() as ends:
        connection = await ends.accept()
        await connection.send(ends.publish(1))
        await ends.handed_out(1)
        connection = await ends.reconnect(connection)
        ends.batches[0].settle()
        assert ends.session.stale_acks == 1
        assert await sent_until_fence(connection) == []
        await connection.send(ends.publish(1, flags=DUP))
        await ends.handed_out(2)
        assert ends.messages[0].id == ends.messages[1].id


async def test_law_6_nothing_disappears_silently_and_the_counters_balance() -> None:
    source, sink, dead = MemorySource(), MemorySink(), MemorySink()
    bridge = Bridge("b", source, converter(), sink, dead_letters(dead))
    task = asyncio.create_task(bridge.run())
    for number in range(100):
        source.put("a", b"not json" if number % 7 == 0 else b"1")
        assert bridge.counters.balanced
    await eventually(lambda: len(source.settled) == 100)
    assert bridge.counters.balanced
    assert bridge.counters.dead_lettered == {"decode_failed": 15}
    assert len(sink.stored) + len(dead.stored) == bridge.counters.received == 100
    bridge.stop()
    await task


def test_law_7_a_device_can_reach_no_subject_outside_the_bridges_own() -> None:
    mapping = Mapping("in/{x...}", "plant.{x...}")
    for topic in (
        "in/$JS/API/STREAM/DELETE/X",
        "in/>",
        "in/*",
        "in/a b\r\nPUB evil 3",
        "in//",
        "in/_INBOX/x",
        "in/...",
    ):
        subject = mapping.subject(topic)
        assert subject.startswith("plant.")
        assert not re.search(r"[\s*>]|\.\.|\.$", subject)
        assert mapping.topic(subject) == topic


async def test_law_8_one_bad_message_never_stops_a_good_one() -> None:
    source, sink, dead = MemorySource(), MemorySink(), MemorySink()
    bridge = Bridge("b", source, converter(), sink, dead_letters(dead))
    task = asyncio.create_task(bridge.run())
    bad = source.put("a", b"not json")
    good = source.put("a", b"1")
    await eventually(lambda: len(source.settled) == 2)
    assert (list(sink.stored), list(dead.stored)) == ([good.id], [bad.id])
    bridge.stop()
    await task


async def test_law_9_start_reload_and_stop_are_one_function(tmp_path: Path) -> None:
    async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        gateway = Gateway()
        config = load(tmp_path, gateway_config(broker, server.port, READINGS))
        await gateway.apply(config)
        running = gateway.bridges["readings"]
        await eventually(lambda: not gateway.problems)
        await gateway.apply(config)
        assert gateway.bridges == {"readings": running}
        await gateway.apply(None)
        assert gateway.bridges == {}
        assert gateway.connection is None
        gateway.failed.cancel()


def test_the_laws_in_the_architecture_are_the_ones_tested_here() -> None:
    text = (Path(__file__).parents[1] / "ARCHITECTURE.md").read_text()
    laws = re.findall(r"^(\d)\. ", text.partition("## Laws")[2].partition("##")[0], re.MULTILINE)
    assert laws == re.findall(r"^(?:async )?def test_law_(\d)_", Path(__file__).read_text(), re.MULTILINE)
