"""Publishing: stored once, or an error that says what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.client.rig import Rig, Task, rig, running, worker
from tests.support.server import nats_server
from tests.support.wait import eventually
from tidegate.client import ConnectError, Event, PublishError, connect


async def test_an_event_that_is_published_again_is_stored_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        event = await r.client.publish("events.a", Task(number=1))
        again = await r.client.publish("events.a", event)
        other = await r.client.publish("events.a", Task(number=1))
        assert await r.left("EVENTS") == 2
        assert again is event
        assert other.id != event.id


async def _handled_twice(r: Rig, handle: Callable[[Event[Task]], Awaitable[None]]) -> None:
    """Have an event handled twice, as after a death before its acknowledgement."""
    attempts = 0

    async def twice(event: Event[Task]) -> None:
        nonlocal attempts
        attempts += 1
        await handle(event)
        if attempts == 1:
            raise OSError("died after its work was done")

    async with running(worker(r, twice)):
        await eventually(lambda: attempts == 2)


async def test_what_a_handler_publishes_is_stored_once_though_it_runs_again(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        cause = await r.client.publish("work.a", Task(number=1))
        published: list[Event[Task]] = []

        async def handle(_event: Event[Task]) -> None:
            published.append(await r.client.publish("events.a", Task(number=2)))
            published.append(await r.client.publish("events.a", Task(number=3)))
            published.append(await r.client.publish("events.b", Task(number=3)))

        await _handled_twice(r, handle)
        assert [event.id for event in published[:3]] == [event.id for event in published[3:]]
        assert len({event.id for event in published}) == 3
        assert {event.causationid for event in published} == {cause.id}
        assert {event.correlationid for event in published} == {cause.correlationid}
        assert await r.left("EVENTS") == 3


async def test_equal_events_that_a_handler_publishes_on_purpose_are_two(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        await r.client.publish("work.a", Task(number=1))

        async def handle(_event: Event[Task]) -> None:
            await r.client.publish("events.a", Task(number=2))
            await r.client.publish("events.a", Task(number=2))

        await _handled_twice(r, handle)
        assert await r.left("EVENTS") == 2


async def test_a_handler_that_says_something_else_when_it_runs_again_loses_nothing(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        await r.client.publish("work.a", Task(number=1))
        numbers = iter((2, 3))

        async def handle(_event: Event[Task]) -> None:
            await r.client.publish("events.a", Task(number=next(numbers)))

        await _handled_twice(r, handle)
        assert await r.left("EVENTS") == 2


async def test_a_whole_event_is_forwarded_within_its_stream_once_though_the_handler_runs_again(tmp_path: Path) -> None:
    """To the stream it is a copy of what is there under another subject, and must not be lost for that."""
    async with rig(tmp_path) as r:
        event = await r.client.publish("work.new", Task(number=1))

        async def route(event: Event[Task]) -> None:
            await r.client.publish("work.urgent", event)

        attempts = 0

        async def twice(event: Event[Task]) -> None:
            nonlocal attempts
            attempts += 1
            await route(event)
            if attempts == 1:
                raise OSError("died after its work was done")

        async with running(worker(r, twice, subject="work.new")):
            await eventually(lambda: attempts == 2)
            await eventually(lambda: _is(r.left(), 1))
        found = await r.client.jetstream.get_last_msg("WORK", "work.urgent")
        assert found.data == event.to_json()


async def _is(found: Awaitable[int], wanted: int) -> bool:
    return await found == wanted


async def test_what_a_handler_publishes_again_after_a_cancellation_is_stored_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        await r.client.publish("work.a", Task(number=1))
        ids: list[str] = []

        async def handle(_event: Event[Task]) -> None:
            publishing = asyncio.create_task(r.client.publish("events.a", Task(number=2)))
            await asyncio.sleep(0)
            publishing.cancel()
            await asyncio.wait([publishing])
            ids.append((await r.client.publish("events.a", Task(number=2))).id)

        await _handled_twice(r, handle)
        assert ids[0] == ids[1]
        assert await r.left("EVENTS") == 1


async def test_publishing_waits_while_nats_is_away_and_stores_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        await r.server.kill()
        publishing = asyncio.create_task(r.client.publish("events.a", Task(number=1)))
        await eventually(lambda: not r.client.connection.is_connected, "the client knows")
        await r.server.start()
        await publishing
        assert await r.left("EVENTS") == 1


async def test_what_no_stream_takes_is_an_error_that_has_the_event_to_try_again(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        with pytest.raises(PublishError, match=r"nowhere\.a: no stream listens to this subject") as refused:
            await r.client.publish("nowhere.a", Task(number=1), timeout=0.5)
        await r.client.jetstream.add_stream(name="NOWHERE", subjects=["nowhere.>"])
        await r.client.publish("nowhere.a", refused.value.event)
        assert await r.left("NOWHERE") == 1


async def test_what_is_no_subject_is_refused_at_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        with pytest.raises(PublishError, match="that is no subject"):
            await r.client.publish("a b", Task(number=1))


async def test_an_event_larger_than_the_server_takes_is_refused_at_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        with pytest.raises(PublishError, match="more than the server takes"):
            await r.client.publish("events.a", Task(number=1, name="x" * 1_100_000))


@pytest.mark.parametrize("where", ["options", "url"])
async def test_a_refused_login_is_an_error_without_the_password(
    tmp_path: Path, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with nats_server(tmp_path, "authorization {user: u, password: right}") as server:
        place = f"127.0.0.1:{server.port}"
        url, options = f"nats://{place}", {"user": "u", "password": "canary"}
        if where == "url":
            url, options = f"nats://u:canary@{place}", {}
        with pytest.raises(ConnectError) as refused:
            async with connect(url, source="urn:example:x", **options):
                pass
        assert "canary" not in f"{refused.value} {caplog.text}"
        assert place in str(refused.value)
        assert "uthorization" in str(refused.value)


async def test_a_service_waits_for_a_server_that_is_not_there_yet(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server:
        await server.stop()

        async def connected() -> bool:
            async with connect(f"nats://127.0.0.1:{server.port}", source="urn:example:x") as client:
                return client.connection.is_connected

        connecting = asyncio.create_task(connected())
        await asyncio.wait([connecting], timeout=0.5)
        assert not connecting.done()
        await server.start()
        assert await connecting
