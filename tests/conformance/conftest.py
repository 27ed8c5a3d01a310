"""Each law runs over every kind of source or sink; the tests of a module share its server, and its event loop."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import pytest
import pytest_asyncio

from tests.conformance.redis_sinks import REDIS_SINKS, RedisStreamHarness
from tests.conformance.sinks import SINKS, NatsHarness, SinkHarness
from tests.conformance.sinks import MemoryHarness as MemorySinkHarness
from tests.conformance.sources import SOURCES, Iotcore, Mosquitto5, SourceHarness
from tests.conformance.sources import MemoryHarness as MemorySourceHarness
from tests.support.server import needs_mosquitto, needs_redis


class Ends(NamedTuple):
    """What a bridge lies between."""

    source: SourceHarness
    sink: SinkHarness


BRIDGES = [
    pytest.param((MemorySourceHarness, MemorySinkHarness), id="memory-to-memory"),
    pytest.param((Mosquitto5, NatsHarness), id="mosquitto-5-to-nats", marks=needs_mosquitto),
    pytest.param((Iotcore, MemorySinkHarness), id="iotcore-5-to-memory"),
    pytest.param((MemorySourceHarness, RedisStreamHarness), id="memory-to-redis", marks=needs_redis),
]


def _name() -> str:
    return f"law{uuid.uuid4().hex[:12]}"


@asynccontextmanager
async def _servers(kinds, folder) -> AsyncIterator[list]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(kind.server(folder / kind.__name__)) for kind in kinds]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=SOURCES)
async def source_kind(request, tmp_path_factory) -> AsyncIterator:
    async with _servers([request.param], tmp_path_factory.mktemp("source")) as (server,):
        yield lambda: request.param(server, _name())


@pytest_asyncio.fixture(loop_scope="module")
async def source(source_kind) -> AsyncIterator[SourceHarness]:
    async with source_kind() as harness:
        yield harness


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[*SINKS, *REDIS_SINKS])
async def sink_kind(request, tmp_path_factory) -> AsyncIterator:
    async with _servers([request.param], tmp_path_factory.mktemp("sink")) as (server,):
        yield lambda: request.param(server, _name())


@pytest_asyncio.fixture(loop_scope="module")
async def sink(sink_kind) -> AsyncIterator[SinkHarness]:
    async with sink_kind() as harness:
        yield harness


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=BRIDGES)
async def bridge_kinds(request, tmp_path_factory) -> AsyncIterator:
    async with _servers(request.param, tmp_path_factory.mktemp("bridge")) as servers:
        yield lambda: [kind(server, _name()) for kind, server in zip(request.param, servers, strict=True)]


@pytest_asyncio.fixture(loop_scope="module")
async def ends(bridge_kinds) -> AsyncIterator[Ends]:
    source, sink = bridge_kinds()
    async with source, sink:
        yield Ends(source, sink)
