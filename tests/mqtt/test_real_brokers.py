"""The session with brokers of other hands: mosquitto, iotcore (rumqttd) and nats-server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.generator import device, packet, publish_packet, text
from tests.support.proxy import proxy
from tests.support.server import Server, iotcore, mosquitto, nats_mqtt, nats_server, needs_mosquitto
from tests.support.wait import eventually
from tidegate.app.embedded import free_port
from tidegate.core import Message
from tidegate.mqtt import CODECS, Session, SessionOptions

PERSISTENT = "allow_anonymous true\npersistence true\npersistence_location {}/\nuser root"


@asynccontextmanager
async def receiving(port: int, protocol: str = "5", **more: Any) -> AsyncIterator[tuple[Session, list[Message]]]:
    """Run a session that settles at once what it receives."""
    found: list[Message] = []
    options = SessionOptions(
        **{"host": "127.0.0.1", "qos": 2, "topic_filter": "sensors/#", "client_id": "tidegate-test", **more},
        port=port,
        codec=CODECS[protocol],
    )

    async def receive() -> None:
        while True:
            batch = await session.receive()
            found.extend(batch.messages)
            batch.settle()

    async with Session(options) as session:
        task = asyncio.create_task(receive())
        try:
            yield session, found
        finally:
            task.cancel()
            await asyncio.wait([task])


@asynccontextmanager
async def broker(kind: str, folder: Path) -> AsyncIterator[int]:
    """Run a broker by its name; gives the port."""
    if kind == "mosquitto":
        async with mosquitto(folder) as server:
            yield server.port
    else:
        async with iotcore(folder) if kind == "iotcore" else nats_mqtt(folder) as port:
            yield port


@pytest.mark.parametrize(
    ("kind", "protocol"),
    [
        pytest.param("mosquitto", "5", marks=needs_mosquitto),
        pytest.param("mosquitto", "3.1.1", marks=needs_mosquitto),
        ("iotcore", "5"),
        ("nats-server", "3.1.1"),
    ],
)
async def test_messages_of_every_qos_come_through_each_broker_also_after_a_cut(
    kind: str, protocol: str, tmp_path: Path
) -> None:
    """None lost, none doubled; in order within a QoS, which is all that MQTT promises (MQTT 5 §4.6)."""
    payloads = [b"%d" % number for number in range(30)]
    async with broker(kind, tmp_path) as port, proxy(port) as link, receiving(link.port, protocol) as (session, found):
        await eventually(lambda: session.up, f"{kind} accepts the session")
        for life in (1, 2):
            async with asyncio.timeout(20):
                await publish(port, protocol, payloads)
            count = life * len(payloads)
            await eventually(lambda count=count: len(found) >= count, "all are received")
            assert len(found) == count
            for qos in range(3):  # rumqttd delivers all at the QoS of the subscription, so the number tells
                numbers = [message.payload for message in found if int(message.payload) % 3 == qos]
                assert numbers == payloads[qos::3] * life
            assert {message.topic for message in found} == {b"sensors/hall/d1/reading"}
            await eventually(lambda: session.unsettled == 0, "all are settled")
            if life == 1:
                link.cut()
                await eventually(lambda: session.reconnects == 1 and session.up, "the session is back")
        assert session.sessions_lost == 0


async def publish(port: int, protocol: str, payloads: list[bytes]) -> None:
    """Publish at QoS 0, 1 and 2 in turn; a broker of one version takes only that."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await _publish(reader, writer, protocol == "5", payloads)
    finally:
        writer.close()


async def _publish(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, five: bool, payloads: list[bytes]
) -> None:
    connect = text(b"MQTT") + (b"\x05" if five else b"\x04") + b"\x02\x00\x3c" + (b"\x00" if five else b"")
    writer.write(packet(0x10, connect + text(b"publisher")))
    await _packet(reader)
    for number, payload in enumerate(payloads):
        qos = number % 3
        properties = b"" if five else None
        writer.write(publish_packet(b"sensors/hall/d1/reading", payload, qos, number + 1, 0, properties))
        if qos:
            await _packet(reader)
        if qos == 2:
            writer.write(b"\x62\x02" + (number + 1).to_bytes(2, "big"))
            await _packet(reader)
    writer.write(b"\xe0\x00")
    await writer.drain()


async def _packet(reader: asyncio.StreamReader) -> None:
    head = await reader.readexactly(2)
    await reader.readexactly(head[1])


@asynccontextmanager
async def lasting_broker(kind: str, folder: Path) -> AsyncIterator[tuple[Server, int]]:
    """Run a broker that keeps its sessions on disk; gives it and its MQTT port."""
    if kind == "mosquitto":
        async with mosquitto(folder, PERSISTENT.format(folder)) as server:
            yield server, server.port
    else:
        port = free_port()
        async with nats_server(folder, f'mqtt {{listen: "127.0.0.1:{port}"}}') as server:
            yield server, port


@pytest.mark.parametrize(
    ("kind", "protocol"),
    [
        pytest.param("mosquitto", "5", marks=needs_mosquitto),
        pytest.param("mosquitto", "3.1.1", marks=needs_mosquitto),
        ("nats-server", "3.1.1"),
    ],
)
async def test_a_broker_that_restarts_gets_its_session_back(kind: str, protocol: str, tmp_path: Path) -> None:
    async with lasting_broker(kind, tmp_path) as (server, port), receiving(port, protocol) as (session, found):
        await eventually(lambda: session.up, "it is connected")
        await server.stop()
        await eventually(lambda: not session.up, "the end is noticed")
        await server.start()
        await eventually(lambda: session.up, "it is connected again")
        async with device(port) as sensor:
            await sensor.send(range(5), qos=1)
        await eventually(lambda: len(found) == 5, "it receives again")
        assert (session.reconnects, session.sessions_lost) == (1, 0)


@needs_mosquitto
async def test_a_broker_that_lost_its_sessions_is_subscribed_anew(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as server, receiving(server.port) as (session, found):
        await eventually(lambda: session.up, "it is connected")
        await server.kill()
        await eventually(lambda: not session.up, "the end is noticed")
        await server.start()
        await eventually(lambda: session.up, "it is connected again")
        async with device(server.port) as sensor:
            await sensor.send(range(5), qos=1)
        await eventually(lambda: len(found) == 5, "it receives again")
        assert (session.reconnects, session.sessions_lost) == (1, 1)


@needs_mosquitto
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_retained_message_comes_at_first_subscribe_and_in_mqtt_5_not_again(
    protocol: str, tmp_path: Path
) -> None:
    """3.1.1 has no way to ask for that; there it is marked as retained each time."""
    async with mosquitto(tmp_path) as server, proxy(server.port) as link:
        async with device(server.port) as sensor:
            await sensor.send_raw(publish_packet(b"sensors/old", b"old", 0, flags=1))
            await sensor.send(range(1), qos=1)  # the broker has read the retained one by then
        async with receiving(link.port, protocol) as (session, found):
            await eventually(lambda: found, "the retained message comes")
            assert [(message.payload, message.retained) for message in found] == [(b"old", True)]
            link.cut()
            await eventually(lambda: session.reconnects == 1 and session.up, "the session is back")
            async with device(server.port) as sensor:
                await sensor.send(range(1), qos=1)
            again = [] if protocol == "5" else [True]
            await eventually(lambda: len(found) == 2 + len(again), "the new message comes")
            assert [message.retained for message in found] == [True, *again, False]


@needs_mosquitto
async def test_user_and_password_are_right_or_refused_by_name(tmp_path: Path) -> None:
    """The password is read again for each try, so that a corrected one needs no restart."""
    passwords = tmp_path / "passwords"
    maker = await asyncio.create_subprocess_exec("mosquitto_passwd", "-b", "-c", str(passwords), "edge", "right")
    assert await maker.wait() == 0
    secret = tmp_path / "secret"
    secret.write_text("wrong")
    extra = f"allow_anonymous false\npassword_file {passwords}\nuser root"
    login: dict[str, Any] = {"username": "edge", "password": secret.read_text}
    async with mosquitto(tmp_path / "b", extra) as server:
        for protocol in ("5", "3.1.1"):
            secret.write_text("wrong")
            async with receiving(server.port, protocol, **login) as (session, _):
                await eventually(lambda: session.last_error, "the wrong password is refused")
                assert "not authorized" in str(session.last_error)
                assert "wrong" not in str(session.last_error)
                secret.write_text("right")
                await eventually(lambda: session.up, "the right one is taken")


@pytest.mark.parametrize(
    ("content", "words"), [(None, "No such file"), (b"\xff\xfe secret", "password")], ids=["missing", "not UTF-8"]
)
async def test_a_password_that_can_not_be_read_is_named_and_tried_again(
    content: bytes | None, words: str, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    if content is not None:
        secret.write_bytes(content)
    read: Callable[[], str] = lambda: secret.read_text(encoding="utf-8")  # noqa: E731
    async with iotcore(tmp_path / "b") as port, receiving(port, username="u", password=read) as (session, _):
        await eventually(lambda: words in str(session.last_error), "it is named")
        assert "secret'" not in str(session.last_error).replace(str(secret), "")
        secret.write_text("x")
        await eventually(lambda: session.up, "it is read again")


async def test_a_certificate_that_can_not_be_read_is_named() -> None:
    def tls() -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.load_verify_locations("/nowhere/ca.pem")
        return context

    async with receiving(1, tls=tls) as (session, _):
        await eventually(lambda: "a certificate can't be used" in str(session.last_error), "it is named")
