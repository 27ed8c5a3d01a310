"""One bad message never stops a good one: it comes out as a message, and the connection stays (law 8)."""

from __future__ import annotations

import pytest

from tests.mqtt.rig import PROTOCOLS, PUBACK, RETAIN, rig, sent
from tests.support.generator import publish_packet, text
from tidegate.core import DeliveryError
from tidegate.core.topic import decode_topic

TOPICS = [b"\xff\xfe", b"a/\xed\xa0\x80", b"a/+/b", b"a/#", b"a\x00b", b"", b"\xc3" * 65_535, b"/" * 65_535]
BROKEN_PROPERTIES = {
    "content type that is not UTF-8": b"\x03" + text(b"\xff\xfe"),
    "user property that is not UTF-8": b"\x26" + text(b"\xed\xa0\x80") + text(b"v"),
    "user property without a value": b"\x26" + text(b"name"),
    "property that is cut short": b"\x09\x00\x05ab",
    "unknown property": b"\x7f\x00",
    "property of another packet": b"\x11\x00\x00\x00\x01",
    "topic alias that was not allowed": b"\x23\x00\x01",
    "expiry that is cut short": b"\x02\x00",
    "endless subscription identifier": b"\x0b\xff\xff\xff\xff\x01",
}


@PROTOCOLS
async def test_a_message_with_an_odd_topic_comes_out_with_its_topics_bytes_and_the_next_one_flows(
    protocol: str,
) -> None:
    async with rig(protocol) as ends:
        connection = await ends.accept()
        properties = b"" if protocol == "5" else None
        for number, topic in enumerate(TOPICS):
            await connection.send(publish_packet(topic, b"odd", 1, 2 * number + 1, 0, properties))
            await connection.send(ends.publish(2 * number + 2, b"good"))
        await ends.handed_out(2 * len(TOPICS))
        assert [message.topic for message in ends.messages[::2]] == TOPICS
        assert {message.payload for message in ends.messages[1::2]} == {b"good"}
        for batch in ends.batches:
            batch.settle()
        await sent(connection, 2 * len(TOPICS))
        assert (ends.session.reconnects, ends.session.last_error) == (0, None)


@pytest.mark.parametrize("topic", TOPICS[:-1])
def test_each_of_those_topics_is_refused_where_it_would_be_used(topic: bytes) -> None:
    with pytest.raises(DeliveryError):
        decode_topic(topic)


async def test_a_message_with_malformed_properties_comes_out_with_a_defect_and_the_next_one_flows() -> None:
    async with rig() as ends:
        connection = await ends.accept()
        for number, section in enumerate(BROKEN_PROPERTIES.values()):
            await connection.send(publish_packet(b"a/b", b"odd", 1, 2 * number + 1, 0, section))
            await connection.send(ends.publish(2 * number + 2, b"good"))
        await ends.handed_out(2 * len(BROKEN_PROPERTIES))
        for name, odd in zip(BROKEN_PROPERTIES, ends.messages[::2], strict=True):
            assert (name, odd.defect) == (name, "properties_invalid")
            assert (odd.topic, odd.payload, odd.properties) == (b"a/b", b"odd", None)
        assert {(message.payload, message.defect) for message in ends.messages[1::2]} == {(b"good", None)}
        assert (ends.session.reconnects, ends.session.last_error) == (0, None)


@PROTOCOLS
async def test_an_over_large_message_comes_out_marked_and_is_acknowledged_like_any(protocol: str) -> None:
    async with rig(protocol, max_payload=1000) as ends:
        connection = await ends.accept()
        await connection.send(ends.publish(1, bytes(3 << 20)) + ends.publish(2, b"good"))
        await ends.handed_out(2)
        large, good = ends.messages
        assert (large.topic, large.defect, large.size) == (b"a/b", "payload_too_large", 3 << 20)
        assert large.payload == bytes(1000)
        assert (good.payload, good.defect, good.size) == (b"good", None, 4)
        for batch in ends.batches:
            batch.settle()
        assert await sent(connection, 2) == [(PUBACK, 1), (PUBACK, 2)]


@PROTOCOLS
@pytest.mark.parametrize(("size", "defect"), [(1000, None), (1001, "payload_too_large"), (70_000, "payload_too_large")])
async def test_the_largest_payload_is_exact(protocol: str, size: int, defect: str | None) -> None:
    async with rig(protocol, max_payload=1000) as ends:
        connection = await ends.accept()
        await connection.send(ends.publish(1, bytes(size)))
        await ends.handed_out(1)
        message = ends.messages[0]
        assert (message.defect, message.size, len(message.payload)) == (defect, size, 1000)


async def test_thousands_of_user_properties_cost_their_message_alone() -> None:
    """More bytes of properties than a whole message may have."""
    section = (b"\x26" + text(b"n") + text(b"v" * 1000)) * 1200
    async with rig() as ends:
        connection = await ends.accept()
        await connection.send(publish_packet(b"a/b", b"odd", 1, 1, 0, section) + ends.publish(2, b"good"))
        await ends.handed_out(2)
        assert [(message.topic, message.defect) for message in ends.messages] == [
            (b"a/b", "payload_too_large"),
            (b"a/b", None),
        ]
        assert ends.session.reconnects == 0


@PROTOCOLS
async def test_flags_and_an_empty_payload_come_out_as_they_were_sent(protocol: str) -> None:
    async with rig(protocol) as ends:
        connection = await ends.accept()
        await connection.send(ends.publish(0, b"", qos=0, flags=RETAIN) + ends.publish(1, b"x"))
        await ends.handed_out(2)
        empty, other = ends.messages
        assert (empty.payload, empty.qos, empty.retained, empty.size, empty.defect) == (b"", 0, True, 0, None)
        assert (other.payload, other.qos, other.retained, other.duplicate) == (b"x", 1, False, False)
