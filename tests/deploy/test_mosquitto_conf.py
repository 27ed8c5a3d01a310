"""deploy/mosquitto/: what waits for a gateway that is away, and who may do what; on a real broker."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiomqtt
import pytest

from tests.deploy.site import deployed_gateway, deployed_mosquitto, deployed_nats, mqtt_user, password
from tests.support.gateway import GatewayProcess
from tests.support.generator import packet, publish_packet, text
from tests.support.server import needs_mosquitto
from tests.support.wait import eventually

pytestmark = needs_mosquitto

COUNT = 1500
"""More than mosquitto keeps for an absent client unless it is told to: 1000."""


@pytest.mark.slow
@pytest.mark.usefixtures("nats_passwords")
async def test_what_comes_while_the_gateway_is_away_waits_even_through_a_restart_of_the_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with deployed_mosquitto(tmp_path / "mqtt") as broker, deployed_nats(tmp_path / "nats") as server:
        running = deployed_gateway(tmp_path, broker.port, server.port, monkeypatch)
        await running.start()
        assert await running.stop() == 0
        async with mqtt_user(broker.port, "s1") as device:
            for number in range(COUNT):
                await device.publish("sensors/hall/s1/reading", f'{{"seq": {number}}}', qos=1)
        await broker.stop()
        await broker.start()
        await running.start()
        try:
            await eventually(lambda: _delivered(running, COUNT), "all of it arrives")
        finally:
            await running.stop()


async def _delivered(running: GatewayProcess, count: int) -> bool:
    return await running.total("tidegate_messages_delivered_total") == count


ELSEWHERE = ["sensors/hall/s1/reading", "sensors/hall", "other", "$SYS/x", "$CONTROL/dynamic-security/v1"]


@pytest.mark.parametrize("topic", ELSEWHERE)
async def test_the_gateway_publishes_commands_and_nothing_else(tmp_path: Path, topic: str) -> None:
    async with deployed_mosquitto(tmp_path) as broker:
        assert await _puback(broker.port, "gateway", "commands/hall/s1") in (0, _NO_SUBSCRIBERS)
        assert await _puback(broker.port, "gateway", topic) == _NOT_AUTHORIZED


_NO_SUBSCRIBERS, _NOT_AUTHORIZED = 0x10, 0x87
"""What a PUBACK can say (MQTT 5 §3.4.2.1)."""


async def _puback(port: int, user: str, topic: str) -> int:
    """Publish once, as bytes, because aiomqtt keeps the reason of a PUBACK to itself; return that."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        flags_and_keep_alive = b"\x05\xc2\x00\x3c\x00"  # version 5; user name, password, clean start; no properties
        login = text(b"") + text(user.encode()) + text(password(user).encode())
        writer.write(packet(0x10, text(b"MQTT") + flags_and_keep_alive + login))
        assert (await _packet(reader))[1] == 0
        writer.write(publish_packet(topic.encode(), b"x", 1, 1, properties=b""))
        answer = await _packet(reader)
    finally:
        writer.close()
    return answer[2] if len(answer) > 2 else 0


async def _packet(reader: asyncio.StreamReader) -> bytes:
    """Return the body of a short packet."""
    async with asyncio.timeout(15):
        return await reader.readexactly((await reader.readexactly(2))[1])


async def test_a_device_speaks_and_listens_under_its_own_name_alone(tmp_path: Path) -> None:
    async with (
        deployed_mosquitto(tmp_path) as broker,
        mqtt_user(broker.port, "s1") as one,
        mqtt_user(broker.port, "gateway") as gateway,
    ):
        await gateway.subscribe("sensors/+/+/reading", qos=1)
        await one.subscribe("commands/#", qos=1)
        assert await _puback(broker.port, "s1", "sensors/hall/s2/reading") == _NOT_AUTHORIZED
        assert await _puback(broker.port, "s1", "commands/hall/s1") == _NOT_AUTHORIZED
        assert await _puback(broker.port, "s1", "sensors/hall/s1/reading") == 0
        await gateway.publish("commands/hall/s2", b"for another", qos=1)
        await gateway.publish("commands/hall/s1", b"for it", qos=1)
        assert await _next(gateway) == b"x"
        assert await _next(one) == b"for it"


async def _next(client: aiomqtt.Client) -> object:
    return (await asyncio.wait_for(anext(client.messages), 15)).payload


@pytest.mark.parametrize("login", [{}, {"username": "gateway", "password": "x"}, {"username": "x", "password": "x"}])
async def test_nobody_comes_in_without_a_password(tmp_path: Path, login: dict[str, str]) -> None:
    async with deployed_mosquitto(tmp_path) as broker:
        client = aiomqtt.Client("127.0.0.1", broker.port, **login)
        with pytest.raises(aiomqtt.MqttError, match=r"(?i)not authori[sz]ed|bad user"):
            await client.__aenter__()
