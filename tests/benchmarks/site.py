"""The servers of one run: a broker, a nats-server, and the stream, the same for every contender."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, StorageType, StreamConfig

from tests.benchmarks.job import Job
from tests.benchmarks.subscriber import SUBJECT, collect, subscribe, tally
from tests.support.checker import nats_client
from tests.support.generator import device
from tests.support.server import Server, iotcore, mosquitto, nats_server

STREAM = "SENSORS"

_PROBE_TIMEOUT = 20.0
_QUIET = 0.3  # seconds without a message after which nothing more is on its way
_STALL = 10.0  # seconds without a message after which the rest is lost


class State(NamedTuple):
    """What the stream says. first and last: the server's time of storing, in seconds."""

    messages: int
    first: float
    last: float


@dataclass(frozen=True)
class Site:
    """Where one run takes place. mqtt, nats: ports."""

    folder: Path
    job: Job
    mqtt: int
    server: Server

    @property
    def nats(self) -> int:
        """The port of nats-server."""
        return self.server.port

    async def probe(self) -> None:
        """Return once a message passes through the contender, and none of the probes is on its way any more.

        No other sign says that a foreign program has subscribed. The stream is empty again afterwards.
        """
        arrived = asyncio.Queue[Msg]()
        async with nats_client(self.nats) as client, device(self.mqtt, "probe", self.job.protocol) as sensor:
            await client.subscribe(SUBJECT, cb=arrived.put)
            async with asyncio.timeout(_PROBE_TIMEOUT):
                while arrived.empty():
                    await sensor.send(range(1), payload=lambda *_: b'{"probe":true}')
                    await asyncio.sleep(0.1)
            while not arrived.empty():
                arrived.get_nowait()
                if arrived.empty():
                    await asyncio.sleep(_QUIET)
            if self.job.deliver == "jetstream":
                await client.jetstream().purge_stream(STREAM)

    async def filled(self, count: int) -> None:
        """Return once the stream has so many messages, or gets no more."""
        async with nats_client(self.nats) as client:
            seen, since = 0, asyncio.get_running_loop().time()
            while (now := (await state(client)).messages) < count:
                moment = asyncio.get_running_loop().time()
                if now != seen:
                    seen, since = now, moment
                if moment - since > _STALL:
                    return
                await asyncio.sleep(0.05)

    async def settled(self) -> State:
        """Return the stream's state once it stands still."""
        async with nats_client(self.nats) as client:
            found = await state(client)
            while True:
                await asyncio.sleep(_QUIET)
                if (now := await state(client)) == found:
                    return found
                found = now

    async def balance(self, count: int) -> tuple[int, int]:
        """Read the stream; return how many of the numbers 0 to count - 1 are missing, and how many copies too many."""
        async with nats_client(self.nats) as client:
            total = (await state(client)).messages
            with subscribe(self.nats, "bench.content") as sock:
                reading = ConsumerConfig(deliver_subject="bench.content", ack_policy=AckPolicy.NONE)
                await client.jetstream().add_consumer(STREAM, reading)
                return tally(await asyncio.to_thread(collect, sock, total, 2.0), count)


async def state(client: Client) -> State:
    """Return the stream's state. nats-py leaves the times out."""
    found = json.loads((await client.request(f"$JS.API.STREAM.INFO.{STREAM}", timeout=5)).data)["state"]
    first, last = (datetime.fromisoformat(found[key]).timestamp() for key in ("first_ts", "last_ts"))
    return State(found["messages"], first, last)


@asynccontextmanager
async def site(job: Job) -> AsyncIterator[Site]:
    """Start the servers. The stream is the one that Tidegate's configuration asks for."""
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as name:
        folder = Path(name)
        async with _broker(job, folder / "mqtt") as port, nats_server(folder / "nats") as server:
            if job.deliver == "jetstream":
                async with nats_client(server.port) as client:
                    await client.jetstream().add_stream(
                        StreamConfig(name=STREAM, subjects=[SUBJECT], storage=StorageType.FILE, duplicate_window=120)
                    )
            yield Site(folder, job, port, server)


@asynccontextmanager
async def _broker(job: Job, folder: Path) -> AsyncIterator[int]:
    if job.broker == "iotcore":
        async with iotcore(folder, job.protocol) as port:
            yield port
    else:
        async with mosquitto(folder) as server:
            yield server.port
