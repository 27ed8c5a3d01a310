"""Streams are created where they are missing, and otherwise verified; nothing that is stored is ever put at risk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from tests.nats.helpers import connection
from tests.support.checker import nats_client
from tests.support.server import nats_server
from tidegate.core import ConnectError
from tidegate.nats import StreamError, StreamSpec, ensure_stream
from tidegate.nats.link import Link

SPEC = StreamSpec(name="SENSORS", subjects=("plant.sensors.>", "plant.meters.*"), max_age=86_400.0, max_bytes=1_000_000)


@asynccontextmanager
async def server_client(folder: Path) -> AsyncIterator[tuple[Client, Link]]:
    async with nats_server(folder) as server, nats_client(server.port) as client, connection(server.port) as to:
        yield client, await to.ready()


async def found(client: Client, name: str = "SENSORS") -> StreamConfig:
    """Return a stream's configuration."""
    return (await client.jetstream().stream_info(name)).config


async def refused(client: Client, link: Link, spec: StreamSpec) -> str:
    """Ask for a stream that can't be, see that nothing was changed, and return why."""
    before = [info.config for info in await client.jetstream().streams_info()]
    with pytest.raises(StreamError) as caught:
        await ensure_stream(link, spec)
    assert [info.config for info in await client.jetstream().streams_info()] == before
    assert caught.value.stream == spec.name
    assert spec.name in str(caught.value)
    return caught.value.problem


async def test_a_missing_stream_is_created_as_configured(tmp_path: Path) -> None:
    async with server_client(tmp_path) as (client, link):
        spec = replace(SPEC, retention="workqueue", discard="new", storage="memory", duplicate_window=300.0)
        await ensure_stream(link, spec)
        config = await found(client)
        assert set(config.subjects or ()) == set(spec.subjects)
        assert (config.retention, config.discard) == (RetentionPolicy.WORK_QUEUE, DiscardPolicy.NEW)
        assert (config.storage, config.num_replicas) == (StorageType.MEMORY, 1)
        assert (config.max_age, config.max_bytes, config.duplicate_window) == (86_400.0, 1_000_000, 300.0)


async def test_a_stream_without_limits_is_created_without_limits(tmp_path: Path) -> None:
    async with server_client(tmp_path) as (client, link):
        await ensure_stream(link, StreamSpec(name="OPEN", subjects=("open.>",)))
        config = await found(client, "OPEN")
        assert (config.max_age, config.max_bytes, config.max_msgs) == (0.0, -1, -1)
        assert (config.retention, config.storage) == (RetentionPolicy.LIMITS, StorageType.FILE)


@pytest.mark.parametrize("retention", ["limits", "interest", "workqueue"])
@pytest.mark.parametrize("storage", ["file", "memory"])
async def test_a_stream_that_is_right_already_is_left_alone(tmp_path: Path, retention: str, storage: str) -> None:
    async with server_client(tmp_path) as (client, link):
        for spec in (
            replace(SPEC, retention=retention, storage=storage),
            StreamSpec(name="OPEN", subjects=("open.>",)),
        ):
            await ensure_stream(link, spec)
            before = await found(client, spec.name)
            await ensure_stream(link, replace(spec, subjects=tuple(reversed(spec.subjects))))
            await ensure_stream(link, spec)
            assert await found(client, spec.name) == before


async def test_what_widens_a_stream_is_updated_and_nothing_stored_is_lost(tmp_path: Path) -> None:
    async with server_client(tmp_path) as (client, link):
        await ensure_stream(link, SPEC)
        await client.jetstream().publish("plant.sensors.a", b"x")
        wider = replace(
            SPEC,
            max_age=172_800.0,
            max_bytes=2_000_000,
            subjects=(*SPEC.subjects, "plant.more"),
            duplicate_window=600.0,
        )
        await ensure_stream(link, wider)
        config = await found(client)
        assert (config.max_age, config.max_bytes, config.duplicate_window) == (172_800.0, 2_000_000, 600.0)
        assert set(config.subjects or ()) == set(wider.subjects)
        await ensure_stream(link, replace(wider, max_age=None, max_bytes=None))
        config = await found(client)
        assert (config.max_age, config.max_bytes) == (0.0, -1)
        assert (await client.jetstream().stream_info("SENSORS")).state.messages == 1


async def test_what_was_set_by_hand_and_is_not_configured_stays(tmp_path: Path) -> None:
    async with server_client(tmp_path) as (client, link):
        await ensure_stream(link, SPEC)
        await client.jetstream().update_stream((await found(client)).evolve(description="mine", max_msg_size=5000))
        await ensure_stream(link, replace(SPEC, max_bytes=2_000_000))
        config = await found(client)
        assert (config.description, config.max_msg_size, config.max_bytes) == ("mine", 5000, 2_000_000)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"retention": "workqueue"}, ("retention", "limits", "workqueue")),
        ({"retention": "interest"}, ("retention", "limits", "interest")),
        ({"storage": "memory"}, ("storage", "file", "memory")),
        ({"max_age": 3600.0}, ("max_age", "86400", "3600")),
        ({"max_bytes": 1000}, ("max_bytes", "1000000", "1000")),
        ({"subjects": ("plant.sensors.>",)}, ("plant.meters.*",)),
        ({"max_age": 3600.0, "max_bytes": 2_000_000}, ("max_age",)),
        ({"max_age": 172_800.0, "max_bytes": 1000}, ("max_bytes",)),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
async def test_what_can_not_be_or_would_delete_messages_is_refused(
    tmp_path: Path, change: dict[str, object], words: tuple[str, ...]
) -> None:
    async with server_client(tmp_path) as (client, link):
        await ensure_stream(link, SPEC)
        problem = await refused(client, link, replace(SPEC, **change))
        for word in words:
            assert word in problem


async def test_a_limit_where_there_was_none_is_refused(tmp_path: Path) -> None:
    async with server_client(tmp_path) as (client, link):
        open_spec = replace(SPEC, max_age=None, max_bytes=None)
        await ensure_stream(link, open_spec)
        assert "max_age goes from unlimited" in await refused(client, link, replace(open_spec, max_age=60.0))
        assert "max_bytes goes from unlimited" in await refused(client, link, replace(open_spec, max_bytes=60))


async def test_a_sealed_stream_is_refused(tmp_path: Path) -> None:
    async with server_client(tmp_path) as (client, link):
        await ensure_stream(link, SPEC)
        await client.jetstream().update_stream((await found(client)).evolve(sealed=True))
        assert "sealed" in await refused(client, link, SPEC)


async def test_subjects_of_another_stream_are_refused_with_the_reason_of_the_server(tmp_path: Path) -> None:
    async with server_client(tmp_path) as (client, link):
        await ensure_stream(link, SPEC)
        other = StreamSpec(name="OTHER", subjects=("plant.sensors.hall",))
        assert "overlap" in await refused(client, link, other)
        await ensure_stream(link, replace(other, subjects=("other.>",)))
        assert "overlap" in await refused(client, link, replace(other, subjects=("other.>", "plant.sensors.hall")))


async def test_what_the_server_can_not_do_is_refused_with_its_reason(tmp_path: Path) -> None:
    async with server_client(tmp_path) as (client, link):
        assert "replicas" in await refused(client, link, replace(SPEC, replicas=3))
        assert "duplicate" in await refused(client, link, replace(SPEC, max_age=10.0, duplicate_window=60.0))
        assert "subject" in await refused(client, link, replace(SPEC, subjects=("plant..x",)))


@pytest.mark.slow
async def test_a_server_that_can_not_be_asked_is_no_fault_of_the_stream(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server, connection(server.port) as to:
        link = await to.ready()
        server.pause()
        with pytest.raises(ConnectError):
            await ensure_stream(link, SPEC)
        server.resume()
