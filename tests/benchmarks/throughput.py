"""How fast, at what cost: numbered messages through a real broker and the gateway process into a file-backed stream.

    make bench ARGS="--count 100000 --qos 1 --protocol 5"

Throughput is from the first receipt to the last PubAck as the gateway counts them, CPU is user and system time of the
gateway process alone, memory its peak. Every run ends with the balance; one with a loss or a double reports nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.support.checker import balance, envelopes, nats_client
from tests.support.gateway import GatewayProcess, gateway, write_config
from tests.support.generator import device
from tests.support.server import any_broker, iotcore, nats_server
from tests.support.wait import eventually


class Measurement(NamedTuple):
    """One run."""

    rate: float
    cpu: float
    memory: float


async def measure(count: int, qos: int, protocol: str, broker: str) -> Measurement:
    """Run once with servers of its own."""
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as name:
        folder = Path(name)
        start_broker = iotcore if broker == "iotcore" else any_broker
        async with start_broker(folder / "mqtt", protocol) as port, nats_server(folder / "nats") as server:
            config, http = write_config(folder, port, server.port, qos=qos, protocol=protocol)
            # mosquitto takes any version on one port; the embedded broker only one.
            speaks = protocol if broker == "iotcore" else "3.1.1"
            async with gateway(config, http) as running, device(port, protocol=speaks) as sensor:
                before = _cpu_seconds(running)
                start = time.perf_counter()
                await sensor.send(range(count), qos=qos)
                await eventually(lambda: _delivered(running, count), "every message is delivered", 600)
                elapsed = time.perf_counter() - start
                cpu = _cpu_seconds(running) - before
                memory = _peak_memory(running)
                async with nats_client(server.port) as client:
                    found = balance(await envelopes(client), sensor.name, sensor.acknowledged)
                if found.lost or found.doubled:
                    raise SystemExit(f"not reported: lost {len(found.lost)}, doubled {len(found.doubled)}")
                return Measurement(count / elapsed, cpu / count * 1e6, memory)


async def _delivered(running: GatewayProcess, count: int) -> bool:
    return await running.total("tidegate_messages_delivered_total") >= count


def _cpu_seconds(running: GatewayProcess) -> float:
    assert running.process is not None
    fields = Path(f"/proc/{running.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_memory(running: GatewayProcess) -> float:
    """Return the peak resident set in MiB."""
    assert running.process is not None
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


async def main(options: argparse.Namespace) -> None:
    """Print each run and the medians."""
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, everything on one machine"
    )
    job = f"{options.count} messages of about 100 B, QoS {options.qos}, MQTT {options.protocol}, {options.broker}"
    print(job, flush=True)
    runs = []
    for _ in range(options.runs):
        runs.append(await measure(options.count, options.qos, options.protocol, options.broker))
        print("  {:8.0f} msg/s  {:6.1f} us CPU a message  {:6.1f} MiB peak".format(*runs[-1]), flush=True)
    medians = (statistics.median(run[field] for run in runs) for field in range(3))
    print("  {:8.0f} msg/s  {:6.1f} us CPU a message  {:6.1f} MiB peak  (medians)".format(*medians))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--qos", type=int, choices=(1, 2), default=1)
    parser.add_argument("--protocol", choices=("5", "3.1.1"), default="5")
    parser.add_argument("--broker", choices=("mosquitto", "iotcore"), default="mosquitto")
    parser.add_argument("--runs", type=int, default=3)
    sys.exit(asyncio.run(main(parser.parse_args())))
