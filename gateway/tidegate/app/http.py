"""A small HTTP server for a handful of scrapers; h11 does the parsing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import NamedTuple, Self

import h11

from tidegate.core import TidegateError

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 64
"""At once; more are closed at once, so that they cost neither memory nor file descriptors."""

MAX_HEADER_BYTES = 16 * 1024
_CHUNK = 4096
REQUEST_TIMEOUT = 10.0
"""Seconds for a whole request, and for a whole response: a slow client does not get to keep its place."""


class ListenError(TidegateError):
    """The address can't be listened on."""

    def __init__(self, address: tuple[str, int], reason: str) -> None:
        self.address = address
        super().__init__(f"http.listen {address[0]}:{address[1]}: {reason}")


class Response(NamedTuple):
    """What a page returns. headers: more than those that every response has."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


Page = Callable[[str], Response]
"""Makes a response; takes the request's Accept header."""


class HttpServer:
    """Serves pages by their path. Use as `async with`. Raises ListenError."""

    def __init__(self, address: tuple[str, int], pages: dict[str, Page]) -> None:
        self.address = address
        self._pages = pages
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        host, port = self.address
        try:
            self._server = await asyncio.start_server(self._accept, host, port, limit=MAX_HEADER_BYTES)
        except OSError as error:
            raise ListenError(self.address, error.strerror or str(error)) from error
        self.address = self._server.sockets[0].getsockname()[:2]
        log.info("http: listening on %s:%d", *self.address)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer), name="http connection")
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER_BYTES - _CHUNK)
        try:
            with contextlib.suppress(TimeoutError, OSError, h11.RemoteProtocolError):
                while connection.states == {h11.CLIENT: h11.IDLE, h11.SERVER: h11.IDLE}:
                    async with asyncio.timeout(REQUEST_TIMEOUT):
                        response, head = await self._answer(connection, reader)
                    if response is None:
                        return
                    async with asyncio.timeout(REQUEST_TIMEOUT):
                        await _send(connection, writer, response, head)
                    if connection.our_state is h11.DONE and connection.their_state is h11.DONE:
                        connection.start_next_cycle()
        finally:
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def _answer(self, connection: h11.Connection, reader: asyncio.StreamReader) -> tuple[Response | None, bool]:
        """Read a request and return the answer to it, and whether it asks for the head alone; None at the end."""
        request: h11.Request | None = None
        while True:
            try:
                event = connection.next_event()
            except h11.RemoteProtocolError as error:
                return plain(error.error_status_hint, str(error)), False
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(_CHUNK))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.EndOfMessage) and request is not None:
                return self._page(request), request.method == b"HEAD"
            elif isinstance(event, h11.ConnectionClosed):
                return None, False

    def _page(self, request: h11.Request) -> Response:
        path = request.target.partition(b"?")[0].decode("ascii", "replace")
        page = self._pages.get(path)
        if page is None:
            return plain(404, f"there is nothing here; there is {' '.join(self._pages)}")
        if request.method not in (b"GET", b"HEAD"):
            return plain(405, "only GET and HEAD")
        accept = next((value for name, value in request.headers if name == b"accept"), b"")
        try:
            return page(accept.decode("latin-1"))
        except Exception:
            log.exception("http: %s failed", path)
            return plain(500, "this page failed; the log says why")


async def _send(connection: h11.Connection, writer: asyncio.StreamWriter, response: Response, head: bool) -> None:
    headers = [
        ("Content-Type", response.content_type),
        ("Content-Length", str(len(response.body))),
        ("X-Content-Type-Options", "nosniff"),
        ("Cache-Control", "no-store"),
        *response.headers,
    ]
    if connection.their_state in (h11.ERROR, h11.MUST_CLOSE):
        headers.append(("Connection", "close"))
    out = connection.send(h11.Response(status_code=response.status, headers=headers)) or b""
    body = b""
    if not head:
        body = connection.send(h11.Data(data=response.body)) or b""
    writer.write(out + body + (connection.send(h11.EndOfMessage()) or b""))
    await writer.drain()


def plain(status: int, text: str) -> Response:
    """Return a line of text."""
    return Response(status, "text/plain; charset=utf-8", text.encode() + b"\n")
