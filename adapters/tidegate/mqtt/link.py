"""One TCP or TLS connection to a broker: bytes in, bytes out, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import time
from collections.abc import Callable
from typing import cast

from tidegate.core import ConnectError
from tidegate.mqtt.packet import PINGREQ_PACKET, PacketReader

READ_AHEAD = 256 * 1024
"""Bytes that may wait to be read as packets before the socket is no longer read."""

_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux only


class Link(asyncio.Protocol):
    """A connection, as asyncio calls it. `on_data` is called after each read; `ended` has the reason at the end."""

    def __init__(self, reader: PacketReader, on_data: Callable[[], None]) -> None:
        self.reader = reader
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._on_data = on_data
        self._transport: asyncio.Transport | None = None
        self._socket: socket.socket | None = None
        self._reason: str | None = None
        self._paused = False
        self._discarding = False
        self._asked: float | None = None
        self._writable = True
        self.on_writable: Callable[[], None] = lambda: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._socket = _own_socket(transport)

    def data_received(self, data: bytes) -> None:
        self._asked = None
        if self._discarding:
            return
        self.reader.feed(data)
        if self.reader.size >= READ_AHEAD and not self.reader.hungry:
            self._pause()
        self._on_data()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if not self.ended.done():
            self.ended.set_result(self._reason or (str(exc) if exc else "closed by the broker"))

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self.on_writable()

    @property
    def is_writable(self) -> bool:
        """Whether more bytes may be written now: not too many wait to leave. `on_writable` is called when they left."""
        return self._writable and not self.closing

    def _pause(self) -> None:
        if self._transport is not None and not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on, if what was read ahead has been taken."""
        if self._paused and (self.reader.size < READ_AHEAD or self.reader.hungry):
            self._paused, self._asked = False, None
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    @property
    def closing(self) -> bool:
        """Whether the connection ends or has ended: what is written now does not reach the broker."""
        return self._transport is None or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send bytes. What is written to a connection that has ended is let go; the broker sends again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def ping(self, before: bytes = b"") -> None:
        """Send bytes, if any, and ask for a sign of life.

        The answer is to be acknowledged by TCP at once: a broker that leaves Nagle's algorithm on holds the next
        message back until then, and a delayed acknowledgement takes 40 ms.
        """
        if self._asked is None:
            self._asked = time.monotonic()
        self.write(before + PINGREQ_PACKET)
        if self._socket is not None and _QUICKACK is not None:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)

    def is_silent(self, seconds: float) -> bool:
        """Whether nothing came since a ping that long ago.

        While reading is paused an answer can't be seen, so its absence means nothing (MQTT 5 §3.1.2.10).
        """
        return self._asked is not None and not self._paused and time.monotonic() - self._asked >= seconds

    def fail(self, reason: str) -> None:
        """End the connection at once, for this reason."""
        self._reason = self._reason or reason
        if self._transport is not None:
            self._transport.abort()

    async def close(self, last_words: bytes, timeout: float) -> None:
        """End the connection so that the broker reads all that was written.

        It is told to close, and its bytes are read and let go until it does: closing a socket with bytes unread makes
        the kernel send a reset, which can take our last PUBACKs with it.
        """
        self._reason = self._reason or "closed"
        self._discarding = True
        self._paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            self._transport.write(last_words)
        await asyncio.wait([self.ended], timeout=timeout)
        if self._transport is not None:
            self._transport.abort()
        await asyncio.wait([self.ended], timeout=timeout)


def _own_socket(transport: asyncio.BaseTransport) -> socket.socket | None:
    """Return a socket to set options on; what uvloop gives opens and closes one for each."""
    found = transport.get_extra_info("socket")
    return None if found is None or _QUICKACK is None else socket.socket(fileno=os.dup(found.fileno()))


async def open_link(
    host: str, port: int, tls: ssl.SSLContext | None, timeout: float, reader: PacketReader, on_data: Callable[[], None]
) -> Link:
    """Connect. Raises ConnectError, which says what failed: the name, the network, or the certificate."""
    endpoint = f"{'mqtts' if tls else 'mqtt'}://{host}:{port}"
    try:
        async with asyncio.timeout(timeout):
            _, link = await asyncio.get_running_loop().create_connection(
                lambda: Link(reader, on_data), host, port, ssl=tls, server_hostname=host if tls else None
            )
    except TimeoutError:
        raise ConnectError(endpoint, f"no connection within {timeout:g} s") from None
    except ssl.SSLCertVerificationError as error:
        raise ConnectError(endpoint, f"the broker's certificate is not valid: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise ConnectError(endpoint, f"TLS failed: {error.reason or error}") from error
    except OSError as error:
        if tls is not None and isinstance(error, ConnectionResetError | ConnectionAbortedError):
            raise ConnectError(endpoint, "closed during the TLS handshake; does this port speak TLS?") from error
        raise ConnectError(endpoint, error.strerror or str(error) or type(error).__name__) from error
    return link
