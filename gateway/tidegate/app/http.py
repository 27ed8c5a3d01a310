"""A small HTTP server for a handful of scrapers; h11 does the parsing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_address
from typing import NamedTuple, Self

import h11

from tidegate.core import TidegateError

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 128
"""At once. One more takes the place of one that has had an answer, or that has waited longest for its client: who sends
and reads at once is served, however many others hold connections. Where all wait for their first answers, so many more
wait for a place."""

MAX_HEADER_BYTES = 16 * 1024
_CHUNK = 4096
REQUEST_TIMEOUT = 10.0
"""Seconds for a whole request, and for a whole response: a slow client does not get to keep its place."""

_REST = 2.0
"""For each second of work on answers, so many without: requests that come without end leave the loop to messages."""


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


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
        # Who waits for its client, or for another answer; longest first. True: it is ended before those with False.
        self._waiting: dict[asyncio.Task[None], bool] = {}
        self._outside: deque[_Streams] = deque()  # for them there is no place yet
        self._turn = asyncio.Lock()
        self._again = asyncio.Lock()

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
        for _, writer in self._outside:
            writer.transport.abort()
        self._outside.clear()
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._outside) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        self._outside.append((reader, writer))
        self._admit()

    def _admit(self) -> None:
        """Serve those outside, as far as there is room, or can be."""
        while self._outside and (len(self._connections) < MAX_CONNECTIONS or self._make_room()):
            reader, writer = self._outside.popleft()
            task = asyncio.create_task(self._serve(reader, writer), name="http connection")
            self._connections.add(task)
            self._waiting[task] = False
            task.add_done_callback(partial(self._end, writer.transport))

    def _make_room(self) -> bool:
        """End a connection that waits; return whether there was one to end.

        Half of the places are for newcomers: one whose request is on its way is not ended for the next one.
        """
        crowded = len(self._waiting) > MAX_CONNECTIONS // 2
        ended = next((task for task, first in self._waiting.items() if first or crowded), None)
        if ended is None:
            return False
        del self._waiting[ended]
        ended.cancel()
        return True

    def _end(self, transport: asyncio.WriteTransport, task: asyncio.Task[None]) -> None:
        """Close a connection. Its task can't: one that is cancelled at once never begins."""
        self._connections.discard(task)
        self._waiting.pop(task, None)
        transport.abort() if transport.get_write_buffer_size() else transport.close()
        self._admit()

    def _wait(self, *, end_first: bool) -> None:
        """From here on this connection can be ended for another one, until it goes on."""
        task = self._go_on()
        self._waiting[task] = end_first
        self._admit()

    def _go_on(self) -> asyncio.Task[None]:
        task = asyncio.current_task()
        assert task is not None
        self._waiting.pop(task, None)
        return task

    @asynccontextmanager
    async def _client_turn(self, *, end_first: bool) -> AsyncIterator[None]:
        """Wait for the client in here: for a limited time, and only while nobody else needs the place."""
        self._wait(end_first=end_first)
        async with asyncio.timeout(REQUEST_TIMEOUT):
            yield
        self._go_on()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER_BYTES - _CHUNK)
        answered = False
        with contextlib.suppress(TimeoutError, OSError, h11.RemoteProtocolError):
            while connection.states == {h11.CLIENT: h11.IDLE, h11.SERVER: h11.IDLE}:
                async with self._client_turn(end_first=answered):
                    request = await _read_request(connection, reader)
                if request is None:
                    return
                response = request if isinstance(request, Response) else await self._page(request, answered)
                head = isinstance(request, h11.Request) and request.method == b"HEAD"
                async with self._client_turn(end_first=False):
                    await _send(connection, writer, response, head)
                answered = True
                if connection.our_state is h11.DONE and connection.their_state is h11.DONE:
                    connection.start_next_cycle()

    async def _page(self, request: h11.Request, answered: bool) -> Response:
        """Return an answer. Of the clients that have had one, a single one at a time stands among those that wait for
        their first: these are served soon, however many ask again and again."""
        if not answered:
            return await self._first_page(request)
        self._wait(end_first=True)
        async with self._again:
            return await self._first_page(request)

    async def _first_page(self, request: h11.Request) -> Response:
        """Return an answer: one at a time over all connections, and with a rest for the loop's sake."""
        async with self._turn:
            self._go_on()  # to end this one now would cut the rest short
            begun = time.perf_counter()
            response = self._find(request)
            await asyncio.sleep(_REST * (time.perf_counter() - begun))
            return response

    def _find(self, request: h11.Request) -> Response:
        headers = dict(request.headers)
        if not self._is_ours(headers.get(b"host", b"")):
            return plain(
                421, "the Host header should be an address or localhost, since http.listen is for this machine"
            )
        path = request.target.partition(b"?")[0].decode("ascii", "replace")
        page = self._pages.get(path)
        if page is None:
            return plain(404, f"there is nothing here; there is {' '.join(self._pages)}")
        if request.method not in (b"GET", b"HEAD"):
            return plain(405, "only GET and HEAD")._replace(headers=(("Allow", "GET, HEAD"),))
        try:
            return page(headers.get(b"accept", b"").decode("latin-1"))
        except Exception:
            log.exception("http: %s failed", path)
            return plain(500, "this page failed; the log says why")

    def _is_ours(self, host: bytes) -> bool:
        """Whether a Host header may be one of a client that means this gateway.

        A loopback address is listened on for this machine alone, but a page of a foreign site may have its name
        resolve to that address, and then have a browser on this machine read what we show. Its Host is that name.
        Elsewhere nobody can tell by which names the gateway is known. HTTP/1.0 may leave Host out [RFC 9112 3.2].
        """
        return not host or not _is_loopback(self.address[0]) or _names_this_machine(host.decode("latin-1"))


def _is_loopback(address: str) -> bool:
    return ip_address(address.partition("%")[0]).is_loopback


def _names_this_machine(host: str) -> bool:
    name = re.sub(r":[0-9]*$", "", host)
    if name.lower() == "localhost":
        return True
    try:
        ip_address(name[1:-1] if name[:1] + name[-1:] == "[]" else name)
    except ValueError:
        return False
    return True


async def _read_request(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | Response | None:
    """Return the next request, or the answer to one that is malformed, or None at the end of the connection.

    No page takes a body, so none is waited for, and what sends one anyhow is the last request of its connection.
    """
    while True:
        try:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                if not any(name == b"transfer-encoding" for name, _ in event.headers):
                    connection.next_event()  # the end of the request, or else a part of its body
                return event
        except h11.RemoteProtocolError as error:
            return plain(error.error_status_hint, str(error))
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_CHUNK))
        elif isinstance(event, h11.ConnectionClosed):
            return None


async def _send(connection: h11.Connection, writer: asyncio.StreamWriter, response: Response, head: bool) -> None:
    headers = [
        ("Content-Type", response.content_type),
        ("Content-Length", str(len(response.body))),
        ("X-Content-Type-Options", "nosniff"),
        ("Cache-Control", "no-store"),
        *response.headers,
    ]
    if connection.their_state in (h11.ERROR, h11.MUST_CLOSE, h11.SEND_BODY):
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
