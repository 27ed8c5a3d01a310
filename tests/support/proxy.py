"""A TCP proxy that breaks connections on purpose: cut, black hole, slow, in one direction or both."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_CHUNK = 16 * 1024


class Proxy:
    """Forwards bytes between clients and a server.

    up, down: whether bytes from client to server, and from server to client, are forwarded; while one is false its
    bytes are read and thrown away, as in a network that went dark. rate: bytes a second in each direction, or None.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.up = True
        self.down = True
        self.rate: float | None = None
        self.accepting = True
        self.connections = 0
        self._pairs: dict[asyncio.Task[None], tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = {}

    def cut(self) -> None:
        """Reset every connection."""
        for writers in self._pairs.values():
            for writer in writers:
                writer.transport.abort()

    def black_hole(self) -> None:
        """Forward nothing, and let every connection stand: a half-open link."""
        self.up = self.down = False

    def restore(self) -> None:
        """Forward again. What was thrown away is gone, so connections that lost bytes are cut."""
        self.up = self.down = self.accepting = True
        self.cut()

    async def serve(self, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter) -> None:
        """Handle one connection."""
        if not self.accepting:
            client_writer.transport.abort()
            return
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            client_writer.transport.abort()
            return
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._pairs[task] = (client_writer, server_writer)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forward(client_reader, server_writer, "up"))
                group.create_task(self._forward(server_reader, client_writer, "down"))
        finally:
            del self._pairs[task]
            client_writer.transport.abort()
            server_writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: str) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                if self.rate is not None:
                    await asyncio.sleep(len(data) / self.rate)
                if getattr(self, direction):
                    writer.write(data)
                    await writer.drain()
        writer.transport.abort() if not reader.at_eof() else writer.close()

    async def close(self) -> None:
        """End every connection, and wait for it."""
        self.cut()
        if self._pairs:
            await asyncio.wait(self._pairs)


@asynccontextmanager
async def proxy(target: int) -> AsyncIterator[Proxy]:
    """Run a proxy before a server's port."""
    faulty = Proxy(target)
    server = await asyncio.start_server(faulty.serve, "127.0.0.1", 0)
    faulty.port = server.sockets[0].getsockname()[1]
    try:
        yield faulty
    finally:
        server.close()
        await faulty.close()
