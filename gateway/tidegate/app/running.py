"""The parts of a running gateway, each an async context that starts and stops in order."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from ssl import SSLContext
from urllib.parse import urlsplit

import nats.errors
from pydantic import SecretStr

from tidegate.app import config as c
from tidegate.app.tls import client_context
from tidegate.bridge import DECODERS, Bridge, Converter, DeadLetters
from tidegate.mqtt import CODECS, Session, SessionOptions
from tidegate.nats import (
    Connection,
    CorePublisher,
    Login,
    NatsOptions,
    Publisher,
    StreamError,
    StreamSpec,
    TlsContext,
    ensure_stream,
)

log = logging.getLogger(__name__)


class RunningBridge:
    """A bridge with its two ends."""

    def __init__(self, bridge: Bridge, session: Session, sink: Publisher | CorePublisher, dead_sink: Publisher) -> None:
        self.bridge = bridge
        self.session = session
        self.sink = sink
        self.dead_sink = dead_sink

    @property
    def problem(self) -> str | None:
        """Return why this bridge can't move messages now, or None."""
        if not self.session.up:
            return f"mqtt: {self.session.last_error or 'not yet connected'}"
        blocked = self.sink.blocked or self.dead_sink.blocked
        return f"nats: {blocked}" if blocked else None


@asynccontextmanager
async def running_bridge(
    config: c.Config, bridge: c.Bridge, connection: Connection, on_end: Callable[[asyncio.Task[None]], None]
) -> AsyncIterator[RunningBridge]:
    """Run a bridge. On leaving it takes no more, and waits up to `shutdown_timeout` for what is in flight.

    on_end: called when the bridge's task ends, which before the context is left only a defect can cause.
    """
    async with AsyncExitStack() as stack:
        dead_sink = await stack.enter_async_context(Publisher(connection, bridge.name))
        sink = dead_sink if bridge.deliver == "jetstream" else CorePublisher(connection)
        session = await stack.enter_async_context(Session(session_options(config, bridge), bridge.name))
        source = config.source(bridge.name)
        path = tuple(bridge.correlation.split(".")) if bridge.correlation else ()
        converter = Converter(bridge.mapping(), DECODERS[bridge.decode], source, bridge.type, bridge.mode, path)
        dead_letters = DeadLetters(dead_sink, bridge.name, source, config.dead_letters.subject_for(bridge.name))
        moving = Bridge(bridge.name, session, converter, sink, dead_letters)
        task = asyncio.create_task(moving.run(), name=f"bridge {bridge.name}")
        task.add_done_callback(on_end)
        try:
            yield RunningBridge(moving, session, sink, dead_sink)
        finally:
            await _drain(moving, task, config.shutdown_timeout)


async def _drain(bridge: Bridge, task: asyncio.Task[None], timeout: float) -> None:
    bridge.stop()
    await asyncio.wait([task], timeout=timeout)
    if left := bridge.counters.in_flight:
        log.warning("%s: stopped with %d messages not settled; the broker sends them again", bridge.name, left)
    task.cancel()
    await asyncio.wait([task])


def session_options(config: c.Config, bridge: c.Bridge) -> SessionOptions:
    """Return the MQTT session of a bridge."""
    mqtt = config.mqtt
    url = urlsplit(mqtt.url)
    assert url.hostname is not None
    assert url.port is not None
    tls: Callable[[], SSLContext] | None = None
    if url.scheme == "mqtts":

        def tls() -> SSLContext:
            return client_context(mqtt.tls, SSLContext)

    return SessionOptions(
        host=url.hostname,
        port=url.port,
        codec=CODECS[mqtt.protocol],
        client_id=config.client_id(bridge.name),
        topic_filter=bridge.mapping().topic_filter,
        qos=bridge.qos,
        tls=tls,
        username=mqtt.username,
        password=_secret(mqtt.password_file, mqtt.password),
        session_expiry=int(mqtt.session_expiry),
        receive_maximum=mqtt.receive_maximum,
        max_payload=mqtt.max_payload,
        keep_alive=int(mqtt.keep_alive),
        state_file=config.state_dir / f"packets-{bridge.name}",
    )


def nats_options(config: c.Config) -> NatsOptions:
    """Return the NATS connection of a gateway."""
    nats_config = config.nats
    tls: Callable[[], TlsContext] | None = None
    if nats_config.uses_tls:

        def tls() -> TlsContext:
            return client_context(nats_config.tls or c.Tls(), TlsContext)

    return NatsOptions(
        servers=nats_config.servers,
        name=f"tidegate-{config.gateway}",
        login=Login(
            username=nats_config.username,
            password=_secret(nats_config.password_file, nats_config.password),
            token=_secret(nats_config.token_file, nats_config.token),
            nkey_seed_file=nats_config.nkey_seed_file,
            credentials_file=nats_config.credentials_file,
        ),
        tls=tls,
    )


def _secret(file: Path | None, value: SecretStr | None) -> Callable[[], str] | None:
    if file is not None:
        return lambda: _read_secret(file)
    return value.get_secret_value if value is not None else None


def _read_secret(file: Path) -> str:
    """Return a file's text without its line end. Raises OSError."""
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise OSError(errno.EILSEQ, "it is not UTF-8 text", str(file)) from None


def stream_specs(config: c.Config) -> list[StreamSpec]:
    """Return the configured streams, and the one for dead letters unless it is among them."""
    specs = [
        StreamSpec(
            name=stream.name,
            subjects=stream.subjects,
            retention=stream.retention,
            discard=stream.discard or ("old" if stream.retention == "limits" else "new"),
            storage=stream.storage,
            max_age=stream.max_age,
            max_bytes=stream.max_bytes,
            replicas=stream.replicas,
            duplicate_window=stream.duplicate_window,
        )
        for stream in config.streams
    ]
    dead = config.dead_letters
    if all(spec.name != dead.stream for spec in specs):
        specs.append(
            StreamSpec(name=dead.stream, subjects=(dead.subject_for("*"),), discard="new", max_age=dead.max_age)
        )
    return specs


async def ensure_streams(connection: Connection, specs: list[StreamSpec]) -> None:
    """Create or verify the streams, as soon as there is a connection. Raises StreamError."""
    for spec in specs:
        while True:
            client = await connection.ready()
            try:
                await ensure_stream(client, spec)
                break
            except StreamError:
                raise
            except (nats.errors.Error, OSError) as error:
                log.warning("nats: stream %s could not be looked at: %s", spec.name, error or type(error).__name__)
                connection.suspect()
                await asyncio.sleep(1.0)
