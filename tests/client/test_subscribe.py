"""Pub/sub: each service has its own copy."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.client.rig import Log, Task, rig, running
from tests.support.checker import flushed
from tests.support.wait import eventually
from tidegate.client import Subscriber, Worker, subscribe

STRUCTURED = {"Content-Type": "application/cloudevents+json"}


async def test_every_subscriber_gets_its_own_copy(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        live, first, second = Log(), Log(), Log()
        listener = subscribe(r.client, "events.>", Task, live)
        durable = [
            subscribe(r.client, "events.>", Task, log, durable=name)
            for name, log in (("first", first), ("second", second))
        ]
        async with running(listener, *durable):
            await _begun(*durable)
            await r.put(5, "events.a")
            await eventually(lambda: len(live.numbers) == len(first.numbers) == len(second.numbers) == 5)
        assert live.numbers == first.numbers == second.numbers == list(range(5))


async def _begun(*services: object) -> None:
    """Wait until the consumers are there: they begin with what comes after that."""
    for service in services:
        assert isinstance(service, Worker)
        await eventually(lambda service=service: service.ready, "the consumer is there")  # type: ignore[misc]


async def test_a_durable_subscription_catches_up_after_an_absence_and_a_live_one_does_not(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        await r.put(3, "events.before")
        live, durable = Log(), Log()
        for number in (10, 11):
            services = [
                subscribe(r.client, "events.>", Task, live),
                subscribe(r.client, "events.>", Task, durable, durable="d", partitions=1),
            ]
            async with running(*services):
                await _begun(services[1])
                await r.client.publish("events.a", Task(number=number))
                await eventually(lambda number=number: live.numbers[-1:] == durable.numbers[-1:] == [number])  # type: ignore[misc]
            await r.client.publish("events.a", Task(number=number + 100))
        async with running(subscribe(r.client, "events.>", Task, durable, durable="d", partitions=1)):
            await eventually(lambda: len(durable.numbers) == 4)
        assert live.numbers == [10, 11]
        assert durable.numbers == [10, 110, 11, 111]


async def test_one_bad_event_does_not_stop_a_live_subscriber(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with rig(tmp_path) as r:
        log = Log(lambda number, _attempt: OSError("no") if number == 0 else None)
        listener = subscribe(r.client, "events.>", Task, log)
        assert isinstance(listener, Subscriber)
        async with running(listener):
            await flushed(r.client.connection)
            await r.client.jetstream.publish("events.a", b"no event")
            await r.put(2, "events.a")
            await eventually(lambda: log.numbers == [0, 1])
        assert (listener.handled, listener.failed, listener.invalid, listener.dropped) == (1, 1, 1, 0)
        assert "events.a: not handled: not a CloudEvent" in caplog.text


async def test_a_live_subscriber_that_is_too_slow_drops_and_counts(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        release = asyncio.Event()

        async def hold(_event: object) -> None:
            await release.wait()

        listener = subscribe(r.client, "fast.>", Task, hold)
        assert isinstance(listener, Subscriber)
        async with running(listener):
            await flushed(r.client.connection)
            body = (await r.client.publish("events.a", Task(number=0))).to_json()
            for _ in range(10_500):
                await r.client.connection.publish(
                    "fast.a", body, headers={"Content-Type": "application/cloudevents+json"}
                )
            await eventually(lambda: listener.dropped > 0)
            release.set()
            await eventually(lambda: listener.handled + listener.dropped == 10_500)


async def test_options_of_a_worker_without_durable_are_refused(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        with pytest.raises(ValueError, match="max_deliver: only with durable"):
            subscribe(r.client, "events.>", Task, Log(), max_deliver=3)
