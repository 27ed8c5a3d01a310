"""A running gateway between a broker and a nats-server, and what every hostile case asks of it."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.support.checker import flushed, nats_client
from tests.support.fake_broker import FakeConnection, fake_broker
from tests.support.gateway import GatewayProcess, gateway, get
from tests.support.generator import packet, publish_packet, text
from tests.support.server import any_broker, nats_server
from tests.support.wait import eventually
from tidegate.app.embedded import free_port
from tidegate.core import Envelope

CONFIG = """\
gateway: hostile
state_dir: state
mqtt: {{url: "mqtt://127.0.0.1:{mqtt}", max_payload: 2MiB}}
nats: {{servers: ["nats://127.0.0.1:{nats}"]}}
streams:
  - {{name: EVENTS, subjects: ["plant.>"]}}
bridges:
{bridges}
http: {{listen: 127.0.0.1:{http}}}
"""
EVERYTHING = '  - {name: all, mqtt: "{all...}", nats: "plant.{all...}", decode: raw}'
EVERYTHING_BINARY = '  - {name: all, mqtt: "{all...}", nats: "plant.{all...}", decode: raw, mode: binary}'


class Rig:
    """`connection` is where PUBLISH packets go in: at the fake broker's end, or as a client of a real broker."""

    def __init__(self, running: GatewayProcess, client: Client, connection: FakeConnection) -> None:
        self.running = running
        self.client = client
        self.connection = connection
        self.seen: list[Msg] = []
        """All that was published, but for answers and JetStream's own news."""
        self._packet_id = 0
        self._good = 0
        self._acknowledged = 0

    async def send(self, topic: bytes, payload: bytes = b"1", properties: bytes = b"") -> None:
        """Publish at QoS 1."""
        self._packet_id += 1
        await self.connection.send(publish_packet(topic, payload, 1, self._packet_id, 0, properties))

    async def good(self, prefix: str = "good") -> Msg:
        """Publish a good message; wait until it is stored, and until all so far is acknowledged, in its order."""
        self._good += 1
        await self.send(f"{prefix}/n{self._good}".encode(), b"%d" % self._good)
        message = await self.only_one_on(f"plant.{prefix}.n{self._good}")
        async with asyncio.timeout(15):
            while self._acknowledged < self._packet_id:
                first, body = await self.connection.read_packet()
                self._acknowledged += 1
                assert (first, int.from_bytes(body[:2], "big")) == (0x40, self._acknowledged)
        return message

    async def only_one_on(self, subject: str) -> Msg:
        """Wait for the one message on a subject."""
        try:
            await eventually(lambda: any(message.subject == subject for message in self.seen))
        except AssertionError:
            said, books = self.running.log_text()[-2000:], (await get(self.running.http, "/status.json"))[1].decode()
            raise AssertionError(
                f"no message on {subject}, but {len(self.seen)} others; connected: {self.client.is_connected}, "
                f"last error: {self.client.last_error!r}; the gateway: {books}\n{said}"
            ) from None
        (message,) = [message for message in self.seen if message.subject == subject]
        return message

    async def case(
        self, topic: bytes, payload: bytes = b"1", properties: bytes = b"", prefix: str = "good"
    ) -> list[Msg]:
        """Send an odd message and then a good one; return all that was published but for the good one."""
        start = len(self.seen)
        await self.send(topic, payload, properties)
        good = await self.good(prefix)
        # A real broker's PUBACK says nothing of the gateway, and a dead letter comes after the good ones of its batch.
        await eventually(self._all_settled, "the gateway has settled everything")
        await flushed(self.client)
        assert await self.running.total("tidegate_reconnects_total") == 0
        return [message for message in self.seen[start:] if message is not good]

    async def _all_settled(self) -> bool:
        left = [await self.running.total(f"tidegate_messages_{where}") for where in ("in_flight", "spooled")]
        return left == [0, 0]

    async def event(
        self, topic: bytes, payload: bytes = b"1", properties: bytes = b"", prefix: str = "good"
    ) -> tuple[Envelope, Msg]:
        """Send an odd message that must become one event in the stream."""
        (message,) = await self.case(topic, payload, properties, prefix)
        assert message.subject.startswith("plant."), message
        event = Envelope.from_nats(message.headers, message.data)
        assert event.subject == topic.decode()
        return event, message

    async def rejected(
        self, topic: bytes, payload: bytes = b"1", properties: bytes = b"", prefix: str = "good", bridge: str = "all"
    ) -> dict[str, Any]:
        """Send a bad message that must become one dead letter with the topic and the payload as they were."""
        (message,) = await self.case(topic, payload, properties, prefix)
        assert message.subject == f"dead.{bridge}"
        letter: dict[str, Any] = json.loads(message.data)
        kept = b64decode(letter.get("data_base64", ""))
        assert payload.startswith(kept)
        assert (len(kept) < len(payload)) == letter.get("truncated", False)
        assert letter["size"] == len(payload)
        assert topic_of(letter) == topic
        return letter

    def memory(self) -> int:
        """Return the most memory that the gateway has ever had, in bytes."""
        assert self.running.process is not None
        status = Path(f"/proc/{self.running.process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def topic_of(letter: dict[str, Any]) -> bytes:
    """Return the topic that a dead letter holds."""
    return b64decode(letter["topicbase64"]) if "topicbase64" in letter else letter["subject"].encode()


def user_property(name: bytes, value: bytes) -> bytes:
    """Return a user property (MQTT 5 §3.3.2.3.7)."""
    return b"\x26" + text(name) + text(value)


def write_config(folder: Path, mqtt: int, nats: int, bridges: str = EVERYTHING) -> tuple[Path, int]:
    """Write a configuration; return its path and the HTTP port."""
    http = free_port()
    path = folder / "tidegate.yaml"
    path.write_text(CONFIG.format(mqtt=mqtt, nats=nats, http=http, bridges=bridges))
    return path, http


@asynccontextmanager
async def watching(running: GatewayProcess, port: int, connection: FakeConnection) -> AsyncIterator[Rig]:
    """Watch every subject of the server: nothing that the gateway publishes goes unseen."""
    async with nats_client(port) as client:
        rig = Rig(running, client, connection)
        await eventually(lambda: _streams_stand(client), "the gateway has created its streams")

        async def see(message: Msg) -> None:
            if not message.subject.startswith(("_INBOX.", "$JS.EVENT.", "$JS.API.STREAM.INFO.", "$JS.API.STREAM.LIST")):
                rig.seen.append(message)

        await client.subscribe(">", cb=see, pending_bytes_limit=-1)
        await flushed(client)
        yield rig
        assert await running.ready(), await running.problems()


async def _streams_stand(client: Client) -> bool:
    """Whether both streams are there: the gateway is ready before, because it could spool."""
    names = {info.config.name for info in await client.jetstream().streams_info()}
    return names >= {"EVENTS", "DEAD_LETTERS"}


@asynccontextmanager
async def scripted(folder: Path, bridges: str = EVERYTHING) -> AsyncIterator[Rig]:
    """Run the gateway with a broker that the test scripts."""
    async with fake_broker() as broker, nats_server(folder / "nats") as server:
        config, http = write_config(folder, broker.port, server.port, bridges)

        async def accept() -> FakeConnection:
            connection = await broker.connection(30)
            await connection.accept()
            return connection

        accepting = asyncio.create_task(accept())
        async with gateway(config, http) as running:
            connection = await accepting
            async with watching(running, server.port, connection) as rig:
                yield rig
            connection.cut()


@asynccontextmanager
async def through_a_broker(folder: Path, bridges: str = EVERYTHING) -> AsyncIterator[Rig]:
    """Run the gateway with a real broker, and a client of that that says whatever the test wants."""
    async with any_broker(folder / "mqtt") as port, nats_server(folder / "nats") as server:
        config, http = write_config(folder, port, server.port, bridges)
        async with (
            gateway(config, http) as running,
            client_of(port) as connection,
            watching(running, server.port, connection) as rig,
        ):
            yield rig


@asynccontextmanager
async def client_of(port: int, name: str = "hostile") -> AsyncIterator[FakeConnection]:
    """Connect an MQTT 5 client without manners."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    connection = FakeConnection(reader, writer)
    try:
        await connection.send(packet(0x10, text(b"MQTT") + b"\x05\x02\x00\x00\x00" + text(name.encode())))
        first, body = await connection.read_packet()
        assert (first, body[1]) == (0x20, 0)
        yield connection
    finally:
        connection.cut()
