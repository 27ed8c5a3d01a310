"""The patterns in the documentation: their files are run together, as a reader would, and do what is said of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import nats
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.app.helpers import tidegate
from tests.support.gateway import gateway
from tests.support.program import Program, program
from tests.support.server import any_broker, nats_server
from tests.support.wait import eventually
from tidegate.app.embedded import free_port

TEXT = (Path(__file__).parents[2] / "docs/patterns.md").read_text()
BLOCKS = dict(re.findall(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE))
SERVICES = ("screen.py", "kitchen.py", "cashier.py", "chef.py", "caller.py")


@asynccontextmanager
async def service(folder: Path, name: str) -> AsyncIterator[Program]:
    """Run a file; at the end a SIGTERM must end it in order."""
    async with program(folder, sys.executable, name) as running:
        yield running
        running.process.terminate()
        assert await running.process.wait() == 0, name


async def _finished(folder: Path, name: str) -> str:
    """Run a file that comes to an end by itself; return what it printed."""
    process = await asyncio.create_subprocess_exec(sys.executable, name, cwd=folder, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0, name
    return out.decode()


def test_each_pattern_has_under_twenty_lines_of_its_own() -> None:
    """Counted without blank lines and imports."""
    assert len(BLOCKS) == 11
    for name, body in BLOCKS.items():
        lines = [line for line in body.splitlines() if line and not line.startswith(("import ", "from "))]
        assert len(lines) < 20, name


@pytest.mark.slow
async def test_the_patterns_work_together_as_the_documentation_says(tmp_path: Path) -> None:
    async with any_broker(tmp_path / "mqtt") as mqtt, nats_server(tmp_path / "nats") as server:
        http = free_port()
        for name, body in BLOCKS.items():
            (tmp_path / name).write_text(body.replace("127.0.0.1:4222", f"127.0.0.1:{server.port}"))
        config = tmp_path / "tidegate.yaml"
        ports = f"nats: {{servers: ['nats://127.0.0.1:{server.port}']}}\nhttp: {{listen: '127.0.0.1:{http}'}}\n"
        config.write_text(BLOCKS["tidegate.yaml"] + f"mqtt: {{url: mqtt://127.0.0.1:{mqtt}}}\n{ports}")
        async with gateway(config, http), contextlib.AsyncExitStack() as stack:
            running = {name: await stack.enter_async_context(service(tmp_path, name)) for name in SERVICES}
            await _until_they_listen(server.port)
            said = await _finished(tmp_path, "shop.py")
            await _place_by_mqtt(mqtt)
            await _has(running["screen.py"], "order 7 for table t-1", "order 7 for table t-1")
            placed = re.fullmatch("placed 7, correlation (.+)\n", said)
            assert placed is not None
            for correlation in (placed[1], "from-a-tablet"):
                tasks = [f"{dish}, correlation {correlation}" for dish in ("soup", "pizza", "haggis")]
                await eventually(lambda tasks=tasks: set(tasks) <= set(running["kitchen.py"].lines))  # type: ignore[misc]
            await _has(running["cashier.py"], "order 7: charged", "order 7: was charged before")
            await _has(running["chef.py"], *2 * ["cooked soup", "cooked pizza"])
            await _has(running["caller.py"], "calling table t-1: order 1")
            assert (await _finished(tmp_path, "latest.py")).startswith("the last order was 7, at ")
            listed = await tidegate("dlq", "ls", "-c", config)
            assert [line.split()[2:4] for line in listed.out.splitlines()[1:]] == 2 * [["chefs", "poison"]]
            await _call_a_table(tmp_path, mqtt)


async def _has(running: Program, *lines: str) -> None:
    await eventually(lambda: sorted(running.lines) == sorted(lines), f"{lines}, and not {running.lines}")


async def _until_they_listen(port: int) -> None:
    """Durable subscriptions begin with what comes after they are there."""
    async with await nats.connect(f"nats://127.0.0.1:{port}") as client:

        async def there() -> bool:
            consumers = await client.jetstream().consumers_info("ORDERS")
            listening = {consumer.name for consumer in consumers}
            return {"kitchen", "cashier", "turns-3"} <= listening

        await eventually(there, "the services listen")


async def _place_by_mqtt(port: int) -> None:
    properties = Properties(PacketTypes.PUBLISH)
    properties.UserProperty = ("correlationid", "from-a-tablet")
    order = {"order": "7", "table": "t-1", "dishes": ["soup", "pizza", "haggis"]}
    async with aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5) as device:
        await device.publish("orders", json.dumps(order), qos=1, properties=properties)


async def _call_a_table(folder: Path, port: int) -> None:
    async with aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5) as table:
        await table.subscribe("tables/t-1/call", qos=1)
        await _finished(folder, "waiter.py")
        message = await asyncio.wait_for(anext(table.messages), 15)
        assert json.loads(message.payload) == {"order": "7", "table": "t-1", "dishes": []}  # type: ignore[arg-type]
