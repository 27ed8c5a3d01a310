"""The sink of `examples/redis_bonus`, seen from both of its ends: what the stream holds, and what a listener got."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Self

import pytest
from redis.asyncio import Redis

from examples.redis_bonus.redis_write import connect, write_once
from examples.redis_bonus.sink import BatchSink
from tests.conformance.sinks import TOO_LONG, WINDOW, SinkHarness, Stored
from tests.support.server import Server, needs_redis, redis_server
from tests.support.wait import eventually
from tidegate.core import Sink


class RedisStreamHarness(SinkHarness):
    """A `BatchSink` before a real redis-server that fsyncs each write; the streams tell what is durable."""

    @classmethod
    @asynccontextmanager
    async def server(cls, folder: Path) -> AsyncIterator[Server]:
        async with redis_server(folder) as server:
            yield server

    def __init__(self, server: Server, name: str) -> None:
        self.name = name
        self._server = server
        self._url = f"redis://127.0.0.1:{server.port}"
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.release()
        await self.close()

    async def open(self, window: int = WINDOW) -> Sink:
        redis = await self._opened.enter_async_context(connect(self._url))
        write = partial(write_once, redis, max_body=TOO_LONG - 1)
        return await self._opened.enter_async_context(BatchSink(write, window))

    async def close(self) -> None:
        await self._opened.aclose()

    async def stored(self) -> list[Stored]:
        async with Redis.from_url(self._url) as client:
            keys = {key async for key in client.scan_iter(f"{self.name}.*", _type="stream")}
            return [Stored(key.decode(), fields[b"event"]) for key in keys for _, fields in await client.xrange(key)]

    def hold(self) -> None:
        self._server.pause()

    def release(self) -> None:
        self._server.resume()

    async def crash(self) -> None:
        await self._server.kill()
        await self._server.start()


class RedisChannelHarness(RedisStreamHarness):
    """The same sink; a listener to the channels tells what was published."""

    async def __aenter__(self) -> Self:
        self._heard: list[Stored] = []
        self._client = Redis.from_url(self._url)
        self._channels = self._client.pubsub(ignore_subscribe_messages=True)
        await self._channels.psubscribe(f"{self.name}.*")
        self._listening = asyncio.create_task(self._listen())
        await self._synchronise()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await super().__aexit__()
        self._listening.cancel()
        await asyncio.wait([self._listening])
        await self._channels.aclose()
        await self._client.aclose()

    async def stored(self) -> list[Stored]:
        await self._synchronise()
        return [one for one in self._heard if not one.subject.endswith(".marker")]

    async def crash(self) -> None:
        pytest.skip("Pub/Sub keeps nothing for a listener whose connection died with the server")

    async def _listen(self) -> None:
        async for message in self._channels.listen():
            self._heard.append(Stored(message["channel"].decode(), message["data"]))

    async def _synchronise(self) -> None:
        """Return once the listener has all that was published until now."""
        marker = Stored(f"{self.name}.marker", uuid.uuid4().bytes)

        async def heard() -> bool:
            return marker in self._heard or await self._client.publish(*marker) < 0

        await eventually(heard, "the listener hears")


REDIS_SINKS = [
    pytest.param(RedisStreamHarness, id="redis-stream", marks=needs_redis),
    pytest.param(RedisChannelHarness, id="redis-channel", marks=needs_redis),
]
