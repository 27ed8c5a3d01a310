"""`tidegate top` beside a real gateway, broker and nats-server."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.app.helpers import command
from tests.app.top_terminal import Terminal, terminal
from tests.support.gateway import GatewayProcess, gateway, write_config
from tests.support.generator import Device, device, publish_packet
from tests.support.server import Server, any_broker, nats_server
from tests.support.wait import eventually

pytestmark = pytest.mark.slow

ALARMS = """\
  - name: alarms
    mqtt: alarms/{device}
    nats: plant.sensors.alarms.{device}
"""
COMMANDS = """\
  - name: commands
    direction: down
    mqtt: commands/{device}
    nats: plant.sensors.commands.{device}
"""


class Watched:
    """A gateway under load, and who watches it."""

    def __init__(self, nats: Server, running: GatewayProcess, shown: Terminal, sender: Device) -> None:
        self.nats = nats
        self.running = running
        self.shown = shown
        self.sender = sender


async def _send(sender: Device) -> None:
    """Publish for ever, some hundred a second."""
    for first in range(0, 1_000_000, 20):
        await sender.send(range(first, first + 20))
        await asyncio.sleep(0.05)


async def watched(
    folder: Path, stack: AsyncExitStack, columns: int = 80, lines: int = 24, more: str = ALARMS
) -> Watched:
    """Start it all; the stack ends it. more: bridges besides `readings`."""
    mqtt = await stack.enter_async_context(any_broker(folder / "mqtt"))
    nats = await stack.enter_async_context(nats_server(folder / "nats"))
    config, http = write_config(folder, mqtt, nats.port)
    config.write_text(config.read_text().replace("http:", f"{more}http:"))
    running = await stack.enter_async_context(gateway(config, http))
    sender = await stack.enter_async_context(device(mqtt))
    program = command("top", "-c", config, "--interval", "200ms")
    shown = await stack.enter_async_context(terminal(*program, columns=columns, lines=lines))
    await shown.sees("READY", "readings", "alarms", timeout=60)
    sending = asyncio.create_task(_send(sender))
    stack.callback(sending.cancel)
    return Watched(nats, running, shown, sender)


def row(shown: Terminal, name: str) -> list[str]:
    """Return the cells of a bridge's row."""
    return next((line[2:].split() for line in shown.lines if line[2:].startswith(name)), [])


def rate_of(shown: Terminal, name: str) -> float:
    """Return what a bridge receives a second, as it is seen."""
    cells = row(shown, name)
    return float(cells[2]) if len(cells) > 2 else 0.0


async def test_it_follows_a_gateway_under_load_and_without_nats(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        site = await watched(tmp_path, stack)
        shown = site.shown
        await eventually(lambda: rate_of(shown, "readings") > 10, "data flows", timeout=60)
        assert rate_of(shown, "alarms") == 0

        shown.press("s")
        await shown.sees("by rate")
        await eventually(lambda: shown.text.index("readings") < shown.text.index("alarms"), "the busiest is the first")

        await site.sender.send_raw(publish_packet(site.sender.topic, b"{torn \x1b[2J"))
        await eventually(lambda: row(shown, "readings")[-1:] == ["1"], "a dead letter is counted", timeout=30)
        shown.press("d")
        await shown.sees("decode_failed", "sensors/hall/")
        shown.press("\x1b")

        await site.nats.stop()
        await shown.sees("SPOOLING because", "away", "messages are on the disk", timeout=60)
        await eventually(lambda: row(shown, "readings")[1:2] == ["spooling"])
        await eventually(lambda: row(shown, "readings")[-3] not in ("0", "-"), "what is on the disk is counted")
        shown.press("g\r")  # the first by rate
        await shown.sees("readings  spooling", "blocked", "on the disk")
        shown.press("\x1b")

        await site.nats.start()
        await shown.sees("READY", timeout=60)
        await eventually(lambda: row(shown, "readings")[1:2] == ["delivering"], "it delivers again", timeout=60)

        await site.running.stop()
        await shown.sees("NOT ANSWERING since", timeout=30)
        shown.press("q")
        assert await shown.end() == 0
        assert shown.modes_now() == shown.modes


async def test_over_40_columns_nothing_breaks(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        site = await watched(tmp_path, stack, 40, 16, ALARMS + COMMANDS)
        shown = site.shown
        await shown.sees("commands")
        await eventually(lambda: rate_of(shown, "readings") > 10, "data flows", timeout=60)
        for key, words in (("\r", "alarms  delivering"), ("\x1b", "BRIDGE"), ("d", "dead letters"), ("\x1b", "BRIDGE")):
            shown.press(key)
            await shown.sees(words)
        await site.nats.stop()
        await shown.sees("STUCK because", "stuck", "spooling", timeout=60)
        shown.process.terminate()
        assert await shown.end() == 0
        assert shown.modes_now() == shown.modes
