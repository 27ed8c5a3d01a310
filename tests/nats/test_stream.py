"""Streams are created where they are missing, and otherwise verified; nothing that is stored is ever put at risk."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.js.api import ConsumerConfig, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from tests.nats.helpers import connection
from tests.support.checker import nats_client
from tests.support.server import nats_server
from tests.support.wait import eventually
from tidegate.core import ConnectError
from tidegate.nats import Login, StreamError, StreamSpec, ensure_stream, find_stream
from tidegate.nats.link import Link

SPEC = StreamSpec(name="SENSORS", subjects=("plant.sensors.>", "plant.meters.*"), max_age=86_400.0, max_bytes=1_000_000)


@asynccontextmanager
async def server_client(folder: Path) -> AsyncIterator[tuple[Client, Link]]:
    async with nats_server(folder) as server, nats_client(server.port) as client, connection(server.port) as to:
        yield client, await to.ready()


async def found(client: Client, name: str = "SENSORS") -> StreamConfig:
    """Return a stream's configuration."""
    return (await client.jetstream().stream_info(name)).config


async def found_spec(link: Link) -> StreamSpec | None:
    """Return the stream of SPEC's subjects as the gateway sees it."""
    return await find_stream(link, SPEC.subjects[0])


async def store(client: Client, *subjects: str) -> None:
    """Store one message of 100 bytes under each subject."""
    for subject in subjects:
        await client.jetstream().publish(subject, b"x" * 100)


async def messages(client: Client) -> int:
    """Return how many messages the stream holds."""
    return (await client.jetstream().stream_info("SENSORS")).state.messages


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
        assert await found_spec(link) is None
        await ensure_stream(link, spec)
        config = await found(client)
        assert set(config.subjects or ()) == set(spec.subjects)
        assert (config.retention, config.discard) == (RetentionPolicy.WORK_QUEUE, DiscardPolicy.NEW)
        assert (config.storage, config.num_replicas) == (StorageType.MEMORY, 1)
        assert (config.max_age, config.max_bytes, config.duplicate_window) == (86_400.0, 1_000_000, 300.0)
        assert config.max_msgs_per_subject == -1
        assert await found_spec(link) == spec


async def test_a_stream_keeps_the_last_messages_of_each_subject_where_that_is_configured(tmp_path: Path) -> None:
    async with server_client(tmp_path) as (client, link):
        spec = replace(SPEC, max_msgs_per_subject=2)
        await ensure_stream(link, spec)
        await store(client, *["plant.sensors.a"] * 3, "plant.sensors.b")
        assert await messages(client) == 3
        assert await found_spec(link) == spec


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
        ({"storage": "memory"}, ("storage", "file", "memory")),
        ({"retention": "interest"}, ("retention goes from limits to interest", "3 messages are stored")),
        ({"max_bytes": 200}, ("max_bytes goes from 1000000B to 200B", "are stored")),
        ({"max_msgs_per_subject": 1}, ("max_msgs_per_subject goes from none to 1, and plant.sensors.a has 2",)),
        ({"subjects": ("plant.sensors.>",)}, ("no longer listens to plant.meters.*, and 1 messages are stored there",)),
        ({"subjects": ("plant.sensors.b", "plant.meters.*")}, ("plant.sensors.>, and 2 messages",)),
        ({"max_bytes": 200, "max_age": 172_800.0}, ("max_bytes",)),
        ({"max_bytes": 200, "max_msgs_per_subject": 1}, ("max_bytes", "max_msgs_per_subject")),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
async def test_what_can_not_be_or_would_delete_messages_is_refused_with_its_numbers(
    tmp_path: Path, change: dict[str, object], words: tuple[str, ...]
) -> None:
    async with server_client(tmp_path) as (client, link):
        await ensure_stream(link, SPEC)
        await store(client, "plant.sensors.a", "plant.sensors.a", "plant.meters.a")
        problem = await refused(client, link, replace(SPEC, **change))
        for word in words:
            assert word in problem


@pytest.mark.parametrize(
    "change",
    [
        {"retention": "interest", "discard": "new"},
        {"max_age": 3600.0},
        {"max_bytes": 1000},
        {"max_msgs_per_subject": 1},
        {"subjects": ("plant.other",)},
        {"discard": "new"},
        {"duplicate_window": 1.0},
    ],
    ids="-".join,
)
async def test_a_stream_that_holds_nothing_can_be_made_tighter(tmp_path: Path, change: dict[str, object]) -> None:
    async with server_client(tmp_path) as (client, link):
        await ensure_stream(link, SPEC)
        await ensure_stream(link, replace(SPEC, **change))
        config = await found(client)
        for name, value in change.items():
            assert getattr(config, name) == (list(value) if isinstance(value, tuple) else value)


async def test_a_limit_above_what_is_stored_deletes_nothing_and_one_below_is_refused(tmp_path: Path) -> None:
    """To the byte, and to the message of a subject, as the server itself counts them."""
    async with server_client(tmp_path) as (client, link):
        spec = replace(SPEC, max_age=None, max_bytes=None)
        await ensure_stream(link, spec)
        await store(client, *["plant.sensors.a"] * 3, *["plant.sensors.b"] * 2, "plant.sensors.c")
        size = (await client.jetstream().stream_info("SENSORS")).state.bytes
        assert "max_bytes goes from none to" in await refused(client, link, replace(spec, max_bytes=size - 1))
        problem = await refused(client, link, replace(spec, max_msgs_per_subject=1))
        assert "plant.sensors.a has 3 and 1 more subjects" in problem
        assert "plant.sensors.a has 3;" in await refused(client, link, replace(spec, max_msgs_per_subject=2))
        fitting = replace(spec, max_bytes=size, max_msgs_per_subject=3, max_age=3600.0)
        await ensure_stream(link, fitting)
        assert await found_spec(link) == fitting
        assert await messages(client) == 6
        await ensure_stream(link, replace(fitting, max_msgs_per_subject=None))
        assert (await found(client)).max_msgs_per_subject == -1


async def test_a_max_age_that_the_oldest_message_has_passed_is_refused(tmp_path: Path) -> None:
    async with server_client(tmp_path) as (client, link):
        spec = replace(SPEC, max_age=None, duplicate_window=1.0)
        await ensure_stream(link, spec)
        await store(client, "plant.sensors.a")
        await eventually(lambda: _older(client, 1.0), "the message is older than a second")
        assert "max_age goes from none to 1s, and the oldest message is " in await refused(
            client, link, replace(spec, max_age=1.0)
        )
        await ensure_stream(link, replace(spec, max_age=60.0))
        assert await messages(client) == 1


async def _older(client: Client, seconds: float) -> bool:
    answer = json.loads((await client.request("$JS.API.STREAM.INFO.SENSORS")).data)
    now, first = (datetime.fromisoformat(text) for text in (answer["ts"], answer["state"]["first_ts"]))
    return (now - first).total_seconds() > seconds


async def test_a_full_stream_that_refuses_may_be_far_above_its_limit_and_may_not_forget_then(tmp_path: Path) -> None:
    async with server_client(tmp_path) as (client, link):
        spec = replace(SPEC, discard="new")
        await ensure_stream(link, spec)
        await store(client, *["plant.sensors.a"] * 10)
        await ensure_stream(link, replace(spec, max_bytes=100))
        assert await messages(client) == 10
        problem = await refused(client, link, replace(spec, max_bytes=100, discard="old"))
        assert "max_bytes goes from 100B to 100B with discard: old" in problem


async def test_subjects_under_which_nothing_is_stored_can_be_left_out(tmp_path: Path) -> None:
    """Or where all that is stored has another name among the new ones; and a wider one takes the place of a narrow."""
    async with server_client(tmp_path) as (client, link):
        await ensure_stream(link, SPEC)
        await store(client, "plant.sensors.a", "plant.sensors.b.c")
        for subjects in (
            ("plant.sensors.>",),
            ("plant.sensors.a", "plant.sensors.b.*"),
            ("plant.>",),
            ("plant.*.*", "plant.*.*.*"),
        ):
            await ensure_stream(link, replace(SPEC, subjects=subjects))
            assert tuple((await found(client)).subjects or ()) == subjects
        assert await messages(client) == 2


async def test_a_stream_of_interest_becomes_one_of_limits_and_keeps_what_it_has(tmp_path: Path) -> None:
    async with server_client(tmp_path) as (client, link):
        spec = replace(SPEC, retention="interest", discard="new")
        await ensure_stream(link, spec)
        await client.jetstream().add_consumer("SENSORS", ConsumerConfig(durable_name="c"))
        await store(client, "plant.sensors.a", "plant.sensors.b")
        await ensure_stream(link, SPEC)
        assert (await found(client)).retention == RetentionPolicy.LIMITS
        assert await messages(client) == 2
        assert "2 messages are stored" in await refused(client, link, spec)


@pytest.mark.slow
async def test_too_many_subjects_to_look_at_are_refused_and_not_asked_for(tmp_path: Path) -> None:
    async with server_client(tmp_path) as (client, link):
        await ensure_stream(link, SPEC)
        for number in range(10_001):
            await client.publish(f"plant.sensors.{number}", b"")
        await eventually(lambda: _has(client, 10_001), "all are stored")
        for change in ({"max_msgs_per_subject": 5}, {"subjects": ("plant.sensors.>",)}):
            assert "10001 subjects are too many" in await refused(client, link, replace(SPEC, **change))
        await ensure_stream(link, replace(SPEC, max_age=3600.0, max_bytes=None))


async def _has(client: Client, count: int) -> bool:
    return await messages(client) == count


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


async def test_a_user_who_may_not_ask_is_told_so(tmp_path: Path) -> None:
    """The server says it beside the answers, and another request that goes on meanwhile gets its own."""
    denied = 'permissions: {publish: {deny: "$JS.API.STREAM.CREATE.>"}}'
    permissions = f"authorization {{users: [{{user: u, password: p, {denied}}}]}}"
    login = Login(username="u", password=lambda: "p")
    async with nats_server(tmp_path, permissions) as server, connection(server.port, login=login) as to:
        link = await to.ready()
        refused, found = await asyncio.gather(
            ensure_stream(link, SPEC), find_stream(link, "plant.>"), return_exceptions=True
        )
    assert isinstance(refused, ConnectError)
    assert 'Permissions Violation for Publish to "$JS.API.STREAM.CREATE' in str(refused)
    assert found is None
