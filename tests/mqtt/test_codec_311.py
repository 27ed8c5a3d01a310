"""Our MQTT 3.1.1 bytes against those of paho-mqtt, a client of the same standard by other hands."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import paho.mqtt.client as paho
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.generator import publish_packet
from tidegate.core import ProtocolError
from tidegate.mqtt import Codec311
from tidegate.mqtt.codec import Ack, ConnAck, Connect, Pong, SubAck
from tidegate.mqtt.packet import (
    CONNACK,
    PINGREQ_PACKET,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    SUBACK,
    Control,
    encode_acks,
)

CODEC = Codec311()
WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)


class Paho:
    """A real client whose every byte is recorded."""

    def __init__(self, listener: socket.socket, wanted: Connect) -> None:
        self._listener = listener
        self.client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            wanted.client_id,
            clean_session=wanted.clean_start or not wanted.session_expiry,
            protocol=paho.MQTTv311,
        )
        if wanted.username is not None:
            self.client.username_pw_set(wanted.username, None)
            # paho takes the password as text; ours is bytes, so it is given as the text that they spell
            if wanted.password is not None:
                self.client.username_pw_set(wanted.username, wanted.password.decode())
        self.client.connect("127.0.0.1", listener.getsockname()[1], keepalive=wanted.keep_alive)
        self.peer, _ = listener.accept()

    def recorded(self) -> bytes:
        """Return what it has sent since the last call."""
        self.peer.settimeout(5)
        return self.peer.recv(1 << 20)

    def hears(self, data: bytes) -> None:
        """Let it read what a broker sends."""
        self.peer.sendall(data)
        self.client.loop_read(10)

    def close(self) -> None:
        """Let go of both ends."""
        self.peer.close()
        self.client.loop_read()


@contextmanager
def connected_paho(wanted: Connect) -> Iterator[Paho]:
    """Connect a paho client to a socket of ours."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = Paho(listener, wanted)
        try:
            yield client
        finally:
            client.close()


def connect(
    client_id: str = "c",
    username: str | None = None,
    password: str | None = None,
    keep_alive: int = 30,
    expiry: int = 0,
) -> Connect:
    """Return the parameters of a CONNECT."""
    secret = None if password is None else password.encode()
    return Connect(client_id, username, secret, not expiry, keep_alive, expiry, 1000)


@settings(deadline=None, max_examples=60)
@given(
    st.builds(
        connect, WORDS, st.none() | WORDS, st.none() | WORDS, st.integers(1, 65_535), st.sampled_from([0, 1, 86_400])
    )
)
def test_a_connect_has_the_bytes_of_pahos(wanted: Connect) -> None:
    """With and without user and password, with a clean session and one that is kept."""
    if wanted.username is None:
        wanted = wanted._replace(password=None)  # [MQTT-3.1.2-22]; the configuration refuses it before
    with connected_paho(wanted) as client:
        assert client.recorded() == CODEC.connect(wanted)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_subscribe_has_the_bytes_of_pahos(qos: int) -> None:
    with connected_paho(connect()) as client:
        client.recorded()
        client.hears(b"\x20\x02\x00\x00")
        for topic_filter in ("sensors/+/reading", "#", "größe/温度"):
            _, packet_id = client.client.subscribe(topic_filter, qos)
            assert packet_id is not None
            assert client.recorded() == CODEC.subscribe(packet_id, topic_filter, qos)


def test_every_acknowledgement_has_the_bytes_of_pahos() -> None:
    with connected_paho(connect()) as client:
        client.recorded()
        client.hears(b"\x20\x02\x00\x00")
        for packet_id in (1, 255, 256, 65_535):
            client.hears(publish_packet(b"t", b"x", 1, packet_id))
            assert client.recorded() == encode_acks(PUBACK, [packet_id])
            client.hears(publish_packet(b"t", b"x", 2, packet_id))
            assert client.recorded() == encode_acks(PUBREC, [packet_id])
            client.hears(encode_acks(PUBREL, [packet_id]))
            assert client.recorded() == encode_acks(PUBCOMP, [packet_id])


def test_pingreq_and_disconnect_have_the_bytes_of_pahos(monkeypatch: pytest.MonkeyPatch) -> None:
    with connected_paho(connect(keep_alive=30)) as client:
        client.recorded()
        client.hears(b"\x20\x02\x00\x00")
        monkeypatch.setattr(paho, "time_func", lambda: time.monotonic() + 31)
        client.client.loop_misc()
        assert client.recorded() == PINGREQ_PACKET
        client.client.disconnect()
        assert client.recorded() == CODEC.disconnect()


@given(st.integers(0, 65_535), st.sampled_from([0, 1, 2, 0x80]))
def test_a_suback_is_read_as_it_was_meant(packet_id: int, code: int) -> None:
    reply = CODEC.read(Control(SUBACK, b"\x90\x03" + packet_id.to_bytes(2, "big") + bytes((code,)), 2))
    assert isinstance(reply, SubAck)
    assert reply.packet_id == packet_id
    if code == 0x80:
        assert reply.refusal
    else:
        assert (reply.granted_qos, reply.refusal) == (code, None)


@given(st.booleans(), st.integers(0, 255))
def test_a_connack_is_read_as_it_was_meant(session_present: bool, code: int) -> None:
    reply = CODEC.read(Control(CONNACK, bytes((0x20, 2, session_present, code)), 2))
    assert isinstance(reply, ConnAck)
    assert reply.session_present == session_present
    assert (reply.refusal is None) == (code == 0)


@given(st.integers(1, 65_535))
def test_pubrel_and_pingresp_are_read_as_they_were_meant(packet_id: int) -> None:
    assert CODEC.read(Control(PUBREL, encode_acks(PUBREL, [packet_id]), 2)) == Ack(PUBREL, packet_id)
    assert CODEC.read(Control(PINGRESP, b"\xd0\x00", 2)) == Pong()


@pytest.mark.parametrize("code", [3, 0x7F, 0x81, 0xFF])
def test_a_suback_with_a_reserved_return_code_is_a_protocol_error(code: int) -> None:
    """[MQTT-3.9.3-2]. Read as a granted QoS it would pass for success."""
    with pytest.raises(ProtocolError):
        CODEC.read(Control(SUBACK, bytes((0x90, 3, 0, 1, code)), 2))
