"""Connecting, and everything that a broker may do instead."""

from __future__ import annotations

import asyncio
import itertools
import logging

import pytest

from tests.mqtt.rig import DISCONNECT, PROTOCOLS, rig
from tests.support.generator import packet, text
from tests.support.wait import eventually

REFUSALS = [
    ("5", 0x86, "bad user name or password"),
    ("5", 0x87, "not authorized"),
    ("5", 0x85, "client id not valid"),
    ("5", 0x97, "quota exceeded"),
    ("3.1.1", 1, "protocol version"),
    ("3.1.1", 2, "identifier rejected"),
    ("3.1.1", 3, "server unavailable"),
    ("3.1.1", 4, "bad user name or password"),
    ("3.1.1", 5, "not authorized"),
    ("3.1.1", 77, "77"),
]


def connack(protocol: str, code: int = 0, properties: bytes = b"") -> bytes:
    """Return a CONNACK."""
    return packet(0x20, bytes((0, code)) + (packet(0, properties)[1:] if protocol == "5" else b""))


@pytest.mark.parametrize(("protocol", "code", "words"), REFUSALS)
async def test_a_refused_connection_is_named(protocol: str, code: int, words: str) -> None:
    async with rig(protocol) as ends:
        connection = await ends.broker.connection()
        await connection.read_packet()
        await connection.send(connack(protocol, code))
        await eventually(lambda: ends.session.last_error, "the refusal is known")
        assert words in str(ends.session.last_error)
        assert str(ends.broker.port) in str(ends.session.last_error)
        assert not ends.session.up
        assert await connection.until_closed() == b""


@PROTOCOLS
async def test_a_refused_connection_is_tried_again(protocol: str) -> None:
    async with rig(protocol) as ends:
        connection = await ends.broker.connection()
        await connection.send(connack(protocol, 3 if protocol == "3.1.1" else 0x88))
        await ends.accept()
        assert ends.session.last_error is None


async def test_a_refusals_reason_string_is_shown() -> None:
    async with rig() as ends:
        connection = await ends.broker.connection()
        await connection.send(connack("5", 0x8A, b"\x1f" + text(b"until you pay")))
        await eventually(lambda: "banned (0x8a): until you pay" in str(ends.session.last_error), "the reason is shown")


@pytest.mark.slow
async def test_tries_come_ever_later() -> None:
    """Jitter lies between half of a bound and the bound, which doubles: the fourth wait is longer than the first."""
    async with rig() as ends:
        loop, moments = asyncio.get_running_loop(), []
        for _ in range(5):
            connection = await ends.broker.connection()
            moments.append(loop.time())
            await connection.read_packet()
            await connection.send(connack("5", 0x88))
        waits = [later - earlier for earlier, later in itertools.pairwise(moments)]
        assert waits[3] > 2 * waits[0]
        assert min(waits) > 0.05


@PROTOCOLS
async def test_a_broker_that_never_answers_connect_is_given_up(protocol: str) -> None:
    async with rig(protocol, connect_timeout=0.2) as ends:
        first = await ends.broker.connection()
        await eventually(lambda: "no CONNACK within 0.2 s" in str(ends.session.last_error), "it is given up")
        await first.until_closed()
        await ends.accept()


async def test_a_broker_that_hangs_up_before_connack_is_named() -> None:
    async with rig() as ends:
        connection = await ends.broker.connection()
        connection.cut()
        await eventually(lambda: "before a CONNACK" in str(ends.session.last_error), "it is named")
        await ends.accept()


@PROTOCOLS
@pytest.mark.parametrize(
    "answer", [b"\xd0\x00", b"\x30\x03\x00\x01t", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20\x00"]
)
async def test_anything_but_a_connack_is_refused_and_tried_again(protocol: str, answer: bytes) -> None:
    async with rig(protocol) as ends:
        connection = await ends.broker.connection()
        await connection.send(answer + bytes(200))
        await eventually(lambda: ends.session.last_error, "the connection is refused")
        await ends.accept()
        assert ends.messages == []


async def test_a_second_connack_ends_the_connection() -> None:
    async with rig() as ends:
        connection = await ends.accept()
        await connection.send(connack("5"))
        await eventually(lambda: "CONNACK" in str(ends.session.last_error), "it is a protocol error")
        await ends.accept()


@pytest.mark.parametrize(("protocol", "suback"), [("5", b"\x00\x01\x00\x87"), ("3.1.1", b"\x00\x01\x80")])
async def test_a_refused_subscription_is_named_and_tried_again(protocol: str, suback: bytes) -> None:
    async with rig(protocol) as ends:
        connection = await ends.broker.connection()
        await connection.read_packet()
        await connection.send(connack(protocol))
        await connection.read_packet()
        await connection.send(packet(0x90, suback))
        await eventually(lambda: "subscription to '#' refused" in str(ends.session.last_error), "the refusal is known")
        assert not ends.session.up
        await ends.accept()


@PROTOCOLS
@pytest.mark.parametrize("granted", [0, 1])
async def test_a_lower_granted_qos_is_logged(protocol: str, granted: int, caplog: pytest.LogCaptureFixture) -> None:
    async with rig(protocol, qos=2) as ends:
        with caplog.at_level(logging.WARNING):
            await ends.accept(qos=granted)
        assert ends.session.granted_qos == granted
        assert f"granted QoS {granted}, not 2" in caplog.text


async def test_the_granted_qos_that_was_asked_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    async with rig(qos=1) as ends:
        with caplog.at_level(logging.WARNING):
            await ends.accept(qos=1)
        assert caplog.text == ""


@PROTOCOLS
@pytest.mark.parametrize(
    "malformed",
    [b"\x36\x05\x00\x01a\x00\x01", b"\x32\x05\x00\x01a\x00\x00", b"\x30\xff\xff\xff\xff", b"\x90\x01\x00", b"\xf0\x00"],
    ids=["QoS 3", "packet id 0", "endless length", "short SUBACK", "AUTH"],
)
async def test_a_malformed_packet_ends_the_connection_and_a_new_one_works(protocol: str, malformed: bytes) -> None:
    async with rig(protocol) as ends:
        connection = await ends.accept()
        await connection.send(ends.publish(1) + malformed + ends.publish(2))
        await eventually(lambda: ends.session.last_error, "it is a protocol error")
        connection = await ends.accept(session_present=True)
        await connection.send(ends.publish(3, b"after"))
        await eventually(lambda: any(message.payload == b"after" for message in ends.messages), "it works again")
        assert ends.session.reconnects == 1


async def test_nothing_after_a_malformed_packet_is_handed_out() -> None:
    """Where the framing can't be trusted, neither can what seems to follow."""
    async with rig() as ends:
        connection = await ends.accept()
        await connection.send(ends.publish(1) + b"\x32\x05\x00\x01a\x00\x00" + ends.publish(2, b"not trusted"))
        await ends.accept(session_present=True)
        assert [message.payload for message in ends.messages] == [b"x"]


async def test_a_brokers_disconnect_is_shown_with_its_reason() -> None:
    async with rig() as ends:
        connection = await ends.accept()
        await connection.send(packet(DISCONNECT, b"\x8b" + packet(0, b"\x1f" + text(b"back at noon"))[1:]))
        wanted = "server shutting down (0x8b): back at noon"
        await eventually(lambda: wanted in str(ends.session.last_error), "the reason is shown")
        await ends.accept()


async def test_pingreq_keeps_the_connection_alive() -> None:
    """Silence for longer than the keep-alive, but each PINGREQ is answered."""
    async with rig(keep_alive=1) as ends:
        connection = await ends.accept()
        reading = asyncio.create_task(connection.read_packet())  # answers PINGREQ
        await eventually(lambda: connection.pings >= 3, "three PINGREQs are answered")
        assert ends.session.up
        assert ends.session.reconnects == 0
        reading.cancel()


@pytest.mark.slow
@PROTOCOLS
async def test_a_silent_broker_is_noticed(protocol: str) -> None:
    async with rig(protocol, keep_alive=2) as ends:
        await ends.accept()
        await eventually(lambda: "keep-alive" in str(ends.session.last_error), "the silence is noticed")
        await ends.accept()


async def test_a_brokers_shorter_keep_alive_is_kept() -> None:
    """Server Keep Alive [MQTT-3.1.2-21]: it would end the connection otherwise."""
    async with rig(keep_alive=60_000) as ends:
        connection = await ends.broker.connection()
        await connection.read_packet()
        await connection.send(connack("5", 0, b"\x13\x00\x01"))
        await connection.read_packet()
        await connection.send(packet(0x90, b"\x00\x01\x00\x01"))
        reading = asyncio.create_task(connection.read_packet())
        await eventually(lambda: connection.pings, "a PINGREQ comes")
        reading.cancel()
