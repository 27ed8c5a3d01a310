"""Packets as a broker could send them, each with what it must be read as."""

from __future__ import annotations

import itertools
from itertools import zip_longest
from typing import NamedTuple

from hypothesis import strategies as st

from tests.support.generator import packet, publish_packet, text
from tidegate.core import Properties
from tidegate.mqtt import Codec5
from tidegate.mqtt.packet import Control, PacketReader, PropertyReader, Publish

MAX_PACKET = 600
"""Small, so that some packets are over-large, and larger than any header here."""

READERS: dict[str, PropertyReader | None] = {"5": Codec5().read_properties, "3.1.1": None}


class Sample(NamedTuple):
    """A packet's bytes, and what they mean."""

    data: bytes
    meaning: Publish | Control


@st.composite
def properties(draw: st.DrawFn) -> tuple[bytes, Properties | None]:
    """A property section, and what it means."""
    words = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
    content_type = draw(st.none() | words)
    correlation = draw(st.none() | st.binary(max_size=20))
    response = draw(st.none() | words)
    user = draw(st.lists(st.tuples(words, words), max_size=3))
    section = b"\x01\x01" if draw(st.booleans()) else b""
    section += b"\x02\x00\x00\x01\x00" if draw(st.booleans()) else b""
    section += b"\x0b\xff\x01" if draw(st.booleans()) else b""
    section += b"" if content_type is None else b"\x03" + text(content_type.encode())
    section += b"" if response is None else b"\x08" + text(response.encode())
    section += b"" if correlation is None else b"\x09" + text(correlation)
    for name, value in user:
        section += b"\x26" + text(name.encode()) + text(value.encode())
    if content_type is correlation is response is None and not user:
        return section, None
    return section, Properties(content_type, correlation, response, tuple(user))


@st.composite
def publishes(draw: st.DrawFn, protocol: str) -> Sample:
    """A PUBLISH; its topic is any bytes, its payload is over-large at times."""
    topic, qos = draw(st.binary(max_size=30)), draw(st.integers(0, 2))
    packet_id = draw(st.integers(1, 65_535)) if qos else 0
    retain, duplicate = draw(st.booleans()), draw(st.booleans())
    section, meaning = draw(properties()) if protocol == "5" else (None, None)
    payload = draw(st.binary(max_size=200) | st.builds(bytes, st.integers(0, 3 * MAX_PACKET)))
    data = publish_packet(topic, payload, qos, packet_id, retain | duplicate << 3, section)
    size, defect = len(payload), None
    if len(data) > MAX_PACKET:
        payload, defect = payload[: len(payload) - (len(data) - MAX_PACKET)], "payload_too_large"
    return Sample(data, Publish(topic, payload, qos, retain, duplicate, packet_id, meaning, size, defect))


@st.composite
def controls(draw: st.DrawFn) -> Sample:
    """Any other packet, with any body."""
    kind = draw(st.sampled_from([kind for kind in range(16) if kind != 3]))
    body = draw(st.binary(max_size=300))
    data = packet(kind << 4 | draw(st.integers(0, 15)), body)
    return Sample(data, Control(kind, data, len(data) - len(body)))


def samples(protocol: str) -> st.SearchStrategy[Sample]:
    """Any packet of a version."""
    return publishes(protocol) | controls()


def take_all(reader: PacketReader) -> list[Publish | Control]:
    """Return every packet that is complete."""
    found: list[Publish | Control] = []
    while True:
        qos, *columns = reader.take_run(1000, 1 << 30)
        for topic, payload, packet_id in zip_longest(*columns, fillvalue=0):
            found.append(Publish(topic, payload, qos, False, False, packet_id, None, len(payload), None))
        packet = reader.next()
        if packet is None:
            return found
        found.append(packet)


def read_all(reader: PacketReader, chunks: list[bytes]) -> list[Publish | Control]:
    """Feed chunk by chunk, as a socket does; return every packet."""
    found: list[Publish | Control] = []
    for chunk in chunks:
        reader.feed(chunk)
        found += take_all(reader)
    return found


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut bytes at these places."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(edges)]
