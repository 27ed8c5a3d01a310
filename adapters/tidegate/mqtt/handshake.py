"""Connecting to a broker, up to its CONNACK: the same for who subscribes and who publishes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from tidegate.core import ConnectError, ProtocolError
from tidegate.mqtt.codec import Codec, ConnAck, Connect
from tidegate.mqtt.link import Link, open_link
from tidegate.mqtt.packet import CONNACK, PacketReader, Publish


@dataclass(frozen=True, kw_only=True)
class BrokerOptions:
    """How to connect.

    session_expiry: seconds that the broker keeps the session without us; 0 asks for a clean one.
    receive_maximum: messages in flight towards us. keep_alive, connect_timeout: seconds.
    password, tls: read again for each connection, so that a renewed secret needs no restart.
    """

    host: str
    port: int
    codec: Codec
    client_id: str
    tls: Callable[[], ssl.SSLContext] | None = None
    username: str | None = None
    password: Callable[[], str] | None = None
    session_expiry: int = 86_400
    receive_maximum: int = 1000
    keep_alive: int = 30
    connect_timeout: float = 10.0

    @property
    def endpoint(self) -> str:
        """The broker, for messages to people."""
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"


async def connect(
    options: BrokerOptions, reader: PacketReader, on_data: Callable[[], None], *, clean_start: bool
) -> tuple[Link, ConnAck]:
    """Connect and log in. on_data: called when there are more bytes to read. clean_start: without an older session.

    Raises ConnectError, which says why not, and ProtocolError.
    """
    arrived = asyncio.Event()

    def on_any_data() -> None:
        arrived.set()
        on_data()

    try:
        tls = options.tls() if options.tls else None
    except OSError as error:
        raise ConnectError(options.endpoint, f"a certificate can't be used: {error}") from error
    link = await open_link(options.host, options.port, tls, options.connect_timeout, reader, on_any_data)
    link.ended.add_done_callback(lambda _: arrived.set())
    try:
        return link, await _handshake(options, link, arrived, clean_start=clean_start)
    except BaseException:
        link.fail("no handshake")
        raise


async def _handshake(options: BrokerOptions, link: Link, arrived: asyncio.Event, *, clean_start: bool) -> ConnAck:
    try:
        password = None if options.password is None else options.password().encode()
    except OSError as error:
        raise ConnectError(options.endpoint, f"the password can't be read: {error}") from error
    except UnicodeError:  # its text would quote the secret
        raise ConnectError(options.endpoint, "the password can't be read: it is not UTF-8") from None
    packet = Connect(
        client_id=options.client_id,
        username=options.username,
        password=password,
        clean_start=clean_start,
        keep_alive=options.keep_alive,
        session_expiry=options.session_expiry,
        receive_maximum=options.receive_maximum,
    )
    link.write(options.codec.connect(packet))
    try:
        async with asyncio.timeout(options.connect_timeout):
            while (answer := link.reader.next()) is None:
                if link.ended.done():
                    hint = "; the broker may not accept the client certificate" if options.tls else ""
                    raise ConnectError(options.endpoint, f"{link.ended.result()} before a CONNACK{hint}")
                arrived.clear()
                await arrived.wait()
    except TimeoutError:
        raise ConnectError(options.endpoint, f"no CONNACK within {options.connect_timeout:g} s") from None
    if isinstance(answer, Publish) or answer.kind != CONNACK:
        raise ProtocolError("the broker did not answer CONNECT with CONNACK")
    connack = options.codec.read(answer)
    assert isinstance(connack, ConnAck)
    if connack.refusal is not None:
        raise ConnectError(options.endpoint, f"the broker refused the connection: {connack.refusal}")
    return connack
