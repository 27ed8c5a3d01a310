"""Random faults for as long as you like, and the balance at the end.

    make soak ARGS="--for 10m --seed 7"

A device publishes at a steady rate while the gateway and the NATS server are killed, and links cut or black-holed, in
an order that the seed decides. The exit status is 1 if a message that the broker acknowledged is lost or doubled.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

from tests.faults.observe import Books, books, gateway, set_option, until_settled
from tests.support.checker import balance, envelopes, nats_client, stored
from tests.support.gateway import GatewayProcess, write_config
from tests.support.generator import Device, device
from tests.support.proxy import Proxy, proxy
from tests.support.server import Server, any_broker, nats_server
from tests.support.wait import eventually
from tidegate.app.quantity import parse_duration

_BURSTS = 10
"""Bursts a second in which the device publishes."""


class Rig(NamedTuple):
    """Everything that can be broken."""

    gateway: GatewayProcess
    nats: Server
    mqtt_link: Proxy
    nats_link: Proxy
    chance: random.Random


async def _kill_gateway(rig: Rig) -> None:
    await rig.gateway.kill()
    await rig.gateway.start(ready=False)


async def _kill_nats(rig: Rig) -> None:
    await rig.nats.kill()
    await rig.nats.start()


async def _stop_nats(rig: Rig) -> None:
    await rig.nats.stop()
    await asyncio.sleep(rig.chance.uniform(1, 8))
    await rig.nats.start()


async def _pause_nats(rig: Rig) -> None:
    rig.nats.pause()
    await asyncio.sleep(rig.chance.uniform(1, 8))
    rig.nats.resume()


async def _cut_mqtt(rig: Rig) -> None:
    rig.mqtt_link.cut()


async def _cut_nats(rig: Rig) -> None:
    rig.nats_link.cut()


async def _black_hole_mqtt(rig: Rig) -> None:
    await _black_hole(rig.mqtt_link, rig.chance.uniform(1, 8))


async def _black_hole_nats(rig: Rig) -> None:
    await _black_hole(rig.nats_link, rig.chance.uniform(1, 15))


async def _black_hole(link: Proxy, seconds: float) -> None:
    link.black_hole()
    await asyncio.sleep(seconds)
    link.restore()


FAULTS: dict[str, Callable[[Rig], Awaitable[None]]] = {
    "gateway kill -9": _kill_gateway,
    "nats kill -9": _kill_nats,
    "nats stops for a while": _stop_nats,
    "nats hangs for a while": _pause_nats,
    "mqtt link cut": _cut_mqtt,
    "nats link cut": _cut_nats,
    "mqtt link goes dark for a while": _black_hole_mqtt,
    "nats link goes dark for a while": _black_hole_nats,
}


async def soak(seconds: float, seed: int, rate: int) -> bool:
    """Run it; return whether nothing was lost or doubled."""
    print(f"seed {seed}, {seconds:g} s, {rate} messages a second", flush=True)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-soak-")))
        broker = await stack.enter_async_context(any_broker(folder / "mqtt"))
        server = await stack.enter_async_context(nats_server(folder / "nats"))
        mqtt_link = await stack.enter_async_context(proxy(broker))
        nats_link = await stack.enter_async_context(proxy(server.port))
        config, http = write_config(folder, mqtt_link.port, nats_link.port)
        set_option(config, "mqtt", "keep_alive: 4s")
        # An event may be sent again long after the first time, and the balance asks that it be stored once even then.
        config.write_text(config.read_text().replace('"]}\n', '"], duplicate_window: 1h}\n', 1))
        running = await stack.enter_async_context(gateway(config, http))
        sensor = await stack.enter_async_context(device(broker))
        rig = Rig(running, server, mqtt_link, nats_link, random.Random(seed))
        stop = asyncio.Event()
        sending = asyncio.create_task(_send(sensor, rate, stop))
        try:
            await _break_things(rig, seconds)
            stop.set()
            sent = await sending
            return await _report(rig, sensor, sent)
        except BaseException:
            print(running.log_text()[-3000:], file=sys.stderr)
            raise
        finally:
            sending.cancel()


async def _send(sensor: Device, rate: int, stop: asyncio.Event) -> int:
    """Publish at a steady rate; return how many."""
    sent, begun = 0, time.monotonic()
    while not stop.is_set():
        due = int((time.monotonic() - begun) * rate)
        await sensor.send(range(sent, due))
        sent = due
        await asyncio.sleep(1 / _BURSTS)
    return sent


async def _break_things(rig: Rig, seconds: float) -> None:
    begun = time.monotonic()
    while (at := time.monotonic() - begun) < seconds:
        name = rig.chance.choice(list(FAULTS))
        print(f"{at:7.1f} s  {name}", flush=True)
        await FAULTS[name](rig)
        await books(rig.gateway)
        await asyncio.sleep(rig.chance.uniform(0.2, 4))


async def _report(rig: Rig, sensor: Device, sent: int) -> bool:
    """Wait until everything has come to rest, and print the balance."""
    async with nats_client(rig.nats.port) as client:
        try:
            await eventually(lambda: _stored(client, len(sensor.acknowledged)), "everything is stored", 60)
            await until_settled(rig.gateway, 60)
        except AssertionError as error:
            print(error)  # the balance says what is missing
        found: Books = await books(rig.gateway)
        result = balance(await envelopes(client), sensor.name, sensor.acknowledged)
        dead = len(await stored(client, "DEAD_LETTERS"))
    print(
        f"sent {sent}, PUBACKed {len(sensor.acknowledged)}, stored {result.stored}, spooled {found.spooled:g}, "
        f"dead {dead}, lost {len(result.lost)}, doubled {sum(result.doubled.values())}"
    )
    return not result.lost and not result.doubled


async def _stored(client, count: int) -> bool:
    return (await client.jetstream().stream_info("SENSORS")).state.messages >= count


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__.splitlines()[0])
    parser.add_argument("--for", dest="seconds", type=parse_duration, default=120.0, metavar="2m")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--rate", type=int, default=500, help="messages a second")
    arguments = parser.parse_args()
    sys.exit(0 if asyncio.run(soak(arguments.seconds, arguments.seed, arguments.rate)) else 1)


if __name__ == "__main__":
    main()
