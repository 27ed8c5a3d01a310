"""A durable consumer as a source, against a real nats-server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from nats.js import JetStreamContext
from nats.js.api import RetentionPolicy

from tests.support.checker import nats_client
from tests.support.proxy import Proxy, proxy
from tests.support.server import nats_server
from tests.support.wait import eventually
from tidegate.core import Batch
from tidegate.nats import Connection, Consumer, ConsumerSpec, NatsOptions, consumer
from tidegate.nats.consumer import HEARTBEAT

SPEC = ConsumerSpec(name="tidegate-test", subject_filter="n.*", window=10)


class Rig:
    """A stream, a connection through a proxy, and what opens consumers over it."""

    def __init__(self, stream: JetStreamContext, connection: Connection, proxy: Proxy) -> None:
        self.stream = stream
        self.connection = connection
        self.proxy = proxy

    async def publish(self, numbers: range, subject: str = "n.a") -> None:
        for number in numbers:
            await self.stream.publish(subject, b"%d" % number)

    async def pending(self) -> int:
        """Return how many messages the server sees as delivered and not acknowledged."""
        return (await self.stream.consumer_info("N", SPEC.name)).num_ack_pending or 0

    @asynccontextmanager
    async def open(self, spec: ConsumerSpec = SPEC, window_bytes: int = 1 << 20) -> AsyncIterator[Consumer]:
        async with Consumer(self.connection, "b", spec, window_bytes) as opened:
            await eventually(lambda: opened.blocked is None, "it consumes")
            yield opened


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with nats_server(tmp_path) as server, nats_client(server.port) as client, proxy(server.port) as between:
        stream = client.jetstream()
        options = NatsOptions(servers=(f"nats://127.0.0.1:{between.port}",), name="test")
        async with Connection(options) as connection:
            yield Rig(stream, connection, between)


async def take(source: Consumer, count: int) -> list[Batch]:
    batches: list[Batch] = []
    async with asyncio.timeout(15):
        while sum(len(batch.messages) for batch in batches) < count:
            batches.append(await source.receive())
    return batches


def numbers(batches: list[Batch]) -> list[int]:
    return [int(message.payload) for batch in batches for message in batch.messages]


def none_pending(rig: Rig) -> Callable[[], Awaitable[bool]]:
    async def none() -> bool:
        return await rig.pending() == 0

    return none


async def nothing_comes(source: Consumer) -> bool:
    receiving = asyncio.create_task(source.receive())
    done, _ = await asyncio.wait([receiving], timeout=0.2)
    receiving.cancel()
    await asyncio.wait([receiving])
    return not done


async def test_what_was_stored_before_the_first_start_is_no_news(rig: Rig) -> None:
    await rig.stream.add_stream(name="N", subjects=["n.>"])
    await rig.publish(range(3))
    async with rig.open() as opened:
        await rig.publish(range(3, 6))
        assert numbers(await take(opened, 3)) == [3, 4, 5]


async def test_what_waits_in_a_work_queue_is_work(rig: Rig) -> None:
    await rig.stream.add_stream(name="N", subjects=["n.>"], retention=RetentionPolicy.WORK_QUEUE)
    await rig.publish(range(3))
    async with rig.open() as opened:
        assert numbers(await take(opened, 3)) == [0, 1, 2]


async def test_nothing_is_acknowledged_before_it_is_settled(rig: Rig) -> None:
    await rig.stream.add_stream(name="N", subjects=["n.>"])
    async with rig.open() as opened:
        await rig.publish(range(3))
        batches = await take(opened, 3)
        assert await rig.pending() == 3
        for batch in batches:
            batch.settle()
        await eventually(none_pending(rig), "all is acknowledged")


@pytest.mark.parametrize("retention", [RetentionPolicy.LIMITS, RetentionPolicy.INTEREST, RetentionPolicy.WORK_QUEUE])
async def test_the_next_life_gets_what_was_not_settled_first_and_in_order(rig: Rig, retention: RetentionPolicy) -> None:
    """And under the same ids: what a device or a dead letter is known by."""
    await rig.stream.add_stream(name="N", subjects=["n.>"], retention=retention)
    async with rig.open() as opened:
        await rig.publish(range(8))
        first = await take(opened, 8)
        ids = [message.id for batch in first for message in batch.messages]
        first[0].settle()
    settled = len(first[0].messages) if len(first) > 1 else 8
    async with rig.open() as opened:
        await rig.publish(range(8, 12))
        again = await take(opened, 12 - settled)
    assert numbers(again) == list(range(settled, 12))
    assert [message.id for batch in again for message in batch.messages][: 8 - settled] == ids[settled:]


async def test_a_lost_connection_loses_and_doubles_nothing(rig: Rig) -> None:
    await rig.stream.add_stream(name="N", subjects=["n.>"])
    received: list[int] = []
    async with rig.open() as opened:
        publishing = asyncio.create_task(rig.publish(range(400)))
        cuts = 0
        while len(received) < 400:
            (batch,) = await take(opened, 1)
            received += numbers([batch])
            if len(received) > 80 * (cuts + 1) and cuts < 4:
                cuts += 1
                rig.proxy.cut()
            batch.settle()
        await publishing
        await eventually(none_pending(rig), "all is acknowledged")
    assert received == list(range(400))


async def test_the_window_bounds_messages_and_bytes(rig: Rig) -> None:
    await rig.stream.add_stream(name="N", subjects=["n.>"])
    async with rig.open() as opened:
        await rig.publish(range(30))
        batches = await take(opened, 10)
        assert await nothing_comes(opened)
        assert opened.unsettled == 10
        for batch in batches:
            batch.settle()
        assert numbers(await take(opened, 10)) == list(range(10, 20))
    async with rig.open(window_bytes=5000) as opened:
        again = 0
        while again < 20:
            (batch,) = await take(opened, 1)
            again += len(batch.messages)
            batch.settle()
        for _ in range(4):
            await rig.stream.publish("n.a", b"0" * 2000)
        sizes = [message.size for batch in await take(opened, 2) for message in batch.messages]
        assert sizes == [2000, 2000]
        assert await nothing_comes(opened)


async def test_a_message_larger_than_the_window_comes_alone(rig: Rig) -> None:
    await rig.stream.add_stream(name="N", subjects=["n.>"])
    async with rig.open(window_bytes=1000) as opened:
        await rig.publish(range(1))
        await rig.stream.publish("n.a", b"0" * 5000)
        await rig.publish(range(2, 3))
        found = []
        for _ in range(3):
            (batch,) = await take(opened, 1)
            found += [message.size for message in batch.messages]
            batch.settle()
        assert found == [1, 5000, 1]


async def test_a_subject_without_a_stream_is_told_and_waited_for(rig: Rig) -> None:
    """What the stream then gets is news: nobody had it before."""
    async with Consumer(rig.connection, "b", SPEC) as opened:
        await eventually(lambda: "no stream stores n.*" in str(opened.blocked), "it says so")
        await rig.stream.add_stream(name="N", subjects=["n.>"])
        await rig.publish(range(3))
        assert numbers(await take(opened, 3)) == [0, 1, 2]
        assert opened.blocked is None


async def test_subjects_of_several_streams_are_told(rig: Rig) -> None:
    await rig.stream.add_stream(name="N", subjects=["n.a"])
    await rig.stream.add_stream(name="M", subjects=["n.b"])
    async with Consumer(rig.connection, "b", SPEC) as opened:
        await eventually(lambda: "several streams, M, N" in str(opened.blocked), "it says so")


async def test_a_consumer_that_somebody_deletes_is_made_again_where_it_stood(rig: Rig) -> None:
    """Nothing is lost, not even what comes while it is gone, and what is in hand does not come again."""
    await rig.stream.add_stream(name="N", subjects=["n.>"])
    await rig.publish(range(5))
    async with rig.open() as opened:
        await rig.publish(range(5, 10))
        batches = await take(opened, 5)
        await rig.stream.delete_consumer("N", SPEC.name)
        await rig.publish(range(10, 13))
        more = await take(opened, 3)
        for batch in batches + more:
            batch.settle()
        assert numbers(batches + more) == list(range(5, 13))
        assert await nothing_comes(opened)
        await eventually(none_pending(rig), "all is acknowledged")


async def test_a_stream_that_is_deleted_and_made_again_is_consumed_from_its_beginning(rig: Rig) -> None:
    await rig.stream.add_stream(name="N", subjects=["n.>"])
    async with rig.open() as opened:
        await rig.publish(range(3))
        old = await take(opened, 3)
        await rig.stream.delete_stream("N")
        await rig.stream.add_stream(name="N", subjects=["n.>"])
        await rig.publish(range(10, 13))
        new = await take(opened, 3)
        assert numbers(new) == [10, 11, 12]
        for batch in old + new:
            batch.settle()
        await eventually(none_pending(rig), "all is acknowledged")


async def test_a_consumer_follows_the_configuration(rig: Rig) -> None:
    await rig.stream.add_stream(name="N", subjects=["n.>"])
    async with rig.open() as opened:
        await rig.publish(range(1))
        (await take(opened, 1))[0].settle()
    other = ConsumerSpec(name=SPEC.name, subject_filter="n.b", window=20)
    async with rig.open(other) as opened:
        await rig.publish(range(5, 6), "n.a")
        await rig.publish(range(6, 7), "n.b")
        assert numbers(await take(opened, 1)) == [6]
        config = (await rig.stream.consumer_info("N", SPEC.name)).config
        assert (config.filter_subject, config.max_ack_pending) == ("n.b", 20)


@pytest.mark.slow
async def test_what_waits_long_is_not_delivered_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages in hand for 7 s, where JetStream waits 3 s, unless it is told that they are in progress."""
    monkeypatch.setattr("tidegate.nats.durable.ACK_WAIT", 3.0)
    monkeypatch.setattr(consumer, "_PROGRESS", 1.0)
    monkeypatch.setattr(consumer, "HEARTBEAT", 0.5)
    await rig.stream.add_stream(name="N", subjects=["n.>"])
    async with rig.open() as opened:
        await rig.publish(range(5))
        batches = await take(opened, 5)
        end = asyncio.get_running_loop().time() + 7
        while asyncio.get_running_loop().time() < end:
            assert await nothing_comes(opened)
        assert (await rig.stream.consumer_info("N", SPEC.name)).num_redelivered == 0
        assert opened.duplicates == 0
        for batch in batches:
            batch.settle()
        await eventually(none_pending(rig), "all is acknowledged")


@pytest.mark.slow
async def test_a_server_that_falls_silent_is_noticed_by_its_heartbeats(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "HEARTBEAT", 0.5)
    await rig.stream.add_stream(name="N", subjects=["n.>"])
    async with rig.open() as opened:
        monkeypatch.setattr(opened, "_take", lambda _: None)  # the next subscription hears nothing
        rig.proxy.cut()
        await eventually(lambda: "no sign of life" in str(opened.blocked), "it notices", timeout=2 * HEARTBEAT + 5)
        monkeypatch.undo()
        await rig.publish(range(2))
        assert numbers(await take(opened, 2)) == [0, 1]
