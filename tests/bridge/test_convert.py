"""From a message to an event or a rejection."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given as drawn_from
from hypothesis import settings
from hypothesis import strategies as st

from tests.bridge.messages import convert_all, converted, converter, document, message, properties, refused
from tests.core.strategies import messages
from tidegate.bridge import Converter
from tidegate.bridge.convert import MAX_PLANS
from tidegate.bridge.correlation import MAX_CORRELATION
from tidegate.core import Envelope, Message, Properties


def _correlation(given: Properties | None, mode: str = "structured") -> tuple[str | None, Message]:
    event = converted(mode=mode, properties=given)
    return Envelope.from_nats(event.headers, event.body).correlationid, event.message


@pytest.mark.parametrize("mode", ["structured", "binary"])
def test_the_correlation_id_is_the_user_property_before_all(mode: str) -> None:
    given = properties(correlationid="order 66 é", correlation_data=b"other")
    assert _correlation(given, mode)[0] == "order 66 é"


def test_of_several_user_properties_the_first_counts() -> None:
    given = Properties(user=(("correlationid", "first"), ("correlationid", "second")))
    assert _correlation(given)[0] == "first"


@pytest.mark.parametrize("mode", ["structured", "binary"])
@pytest.mark.parametrize(
    ("data", "kept"),
    [
        (b"request-17", "request-17"),
        (b"a b~", "a b~"),
        (b"\x00\x01\xfe\xff", "0001feff"),
        ("é".encode(), "c3a9"),
        (b"two\r\nlines", b"two\r\nlines".hex()),
        (b"\x7f", "7f"),
    ],
)
def test_b21_correlation_data_is_kept_as_text_or_in_hexadecimal(data: bytes, kept: str, mode: str) -> None:
    assert _correlation(properties(correlation_data=data), mode)[0] == kept
    assert _correlation(properties(correlation_data=data, correlationid=""), mode)[0] == kept


@pytest.mark.parametrize("mode", ["structured", "binary"])
@pytest.mark.parametrize(("data", "kept"), [(b"x" * 65_535, "x" * MAX_CORRELATION), (b"\xfe" * 65_535, "fe" * 128)])
def test_b21_correlation_data_of_64_kb_is_capped(data: bytes, kept: str, mode: str) -> None:
    assert _correlation(properties(correlation_data=data), mode)[0] == kept


@pytest.mark.parametrize("mode", ["structured", "binary"])
def test_b20_a_user_property_of_70_kb_is_capped(mode: str) -> None:
    kept, _ = _correlation(properties(correlationid="é" * 70_000), mode)
    assert kept == "é" * MAX_CORRELATION


@pytest.mark.parametrize("mode", ["structured", "binary"])
@pytest.mark.parametrize(
    "given", [None, Properties(), properties(correlation_data=b""), properties(correlationid="", correlation_data=b"")]
)
def test_b21_without_any_the_correlation_id_is_the_events_own_id(given: Properties | None, mode: str) -> None:
    kept, from_message = _correlation(given, mode)
    assert kept == from_message.id


@pytest.mark.parametrize("mode", ["structured", "binary"])
@pytest.mark.parametrize("decoder", ["json", "text", "raw"])
def test_b11_a_message_without_payload_is_forwarded_and_flagged(decoder: str, mode: str) -> None:
    event = converted(decoder, mode, payload=b"")
    read = Envelope.from_nats(event.headers, event.body)
    assert read.payload() is None
    assert str(read.model_dump()["emptypayload"]).lower() == "true"
    assert read.retained is None


@pytest.mark.parametrize("mode", ["structured", "binary"])
@pytest.mark.parametrize("payload", [b"", b"1"])
def test_b24_a_retained_message_is_flagged(mode: str, payload: bytes) -> None:
    event = converted("json", mode, payload=payload, retained=True)
    read = Envelope.from_nats(event.headers, event.body)
    assert read.retained is True
    assert ("emptypayload" in read.model_dump()) == (not payload)


def test_a_fresh_reading_has_no_flags() -> None:
    assert not {"retained", "emptypayload"} & document(converted(payload=b"1")).keys()


@pytest.mark.parametrize("mode", ["structured", "binary"])
@pytest.mark.parametrize(
    ("declared", "kept"),
    [
        ("application/x-protobuf; proto=a.B", "application/x-protobuf; proto=a.B"),
        ("text/csv", "text/csv"),
        (None, "application/octet-stream"),
        ("", "application/octet-stream"),
        ("no slash", "application/octet-stream"),
        ("text/plain\r\nNats-Msg-Id: evil", "application/octet-stream"),
        ("text/pläin", "application/octet-stream"),
        ("Nats-Rollup/x", "application/octet-stream"),
        ("a/" + "b" * 60_000, "application/octet-stream"),
    ],
)
def test_raw_keeps_the_messages_content_type_where_it_is_one(declared: str | None, kept: str, mode: str) -> None:
    event = converted("raw", mode, payload=b"\xff", properties=properties(content_type=declared))
    read = Envelope.from_nats(event.headers, event.body)
    assert read.datacontenttype == kept
    assert read.payload() == b"\xff"


def test_a_decoder_that_checks_the_payload_says_its_own_content_type() -> None:
    declared = properties(content_type="text/html")
    assert document(converted("json", properties=declared))["datacontenttype"] == "application/json"
    assert document(converted("text", properties=declared))["datacontenttype"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("mode", ["structured", "binary"])
@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        (b"", "topic_invalid"),
        (b"\xff\xfe", "topic_invalid"),
        (b"a/\xed\xa0\x80", "topic_invalid"),
        (b"a/+/b", "topic_invalid"),
        (b"#", "topic_invalid"),
        (b"a\x00b", "topic_invalid"),
        (b"a" * 65_535, "subject_too_long"),
        (b"/" * 400, "subject_too_deep"),
    ],
)
def test_b1_b2_b9_a_bad_topic_is_refused_alone(topic: bytes, reason: str, mode: str) -> None:
    for _ in range(2):  # a topic that was refused once is refused again
        rejected = refused(mode=mode, topic=topic)
        assert rejected.error.reason == reason
        assert rejected.message.topic == topic


@pytest.mark.parametrize("defect", ["payload_too_large", "properties_invalid", "something_new"])
def test_a_defect_that_the_source_found_becomes_the_reason(defect: str) -> None:
    rejected = refused(defect=defect)
    assert rejected.error.reason == defect
    assert rejected.error.detail


def test_events_and_rejections_keep_the_order_of_the_batch() -> None:
    batch = [message(f"a/{n}", b"1" if n % 3 else b"bad") for n in range(100)]
    events, rejected = convert_all(converter(), *batch)
    assert [event.message for event in events] == [one for n, one in enumerate(batch) if n % 3]
    assert [one.message for one in rejected] == batch[::3]
    assert [event.subject for event in events] == [f"plant.a.{n}" for n in range(100) if n % 3]


def _memory_after(some: Converter, topics: Iterable[str]) -> int:
    """Return the most bytes that were allocated while these topics came."""
    gc.collect()
    tracemalloc.start()
    try:
        for topic in topics:
            assert convert_all(some, message(topic))[0][0].subject == "plant.all"
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_100_000_topics_take_no_more_memory_than_the_bound_allows() -> None:
    some = _memory_after(converter(template="plant.all"), (f"topic/{n:06}" for n in range(3000)))
    many = _memory_after(converter(template="plant.all"), (f"topic/{n:06}" for n in range(100_000)))
    assert many < some * 1.3 * MAX_PLANS / 3000


def test_long_topics_are_not_kept_in_memory() -> None:
    """A device chooses its topics, and where the template does not use every level, their length too."""
    long = (f"{n:06}/{'x' * 60_000}" for n in range(500))
    assert _memory_after(converter(template="plant.all"), long) < 3_000_000


def test_a_topic_means_the_same_each_time_it_comes() -> None:
    """Whatever was remembered of it in between."""
    some = converter()
    first = [event.subject for event in convert_all(some, *[message(f"t/{n}") for n in range(50)])[0]]
    again = [event.subject for event in convert_all(some, *[message(f"t/{n}") for n in range(50)])[0]]
    assert first == again == [f"plant.t.{n}" for n in range(50)]


@settings(deadline=None, max_examples=60)
@drawn_from(st.lists(messages("json"), max_size=6), st.lists(st.floats(0, 1e9), min_size=1, max_size=3))
def test_a_message_becomes_the_same_event_in_whatever_company_it_comes(
    drawn: list[Message], moments: list[float]
) -> None:
    """Plain messages that came together take a faster way."""
    batch = [one._replace(received=moments[number % len(moments)]) for number, one in enumerate(drawn)]
    alone = [converter() for _ in batch]
    together = converter()
    expected = [convert_all(some, one) for some, one in zip(alone, batch, strict=True)]
    for _ in range(2):
        events, rejected = convert_all(together, *batch)
        assert not rejected
        assert events == [event for (one, _) in expected for event in one]
