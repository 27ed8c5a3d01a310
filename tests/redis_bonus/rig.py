"""The example as a user runs it: each file a process, between real servers."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Self

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from redis.asyncio import Redis

from tests.support.server import Server, any_broker, redis_server
from tests.support.wait import eventually
from tidegate.core import Envelope

EXAMPLE = Path(__file__).parents[2] / "examples" / "redis_bonus"


class Program:
    """A file of the example as a process. Use as `async with`; it is killed at the end if it still runs."""

    def __init__(self, folder: Path, file: str, *arguments: object, name: str = "") -> None:
        self._command = [sys.executable, str(EXAMPLE / file), *map(str, arguments)]
        self._log = folder / f"{name or file}.log"
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.end(signal.SIGKILL)

    async def start(self) -> None:
        """Start it, again too."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(*self._command, stdout=log, stderr=log)

    async def says(self, text: str, timeout: float = 20.0) -> None:
        """Return once it has printed this, in any of its lives."""
        process = self._process
        assert process is not None

        def said() -> bool:
            assert process.returncode in (None, 0), "\n".join(self.lines())
            return text in self._log.read_text()

        await eventually(said, f"{self._log.name}: {text}", timeout)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it with a signal, if it runs, and return its exit status."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        return await self._process.wait()

    def lines(self) -> list[str]:
        """Return what it printed so far."""
        return self._log.read_text().splitlines()


class Kitchen:
    """The servers of the example, with clients of the test's own."""

    def __init__(self, folder: Path, mqtt: int, redis: Server) -> None:
        self.folder = folder
        self.mqtt = mqtt
        self.redis = redis
        self.client = Redis(port=redis.port)

    def bridge(self, redis: int | None = None) -> Program:
        """Return the bridge. redis: the port where it finds Redis, if not Redis's own."""
        ports = ("--mqtt", self.mqtt, "--redis", redis or self.redis.port)
        return Program(self.folder, "bridge.py", *ports, "--state", self.folder / "state")

    def reader(self, file: str, *arguments: object, name: str = "") -> Program:
        """Return a consumer or a subscriber."""
        return Program(self.folder, file, "--redis", self.redis.port, *arguments, name=name)

    async def place(self, numbers: Iterable[int]) -> None:
        """Place orders, many at a time; return once the broker has acknowledged each."""
        async with aiomqtt.Client(
            "127.0.0.1", self.mqtt, protocol=aiomqtt.ProtocolVersion.V5, max_inflight_messages=500, timeout=60
        ) as client:
            await asyncio.gather(*(client.publish("orders", _order(n), 1, properties=_story(n)) for n in numbers))

    async def stored(self, stream: str = "orders") -> list[Envelope]:
        """Return the events of a stream, in order."""
        return [Envelope.model_validate_json(fields[b"event"]) for _, fields in await self.client.xrange(stream)]

    async def numbers(self) -> list[int]:
        """Return the numbers of the orders in the stream, each copy."""
        return [number_of(event) for event in await self.stored()]

    async def count(self) -> int:
        """Return how many orders the stream holds."""
        return int(await self.client.xlen("orders"))


def number_of(event: Envelope) -> int:
    """Return an order's number."""
    return int(event.data["order"].removeprefix("o-"))


def _order(number: int) -> bytes:
    order = {"order": f"o-{number}", "customer": "c-1", "restaurant": "r-1", "dishes": ["soup", "noodles"]}
    return json.dumps(order).encode()


def _story(number: int) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)
    properties.UserProperty = ("correlationid", f"tablet-{number}")
    return properties


@asynccontextmanager
async def kitchen(folder: Path) -> AsyncIterator[Kitchen]:
    """Run a broker and a Redis that fsyncs each write."""
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(redis_server(folder / "redis"))
        mqtt = await stack.enter_async_context(any_broker(folder / "mqtt"))
        found = Kitchen(folder, mqtt, redis)
        await stack.enter_async_context(found.client)
        yield found
