"""Messages set aside: nothing of them is lost, and no refusal ends the trying."""

from __future__ import annotations

import json
import logging
from base64 import b64decode
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bridge.messages import RECEIVED, dead_letters, message
from tidegate.bridge.dead_letter import Rejected
from tidegate.core import DEAD_LETTER_TYPE, DeliveryError, Encoded, Envelope, Message, format_time
from tidegate.memory import MemorySink


def rejected(some: Message, reason: str = "decode_failed") -> Rejected:
    """Return a rejection."""
    return Rejected(some, DeliveryError(reason, f"because of {reason}"), "convert")


async def stored(*messages: Message, sink: MemorySink | None = None) -> list[dict[str, Any]]:
    """Return the dead letters of messages, as a sink has them."""
    sink = sink or MemorySink()
    await dead_letters(sink).store([rejected(some) for some in messages])
    return [json.loads(event.body) for event in sink.stored.values()]


async def test_whatever_a_detail_quotes_the_dead_letter_is_written() -> None:
    sink = MemorySink()
    bad = Rejected(message(), DeliveryError("decode_failed", "it says \ud800\x00"), "convert")
    await dead_letters(sink).store([bad])
    (event,) = sink.stored.values()
    assert json.loads(event.body)["detail"] == "it says \\ud800\x00"


class PickySink(MemorySink):
    """Refuses bodies over a size, as a server does. It counts what it was sent."""

    def __init__(self, largest: int) -> None:
        super().__init__()
        self.sent: list[Encoded] = []
        self.largest = largest
        self.refuse = self._refuse

    def _refuse(self, event: Encoded) -> DeliveryError | None:
        self.sent.append(event)
        return DeliveryError("too_large", "no") if len(event.body) > self.largest else None


async def test_a_dead_letter_says_which_message_why_where_and_when() -> None:
    some = message("hall/d1", b"{torn")
    sink = MemorySink()
    (letter,) = await stored(some, sink=sink)
    stamp = format_time(RECEIVED)
    assert letter == {
        "specversion": "1.0", "id": some.id, "source": "urn:tidegate:test:b", "type": DEAD_LETTER_TYPE,
        "subject": "hall/d1", "time": stamp, "recordedtime": stamp, "correlationid": some.id,
        "reason": "decode_failed", "detail": "because of decode_failed", "stage": "convert", "bridge": "b", "size": 5,
        "attempts": 1, "qos": 0, "datacontenttype": "application/octet-stream", "data_base64": "e3Rvcm4=",
    }  # fmt: skip
    (event,) = sink.stored.values()
    assert event.id == event.headers["Nats-Msg-Id"] == some.id
    assert (event.subject, event.message) == ("dead.b", some)


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=40), st.binary(max_size=60))
async def test_any_message_becomes_a_valid_event_with_its_topic_and_payload_byte_for_byte(
    topic: bytes, payload: bytes
) -> None:
    sink = MemorySink()
    (letter,) = await stored(message(topic, payload), sink=sink)
    (event,) = sink.stored.values()
    assert _topic(letter) == topic
    assert Envelope.from_nats(event.headers, event.body).payload() == (payload or None)
    read = from_structured_event(HTTPMessage(event.headers, event.body))
    assert read.get_data() == (payload or None)
    assert read.get_extension("size") == len(payload)
    assert "truncated" not in letter


def _topic(letter: dict[str, Any]) -> bytes:
    if "topicbase64" in letter:
        return b64decode(letter["topicbase64"])
    return b"" if letter["subject"] == "(empty)" else letter["subject"].encode()


@pytest.mark.parametrize("topic", [b"\xff\xfe/a", b"\xed\xa0\x80", b"a\x00b", b"a/+/#", b"x\r\nPUB evil 3"])
async def test_b1_b2_the_topics_bytes_are_kept(topic: bytes) -> None:
    (letter,) = await stored(message(topic))
    assert _topic(letter) == topic
    assert ("topicbase64" in letter) == topic.startswith((b"\xff", b"\xed"))


async def test_b9_the_first_part_of_a_topic_of_65_535_bytes_is_kept() -> None:
    (letter,) = await stored(message("é" * 32_767 + "x"))
    assert len(letter["subject"]) >= 1000
    assert ("é" * 32_767).startswith(letter["subject"])


async def test_b12_a_payload_that_was_cut_says_so_with_its_true_size() -> None:
    (letter,) = await stored(message(payload=b"x" * 100, size=64_000_000, defect="payload_too_large"))
    assert (letter["truncated"], letter["size"]) == (True, 64_000_000)
    assert b64decode(letter["data_base64"]) == b"x" * 100


@pytest.mark.parametrize("size", [500_000, 1_000_000, 10_000_000])
async def test_b12_a_dead_letter_fits_natss_default_limit(size: int) -> None:
    sink = MemorySink()
    payload = bytes(range(250)) * (size // 250)
    (letter,) = await stored(message("a" * 4096, payload), sink=sink)
    (event,) = sink.stored.values()
    kept = b64decode(letter["data_base64"])
    assert len(event.body) < 1024 * 1024 - 1024
    assert payload.startswith(kept)
    assert len(kept) >= 500_000
    assert letter["size"] == size
    assert letter.get("truncated", False) == (len(kept) < size)


@pytest.mark.parametrize("largest", [100_000, 20_000, 1000, 520])
async def test_a_dead_letter_that_is_too_large_keeps_less_until_it_is_taken(largest: int) -> None:
    payload = bytes(range(250)) * 3000
    sink = PickySink(largest)
    (letter,) = await stored(message(payload=payload), sink=sink)
    assert payload.startswith(b64decode(letter.get("data_base64", "")))
    assert (letter["truncated"], letter["size"]) == (True, len(payload))
    assert len(sink.sent) < 15


async def test_only_what_was_refused_is_sent_again() -> None:
    sink = PickySink(2000)
    small, large = message(payload=b"small"), message(payload=b"x" * 10_000)
    letters = await stored(small, large, sink=sink)
    assert [letter["id"] for letter in letters] == [small.id, large.id]
    assert b64decode(letters[0]["data_base64"]) == b"small"
    assert [event.id for event in sink.sent].count(small.id) == 1
    assert sink.duplicates == 0


async def test_a_refusal_is_logged_and_does_not_end_the_trying(caplog: pytest.LogCaptureFixture) -> None:
    sink = MemorySink()
    left = [2]

    def refuse_twice(event: Encoded) -> DeliveryError | None:
        left[0] -= 1
        return DeliveryError("refused", "not now") if left[0] >= 0 else None

    sink.refuse = refuse_twice
    some = message(payload=b"\x00\xff" * 1000)
    with caplog.at_level(logging.ERROR):
        (letter,) = await stored(some, sink=sink)
    assert b64decode(letter["data_base64"]) == some.payload
    assert "not now" in caplog.text


async def test_a_message_that_comes_again_is_stored_once() -> None:
    sink = MemorySink()
    some = message(payload=b"bad")
    for _ in range(2):
        await dead_letters(sink).store([rejected(some)])
    assert len(sink.stored) == 1
    assert sink.duplicates == 1


async def test_nothing_is_sent_for_nothing() -> None:
    assert await stored() == []
