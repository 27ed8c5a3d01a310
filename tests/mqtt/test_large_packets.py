"""Packets that are larger than anyone should send: bounded memory, linear time, and the next one is read."""

from __future__ import annotations

import itertools
import time
import tracemalloc
from collections.abc import Iterator

import pytest

from tests.mqtt.strategies import READERS, take_all
from tests.support.generator import packet, publish_packet, text
from tidegate.core import ProtocolError
from tidegate.mqtt.packet import PacketReader, Publish, encode_length

LIMIT = 100_000
NEXT = publish_packet(b"next", b"small", 1, 2, 0, b"")


def chunks_of(head: bytes, filler: int, chunk: int) -> Iterator[bytes]:
    """Yield `head`, then so many bytes, never holding more than a chunk."""
    yield head
    piece = bytes(chunk)
    for _ in range(filler // chunk):
        yield piece
    yield bytes(filler % chunk)


def large_head(payload: int) -> bytes:
    """Return a QoS 1 PUBLISH of MQTT 5 up to its payload."""
    body = text(b"big/one") + b"\x00\x01" + b"\x00"
    return b"\x32" + encode_length(len(body) + payload) + body


def read(reader: PacketReader, chunks: Iterator[bytes]) -> Iterator[Publish]:
    """Feed chunks and yield what comes out."""
    for chunk in chunks:
        reader.feed(chunk)
        for found in take_all(reader):
            assert isinstance(found, Publish)
            yield found


@pytest.mark.parametrize("payload", [LIMIT - 16, LIMIT - 15, LIMIT, 3 * LIMIT])
@pytest.mark.parametrize("chunk", [1000, 4096, 99_999, 1 << 20])
def test_a_publish_past_the_limit_comes_out_once_and_what_follows_is_read(payload: int, chunk: int) -> None:
    """Its size is the true one; a packet of exactly the limit is whole."""
    head = large_head(payload)
    stream = itertools.chain(chunks_of(head, payload, chunk), [NEXT])
    large, following = read(PacketReader(LIMIT, READERS["5"]), stream)
    assert (large.topic, large.qos, large.packet_id, large.size) == (b"big/one", 1, 1, payload)
    if len(head) + payload > LIMIT:
        assert large.defect == "payload_too_large"
        assert 0 < len(large.payload) < payload
    else:
        assert (large.defect, len(large.payload)) == (None, payload)
    assert (following.topic, following.payload, following.defect) == (b"next", b"small", None)


def test_64_megabytes_are_read_past_in_the_memory_of_the_limit() -> None:
    payload = 64 << 20
    reader = PacketReader(LIMIT, READERS["5"])
    tracemalloc.start()
    try:
        found = list(read(reader, itertools.chain(chunks_of(large_head(payload), payload, 65_536), [NEXT])))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [(one.defect, one.size) for one in found] == [("payload_too_large", payload), (None, 5)]
    assert peak < 10 * LIMIT


@pytest.mark.parametrize("chunk", [1000, 1 << 20])
@pytest.mark.parametrize("qos", [0, 1])
def test_properties_past_the_limit_cost_that_message_alone(chunk: int, qos: int) -> None:
    """A device may send a thousand user properties; its PUBLISH must not end the connection, again and again."""
    section = (b"\x26" + text(b"name") + text(b"v" * 1000)) * 1000
    large = publish_packet(b"t", b"payload", qos, 1, 0, section)
    pieces = (large[start : start + chunk] for start in range(0, len(large), chunk))
    first, following = read(PacketReader(LIMIT, READERS["5"]), itertools.chain(pieces, [NEXT]))
    assert (first.topic, first.size, first.defect) == (b"t", 7, "payload_too_large")
    assert following.topic == b"next"


def test_a_control_packet_past_the_limit_is_a_protocol_error_and_not_collected() -> None:
    reader = PacketReader(LIMIT, READERS["5"])
    with pytest.raises(ProtocolError):
        list(read(reader, chunks_of(b"\x20" + encode_length(64 << 20), 64 << 20, 65_536)))
    assert reader.size <= LIMIT + 65_536


def seconds_for(stream: list[bytes], limit: int) -> float:
    """Return the best of three runs."""
    best = float("inf")
    for _ in range(3):
        reader = PacketReader(limit, READERS["5"])
        start = time.perf_counter()
        for _ in read(reader, iter(stream)):
            pass
        best = min(best, time.perf_counter() - start)
    return best


def test_a_packet_in_small_chunks_costs_time_in_proportion_to_its_size() -> None:
    """Joining at every chunk would cost 256 times as much for 16 times the size."""
    small, large = 1 << 18, 1 << 22
    times = [seconds_for(list(chunks_of(large_head(payload), payload, 128)), 2 * large) for payload in (small, large)]
    assert times[1] < 80 * times[0]


def test_many_packets_in_one_chunk_cost_time_in_proportion_to_their_number() -> None:
    """Also those with properties. Copying what lies before each costs seven times as much for each of these."""
    one = publish_packet(b"t", b"x" * 100, 1, 1, 0, b"\x26" + text(b"name") + text(b"value"))
    few, many = (seconds_for([one * count], LIMIT) for count in (500, 20_000))
    assert many < 40 * 3 * few


def test_an_over_large_publish_without_properties_is_read_past_in_mqtt_311() -> None:
    large = packet(0x30, text(b"t") + bytes(2 * LIMIT))
    first, following = read(PacketReader(LIMIT, None), iter([large, publish_packet(b"next", b"small", 1, 2)]))
    assert (first.size, first.defect) == (2 * LIMIT, "payload_too_large")
    assert following.topic == b"next"
