"""A bucket has the newest event of each subject, as the streams have them, whatever happens in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.js.api import StreamConfig
from nats.js.errors import KeyNotFoundError, NotFoundError
from nats.js.kv import KeyValue

from tests.nats.helpers import connection
from tests.support.checker import nats_client
from tests.support.server import Server, nats_server
from tests.support.wait import eventually
from tidegate.nats import BucketSpec, StreamError, StreamSpec, ensure_bucket, ensure_stream
from tidegate.nats.link import Link

STREAM = StreamSpec(name="SENSORS", subjects=("plant.>",))
BUCKET = BucketSpec(name="LAST", subjects=("plant.sensors.*.*",))


@asynccontextmanager
async def server_client(folder: Path) -> AsyncIterator[tuple[Server, Client, Link]]:
    """Run a server with the stream."""
    async with nats_server(folder) as server, nats_client(server.port) as client, connection(server.port) as to:
        await ensure_stream(link := await to.ready(), STREAM)
        yield server, client, link


async def publish(client: Client, subject: str, value: str, name: str | None = None) -> None:
    """Store an event with an id, by default its value."""
    await client.jetstream().publish(subject, value.encode(), headers={"Nats-Msg-Id": name or value})


async def becomes(client: Client, key: str, value: str, timeout: float = 15.0) -> None:
    """Wait until the bucket has a value."""

    async def is_there() -> bool:
        return await last(client, key) == value

    await eventually(is_there, f"{key} is {value}", timeout)


async def last(client: Client, key: str) -> str | None:
    """Return what the bucket has, as any service would ask for it."""
    try:
        entry = await (await bucket(client)).get(key)
    except KeyNotFoundError:
        return None
    return (entry.value or b"").decode()


async def bucket(client: Client) -> KeyValue:
    """Return the bucket as nats-py sees it."""
    return await client.jetstream().key_value("LAST")


async def config(client: Client) -> StreamConfig:
    """Return the configuration of the bucket's stream."""
    return (await client.jetstream().stream_info("KV_LAST")).config


async def refused(link: Link, spec: BucketSpec = BUCKET) -> str:
    """Ask for a bucket that can't be, and return why."""
    with pytest.raises(StreamError) as caught:
        await ensure_bucket(link, spec)
    assert caught.value.stream == "KV_LAST"
    return caught.value.problem


async def test_a_bucket_has_what_was_stored_before_it_was_made_and_what_comes(tmp_path: Path) -> None:
    async with server_client(tmp_path) as (_, client, link):
        await publish(client, "plant.sensors.hall.s1", "1")
        await publish(client, "plant.sensors.hall.s2", "2")
        await publish(client, "plant.sensors.hall.s1", "3")
        await publish(client, "plant.other", "4")
        await ensure_bucket(link, BUCKET)
        await becomes(client, "plant.sensors.hall.s1", "3")
        await becomes(client, "plant.sensors.hall.s2", "2")
        watcher = await (await bucket(client)).watch("plant.sensors.*.s1")
        assert [(await watcher.updates()).value, await watcher.updates()] == [b"3", None]
        await publish(client, "plant.sensors.hall.s1", "5")
        assert (await watcher.updates()).value == b"5"
        assert set(await (await bucket(client)).keys()) == {"plant.sensors.hall.s1", "plant.sensors.hall.s2"}


async def test_an_event_keeps_its_headers_in_the_bucket(tmp_path: Path) -> None:
    async with server_client(tmp_path) as (_, client, link):
        await ensure_bucket(link, BUCKET)
        headers = {"Nats-Msg-Id": "1", "ce-type": "t", "Content-Type": "application/json"}
        await client.jetstream().publish("plant.sensors.hall.s1", b"1", headers=headers)
        await becomes(client, "plant.sensors.hall.s1", "1")
        found = await client.jetstream().get_last_msg("KV_LAST", "$KV.LAST.plant.sensors.hall.s1")
        assert found.headers is not None
        assert headers.items() <= found.headers.items()


@pytest.mark.parametrize(
    ("subjects", "subject"),
    [
        ("plant.one", "plant.one"),
        ("plant.>", "plant.a.b.c"),
        ("plant.*.b", "plant.a.b"),
        ("plant.*.x.*.>", "plant.a.x.b.c.d"),
    ],
)
async def test_the_key_is_the_subject_whatever_wildcards_the_filter_has(
    tmp_path: Path, subjects: str, subject: str
) -> None:
    async with server_client(tmp_path) as (_, client, link):
        await ensure_bucket(link, BucketSpec(name="LAST", subjects=(subjects,)))
        await publish(client, subject, "1")
        await becomes(client, subject, "1")


async def test_the_newest_event_of_each_subject_wins_under_load(tmp_path: Path) -> None:
    async with server_client(tmp_path) as (_, client, link):
        await ensure_bucket(link, BUCKET)
        for number in range(20_000):
            subject = f"plant.sensors.hall.s{number % 100}"
            await client.publish(subject, b"%d" % number, headers={"Nats-Msg-Id": str(number)})
        for number in range(100):
            await becomes(client, f"plant.sensors.hall.s{number}", str(19_900 + number))


async def test_an_event_that_is_sent_again_does_not_bring_an_old_value_back(tmp_path: Path) -> None:
    async with server_client(tmp_path) as (_, client, link):
        await ensure_bucket(link, BUCKET)
        for value in ("1", "2", "1"):
            await publish(client, "plant.sensors.hall.s1", value)
        await publish(client, "plant.sensors.hall.s2", "end")
        await becomes(client, "plant.sensors.hall.s2", "end")
        assert await last(client, "plant.sensors.hall.s1") == "2"


async def test_a_bucket_goes_on_after_its_server_was_killed_and_its_stream_changed(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server:
        for life in range(3):
            async with nats_client(server.port) as client, connection(server.port) as to:
                link = await to.ready()
                await ensure_stream(link, StreamSpec(name="SENSORS", subjects=("plant.>",), max_age=86_400.0 + life))
                await ensure_bucket(link, BUCKET)
                if life:
                    await becomes(client, "plant.sensors.hall.silent", "0")
                    assert await last(client, "plant.sensors.hall.s1") == str(life - 1)
                else:
                    await publish(client, "plant.sensors.hall.silent", "0", "silent")
                await publish(client, "plant.sensors.hall.s1", str(life))
                await becomes(client, "plant.sensors.hall.s1", str(life), timeout=30.0)
                assert await last(client, "plant.sensors.hall.silent") == "0"
            await server.kill()
            await server.start()


async def test_a_bucket_is_as_nats_py_makes_one_but_for_direct_gets_and_its_sources(tmp_path: Path) -> None:
    async with server_client(tmp_path) as (_, client, link):
        await ensure_bucket(link, BUCKET)
        made = await config(client)
        await client.jetstream().delete_stream("KV_LAST")
        await client.jetstream().create_key_value(bucket="LAST", direct=True)
        theirs = await config(client)
        same = {"sources": None, "duplicate_window": None, "metadata": None, "allow_msg_ttl": None}
        assert made.evolve(**same) == theirs.evolve(**same)
        assert not made.duplicate_window


async def test_a_bucket_that_is_there_gets_what_it_lacks_and_keeps_the_rest(tmp_path: Path) -> None:
    async with server_client(tmp_path) as (_, client, link):
        values = await client.jetstream().create_key_value(bucket="LAST", history=5, ttl=3600.0, direct=False)
        await values.put("mine", b"1")
        before = await config(client)
        await publish(client, "plant.sensors.hall.s1", "1")
        for _ in range(2):
            await ensure_bucket(link, BUCKET)
            await becomes(client, "plant.sensors.hall.s1", "1")
        after = await config(client)
        assert len(after.sources or []) == 1
        assert after.evolve(sources=None, metadata=None) == before.evolve(sources=None, metadata=None)
        assert await last(client, "mine") == "1"


async def test_subjects_that_are_added_leave_the_others_undisturbed(tmp_path: Path) -> None:
    """Also those that are no longer asked for; nothing is taken twice."""
    async with server_client(tmp_path) as (_, client, link):
        await ensure_stream(link, StreamSpec(name="ALARMS", subjects=("alarms.>",)))
        await ensure_bucket(link, BUCKET)
        await publish(client, "plant.sensors.hall.s1", "1")
        await becomes(client, "plant.sensors.hall.s1", "1")
        await publish(client, "alarms.a", "2")
        await publish(client, "plant.meters.m1", "3")
        await ensure_bucket(link, BucketSpec(name="LAST", subjects=("plant.meters.*", "alarms.>")))
        await becomes(client, "alarms.a", "2")
        await becomes(client, "plant.meters.m1", "3")
        await publish(client, "plant.sensors.hall.s1", "4")
        await becomes(client, "plant.sensors.hall.s1", "4")
        assert (await client.jetstream().stream_info("KV_LAST")).state.last_seq == 4


async def test_subjects_in_several_streams_come_into_one_bucket(tmp_path: Path) -> None:
    async with server_client(tmp_path) as (_, client, link):
        for part in "ab":
            await ensure_stream(link, StreamSpec(name=part, subjects=(f"parts.{part}.*",)))
        await ensure_bucket(link, BucketSpec(name="LAST", subjects=("parts.*.*",)))
        for part in "ab":
            await publish(client, f"parts.{part}.1", part)
            await becomes(client, f"parts.{part}.1", part)


async def test_events_of_two_streams_may_have_one_id(tmp_path: Path) -> None:
    async with server_client(tmp_path) as (_, client, link):
        await ensure_stream(link, StreamSpec(name="ALARMS", subjects=("alarms.>",)))
        await ensure_bucket(link, BucketSpec(name="LAST", subjects=("plant.>", "alarms.>")))
        for subject in ("plant.a", "alarms.a"):
            await publish(client, subject, "1")
            await becomes(client, subject, "1")


async def test_a_work_queue_is_not_sourced_and_keeps_its_work(tmp_path: Path) -> None:
    async with server_client(tmp_path) as (_, client, link):
        await ensure_stream(link, StreamSpec(name="W", subjects=("work.>",), retention="workqueue", discard="new"))
        assert "W is a work queue" in await refused(link, BucketSpec(name="LAST", subjects=("work.*",)))
        with pytest.raises(NotFoundError):
            await config(client)


async def test_a_bucket_of_no_stream_or_whose_sources_overlap_is_refused_and_unchanged(tmp_path: Path) -> None:
    async with server_client(tmp_path) as (_, client, link):
        assert "no stream stores none.*" in await refused(link, BucketSpec(name="LAST", subjects=("none.*",)))
        await ensure_bucket(link, BUCKET)
        before = await config(client)
        problem = await refused(link, BucketSpec(name="LAST", subjects=("plant.>",)))
        assert "has plant.sensors.*.* of SENSORS already, which overlaps with plant.>" in problem
        assert await config(client) == before


async def test_what_the_server_refuses_is_said(tmp_path: Path) -> None:
    async with server_client(tmp_path) as (_, _client, link):
        await ensure_stream(link, StreamSpec(name="OTHER", subjects=("$KV.LAST.>",)))
        assert "the server refused the bucket LAST: subjects overlap" in await refused(link)
