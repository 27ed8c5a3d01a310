"""One TCP or TLS connection to a NATS server: greeted, logged in, and how it ended."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Callable
from importlib.metadata import version
from typing import NamedTuple, cast
from urllib.parse import urlsplit

from tidegate.core import ConnectError, ProtocolError
from tidegate.nats import wire
from tidegate.nats.login import Fields

WRITE_AHEAD = 256 * 1024
"""Bytes that may wait to leave before `writable` waits."""

_CLOSED = "closed by the server"


class Inbox(NamedTuple):
    """A subscription of this connection's own. Answers come to `prefix` and one more token.

    on_pubacks: called with the tokens of plain PubAcks; None has them come to `on_answer` too.
    """

    sid: int
    prefix: str
    on_pubacks: Callable[[list[bytes]], None] | None
    on_answer: Callable[[wire.Answer], None]


def new_inbox() -> str:
    """Return the beginning, up to a dot, of subjects that nobody else knows."""
    return f"_INBOX.{secrets.token_hex(8)}."


class Link(asyncio.Protocol):
    """A connection, as asyncio calls it. `ended` has the reason at the end.

    info: what the server last said about itself. reads: how often bytes came. on_error: called with each -ERR.
    """

    def __init__(self, url: str) -> None:
        loop = asyncio.get_running_loop()
        self.url = url
        self.info: Fields = {}
        self.ended: asyncio.Future[str] = loop.create_future()
        self.reads = 0
        self.on_error: Callable[[str], None] = self._note
        self._greeted: asyncio.Future[None] = loop.create_future()
        self._pongs: list[asyncio.Future[None]] = []
        self._transport: asyncio.Transport | None = None
        self._reader = wire.Reader()
        self._inboxes: dict[int, Inbox] = {}
        self._subscribers: dict[int, Callable[[wire.Delivery], None]] = {}
        self._requests: dict[bytes, tuple[bytes, asyncio.Future[wire.Answer]]] = {}
        self._request_inbox: Inbox | None = None
        self._numbers = 0
        self._reason: str | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(WRITE_AHEAD)

    def data_received(self, data: bytes) -> None:
        self.reads += 1
        try:
            for event in self._reader.read(data):
                self._take(event)
        except ProtocolError as error:
            self.fail(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            why = _CLOSED if exc is None or isinstance(exc, ConnectionError) else _tls_text(exc)
            self.ended.set_result(self._reason or why)
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _take(self, event: wire.Event) -> None:
        match event:
            case wire.PubAcks() | wire.Answer():
                if inbox := self._inboxes.get(event.sid):
                    _deliver(inbox, event)
            case wire.Delivery():
                if subscriber := self._subscribers.get(event.sid):
                    subscriber(event)
            case wire.Ping():
                self.write(wire.PONG)
            case wire.Pong():
                if self._pongs and not (pong := self._pongs.pop(0)).done():
                    pong.set_result(None)
            case wire.Info(fields):
                if not isinstance(fields.get("max_payload", 0), int) or not isinstance(fields.get("nonce", ""), str):
                    raise ProtocolError("an INFO that makes no sense; is this a NATS server?")
                self.info = fields
                if not self._greeted.done():
                    self._greeted.set_result(None)
            case wire.ErrorLine(text):
                self._refuse(text)
                self.on_error(text)

    def _note(self, text: str) -> None:
        """Before the login is done every error is why it failed."""
        self._reason = self._reason or text

    # What others call

    @property
    def max_payload(self) -> int:
        """Bytes of headers and body that the server takes."""
        return int(self.info.get("max_payload", 1024 * 1024))

    @property
    def unsent(self) -> int:
        """Bytes that wait to leave."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Send bytes. What is written to a connection that has ended is let go."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    @property
    def is_writable(self) -> bool:
        """Whether more bytes may be written now."""
        return self._writable.is_set() and not self.ended.done()

    async def writable(self) -> None:
        """Wait while too many bytes wait to leave. Returns at once when the connection has ended."""
        await self._writable.wait()

    def ping(self) -> asyncio.Future[None]:
        """Ask for a sign of life. Never done if the connection ends first."""
        pong: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pongs.append(pong)
        self.write(wire.PING)
        return pong

    async def flushed(self, timeout: float) -> None:
        """Wait until the server has read everything written so far. Raises ConnectError if it does not."""
        pong = self.ping()
        await asyncio.wait((pong, self.ended), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if not pong.done():
            raise self._no_answer(timeout)

    def open_inbox(
        self, on_answer: Callable[[wire.Answer], None], on_pubacks: Callable[[list[bytes]], None] | None = None
    ) -> Inbox:
        """Subscribe to a subject that nobody else knows."""
        self._numbers += 1
        inbox = Inbox(self._numbers, new_inbox(), on_pubacks, on_answer)
        self._inboxes[inbox.sid] = inbox
        self.write(wire.encode_subscribe(f"{inbox.prefix}*", inbox.sid))
        return inbox

    def close_inbox(self, inbox: Inbox) -> None:
        """Unsubscribe."""
        del self._inboxes[inbox.sid]
        self.write(wire.encode_unsubscribe(inbox.sid))

    def subscribe(self, subject: str, on_delivery: Callable[[wire.Delivery], None]) -> int:
        """Subscribe, and have each message passed on whole; return what `unsubscribe` takes."""
        self._numbers += 1
        sid = self._numbers
        self._subscribers[sid] = on_delivery
        self._reader.whole.add(sid)
        self.write(wire.encode_subscribe(subject, sid))
        return sid

    def unsubscribe(self, sid: int) -> None:
        """End a subscription. What is on its way is let go."""
        if self._subscribers.pop(sid, None) is not None:
            self.write(wire.encode_unsubscribe(sid))

    async def request(self, command: Callable[[str], bytes], timeout: float) -> wire.Answer:
        """Send the command for a reply subject, and return the answer. Raises ConnectError if there is none, or if this
        user may not ask."""
        if self._request_inbox is None:
            self._request_inbox = self.open_inbox(self._answered)
        self._numbers += 1
        token = b"%d" % self._numbers
        answer: asyncio.Future[wire.Answer] = asyncio.get_running_loop().create_future()
        sent = command(f"{self._request_inbox.prefix}{self._numbers}")
        self._requests[token] = (sent, answer)
        try:
            self.write(sent)
            await asyncio.wait((answer, self.ended), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._requests[token]
        if answer.done():
            return answer.result()
        raise self._no_answer(timeout)

    def _no_answer(self, timeout: float) -> ConnectError:
        return ConnectError(self.url, self.ended.result() if self.ended.done() else f"no answer within {timeout:g} s")

    def _answered(self, answer: wire.Answer) -> None:
        _, request = self._requests.get(answer.token, (b"", None))
        if request is not None and not request.done():
            request.set_result(answer)

    def _refuse(self, text: str) -> None:
        """End the requests that a permissions error speaks of: no other answer comes."""
        _, refused, quoted = text.partition("Permissions Violation for Publish to ")
        subject = quoted.strip().strip('"').encode()
        for sent, answer in self._requests.values():
            if refused and sent.split(b" ", 2)[1] == subject and not answer.done():
                answer.set_exception(ConnectError(self.url, text))

    def fail(self, reason: str) -> None:
        """End the connection at once, for this reason."""
        self._reason = self._reason or reason
        if self._transport is not None:
            self._transport.abort()

    async def close(self, timeout: float) -> None:
        """End the connection once the server has read what was written, if that does not take too long."""
        self._reason = self._reason or "closed"
        try:
            await asyncio.wait((self.ping(), self.ended), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if self._transport is not None:
                self._transport.abort()
        await asyncio.wait([self.ended], timeout=timeout)

    # Connecting

    async def log_in(self, name: str, fields: Callable[[str | None], Fields], tls: ssl.SSLContext | None) -> None:
        """Wait for the greeting, turn to TLS, log in. Raises ConnectError, which says why not."""
        await self._step(self._greeted)
        offered = self.info.get("tls_required") or self.info.get("tls_available")
        if tls is not None:
            if not offered:
                raise ConnectError(self.url, "the server does not offer TLS; nothing was sent to it")
            await self._start_tls(tls)
        elif self.info.get("tls_required"):
            raise ConnectError(self.url, "the server wants TLS: write tls:// or give nats.tls")
        if not self.info.get("headers"):
            raise ConnectError(self.url, "the server does not support headers; nats-server 2.2 or newer does")
        connect = {
            "name": name,
            "lang": "python",
            "version": version("tidegate"),
            "protocol": 1,
            "verbose": False,
            "pedantic": False,
            "headers": True,
            "no_responders": True,
            "echo": False,
            "tls_required": tls is not None,
            **fields(self.info.get("nonce")),
        }
        self.write(wire.encode_connect(connect))
        try:
            await self._step(self.ping())
        except ConnectError as error:
            if tls is not None and error.reason == _CLOSED:
                hint = "the server ended the connection after the TLS handshake; does it want a client certificate?"
                raise ConnectError(self.url, hint) from error
            raise

    async def _step(self, step: asyncio.Future[None]) -> None:
        """Wait for a step of the login, or for the end of the connection."""
        await asyncio.wait((step, self.ended), return_when=asyncio.FIRST_COMPLETED)
        if self.ended.done():
            raise ConnectError(self.url, self.ended.result())

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        assert self._transport is not None
        try:
            transport = await asyncio.get_running_loop().start_tls(
                self._transport, self, context, server_hostname=urlsplit(self.url).hostname
            )
        except ssl.SSLError as error:
            raise ConnectError(self.url, _tls_text(error)) from error
        except OSError as error:
            raise ConnectError(self.url, f"TLS failed: {error.strerror or error}") from error
        if transport is None:
            raise ConnectError(self.url, "closed during the TLS handshake")
        self.connection_made(transport)


def _tls_text(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not valid: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS failed: {error.reason.replace('_', ' ').lower()}"
    return str(error) or type(error).__name__


def _deliver(inbox: Inbox, event: wire.PubAcks | wire.Answer) -> None:
    if isinstance(event, wire.Answer):
        inbox.on_answer(event)
    elif inbox.on_pubacks is not None:
        inbox.on_pubacks(event.tokens)
    else:
        for token in event.tokens:
            inbox.on_answer(wire.Answer(event.sid, token, 0, b"{}"))


async def open_link(
    url: str, name: str, fields: Callable[[str | None], Fields], tls: ssl.SSLContext | None, timeout: float
) -> Link:
    """Connect and log in. url: nats:// or tls:// with host and port. Raises ConnectError, which says what failed."""
    parts = urlsplit(url)
    link = Link(url)
    logged_in = False
    try:
        async with asyncio.timeout(timeout):
            await asyncio.get_running_loop().create_connection(lambda: link, parts.hostname or "", parts.port or 4222)
            await link.log_in(name, fields, tls)
        logged_in = True
    except TimeoutError:
        raise ConnectError(url, f"no connection within {timeout:g} s") from None
    except OSError as error:
        raise ConnectError(url, error.strerror or str(error) or type(error).__name__) from error
    else:
        link.on_error = lambda _text: None
        return link
    finally:
        if not logged_in:
            link.fail("no login")
