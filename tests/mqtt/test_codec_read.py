"""What a broker answers, whole, cut, random or hostile, through both codecs."""

from __future__ import annotations

from contextlib import suppress

import mqtt5
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.mqtt.strategies import properties
from tests.support.generator import packet, text
from tidegate.core import DeliveryError, Properties, ProtocolError
from tidegate.mqtt import CODECS, Codec5
from tidegate.mqtt.codec import Ack, Closing, ConnAck, Connect, Pong, Reply, SubAck
from tidegate.mqtt.packet import PUBREL, Control

CODEC5 = Codec5()
KINDS = st.sampled_from([kind for kind in range(16) if kind != 3])
VERSIONS = st.sampled_from(sorted(CODECS))
REASON = b"\x1f" + text(b"\xff\xfe")  # a Reason String that is not UTF-8

# The engine's panic is caught, but besides it prints and reports what it did not handle.
panics = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

REPLIES_5 = [
    mqtt5.ConnAckPacket(
        session_present=True, server_keep_alive=5, session_expiry_interval=7, reason_str="fine"
    ).write(),
    mqtt5.SubAckPacket(1, [mqtt5.SubAckReasonCode.NOT_AUTHORIZED], reason_str="not for you").write(),
    mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.SERVER_BUSY, reason_str="later").write(),
    mqtt5.PubRelPacket(9, reason_str="go").write(),
    b"\xd0\x00",
]


def control(data: bytes, body: int = 2) -> Control:
    """Return whole bytes as a packet."""
    return Control(data[0] >> 4, data, body)


@panics
@settings(deadline=None, max_examples=150)
@given(VERSIONS, KINDS, st.integers(0, 15), st.binary(max_size=120))
def test_a_packet_of_random_bytes_raises_nothing_but_a_protocol_error(
    version: str, kind: int, flags: int, body: bytes
) -> None:
    data = packet(kind << 4 | flags, body)
    with suppress(ProtocolError):
        assert isinstance(CODECS[version].read(Control(kind, data, len(data) - len(body))), Reply)


@pytest.mark.parametrize("version", sorted(CODECS))
@pytest.mark.parametrize("whole", REPLIES_5, ids=["connack", "suback", "disconnect", "pubrel", "pingresp"])
def test_a_body_cut_short_raises_nothing_but_a_protocol_error(version: str, whole: bytes) -> None:
    """The frame is right, only what is in it ends too soon."""
    for length in range(len(whole) - 2):
        with suppress(ProtocolError):
            CODECS[version].read(control(packet(whole[0], whole[2 : 2 + length])))


@panics
@pytest.mark.parametrize(
    "data",
    [
        packet(0x20, b"\x00\x87" + packet(0, REASON)[1:]),
        packet(0x90, b"\x00\x01" + packet(0, REASON)[1:] + b"\x01"),
        packet(0xE0, b"\x8e" + packet(0, REASON)[1:]),
        packet(0x62, b"\x00\x01\x00" + packet(0, REASON)[1:]),
    ],
    ids=["connack", "suback", "disconnect", "pubrel"],
)
def test_text_that_is_not_utf_8_is_a_protocol_error_and_no_panic(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        CODEC5.read(control(data))


def test_each_reply_of_mqtt_5_is_read_as_it_was_meant() -> None:
    connack, suback, closing, released, pong = (CODEC5.read(control(data)) for data in REPLIES_5)
    assert connack == ConnAck(session_present=True, refusal=None, keep_alive=5, session_expiry=7)
    assert isinstance(suback, SubAck)
    assert (suback.packet_id, suback.refusal) == (1, "not authorized (0x87): not for you")
    assert closing == Closing("server busy (0x89): later")
    assert released == Ack(PUBREL, 9)
    assert pong == Pong()


@given(st.text(max_size=20), st.none() | st.text(max_size=20), st.booleans(), st.integers(0, 65_535))
def test_a_connect_of_mqtt_5_says_what_was_asked(
    client_id: str, username: str | None, clean: bool, keep_alive: int
) -> None:
    password = None if username is None else username.encode()
    wanted = Connect(client_id, username, password, clean, keep_alive, 3600, 77)
    read, _ = mqtt5.read(memoryview(CODEC5.connect(wanted)))
    assert isinstance(read, mqtt5.ConnectPacket)
    assert (read.client_id, read.username, read.password) == (client_id, username, wanted.password)
    assert (read.clean_start, read.keep_alive) == (clean, keep_alive)
    assert (read.session_expiry_interval, read.receive_max) == (3600, 77)


@settings(deadline=None, max_examples=80)
@given(properties())
def test_valid_properties_are_read_as_they_were_meant(sample: tuple[bytes, Properties | None]) -> None:
    section, meaning = sample
    assert CODEC5.read_properties(section) == meaning


def assert_read_or_refused(section: bytes) -> None:
    """Read properties; what is raised must be a DeliveryError with the one reason."""
    try:
        outcome: object = CODEC5.read_properties(section)
    except DeliveryError as error:
        outcome = error.reason
    assert outcome in (None, "properties_invalid") or isinstance(outcome, Properties)


@settings(deadline=None, max_examples=100)
@given(properties())
def test_properties_cut_short_raise_nothing_but_a_delivery_error(sample: tuple[bytes, Properties | None]) -> None:
    section, _ = sample
    for length in range(len(section)):
        assert_read_or_refused(section[:length])


@settings(deadline=None, max_examples=250)
@given(st.binary(max_size=60) | st.lists(st.sampled_from([1, 2, 3, 8, 9, 11, 38, 0, 255]), max_size=30).map(bytes))
@example(b"\x03" + text(b"\xff\xfe"))
@example(b"\x26" + text(b"\xed\xa0\x80") + text(b"v"))
@example(b"\x0b\xff\xff\xff\xff\x01")
@example(b"\x23\x00\x01")
def test_random_properties_raise_nothing_but_a_delivery_error(section: bytes) -> None:
    assert_read_or_refused(section)


def test_a_thousand_user_properties_do_not_fill_the_memory() -> None:
    section = b"".join(b"\x26" + text(b"n%d" % number) + text(b"v" * 60_000) for number in range(1000))
    read = CODEC5.read_properties(section)
    assert read is not None
    assert 0 < len(read.user) <= 100
    assert sum(len(name) + len(value) for name, value in read.user) < 200_000
