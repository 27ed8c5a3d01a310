"""The stage: servers, the gateway, services and devices as processes, which can be stopped, killed and started."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Self

import nats.js.errors

from show.notes import Notes
from tidegate.app.child import EmbeddedError, child, gateway_child
from tidegate.app.embedded import embedded_broker, embedded_nats, free_port
from tidegate.client import Client, connect
from tidegate.core import Envelope

HERE = Path(__file__).parents[1]
CHEFS = ("chef-1", "chef-2", "chef-3")
COURIERS = ("ada", "bea", "cy")
CUSTOMERS = ("ann", "ben", "cem", "dua")
TABLET = "tablet"
CONSUMERS = {
    "ORDERS": ("kitchen", "kitchen-pass", "delivery", "delivery-addresses", "notification"),
    "KITCHEN": ("chefs",),
    "DEVICES": ("tidegate-food-notices", "tidegate-food-assignments"),
}
"""Durable ones, by stream: how far the services are, and the bridges that lead down."""

_START_TIMEOUT = 30.0


class Stage:
    """Use as `async with`: everything runs within, on ports and with data of its own, and nothing after it.

    client: the demo's own eyes, a connection to NATS.
    """

    def __init__(self, folder: Path, notes: Notes) -> None:
        self.folder = folder
        self.notes = notes
        self.menu = folder / "menu.json"
        self.mqtt, self.nats, self.http = free_port(), free_port(), free_port()
        self.url = f"nats://127.0.0.1:{self.nats}"
        self.environment = {
            **os.environ,
            "MQTT_PORT": str(self.mqtt),
            "NATS_PORT": str(self.nats),
            "HTTP_PORT": str(self.http),
            "NATS_URL": self.url,
            "STATE_DIR": str(folder / "gateway"),
            "MENU": str(self.menu),
            "COURIERS": " ".join(COURIERS),
        }
        self.client: Client
        self._running: dict[str, tuple[AsyncExitStack, Process]] = {}
        self._nats = AsyncExitStack()
        self._all = AsyncExitStack()
        self._tablet: Process

    async def __aenter__(self) -> Self:
        self.menu.write_bytes((HERE / "menu.json").read_bytes())
        try:
            await self._raise()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop(*self._running)
        await self._all.aclose()
        await self._nats.aclose()

    async def _raise(self) -> None:
        enter = self._all.enter_async_context
        await self.start_nats()
        await enter(embedded_broker(self.mqtt, "5", self.folder / "broker"))
        log = self._all.enter_context((self.folder / "gateway.log").open("ab"))
        await enter(gateway_child(HERE / "tidegate.yaml", self.http, log, self.environment))
        self.client = await enter(connect(self.url, source="urn:example:food:demo"))
        for name in ("kitchen", "delivery", "notification", *CHEFS):
            await self.start(name)
        await self._start("courier", "devices.py", "courier", *COURIERS)
        await self._start("customer", "devices.py", "customer", *CUSTOMERS)
        self._tablet = await enter(self._typing(TABLET))
        await self._await_devices({*COURIERS, *CUSTOMERS, TABLET})
        for stream, names in CONSUMERS.items():
            for name in names:
                await self._await_consumer(stream, name)

    async def start_nats(self) -> None:
        """Start the nats-server, with the data of the one before."""
        await self._nats.enter_async_context(embedded_nats(self.nats, self.folder / "nats"))

    async def stop_nats(self) -> None:
        """End the nats-server."""
        await self._nats.aclose()

    async def start(self, name: str) -> None:
        """Start a service; its name is that of its file, chef-2's is chef.py."""
        file, _, number = name.partition("-")
        await self._start(name, f"{file}.py", *([name] if number else []))

    async def stop(self, *names: str) -> None:
        """Stop programs as an operator does: what they do at the moment they finish."""
        found = [self._running.pop(name)[0] for name in names]
        await asyncio.gather(*(stack.aclose() for stack in found))

    async def kill(self, name: str) -> None:
        """End a program as a power cut does."""
        stack, process = self._running.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        await stack.aclose()

    @property
    def services(self) -> list[str]:
        """Those that run."""
        return [name for name in self._running if name not in ("courier", "customer")]

    @property
    def ended(self) -> list[str]:
        """Programs that should run and do not."""
        return [name for name, (_, process) in self._running.items() if process.returncode is not None]

    async def type_order(self, order: str, customer: str, *dishes: str) -> None:
        """Type an order into the tablet."""
        assert self._tablet.stdin is not None
        self._tablet.stdin.write(f"{order} {customer} {' '.join(dishes)}\n".encode())
        await self._tablet.stdin.drain()

    async def replay(self) -> str:
        """Have all dead letters sent again, and return what the command says."""
        arguments = ("dlq", "replay", "-c", str(HERE / "tidegate.yaml"))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tidegate.app.cli", *arguments),
            stdout=PIPE,
            stderr=STDOUT,
            env=self.environment,
            start_new_session=True,
        )
        said, _ = await process.communicate()
        return said.decode().strip()

    async def events(self, stream: str, subject: str) -> list[Envelope]:
        """Return all events that a stream has on a subject."""
        jetstream = self.client.jetstream
        reading = await jetstream.pull_subscribe(subject, stream=stream)
        left = (await reading.consumer_info()).num_pending or 0
        found: list[Envelope] = []
        while len(found) < left:
            for message in await reading.fetch(min(left - len(found), 500), timeout=5):
                found.append(Envelope.from_nats(message.headers, message.data))
        await reading.unsubscribe()
        return found

    async def stored(self, stream: str) -> int:
        """Return how many messages a stream has."""
        return (await self.client.jetstream.stream_info(stream)).state.messages

    async def _start(self, name: str, *command: str) -> None:
        async with AsyncExitStack() as stack:
            process = await stack.enter_async_context(self._program(name, *command))
            self._running[name] = (stack.pop_all(), process)

    @asynccontextmanager
    async def _program(self, name: str, script: str, *arguments: str) -> AsyncIterator[Process]:
        command = (sys.executable, str(HERE / script), *arguments)
        with (self.folder / f"{name}.log").open("ab") as log:
            async with child(name, *command, stdout=PIPE, stderr=log, env=self.environment) as process:
                reading = self._read(process)
                yield process
            await reading

    @asynccontextmanager
    async def _typing(self, name: str) -> AsyncIterator[Process]:
        """Run a tablet. It ends when nobody can type any more, so it needs nobody to end it."""
        command = (sys.executable, str(HERE / "devices.py"), "tablet", name)
        with (self.folder / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=PIPE, stderr=log, env=self.environment, start_new_session=True
            )
            reading = self._read(process)
            try:
                yield process
            finally:
                assert process.stdin is not None
                process.stdin.close()
                await process.wait()
                await reading

    def _read(self, process: Process) -> asyncio.Task[None]:
        async def read() -> None:
            assert process.stdout is not None
            async for line in process.stdout:
                self.notes.add(line)

        return asyncio.create_task(read(), name=f"journal of {process.pid}")

    async def _await_devices(self, names: set[str]) -> None:
        def missing() -> set[str]:
            return names - {note.who for note in self.notes.all if note.what == "is on"}

        await self.notes.become(lambda _: not missing(), _START_TIMEOUT)
        if missing():
            raise EmbeddedError(f"{min(missing())} did not start within {_START_TIMEOUT:g} s; see its log")

    async def _await_consumer(self, stream: str, name: str) -> None:
        """Wait until a service has its consumer: from then on nothing passes it by."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_START_TIMEOUT):
                while True:
                    with suppress(nats.js.errors.NotFoundError):
                        await self.client.jetstream.consumer_info(stream, name)
                        return
                    await asyncio.sleep(0.05)
        raise EmbeddedError(f"consumer {name} is not there after {_START_TIMEOUT:g} s; see the logs")
