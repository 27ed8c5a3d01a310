"""A broker that a test scripts byte by byte, to do what real ones rarely or never do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.generator import packet

CONNACK_5, CONNACK_311 = b"\x20\x03{}\x00\x00", b"\x20\x02{}\x00"


class FakeConnection:
    """One accepted connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.pings = 0
        """PINGREQs that were answered."""

    async def read_packet(self) -> tuple[int, bytes]:
        """Return the next packet's first byte and its body. PINGREQ is answered and passed over."""
        while True:
            first = (await self._reader.readexactly(1))[0]
            length = shift = 0
            while True:
                byte = (await self._reader.readexactly(1))[0]
                length |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
            body = await self._reader.readexactly(length)
            if first != 0xC0:
                return first, body
            self.pings += 1
            self._writer.write(b"\xd0\x00")

    async def accept(self, *, session_present: bool = False, protocol: str = "5", qos: int = 1) -> bytes:
        """Take CONNECT and SUBSCRIBE, and grant both; return the CONNECT's body."""
        first, connect = await self.read_packet()
        assert first == 0x10
        self._writer.write(packet(0x20, bytes((session_present, 0)) + (b"\x00" if protocol == "5" else b"")))
        first, subscribe = await self.read_packet()
        assert first == 0x82
        self._writer.write(packet(0x90, subscribe[:2] + (b"\x00" if protocol == "5" else b"") + bytes((qos,))))
        return connect

    async def send(self, data: bytes) -> None:
        """Write bytes as they are."""
        self._writer.write(data)
        await self._writer.drain()

    def write(self, data: bytes) -> None:
        """Write bytes without waiting for room."""
        self._writer.write(data)

    async def until_closed(self, timeout: float = 10.0) -> bytes:
        """Return what the client still sends before it ends the connection. Raises TimeoutError."""
        received = b""
        async with asyncio.timeout(timeout):
            with contextlib.suppress(ConnectionError):
                while data := await self._reader.read(65536):
                    received += data
        return received

    @property
    def unsent(self) -> int:
        """Bytes that were written and for which the client's side had no room yet."""
        return self._writer.transport.get_write_buffer_size()

    def cut(self) -> None:
        """Reset the connection."""
        self._writer.transport.abort()


class FakeBroker:
    """Waits for connections, one after the other."""

    def __init__(self) -> None:
        self.port = 0
        self._waiting: asyncio.Queue[FakeConnection] = asyncio.Queue()
        self._writers: list[asyncio.StreamWriter] = []

    async def connection(self, timeout: float = 10.0) -> FakeConnection:
        """Return the next connection."""
        async with asyncio.timeout(timeout):
            return await self._waiting.get()

    def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle a connection."""
        self._writers.append(writer)
        self._waiting.put_nowait(FakeConnection(reader, writer))

    def close(self) -> None:
        """End every connection."""
        for writer in self._writers:
            writer.transport.abort()


@asynccontextmanager
async def fake_broker() -> AsyncIterator[FakeBroker]:
    """Listen on a free port."""
    broker = FakeBroker()
    server = await asyncio.start_server(broker.take, "127.0.0.1", 0)
    broker.port = server.sockets[0].getsockname()[1]
    try:
        yield broker
    finally:
        server.close()
        broker.close()
