"""What a fault test looks at from outside: the gateway's metrics and its process, and what the stream holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.checker import Balance, balance, envelopes, nats_client
from tests.support.gateway import GatewayProcess
from tests.support.gateway import gateway as plain_gateway
from tests.support.generator import Device
from tests.support.wait import eventually

_LOOK_EVERY = 0.2
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
_SETTLED = ("delivered_total", "dead_lettered_total", "filtered_total", "dropped_total")


class Books(NamedTuple):
    """One reading of the counters, of a bridge or of all."""

    received: float
    settled: float
    in_flight: float
    spooled: float


async def books(running: GatewayProcess) -> Books:
    """Return the counters of one moment, of all bridges together. Those of each must balance (law 6)."""
    return _sum(balanced(await running.metrics()))


def balanced(samples: Samples) -> dict[str, Books]:
    """Return the counters of each bridge, which must balance in each answer: it is made in one turn of the loop."""
    found: dict[str, Books] = {}
    for bridge in {dict(labels)["bridge"] for name, labels in samples if name == "tidegate_messages_received_total"}:

        def total(name: str, bridge: str = bridge) -> float:
            return sum(
                value
                for (sample, labels), value in samples.items()
                if sample == f"tidegate_messages_{name}" and dict(labels)["bridge"] == bridge
            )

        settled = sum(total(name) for name in _SETTLED)
        books = found[bridge] = Books(total("received_total"), settled, total("in_flight"), total("spooled"))
        assert books.received == books.settled + books.in_flight + books.spooled, (bridge, books)
        assert min(books) >= 0, (bridge, books)
    return found


def _sum(found: dict[str, Books]) -> Books:
    return Books(*map(sum, zip(*found.values(), strict=True)))


@asynccontextmanager
async def gateway(config: Path, http: int, *arguments: str, ready: bool = True) -> AsyncIterator[GatewayProcess]:
    """Run a gateway whose books must balance all the time, whatever is done to it, and at the end, if it still runs."""
    async with plain_gateway(config, http, *arguments, ready=ready) as running:
        watching = asyncio.create_task(_watch(running), name="watch the books")
        try:
            yield running
        finally:
            watching.cancel()
            await asyncio.wait([watching])
        if not watching.cancelled():
            watching.result()
        if running.process is not None and running.process.returncode is None:
            await books(running)


async def _watch(running: GatewayProcess) -> None:
    """Look at the books again and again, until cancelled. Raises AssertionError once they do not balance."""
    while True:
        process = running.process
        try:
            balanced(await running.metrics())
        except (OSError, IndexError, ValueError):
            pass  # it does not run now
        except AssertionError:
            await asyncio.sleep(1)  # half of an answer, if it was killed meanwhile
            if process is not None and process is running.process and process.returncode is None:
                raise
        await asyncio.sleep(_LOOK_EVERY)


async def until_settled(running: GatewayProcess, timeout: float = 60.0) -> None:
    """Return once nothing is in flight and nothing is spooled, while the books balance."""

    async def settled() -> bool:
        found = await books(running)
        return not found.in_flight and not found.spooled

    await eventually(settled, "nothing is in flight and the spool is empty", timeout)


async def until_received(running: GatewayProcess, least: int, timeout: float = 30.0) -> None:
    """Return once this life of the gateway has received that many, while the books balance."""

    async def received() -> bool:
        return (await books(running)).received >= least

    await eventually(received, f"{least} messages are received", timeout)


async def until_in_flight(running: GatewayProcess, least: int, timeout: float = 30.0) -> None:
    """Return once that many messages are in flight, while the books balance."""

    async def in_flight() -> bool:
        return (await books(running)).in_flight >= least

    await eventually(in_flight, f"{least} messages are in flight", timeout)


async def until_link(running: GatewayProcess, endpoint: str, *, up: bool, timeout: float = 30.0) -> None:
    """Return once the gateway says of a connection, "mqtt" or "nats", that it is up or that it is not."""

    async def found() -> bool:
        return await link(running, "connection_up", endpoint) == up

    await eventually(found, f"{endpoint} is {'up' if up else 'down'}", timeout)


async def link(running: GatewayProcess, name: str, endpoint: str) -> float:
    """Return a connection's metric."""
    samples = await running.metrics()
    return sum(
        value for (found, labels), value in samples.items()
        if found == f"tidegate_{name}" and dict(labels)["endpoint"] == endpoint
    )  # fmt: skip


async def stop(running: GatewayProcess, timeout: float) -> int:
    """Stop a gateway with SIGTERM; return its exit status. One that is not gone by the deadline is killed."""
    try:
        return await asyncio.wait_for(running.stop(), timeout)
    except TimeoutError:
        await running.kill()
        raise AssertionError(f"not stopped within {timeout:g} s:\n{running.log_text()[-2000:]}") from None


async def verdict(running: GatewayProcess, port: int, sensor: Device, timeout: float = 60.0) -> Balance:
    """Return the balance once the stream has as much as the device got acknowledged, and the gateway is at rest."""
    async with nats_client(port) as client:

        async def complete() -> bool:
            state = (await client.jetstream().stream_info("SENSORS")).state
            return state.messages >= len(sensor.acknowledged)

        await eventually(complete, f"{len(sensor.acknowledged)} messages are stored", timeout)
        await until_settled(running, timeout)
        return balance(await envelopes(client), sensor.name, sensor.acknowledged)


class Resources(NamedTuple):
    """What a process holds."""

    memory: int
    """Bytes that are resident."""

    descriptors: int
    threads: int


def resources(running: GatewayProcess) -> Resources:
    """Return what the gateway's process holds now."""
    assert running.process is not None
    folder = Path("/proc") / str(running.process.pid)
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    memory = int(status["VmRSS"].split()[0]) * 1024
    return Resources(memory, len(list((folder / "fd").iterdir())), int(status["Threads"]))


def set_option(config: Path, section: str, option: str) -> None:
    """Add a line to a section of a configuration file, such as `keep_alive: 2s` to `mqtt`."""
    text = config.read_text()
    assert f"\n{section}:\n" in text
    config.write_text(text.replace(f"\n{section}:\n", f"\n{section}:\n  {option}\n"))
