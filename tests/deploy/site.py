"""The servers and the gateway as the files in deploy/ set them up, on free ports and with data of the test's."""

from __future__ import annotations

import os
from asyncio import create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiomqtt
import nats
import pytest
from nats.aio.client import Client

from tests.support.gateway import GatewayProcess
from tests.support.server import MOSQUITTO, NATS_SERVER, Server
from tests.support.wait import eventually
from tidegate.app.embedded import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
NATS_USERS = ("monitor", "gateway", "service", "operator")
DEVICES = ("s1", "s2")


def password(user: str) -> str:
    """Return a user's password."""
    return f"p-{user}"


def replaced(path: Path, changes: dict[str, str]) -> str:
    """Return a file of deploy/ with some values changed, each of which must be there."""
    text = path.read_text()
    for old, new in changes.items():
        assert old in text, f"{path} has no {old!r}"
        text = text.replace(old, new)
    return text


@asynccontextmanager
async def started(server: Server) -> AsyncIterator[Server]:
    """Run a server for a while."""
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def deployed_nats(folder: Path, changes: dict[str, str] | None = None) -> AsyncIterator[Server]:
    """Run nats-server with deploy/nats/nats.conf; needs the fixture `nats_passwords`. changes: see `replaced`."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    here = {
        "127.0.0.1:4222": f"127.0.0.1:{port}",
        "127.0.0.1:8222": f"127.0.0.1:{free_port()}",
        "/var/lib/nats": str(folder / "js"),
    }
    config = folder / "nats.conf"
    config.write_text(replaced(DEPLOY / "nats" / "nats.conf", {**here, **(changes or {})}))
    async with started(Server("nats-server", port, folder / "nats.log", str(NATS_SERVER), "-c", str(config))) as server:
        yield server


@asynccontextmanager
async def deployed_mosquitto(folder: Path) -> AsyncIterator[Server]:
    """Run mosquitto with deploy/mosquitto/mosquitto.conf and its ACL, as whoever runs the test."""
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    folder.mkdir(parents=True, exist_ok=True)
    passwd, acl = folder / "passwd", folder / "acl"
    passwd.touch(0o600)
    for user in ("gateway", *DEVICES):
        command = ["mosquitto_passwd", "-b", passwd, user, password(user)]
        assert await (await create_subprocess_exec(*command)).wait() == 0
    acl.write_text((DEPLOY / "mosquitto" / "acl").read_text())
    acl.chmod(0o600)
    port = free_port()
    here = {
        "listener 1883 ": f"listener {port} ",
        "/etc/mosquitto/passwd\nacl": f"{passwd}\nacl",
        "/etc/mosquitto/acl": str(acl),
        "/var/lib/mosquitto/": f"{folder}/",
    }
    config = folder / "mosquitto.conf"
    own_user = "user root\n" if os.geteuid() == 0 else ""
    config.write_text(own_user + replaced(DEPLOY / "mosquitto" / "mosquitto.conf", here))
    async with started(Server("mosquitto", port, folder / "mosquitto.log", MOSQUITTO, "-c", str(config))) as server:
        yield server


def deployed_gateway(folder: Path, mqtt: int, nats_port: int, monkeypatch: pytest.MonkeyPatch) -> GatewayProcess:
    """Return the gateway of deploy/plant.yaml, not yet started, with what its unit gives it."""
    secrets = folder / "secrets"
    secrets.mkdir()
    for name in ("mqtt", "nats"):
        (secrets / name).write_text(password("gateway"))
    monkeypatch.setenv("STATE_DIRECTORY", str(folder / "state"))
    monkeypatch.setenv("TIDEGATE_SECRETS", str(secrets))
    http = free_port()
    here = {"127.0.0.1:1883": f"127.0.0.1:{mqtt}", "127.0.0.1:4222": f"127.0.0.1:{nats_port}", ":9883": f":{http}"}
    config = folder / "tidegate.yaml"
    config.write_text(replaced(DEPLOY / "plant.yaml", here))
    return GatewayProcess(config, http)


@dataclass
class User:
    """A NATS user's connection. refused: the server's errors, in lower case, as nats-py has them."""

    client: Client
    refused: list[str] = field(default_factory=list)

    async def refusal(self, subject: str, of: str = "publish") -> None:
        """Wait until the server has said that this user may not publish to a subject, or subscribe to it."""
        error = f'permissions violation for {of} to "{subject.lower()}"'
        await eventually(lambda: any(error in text for text in self.refused), f"{subject} is refused")


@asynccontextmanager
async def nats_user(port: int, name: str, inbox_prefix: str = "_INBOX") -> AsyncIterator[User]:
    """Connect as one of the users of nats.conf."""
    refused: list[str] = []

    async def on_error(error: Exception) -> None:
        refused.append(str(error).lower())

    client = await nats.connect(
        f"nats://127.0.0.1:{port}",
        user=name,
        password=password(name),
        inbox_prefix=inbox_prefix.encode(),
        error_cb=on_error,
        allow_reconnect=False,
    )
    try:
        yield User(client, refused)
    finally:
        await client.close()


@asynccontextmanager
async def mqtt_user(port: int, name: str) -> AsyncIterator[aiomqtt.Client]:
    """Connect to the broker as one of its users, over MQTT 5, whose PUBACK says why a message was refused."""
    async with aiomqtt.Client(
        "127.0.0.1", port, username=name, password=password(name), protocol=aiomqtt.ProtocolVersion.V5
    ) as client:
        yield client
