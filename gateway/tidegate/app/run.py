"""`tidegate run`: the gateway as a process."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

from tidegate.app.child import EmbeddedError
from tidegate.app.config import Config
from tidegate.app.config_file import load_config
from tidegate.app.embedded import embedded_broker, embedded_nats
from tidegate.app.gateway import Gateway
from tidegate.app.http import ListenError
from tidegate.app.log import configure_logging
from tidegate.app.notify import Notifier
from tidegate.app.pages import gateway_pages
from tidegate.app.running import StateError
from tidegate.core import ConfigError
from tidegate.spool import SpoolError

log = logging.getLogger(__name__)

_COLLECT_EVERY = 50_000
"""New objects between two looks for cycles. A window of messages is that many, none of them in a cycle."""


async def run(path: Path, config: Config, *, embedded: bool) -> None:
    """Run until SIGTERM or SIGINT, then stop in order. SIGHUP reads the file again.

    Raises ListenError, EmbeddedError, StreamError, and what a defect raises.
    """
    wake = asyncio.Event()
    asked: set[signal.Signals] = set()

    def on_signal(number: signal.Signals) -> None:
        asked.add(number)
        wake.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
    async with AsyncExitStack() as stack:
        if embedded:
            await _start_servers(stack, config)
        gateway = Gateway()
        notifier = await stack.enter_async_context(Notifier(gateway))  # which outlives it: a stop takes its time
        await stack.enter_async_context(gateway)
        gateway.pages = gateway_pages(gateway)
        await gateway.apply(config)
        gc.collect()
        gc.freeze()  # what lives from here on is messages; the rest need not be looked at again
        gc.set_threshold(_COLLECT_EVERY)
        gateway.failed.add_done_callback(lambda _: wake.set())
        notifier.ready()  # whatever is away: at boot the uplink may be so for hours
        while not asked & {signal.SIGTERM, signal.SIGINT}:
            await wake.wait()
            wake.clear()
            if gateway.failed.done():
                gateway.failed.result()
            if signal.SIGHUP in asked:
                asked.remove(signal.SIGHUP)
                notifier.reloading()
                await _reload(gateway, path)
                notifier.ready()
        in_flight = sum(bridge.totals.in_flight for bridge in gateway.bridges.values())
        notifier.stopping(in_flight)
        log.info("stopping: %d messages in flight", in_flight)
    log.info("stopped")


async def _reload(gateway: Gateway, path: Path) -> None:
    """Apply the file; where it is bad, or what it says can't be had, go on with the configuration before.

    Raises what keeps that from being applied again.
    """
    before = gateway.config
    try:
        config = await asyncio.to_thread(load_config, path)
        await gateway.apply(config)
    except ConfigError as error:
        gateway.last_reload_successful = False
        log.error("reload: %s", "; ".join(str(error).splitlines()))
    except (ListenError, SpoolError, StateError) as error:
        gateway.last_reload_successful = False
        log.error("reload: %s; the configuration before is applied again", error)
        await gateway.apply(before)
    else:
        configure_logging(config.log)
        gateway.last_reload_successful = True
        log.info("reload: %s applied", path)


async def _start_servers(stack: AsyncExitStack, config: Config) -> None:
    """Start the two servers where the configuration expects them."""
    if config.mqtt.url.startswith("mqtts:") or config.nats.uses_tls:
        raise EmbeddedError("--embedded servers speak no TLS: use mqtt:// and nats:// on 127.0.0.1")
    ports = []
    for key, url in (("mqtt.url", config.mqtt.url), ("nats.servers", config.nats.servers[0])):
        parts = urlsplit(url)
        if parts.hostname not in ("127.0.0.1", "localhost"):
            raise EmbeddedError(f"--embedded servers listen on 127.0.0.1, but {key} names {parts.hostname}")
        assert parts.port is not None
        ports.append(parts.port)
    await stack.enter_async_context(embedded_nats(ports[1], config.state_dir / "nats"))
    await stack.enter_async_context(embedded_broker(ports[0], config.mqtt.protocol, config.state_dir))
    log.info("embedded: broker on port %d (sessions in memory only), nats-server on port %d", *ports)
