"""What a session says itself: at QoS 0, over the connection that there is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mqtt.rig import rig
from tests.mqtt.test_real_brokers import broker, receiving
from tests.support.server import needs_mosquitto
from tests.support.wait import eventually
from tidegate.core import Properties
from tidegate.mqtt import CODECS
from tidegate.mqtt.packet import PacketReader, encode_publish

VERSIONS = pytest.mark.parametrize(("protocol", "properties"), [("5", b"\x00"), ("3.1.1", b"")])


@VERSIONS
async def test_a_publish_is_written_byte_by_byte(protocol: str, properties: bytes) -> None:
    async with rig(protocol) as ends:
        connection = await ends.accept()
        assert ends.session.publish("a/é", b"\x00x")
        assert await connection.read_packet() == (0x30, b"\x00\x04a/\xc3\xa9" + properties + b"\x00x")


@VERSIONS
async def test_without_a_connection_nothing_is_sent_or_kept(protocol: str, properties: bytes) -> None:
    async with rig(protocol) as ends:
        assert not ends.session.publish("a", b"early")
        connection = await ends.accept()
        connection.cut()
        await eventually(lambda: not ends.session.up, "the session knows")
        assert not ends.session.publish("a", b"between")
        connection = await ends.accept()
        assert ends.session.publish("a", b"late")
        assert await connection.read_packet() == (0x30, b"\x00\x01a" + properties + b"late")
        session = ends.session
    assert not session.publish("a", b"after the end")


@settings(deadline=None, max_examples=50)
@given(st.text(min_size=1, max_size=40), st.binary(max_size=20_000), st.sampled_from(list(CODECS)))
def test_what_is_written_is_read_as_the_same(topic: str, payload: bytes, protocol: str) -> None:
    codec = CODECS[protocol]
    reader = PacketReader(1 << 20, codec.read_properties if codec.has_properties else None)
    reader.feed(encode_publish(topic, payload, properties=codec.properties(Properties())))
    found = reader.next()
    assert (found.topic.decode(), found.payload, found.qos, found.retain) == (topic, payload, 0, False)
    assert reader.next() is None


@pytest.mark.parametrize(
    ("kind", "protocol"),
    [
        pytest.param("mosquitto", "5", marks=needs_mosquitto),
        pytest.param("mosquitto", "3.1.1", marks=needs_mosquitto),
        ("iotcore", "5"),
        ("nats", "3.1.1"),
    ],
)
async def test_a_real_broker_hands_it_on(kind: str, protocol: str, tmp_path: Path) -> None:
    async with (
        broker(kind, tmp_path) as port,
        receiving(port, protocol, client_id="taker") as (taker, found),
        receiving(port, protocol, client_id="sayer", topic_filter="other/#") as (sayer, _),
    ):
        await eventually(lambda: taker.up and sayer.up, "both are connected")
        assert sayer.publish("sensors/a", b"hello")
        await eventually(lambda: found, "it arrives")
        assert [(one.topic, one.payload) for one in found] == [(b"sensors/a", b"hello")]
        assert sayer.up
