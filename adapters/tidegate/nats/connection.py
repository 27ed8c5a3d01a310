"""The one NATS connection of a gateway, shared by its bridges, and kept up for ever.

Each connection is a nats-py client of its own that never reconnects by itself: so the first connection, a lost one and
one that the server closed for good (nats-py gives up on those) all take the same path, and no publish can wait in a
buffer that outlives its connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import nats.errors
from nats.aio.client import Client, RawCredentials

from tidegate.core import Backoff, ConnectError

log = logging.getLogger(__name__)

_PING_INTERVAL = 5.0
_PING_TIMEOUT = 10.0
_GLANCE = 0.1
_CLOSE_TIMEOUT = 2.0
_CANCEL_AGAIN = 2 * _CLOSE_TIMEOUT
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
        await stop(self._task)

    @property
    def task(self) -> asyncio.Task[None]:
        """The task that keeps this running. Before the context is left only a defect ends it."""
        assert self._task is not None
        return self._task

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
            heed_cancellation()
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
        """Return once the connection is dead: closed, or nothing heard after a ping."""
        while True:
            ping = asyncio.create_task(client.rtt(_NEVER), name="nats ping")
            try:
                if not await _alive(client, ping):
                    return f"no sign of life for {_PING_TIMEOUT:g} s"
                ping.result()
            except nats.errors.Error as error:
                return self._reason(client, error)
            finally:
                ping.cancel()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PING_INTERVAL):
                    await self._suspected.wait()
            self._suspected.clear()

    async def _open(self) -> Client:
        """Connect to one of the servers. Raises ConnectError, which says why none could be had."""
        options = self.options
        client = Client()
        errors: list[Exception] = []
        context: TlsContext | None = None

        async def on_error(error: Exception) -> None:
            if not self.up:
                errors.append(error)
                return
            self.last_error = message = str(error) or type(error).__name__
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
            if not client.is_connected:
                raise nats.errors.ConnectionClosedError
            heed_cancellation()
        except BaseException as error:
            await _end(client)
            if isinstance(error, _EXPECTED):
                over_tls = context is not None and context.used
                raise ConnectError(self._endpoint, _explain(error, errors, over_tls)) from error
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


def _explain(error: Exception, others: list[Exception], over_tls: bool) -> str:
    if isinstance(error, _PlainServerError):
        return "the server does not offer TLS; nothing was sent to it"
    if over_tls and isinstance(error, ConnectionError | nats.errors.ConnectionClosedError):
        # Whether TLS's own error still arrives, or only the end of the connection that follows it, is a matter of luck.
        refusal = next((other for other in others if isinstance(other, ssl.SSLError)), None)
        if refusal is None:
            return "the server ended the connection after the TLS handshake; does it want a client certificate?"
        error = refusal
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not valid: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS failed: {error.reason.replace('_', ' ').lower()}"
    if isinstance(error, nats.errors.NoServersError | TimeoutError) and others:
        return "; ".join(dict.fromkeys(str(other) or type(other).__name__ for other in others))
    return (str(error) or type(error).__name__).removeprefix("nats: ")


def _credentials(options: NatsOptions, context: TlsContext | None) -> dict[str, Any]:
    """Return nats-py's arguments for a login. With TLS, each form of it first looks whether TLS is really on.

    Raises OSError and ValueError where a file can't be used.
    """
    login = options.login

    def only_over_tls(read: Callable[[], str | None]) -> Callable[[], str | None]:
        def read_over_tls() -> str | None:
            if context is not None and not context.used:
                raise _PlainServerError
            return read()

        return read_over_tls

    found: dict[str, Any] = {}
    if login.username is not None:
        found["user"] = login.username
    if login.password is not None:
        found["password"] = only_over_tls(login.password)
    if login.nkey_seed_file is not None:
        found["nkeys_seed_str"] = _nkey_seed(login.nkey_seed_file)
    if login.credentials_file is not None:
        found["user_credentials"] = _user_credentials(login.credentials_file)
    if login.token is not None:
        found["token"] = only_over_tls(login.token)
    elif context is not None:
        # nats-py asks for a token whatever the login is, before it sends any: that is where to stop it.
        found["token"] = only_over_tls(lambda: None)
    return found


def _nkey_seed(file: Path) -> str:
    return _checked_seed(file.read_text(encoding="utf-8", errors="replace").strip(), file)


def _user_credentials(file: Path) -> RawCredentials:
    """Return what the file says, rewritten: nats-py reads a file without a JWT for ever."""
    text = file.read_text(encoding="utf-8", errors="replace")
    jwt = _JWT.search(text)
    seed = _SEED.search(text)
    if jwt is None or seed is None:
        raise ValueError(f"{file} is not a credentials file: it has no {'NKey seed' if jwt else 'user JWT'}")
    return RawCredentials(
        f"-----BEGIN NATS USER JWT-----\n{jwt[1]}\n------END NATS USER JWT------\n"
        f"-----BEGIN USER NKEY SEED-----\n{_checked_seed(seed[1], file)}\n------END USER NKEY SEED------\n"
    )


_JWT = re.compile(r"BEGIN NATS USER JWT-*\s+([\w.-]+?)\s+-+END")
_SEED = re.compile(r"BEGIN USER NKEY SEED-*\s+(\w+)\s")


def _checked_seed(seed: str, file: Path) -> str:
    try:
        import nkeys
    except ImportError:
        raise ValueError("NKeys need an extra package: pip install 'tidegate[nkeys]'") from None
    try:
        nkeys.from_seed(bytearray(seed.encode()))
    except (nkeys.NkeysError, ValueError):
        raise ValueError(f"{file} holds no valid NKey seed") from None
    return seed


def _without_secrets(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else url.rpartition("@")[2]


async def _alive(client: Client, ping: asyncio.Task[float]) -> bool:
    """Return whether a ping is answered.

    On a slow link the answer can queue behind data for long, so anything received counts as a sign of life; and the
    ping is never given up while the connection stands, as an answer to such a one ends nats-py's reading for good.
    """
    clock = asyncio.get_running_loop().time
    heard, last = client.stats["in_msgs"], clock()
    while not ping.done():
        await asyncio.wait([ping], timeout=_GLANCE)
        if client.is_closed:
            raise nats.errors.ConnectionClosedError
        if client.stats["in_msgs"] != heard:
            heard, last = client.stats["in_msgs"], clock()
        elif clock() - last >= _PING_TIMEOUT:
            return ping.done()
    return True


def heed_cancellation() -> None:
    """Raise CancelledError if this task was told to end.

    nats-py, while its buffer is full, and asyncio's wait_for before Python 3.12 can swallow that.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def stop(task: asyncio.Task[None]) -> None:
    """Cancel a task until it ends, as a cancellation can be swallowed."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_CANCEL_AGAIN)
    if not task.cancelled():
        task.result()


async def _end(client: Client) -> None:
    """Close a client. On a dead link its own close waits for bytes that will never leave, so then it is cut off.

    One that never connected has nothing to send, but may wait all the same after a failed TLS handshake.
    """
    timeout = _CLOSE_TIMEOUT if client.is_connected else _CLOSE_TIMEOUT / 20
    transport = client._transport  # the one private name used: nats-py has no way to abort
    try:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(timeout):
                await client.close()
    finally:
        writer = getattr(transport, "_io_writer", None)
        if writer is not None:
            # asyncio's transport raises this where its last bytes left after it was told to close: then it is gone.
            with contextlib.suppress(AttributeError):
                writer.transport.abort()
