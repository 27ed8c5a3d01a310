"""Leaving in order: the broker reads every PUBACK, then DISCONNECT."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.mqtt.rig import DISCONNECT, PROTOCOLS, PUBACK
from tests.support.fake_broker import FakeBroker, FakeConnection, fake_broker
from tests.support.generator import publish_packet
from tests.support.wait import eventually
from tidegate.mqtt import CODECS, Session, SessionOptions


def session(broker: FakeBroker, protocol: str = "5", **more: Any) -> Session:
    """Return a session with the scripted broker."""
    options = SessionOptions(
        host="127.0.0.1", port=broker.port, codec=CODECS[protocol], client_id="c", topic_filter="#", **more
    )
    return Session(options, "under-test")


async def until_disconnect(connection: FakeConnection) -> list[int]:
    """Read as a broker does, and close the connection after DISCONNECT; return the first byte of each packet."""
    kinds = []
    while not kinds or kinds[-1] != DISCONNECT:
        kinds.append((await connection.read_packet())[0])
    connection.cut()
    return kinds


@PROTOCOLS
@pytest.mark.parametrize("unread", [0, 200])
async def test_the_broker_reads_every_puback_and_then_disconnect(protocol: str, unread: int) -> None:
    """Even with publishes that were not read: closing such a socket resets it, and a reset eats what was sent."""
    properties = b"" if protocol == "5" else None
    async with fake_broker() as broker:
        async with session(broker, protocol, receive_maximum=5) as source:
            connection = await broker.connection()
            await connection.accept(protocol=protocol)
            for number in range(5 + unread):
                connection.write(publish_packet(b"t", bytes(100_000), 1, number + 1, 0, properties))
            batches = []
            while sum(len(batch.messages) for batch in batches) < 5:
                batches.append(await source.receive())
            reading = asyncio.create_task(until_disconnect(connection))
            for batch in batches:
                batch.settle()
        assert await reading == [PUBACK] * 5 + [DISCONNECT]


async def test_what_is_settled_after_closing_is_not_acknowledged() -> None:
    async with fake_broker() as broker:
        async with session(broker) as source:
            connection = await broker.connection()
            await connection.accept()
            await connection.send(publish_packet(b"t", b"x", 1, 1, 0, b""))
            batch = await source.receive()
            reading = asyncio.create_task(until_disconnect(connection))
        batch.settle()
        assert await reading == [DISCONNECT]
        assert (source.stale_acks, source.unsettled) == (1, 0)


@pytest.mark.slow
async def test_a_broker_that_does_not_close_its_end_delays_closing_but_shortly() -> None:
    async with fake_broker() as broker, asyncio.timeout(8):
        async with session(broker) as source:
            connection = await broker.connection()
            await connection.accept()
            receiving = asyncio.create_task(source.receive())
            await eventually(lambda: source.up, "the session is up")
            receiving.cancel()
        assert (await connection.until_closed())[-2:-1] == bytes((DISCONNECT,))


@pytest.mark.parametrize("reached", ["nothing", "a connection", "CONNACK"])
async def test_a_session_that_is_still_connecting_closes_at_once(reached: str) -> None:
    async with fake_broker() as broker, asyncio.timeout(8):
        async with session(broker) as source:
            if reached != "nothing":
                connection = await broker.connection()
                await connection.read_packet()
            if reached == "CONNACK":
                reading = asyncio.create_task(until_disconnect(connection))
                await connection.send(b"\x20\x03\x00\x00\x00")
                await eventually(lambda: source.connects == 1, "the CONNACK is read")
        if reached == "CONNACK":
            assert (await reading)[-1] == DISCONNECT


async def test_a_session_that_waits_to_try_again_closes_at_once() -> None:
    async with fake_broker() as broker, asyncio.timeout(8), session(broker) as source:
        (await broker.connection()).cut()
        await eventually(lambda: source.last_error, "the first try failed")
