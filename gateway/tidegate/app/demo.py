"""`tidegate demo`: the whole way on one machine, and a balance in which every number is counted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path
from statistics import quantiles

import aiomqtt
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tidegate.app.child import gateway_child
from tidegate.app.embedded import embedded_broker, embedded_nats, free_port
from tidegate.core import Envelope

DEVICES = 5
_SETTLE_TIMEOUT = 15.0

_CONFIG = """\
gateway: demo
state_dir: {state}
mqtt:
  url: mqtt://127.0.0.1:{mqtt}
nats:
  servers: [nats://127.0.0.1:{nats}]
streams:
  - {{name: SENSORS, subjects: ["plant.sensors.>"], max_age: 1d}}
bridges:
  - name: readings
    mqtt: sensors/{{site}}/{{device}}/reading
    nats: plant.sensors.{{site}}.{{device}}
    type: com.example.sensor.reading.v1
http: {{listen: 127.0.0.1:{http}}}
"""

Key = tuple[str, int]
"""A reading: its device and its number."""


class Tally:
    """What happened, counted at both ends."""

    def __init__(self) -> None:
        self.sent_at: dict[Key, float] = {}
        self.pubacked: set[Key] = set()
        self.latencies: list[float] = []
        self.seen: set[Key] = set()
        self.progress = asyncio.Event()


async def demo(duration: float | None, rate: int) -> int:
    """Run until `duration` seconds have passed or Ctrl-C, and print a balance; return 0 if it is even."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="tidegate-demo-") as folder:
        state = Path(folder)
        mqtt, nats_port, http = free_port(), free_port(), free_port()
        config = state / "tidegate.yaml"
        config.write_text(_CONFIG.format(state=state, mqtt=mqtt, nats=nats_port, http=http), encoding="utf-8")
        _say(f"Starting a broker on port {mqtt} and a nats-server on port {nats_port}; all data in {folder}")
        async with (
            embedded_nats(nats_port, state / "nats"),
            embedded_broker(mqtt, "5", state),
            _gateway(config, http),
            await nats.connect(f"nats://127.0.0.1:{nats_port}") as client,
        ):
            _say(f"The gateway runs: tidegate run -c {config}; its metrics: http://127.0.0.1:{http}/metrics")
            _say(f"{DEVICES} sensors publish {rate} messages a second at QoS 1; a backend listens. Ctrl-C ends.\n")
            await client.subscribe("plant.sensors.>", cb=_listener(tally))
            await _publish(mqtt, rate, tally, stop, duration)
            await _all_seen(tally)
            copies = await _stored(client)
    return _balance(tally, copies)


def _say(text: str) -> None:
    print(text, flush=True)


@asynccontextmanager
async def _gateway(config: Path, http: int) -> AsyncIterator[None]:
    async with gateway_child(config, http) as process:
        yield
    _say(f"The gateway stopped with exit status {process.returncode}.")


async def _publish(port: int, rate: int, tally: Tally, stop: asyncio.Event, duration: float | None) -> None:
    """Let the sensors publish until it is time to stop, then until each has its last PUBACK."""
    async with asyncio.TaskGroup() as sensors:
        for device in _devices():
            sensors.create_task(_sensor(port, device, rate / DEVICES, tally, stop))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(duration):
                await stop.wait()
        stop.set()


def _devices() -> list[str]:
    return [f"s{number + 1}" for number in range(DEVICES)]


async def _sensor(port: int, device: str, rate: float, tally: Tally, stop: asyncio.Event) -> None:
    """Publish readings, each awaited until its PUBACK, with a correlation id as an MQTT 5 user property."""
    topic = f"sensors/hall/{device}/reading"
    temperature = random.uniform(18, 24)
    async with aiomqtt.Client("127.0.0.1", port, identifier=device, protocol=aiomqtt.ProtocolVersion.V5) as client:
        start = time.monotonic()
        number = 0
        while not stop.is_set():
            temperature += random.uniform(-0.2, 0.2)
            reading = {"device": device, "seq": number, "temperature": round(temperature, 2), "unit": "C"}
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.UserProperty = ("correlationid", f"{device}-{number}")
            key = (device, number)
            tally.sent_at[key] = time.monotonic()
            await client.publish(topic, json.dumps(reading), qos=1, properties=properties)
            tally.pubacked.add(key)
            number += 1
            delay = start + number / rate - time.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, delay)):
                    await stop.wait()


def _listener(tally: Tally) -> Callable[[Msg], Awaitable[None]]:
    """Return the backend service: it counts every event, and prints a few a second, of each sensor in turn."""
    shown = 0.0
    turn = cycle(_devices())
    wanted = next(turn)

    async def on_event(msg: Msg) -> None:
        nonlocal shown, wanted
        event = Envelope.from_nats(msg.headers, msg.data)
        key = (event.data["device"], event.data["seq"])
        now = time.monotonic()
        latency = now - tally.sent_at[key]
        tally.latencies.append(latency)
        tally.seen.add(key)
        tally.progress.set()
        if now - shown >= 0.25 and key[0] == wanted:
            shown, wanted = now, next(turn)
            _say(
                f"{event.subject} -> {msg.subject}  id {event.id}  correlation {event.correlationid}  "
                f"{event.data['temperature']} {event.data['unit']}  {latency * 1000:.1f} ms"
            )

    return on_event


async def _all_seen(tally: Tally) -> None:
    """Wait until the subscriber has everything that was acknowledged to a sensor."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_SETTLE_TIMEOUT):
            while not tally.pubacked <= tally.seen:
                tally.progress.clear()
                await tally.progress.wait()


async def _stored(client: Client) -> Counter[Key]:
    """Read the whole stream, and count the copies of each reading."""
    jetstream = client.jetstream()
    copies: Counter[Key] = Counter()
    total = (await jetstream.stream_info("SENSORS")).state.messages
    subscription = await jetstream.pull_subscribe("", stream="SENSORS")
    while copies.total() < total:
        for msg in await subscription.fetch(min(1000, total - copies.total()), timeout=5):
            data = Envelope.from_nats(msg.headers, msg.data).data
            copies[(data["device"], data["seq"])] += 1
            await msg.ack()
    return copies


def _balance(tally: Tally, copies: Counter[Key]) -> int:
    lost = len(tally.pubacked - copies.keys())
    doubled = copies.total() - len(copies)
    cuts = quantiles(tally.latencies, n=100) if len(tally.latencies) > 1 else [0.0] * 99
    _say(
        f"\nsent {len(tally.sent_at)}, PUBACKed {len(tally.pubacked)}, stored {copies.total()}, "
        f"lost {lost}, doubled {doubled}"
    )
    _say(f"device to subscriber: p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms")
    return 0 if not lost and not doubled else 1
