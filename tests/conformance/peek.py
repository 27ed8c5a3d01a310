"""A second opinion on a session: a client of bytes of its own that takes it over and looks, acknowledging nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.generator import packet, text

_A_DAY = b"\x05\x11" + (86_400).to_bytes(4, "big")  # the property Session Expiry Interval


class Peek:
    """The session's new connection."""

    def __init__(self, reader: asyncio.StreamReader, protocol: str) -> None:
        self._reader = reader
        self._protocol = protocol

    async def read_until(self, marker: bytes, longer: float, timeout: float = 20.0) -> list[bytes]:
        """Return the payloads that come up to the marker, and those that come in the seconds after it."""
        payloads: list[bytes] = []
        async with asyncio.timeout(timeout):
            while (payload := await self._payload()) != marker:
                payloads.append(payload)
        try:
            async with asyncio.timeout(longer):
                while longer:
                    payloads.append(await self._payload())
        except TimeoutError:
            pass
        return [payload for payload in payloads if payload != marker]

    async def _payload(self) -> bytes:
        """Return the next PUBLISH's payload."""
        while True:
            first, body = await self.read_packet()
            if first >> 4 != 3:
                continue
            position = 2 + int.from_bytes(body[:2], "big") + (2 if first & 0x06 else 0)
            return body[position + 1 + body[position] :] if self._protocol == "5" else body[position:]

    async def read_packet(self) -> tuple[int, bytes]:
        """Return the next packet's first byte and its body."""
        first = (await self._reader.readexactly(1))[0]
        length = shift = 0
        while True:
            byte = (await self._reader.readexactly(1))[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return first, await self._reader.readexactly(length)


@asynccontextmanager
async def peek(port: int, client_id: str, protocol: str) -> AsyncIterator[Peek]:
    """Take a session over; the broker must still have it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        level, properties = (b"\x05", _A_DAY) if protocol == "5" else (b"\x04", b"")
        writer.write(packet(0x10, text(b"MQTT") + level + b"\x00\x00\x3c" + properties + text(client_id.encode())))
        session = Peek(reader, protocol)
        async with asyncio.timeout(10):
            first, connack = await session.read_packet()
        assert (first, connack[:2]) == (0x20, b"\x01\x00"), "accepted, and the session is present"
        yield session
    finally:
        writer.close()
