"""The status page over a real gateway, broker and nats-server: it follows what happens to them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.browser import Tab, needs_chromium
from tests.support.gateway import GatewayProcess, gateway, write_config
from tests.support.generator import Device, device, publish_packet
from tests.support.server import Server, any_broker, nats_server
from tests.support.wait import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="module"), needs_chromium, pytest.mark.slow]


class Plant(NamedTuple):
    """What runs."""

    gateway: GatewayProcess
    nats: Server
    broker: int


@asynccontextmanager
async def _plant(folder: Path, screen: Tab) -> AsyncIterator[Plant]:
    """Run everything, and open the page."""
    async with any_broker(folder / "mqtt") as broker, nats_server(folder / "nats") as nats:
        config, http = write_config(folder, broker, nats.port)
        async with gateway(config, http) as running:
            await screen.open(http)
            await eventually(lambda: _says(screen, "h1", "All is well"))
            yield Plant(running, nats, broker)


async def _says(screen: Tab, selector: str, part: str) -> bool:
    return part in await screen.text(selector)


async def _number(screen: Tab, selector: str) -> int:
    """Return the exact number that a title gives."""
    return int((await screen.page.locator(selector).first.get_attribute("title") or "0").replace(",", ""))


@asynccontextmanager
async def _load(sender: Device) -> AsyncIterator[None]:
    """Let a device send small batches all the while."""

    async def send() -> None:
        first = 0
        while True:
            await sender.send(range(first, first + 20))
            first += 20

    task = asyncio.create_task(send(), name="load")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_it_shows_what_flows_and_what_nats_being_away_does(screen: Tab, tmp_path: Path) -> None:
    async with _plant(tmp_path, screen) as plant:
        async with device(plant.broker) as sender, _load(sender):
            await eventually(lambda: _number(screen, "[data-f=delivered]"), "the first are delivered")
            before = await _number(screen, "[data-f=delivered]")

            async def more() -> bool:
                return await _number(screen, "[data-f=delivered]") > before

            await eventually(more, "the count of the delivered grows")
            await eventually(lambda: _says(screen, "#hop-nats-up", "connected"))

            async def flows() -> bool:
                return (await screen.kind("#hop-mqtt-up"), await screen.kind("#hop-nats-up")) == ("ok", "ok")

            await eventually(flows, "both hops show a rate")
            await screen.keep("live-flow", tmp_path)

            await plant.nats.stop()
            await eventually(lambda: _says(screen, "h1", "Holding: NATS is away; messages wait on the disk"))
            assert await screen.kind("#top") == "warn"
            assert await screen.kind("#hop-nats-up") == "bad"
            assert "cut" in await screen.text("#hop-nats-up")
            assert await screen.kind("tbody.card") == "warn"
            held = await _number(screen, "#on-disk")

            async def fills() -> bool:
                return await _number(screen, "#on-disk") > held

            await eventually(fills, "the disk fills")
            await screen.keep("live-holding", tmp_path)

            await plant.nats.start()
            await eventually(lambda: _says(screen, "h1", "All is well"), timeout=30)
            await eventually(flows, "both hops show a rate again")

        async def empty() -> bool:
            return await _number(screen, "#on-disk") == 0 and await _number(screen, "#in-flight") == 0

        await eventually(empty, "the disk is empty again")
        assert screen.complaints == []

        await plant.gateway.kill()
        await eventually(lambda: _says(screen, "h1", "No answer: test has not answered since"))
        await screen.keep("live-killed", tmp_path)


async def test_a_devices_markup_is_text_on_its_whole_way(screen: Tab, tmp_path: Path) -> None:
    image, end = "<img src=x onerror=document.title='owned'>", "</script><script>document.title='owned'</script>"
    async with _plant(tmp_path, screen) as plant, device(plant.broker) as sender:
        topic = f"sensors/{image}/{end.replace('/', '%')}/reading"
        await sender.send_raw(publish_packet(topic.encode(), end.encode()))
        await eventually(lambda: _says(screen, "#dead-rows", image))
        assert "decode_failed" in await screen.text("#dead-rows")
        assert await screen.page.locator("img").count() == 0
        assert "All is well" in await screen.page.title()
        assert screen.complaints == []
        assert {url.split("/")[2] for url in screen.requests} == {f"127.0.0.1:{plant.gateway.http}"}
