"""What a fault test looks at from outside: the gateway's metrics and its process, and what the stream holds."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NamedTuple

from tests.support.checker import Balance, balance, envelopes, nats_client
from tests.support.gateway import GatewayProcess
from tests.support.generator import Device
from tests.support.wait import eventually

_SETTLED = ("delivered_total", "dead_lettered_total", "filtered_total", "dropped_total")


class Books(NamedTuple):
    """One reading of a gateway's counters."""

    received: float
    settled: float
    in_flight: float
    spooled: float


async def books(running: GatewayProcess) -> Books:
    """Return the counters of one moment, which must balance (law 6)."""
    samples = await running.metrics()

    def total(name: str) -> float:
        return sum(value for (found, _), value in samples.items() if found == f"tidegate_messages_{name}")

    found = Books(total("received_total"), sum(total(name) for name in _SETTLED), total("in_flight"), total("spooled"))
    assert found.received == found.settled + found.in_flight + found.spooled, found
    assert min(found) >= 0, found
    return found


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
