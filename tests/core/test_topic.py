"""Topic names and filters, with paho's matcher as the second opinion."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from tests.core.strategies import few_filters, few_topics, topics
from tidegate.core import DeliveryError, check_filter, common_topic, decode_topic, matches, unshared


@settings(deadline=None, max_examples=150)
@given(few_filters, few_topics)
def test_matches_agrees_with_paho(topic_filter: str, topic: str) -> None:
    assert matches(topic_filter, topic) == topic_matches_sub(topic_filter, topic)


@settings(deadline=None, max_examples=100)
@given(topics, st.data())
def test_a_topic_matches_the_filters_made_from_it(topic: str, data: st.DataObject) -> None:
    """Itself, with any levels but a first of `$...` replaced by `+`, and with any tail replaced by `#`."""
    levels = topic.split("/")
    kept = 1 if topic.startswith("$") else 0
    plus = [data.draw(st.sampled_from([level, "+"])) if n >= kept else level for n, level in enumerate(levels)]
    cut = data.draw(st.integers(kept, len(levels)))
    assert matches(topic, topic)
    for topic_filter in ("/".join(plus), "/".join([*plus[:cut], "#"])):
        assert check_filter(topic_filter) is None
        assert matches(topic_filter, topic)
        assert topic_matches_sub(topic_filter, topic)


@pytest.mark.parametrize("topic_filter", ["#", "+/#", "+/broker", "+/+"])
def test_a_leading_wildcard_does_not_match_the_brokers_own_topics(topic_filter: str) -> None:
    assert not matches(topic_filter, "$SYS/broker")
    assert matches("$SYS/#", "$SYS/broker")


@pytest.mark.parametrize(
    "topic_filter", ["a", "/", "+", "#", "a/+/b", "+/+/#", "a/#", "/#", "//", "é/ /*", "a" * 65_535]
)
def test_valid_filters_are_accepted(topic_filter: str) -> None:
    assert check_filter(topic_filter) is None


@pytest.mark.parametrize(
    ("topic_filter", "says"),
    [
        ("", "empty"),
        ("a#", "'#'"),
        ("#/a", "'#'"),
        ("a/#/b", "'#'"),
        ("a/b#", "'#'"),
        ("##", "'#'"),
        ("+a", "'+a'"),
        ("a/b+/c", "'b+'"),
        ("++", "'++'"),
        ("a\x00b", "NUL"),
        ("é" * 32_768, "65535"),
    ],
)
def test_a_wrong_filter_is_refused_with_a_sentence_that_names_the_problem(topic_filter: str, says: str) -> None:
    assert says in (check_filter(topic_filter) or "")


@settings(deadline=None, max_examples=100)
@given(topics)
def test_every_valid_topic_name_is_decoded(topic: str) -> None:
    assert decode_topic(topic.encode()) == topic


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=12))
def test_bytes_are_a_topic_name_or_a_delivery_error(raw: bytes) -> None:
    text = raw.decode(errors="ignore")
    if raw and text.encode() == raw and not set("\x00+#") & set(text):
        assert decode_topic(raw) == text
    else:
        with pytest.raises(DeliveryError, match="topic_invalid"):
            decode_topic(raw)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "empty"),
        (b"ab\xff\xfe", "byte 2"),
        (b"\xed\xa0\x80", "byte 0"),
        (b"a\xc0\xafb", "byte 1"),
        (b"a\x00", r"'\x00' at character 1"),
        (b"a/+/b", "'+' at character 2"),
        (b"a/#", "'#' at character 2"),
    ],
)
def test_b1_b2_what_is_no_topic_name_is_refused_and_where_is_said(raw: bytes, says: str) -> None:
    with pytest.raises(DeliveryError) as raised:
        decode_topic(raw)
    assert raised.value.reason == "topic_invalid"
    assert says in raised.value.detail


@settings(deadline=None, max_examples=300)
@given(few_filters, few_filters, few_topics)
def test_an_example_matches_both_filters_and_where_there_is_none_no_topic_does(
    first: str, second: str, topic: str
) -> None:
    found = common_topic(first, second)
    if found is None:
        assert not (matches(first, topic) and matches(second, topic))
    else:
        assert decode_topic(found.encode()) == found
        assert topic_matches_sub(first, found)
        assert topic_matches_sub(second, found)
    assert (common_topic(second, first) is None) == (found is None)


@pytest.mark.parametrize(
    ("first", "second", "example"),
    [
        ("a/+/c", "a/b/#", "a/b/c"),
        ("#", "#", "x"),
        ("a/#", "a", "a"),
        ("+/#", "/#", "/x"),
        ("sensors/+/+", "sensors/hall/#", "sensors/hall/x"),
        ("a/b", "a/c", None),
        ("+", "a/b", None),
        ("#", "$SYS/#", None),
        ("+", "/#", None),  # they share the empty topic alone, which is none
    ],
)
def test_the_example_is_the_topic_that_one_would_name(first: str, second: str, example: str | None) -> None:
    assert common_topic(first, second) == example


def test_a_shared_subscription_is_about_topics_without_its_group() -> None:
    assert unshared("$share/workers/a/#") == "a/#"
    assert unshared("$SYS/#") == "$SYS/#"
    assert unshared("a/$share/b") == "a/$share/b"
