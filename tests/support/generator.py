"""The oracle's first half: a device that numbers its messages and logs each PUBACK it gets.

It speaks bytes of its own over a socket, so that neither a client library nor the gateway's codec stands between the
test and the broker, and is fast enough never to be the bottleneck.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

_MAX_ID = 65_535


def text(value: bytes) -> bytes:
    """Return a length-prefixed string."""
    return len(value).to_bytes(2, "big") + value


def packet(first: int, body: bytes) -> bytes:
    """Return a packet with its fixed header."""
    length = len(body)
    header = bytearray((first,))
    while True:
        length, byte = length >> 7, length & 0x7F
        header.append(byte | (0x80 if length else 0))
        if not length:
            return bytes(header) + body


def publish_packet(
    topic: bytes, payload: bytes, qos: int = 0, packet_id: int = 0, flags: int = 0, properties: bytes | None = None
) -> bytes:
    """Return a PUBLISH. `flags` are RETAIN (1) and DUP (8); `properties` makes it one of MQTT 5."""
    body = text(topic) + (packet_id.to_bytes(2, "big") if qos else b"")
    if properties is not None:
        body += packet(0, properties)[1:]
    return packet(0x30 | qos << 1 | flags, body + payload)


def reading(device: str, number: int) -> bytes:
    """Return a numbered payload of about 100 bytes."""
    return json.dumps({"device": device, "seq": number, "temperature": 21.5, "unit": "C", "pad": "x" * 30}).encode()


class Device:
    """A connected client that publishes numbered readings.

    acknowledged: the numbers for which it got a PUBACK or PUBCOMP.
    """

    def __init__(
        self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, protocol: str = "3.1.1"
    ) -> None:
        self.name = name
        self._properties = b"" if protocol == "5" else None
        self.acknowledged: set[int] = set()
        self._reader = reader
        self._writer = writer
        self._numbers: dict[int, int] = {}
        self._next_id = 0

    @property
    def topic(self) -> bytes:
        """Its topic."""
        return f"sensors/hall/{self.name}/reading".encode()

    async def send(
        self, numbers: range, qos: int = 1, window: int = 500, payload: Callable[[str, int], bytes] = reading
    ) -> None:
        """Publish these numbers and return once every one is acknowledged (QoS 1 and 2) or written (QoS 0)."""
        for number in numbers:
            packet_id = self._take_id(number) if qos else 0
            self._writer.write(
                publish_packet(self.topic, payload(self.name, number), qos, packet_id, 0, self._properties)
            )
            if len(self._numbers) >= window:
                await self._writer.drain()
                await self._read_until(window // 2)
        await self._writer.drain()
        if qos:
            await self._read_until(0)

    async def send_raw(self, data: bytes) -> None:
        """Write bytes as they are."""
        self._writer.write(data)
        await self._writer.drain()

    def _take_id(self, number: int) -> int:
        while True:
            self._next_id = self._next_id % _MAX_ID + 1
            if self._next_id not in self._numbers:
                self._numbers[self._next_id] = number
                return self._next_id

    async def _read_until(self, left: int) -> None:
        """Read acknowledgements until no more than `left` are missing."""
        while len(self._numbers) > left:
            head = await self._reader.readexactly(2)
            body = await self._reader.readexactly(head[1])
            kind, packet_id = head[0] >> 4, int.from_bytes(body[:2], "big")
            if kind == 5:  # PUBREC: release it
                self._writer.write(b"\x62\x02" + body[:2])
            elif kind in (4, 7):
                self.acknowledged.add(self._numbers.pop(packet_id))


@asynccontextmanager
async def device(port: int, name: str = "d1", protocol: str = "3.1.1") -> AsyncIterator[Device]:
    """Connect a device to a broker."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        level, properties = (b"\x05", b"\x00") if protocol == "5" else (b"\x04", b"")
        client_id = text(f"device-{name}".encode())
        writer.write(packet(0x10, text(b"MQTT") + level + b"\x02\x00\x3c" + properties + client_id))
        head = await reader.readexactly(2)
        connack = await reader.readexactly(head[1])
        assert head[0] == 0x20, head
        assert connack[:2] == b"\x00\x00", connack
        yield Device(name, reader, writer, protocol)
        writer.write(b"\xe0\x00")
        await writer.drain()
    finally:
        writer.close()
