"""Tidegate as its users run it: `tidegate run`, with every guarantee on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from tests.benchmarks.site import STREAM, Site
from tests.benchmarks.subscriber import SUBJECT
from tests.support.gateway import GatewayProcess, gateway, get
from tidegate.app.embedded import free_port

_CONFIG = """\
gateway: bench-{number}
mqtt: {{url: "mqtt://127.0.0.1:{mqtt}", protocol: "{job.protocol}"}}
nats: {{servers: ["nats://127.0.0.1:{nats}"]}}
{streams}
bridges:
  - name: readings
    mqtt: {share}sensors/{{site}}/{{device}}/reading
    nats: plant.sensors.{{site}}.{{device}}
    qos: {job.qos}
    deliver: {job.deliver}
    mode: {job.mode}
    type: com.example.sensor.reading.v1
spool: {{mode: {job.spool}}}
http: {{listen: "127.0.0.1:{http}"}}
"""


@asynccontextmanager
async def tidegate(site: Site) -> AsyncIterator[list[GatewayProcess]]:
    """Run as many gateways as the job says, each with a folder of its own, from when they deliver."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(_one(site, number)) for number in range(site.job.gateways)]


@asynccontextmanager
async def _one(site: Site, number: int) -> AsyncIterator[GatewayProcess]:
    folder = site.folder / f"gateway-{number}"
    folder.mkdir()
    http = free_port()
    config = folder / "tidegate.yaml"
    streams = f'streams: [{{name: {STREAM}, subjects: ["{SUBJECT}"]}}]' if site.job.deliver == "jetstream" else ""
    share = "$share/bench/" if site.job.processes else ""
    config.write_text(
        _CONFIG.format(
            number=number, mqtt=site.mqtt, nats=site.nats, http=http, job=site.job, streams=streams, share=share
        )
    )
    async with gateway(config, http) as running, _scraped(http, site.job.scrape):
        yield running


@asynccontextmanager
async def _scraped(http: int, every: float) -> AsyncIterator[None]:
    """Look at its metrics all the while, as Prometheus does, if every so many seconds is not never."""

    async def scrape() -> None:
        while True:
            await get(http, "/metrics")
            await asyncio.sleep(every)

    task = asyncio.create_task(scrape()) if every else None
    yield
    if task is not None:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()
