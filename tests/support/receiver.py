"""The other end of the way down: a device that takes what a broker has for it, over broken connections too, and what
puts numbered messages into a stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import aiomqtt
import nats.errors
from nats.js import JetStreamContext
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

_SESSION_EXPIRY = 3600


class Receiver:
    """A client with a session that outlives its connections. messages: all that came, copies too.

    qos: of its subscription. With 2 it loses what it had begun to take when a connection ended, as each of its
    connections is a new client of the library.
    """

    def __init__(self, port: int, topic_filter: str, protocol: str, qos: int) -> None:
        self.messages: list[aiomqtt.Message] = []
        self.connected = asyncio.Event()
        self._port = port
        self._topic_filter = topic_filter
        self._protocol = protocol
        self._qos = qos

    @property
    def payloads(self) -> list[bytes]:
        """What came, in order."""
        return [bytes(message.payload) for message in self.messages]

    @property
    def firsts(self) -> list[bytes]:
        """What came, in order, without copies."""
        return list(dict.fromkeys(self.payloads))

    def _client(self) -> aiomqtt.Client:
        if self._protocol == "3.1.1":
            return aiomqtt.Client("127.0.0.1", self._port, identifier="receiver", clean_session=False)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = _SESSION_EXPIRY
        version = aiomqtt.ProtocolVersion.V5
        return aiomqtt.Client(
            "127.0.0.1",
            self._port,
            identifier="receiver",
            protocol=version,
            clean_start=False,
            properties=properties,
        )

    async def run(self) -> None:
        """Receive until cancelled."""
        while True:
            with contextlib.suppress(aiomqtt.MqttError):
                async with self._client() as client:
                    await client.subscribe(self._topic_filter, qos=self._qos)
                    self.connected.set()
                    async for message in client.messages:
                        self.messages.append(message)
            await asyncio.sleep(0.05)  # a broker that is away answers at once


@asynccontextmanager
async def receiver(
    port: int, topic_filter: str = "customers/#", protocol: str = "5", qos: int = 1
) -> AsyncIterator[Receiver]:
    """Run a device that is subscribed when this returns."""
    device = Receiver(port, topic_filter, protocol, qos)
    task = asyncio.create_task(device.run(), name="receiver")
    try:
        await asyncio.wait_for(device.connected.wait(), 10)
        yield device
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, aiomqtt.MqttError):
            await task


async def publish_numbers(stream: JetStreamContext, numbers: Iterable[int], subject: str = "notices.c1") -> list[bytes]:
    """Publish payloads of these numbers one by one, each until it is stored; return them."""
    payloads = [b"%d" % number for number in numbers]
    for payload in payloads:
        while True:
            try:
                await stream.publish(subject, payload, timeout=1, headers={"Nats-Msg-Id": payload.decode()})
                break
            except (nats.errors.Error, TimeoutError):
                await asyncio.sleep(0.05)  # the server is away; its id keeps a copy out
    return payloads
