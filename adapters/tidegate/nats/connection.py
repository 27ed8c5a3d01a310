"""The one NATS connection of a gateway, shared by its bridges, and kept up for ever.

Each connection is a nats-py client of its own that never reconnects by itself: so the first connection, a lost one and
one that the server closed for good (nats-py gives up on those) all take the same path, and no publish can wait in a
buffer that outlives its connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import nats.errors
from nats.aio.client import Client
from tidegate.core import Backoff, ConnectError

log = logging.getLogger(__name__)

_PING_INTERVAL = 5.0
_PING_TIMEOUT = 10.0
_CLOSE_TIMEOUT = 2.0
_NEVER = 10**9


@dataclass(frozen=True, kw_only=True)
class Login:
    """Who to be, in at most one of the four forms. Secrets are read again for each connection."""

    username: str | None = None
    password: Callable[[], str] | None = None
    token: Callable[[], str] | None = None
    nkey_seed_file: Path | None = None
    credentials_file: Path | None = None


@dataclass(frozen=True, kw_only=True)
class NatsOptions:
    """How to connect. `tls` makes a new context for each connection; with it nothing is ever sent in clear."""

    servers: tuple[str, ...]
    name: str
    login: Login = Login()
    tls: Callable[[], TlsContext] | None = None
    connect_timeout: float = 5.0


class TlsContext(ssl.SSLContext):
    """A client context that knows whether it was used.

    nats-py turns to TLS only if the server's greeting asks for it, and a greeting comes in clear: this is how to see
    that it did before any secret is sent.
    """

    used = False

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Called at the start of a handshake."""
        self.used = True
        return super().wrap_bio(*args, **kwargs)


class Connection:
    """Use as `async with`; it connects in the background.

    up: connected now. last_error: why not, or why not last time. connects: connections so far.
    on_error: called with each error that the server reports outside of an answer, such as a refused publish.
    """

    def __init__(self, options: NatsOptions) -> None:
        self.options = options
        self.last_error: str | None = None
        self.connects = 0
        self.on_error: list[Callable[[str], None]] = []
        self._client: Client | None = None
        self._ready = asyncio.Event()
        self._gone = asyncio.Event()
        self._gone.set()
        self._suspected = asyncio.Event()
        self._backoff = Backoff()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="nats connection")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    @property
    def up(self) -> bool:
        """Whether there is a connection now."""
        return self._ready.is_set()

    @property
    def reconnects(self) -> int:
        """Connections after the first."""
        return max(0, self.connects - 1)

    async def ready(self) -> Client:
        """Wait until there is a connection, and return its client."""
        while True:
            await self._ready.wait()
            if self._client is not None:
                return self._client

    async def gone(self) -> None:
        """Wait until there is no connection."""
        await self._gone.wait()

    def suspect(self) -> None:
        """Say that the connection seems to be gone, so that it is looked at now."""
        self._suspected.set()

    async def _run(self) -> None:
        while True:
            try:
                client = await self._open()
            except ConnectError as error:
                reason = str(error)
            else:
                reason = await self._keep(client)
            repeated = reason == self.last_error
            self.last_error = reason
            log.log(logging.DEBUG if repeated else logging.WARNING, "nats: not connected: %s", reason)
            await asyncio.sleep(self._backoff.next())

    async def _keep(self, client: Client) -> str:
        """Serve one connection until it ends; return why it ended."""
        self._client = client
        self.connects += 1
        self._backoff.reset()
        self._suspected.clear()
        self._gone.clear()
        self._ready.set()
        self.last_error = None
        url = client.connected_url
        log.info("nats: connected to %s", f"{url.hostname}:{url.port}" if url else "the server")
        try:
            return await self._watch(client)
        finally:
            self._ready.clear()
            self._gone.set()
            self._client = None
            await _end(client)

    async def _watch(self, client: Client) -> str:
        """Return once the connection is dead: closed, or nothing heard in answer to a ping.

        On a slow link the answer can queue behind data for long, so anything received counts as a sign of life.
        """
        while True:
            heard = client.stats["in_msgs"]
            try:
                await client.flush(timeout=_PING_TIMEOUT)  # type: ignore[arg-type]  # any number will do
            except nats.errors.TimeoutError:
                if client.stats["in_msgs"] == heard:
                    return f"no sign of life for {_PING_TIMEOUT:g} s"
            except nats.errors.Error as error:
                return self._reason(client, error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PING_INTERVAL):
                    await self._suspected.wait()
            self._suspected.clear()

    async def _open(self) -> Client:
        """Connect to one of the servers. Raises ConnectError, which says why none could be had."""
        options = self.options
        client = Client()
        errors: list[str] = []

        async def on_error(error: Exception) -> None:
            message = str(error) or type(error).__name__
            if not self.up:
                errors.append(message)
                return
            self.last_error = message
            for listener in self.on_error:
                listener(message)

        async def on_closed() -> None:
            self.suspect()

        try:
            context = options.tls() if options.tls else None
            async with asyncio.timeout(options.connect_timeout * len(options.servers) * 2):
                await client.connect(
                    servers=list(options.servers),
                    name=options.name,
                    error_cb=on_error,
                    closed_cb=on_closed,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    ping_interval=_NEVER,
                    connect_timeout=options.connect_timeout,  # type: ignore[arg-type]
                    tls=context,
                    **_credentials(options, context),
                )
            if context is not None and not context.used:
                raise _PlainServerError
        except BaseException as error:
            await _end(client)
            if isinstance(error, _EXPECTED):
                raise ConnectError(self._endpoint, _explain(error, errors)) from error
            raise
        return client

    @property
    def _endpoint(self) -> str:
        return " ".join(_without_secrets(server) for server in self.options.servers)

    def _reason(self, client: Client, error: Exception) -> str:
        return str(client.last_error or self.last_error or error or "connection closed")


class _PlainServerError(Exception):
    """TLS is asked for, and the server did not offer it."""


_EXPECTED = (nats.errors.Error, OSError, TimeoutError, ValueError, ssl.SSLError, _PlainServerError)


def _explain(error: Exception, errors: list[str]) -> str:
    if isinstance(error, _PlainServerError):
        return "the server does not offer TLS; nothing was sent to it"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not valid: {error.verify_message}"
    if isinstance(error, nats.errors.NoServersError | TimeoutError) and errors:
        return "; ".join(dict.fromkeys(errors))
    return (str(error) or type(error).__name__).removeprefix("nats: ")


def _credentials(options: NatsOptions, context: TlsContext | None) -> dict[str, Any]:
    """Return nats-py's arguments for a login, each secret behind a function that first looks whether TLS is on."""
    login = options.login

    def secret(read: Callable[[], str]) -> Callable[[], str]:
        def read_over_tls() -> str:
            if context is not None and not context.used:
                raise _PlainServerError
            return read()

        return read_over_tls

    found: dict[str, Any] = {}
    if login.username is not None:
        found["user"] = login.username
    if login.password is not None:
        found["password"] = secret(login.password)
    if login.token is not None:
        found["token"] = secret(login.token)
    if login.nkey_seed_file is not None:
        found["nkeys_seed"] = str(login.nkey_seed_file)
    if login.credentials_file is not None:
        found["user_credentials"] = str(login.credentials_file)
    return found


def _without_secrets(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else url.rpartition("@")[2]


async def _end(client: Client) -> None:
    """Close a client. On a dead link its own close waits for bytes that will never leave, so then it is cut off."""
    transport = client._transport  # the one private name used: nats-py has no way to abort
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_CLOSE_TIMEOUT):
            await client.close()
            return
    writer = getattr(transport, "_io_writer", None)
    if writer is not None:
        writer.transport.abort()
