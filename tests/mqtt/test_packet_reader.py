"""Cutting a byte stream into packets: the same result however the bytes arrive."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mqtt.strategies import MAX_PACKET, READERS, Sample, cut, read_all, samples, take_all
from tidegate.core import ProtocolError
from tidegate.mqtt.packet import (
    MAX_REMAINING_LENGTH,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    PacketReader,
    encode_acks,
    encode_length,
    encode_packet,
    remaining_length,
)

PROTOCOLS = st.sampled_from(sorted(READERS))
PLACES = st.lists(st.integers(0, 1 << 16), max_size=30)


@st.composite
def streams(draw: st.DrawFn) -> tuple[str, list[Sample]]:
    """A version, and packets of it."""
    protocol = draw(PROTOCOLS)
    return protocol, draw(st.lists(samples(protocol), max_size=6))


def reader(protocol: str) -> PacketReader:
    """Return a reader with a small limit."""
    return PacketReader(MAX_PACKET, READERS[protocol])


@settings(deadline=None, max_examples=80)
@given(streams(), PLACES)
def test_packets_cut_into_chunks_at_any_place_are_read_the_same(
    stream: tuple[str, list[Sample]], at: list[int]
) -> None:
    protocol, packets = stream
    data = b"".join(sample.data for sample in packets)
    meaning = [sample.meaning for sample in packets]
    assert read_all(reader(protocol), [data]) == meaning
    assert read_all(reader(protocol), cut(data, at)) == meaning


@settings(deadline=None, max_examples=50)
@given(streams(), PLACES)
def test_taking_packets_one_at_a_time_loses_none(stream: tuple[str, list[Sample]], at: list[int]) -> None:
    """A caller with a full window stops in the middle of what was read, and goes on later."""
    protocol, packets = stream
    one_by_one, found = reader(protocol), []
    for chunk in cut(b"".join(sample.data for sample in packets), at):
        one_by_one.feed(chunk)
        while (packet := one_by_one.next()) is not None:
            found.append(packet)
    assert found == [sample.meaning for sample in packets]
    assert one_by_one.size == 0


@given(st.integers(0, 20), st.integers(1, 2000))
def test_no_more_publishes_or_bytes_are_taken_than_there_is_room_for(publishes: int, max_bytes: int) -> None:
    """Law 3. The bytes may be passed by one message; packets that are no PUBLISH need no room."""
    packet = encode_packet(0x32, b"\x00\x01a\x00\x01" + bytes(93))
    full = PacketReader(MAX_PACKET, None)
    full.feed(packet * 20)
    taken = full.take_run(publishes, max_bytes)
    assert len(taken.topics) == len(taken.payloads) == len(taken.packet_ids) == min(publishes, -(-max_bytes // 93))
    assert full.size >= (20 - len(taken.topics)) * 100


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_every_prefix_of_a_packet_yields_nothing_and_the_rest_completes_it(data: st.DataObject) -> None:
    protocol = data.draw(PROTOCOLS)
    packet, meaning = data.draw(samples(protocol))
    for length in range(len(packet)):
        partial = reader(protocol)
        partial.feed(packet[:length])
        assert take_all(partial) == []
        partial.feed(packet[length:])
        assert take_all(partial) == [meaning]


@settings(deadline=None, max_examples=150)
@given(PROTOCOLS, st.binary(max_size=2000), PLACES)
def test_random_bytes_raise_nothing_but_a_protocol_error(protocol: str, data: bytes, at: list[int]) -> None:
    with suppress(ProtocolError):
        read_all(reader(protocol), cut(data, at))


@settings(deadline=None, max_examples=100)
@given(PROTOCOLS, st.integers(0, 15), st.binary(max_size=2 * MAX_PACKET), PLACES)
def test_a_publish_of_random_bytes_raises_nothing_but_a_protocol_error(
    protocol: str, flags: int, body: bytes, at: list[int]
) -> None:
    with suppress(ProtocolError):
        assert len(read_all(reader(protocol), cut(encode_packet(0x30 | flags, body), at))) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"\x20\xff\xff\xff\xff\x01",
        b"\x36\x05\x00\x01a\x00\x01",
        b"\x30\x01\x00",
        b"\x30\x02\x00\x05",
        b"\x32\x04\x00\x01a\x00",
        b"\x32\x05\x00\x01a\x00\x00",
    ],
    ids=["length of five bytes", "QoS 3", "no topic", "topic cut short", "packet id cut short", "packet id 0"],
)
@pytest.mark.parametrize("protocol", sorted(READERS))
def test_a_malformed_packet_is_a_protocol_error(protocol: str, data: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_all(reader(protocol), [data])


@given(st.integers(0, MAX_REMAINING_LENGTH), st.binary(max_size=3))
def test_a_length_is_read_as_it_was_written(value: int, before: bytes) -> None:
    encoded = encode_length(value)
    assert remaining_length(before + encoded, len(before)) == (value, len(before) + len(encoded))
    for cut_at in range(len(encoded)):
        assert remaining_length(encoded[:cut_at], 0) is None


@given(st.sampled_from([PUBACK, PUBREC, PUBREL, PUBCOMP]), st.lists(st.integers(1, 65_535), max_size=50))
def test_many_acknowledgements_are_the_single_ones_in_a_row(kind: int, packet_ids: list[int]) -> None:
    flags = 2 if kind == PUBREL else 0
    single = [encode_packet(kind << 4 | flags, packet_id.to_bytes(2, "big")) for packet_id in packet_ids]
    assert encode_acks(kind, packet_ids) == b"".join(single)
