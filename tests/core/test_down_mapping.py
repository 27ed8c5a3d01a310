"""From a subject to a topic: what an up bridge made of a topic comes back, and what MQTT can't carry is refused."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tidegate.core import (
    DeliveryError,
    DownMapping,
    Mapping,
    decode_topic,
    matches,
    overlap,
    topic_to_subject,
    unfit_character,
)

LEVEL = st.text(
    st.characters(codec="utf-8", exclude_characters="/+#").filter(lambda char: not unfit_character(char)), max_size=8
)


@given(st.lists(LEVEL, min_size=1, max_size=4))
def test_a_topic_that_went_up_comes_down_again(levels: list[str]) -> None:
    topic = "/".join(["devices", *levels])
    subject = Mapping("devices/{rest...}", "plant.{rest...}").subject(topic)
    assert DownMapping("plant.{rest...}", "devices/{rest...}").topic(subject.encode()) == topic


@given(st.lists(st.binary(min_size=1, max_size=6), min_size=1, max_size=4))
def test_whatever_the_subject_the_topic_is_one_that_mqtt_carries_or_it_is_refused(tokens: list[bytes]) -> None:
    mapping = DownMapping("n.{x}.{rest...}", "c/{x}/n/{rest...}")
    subject = b".".join((b"n", *tokens))
    try:
        topic = mapping.topic(subject)
    except DeliveryError as error:
        assert error.reason in ("topic_invalid", "subject_unmatched")  # noqa: PT017
        return
    assert decode_topic(topic.encode()) == topic
    assert unfit_character(topic) is None
    assert matches(mapping.topic_filter, topic)
    assert overlap(mapping.subject_filter, subject.decode())
    assert topic.count("/") == subject.count(b".") + 1


@given(st.lists(st.text(st.sampled_from("ab./%2F0"), min_size=1, max_size=5), min_size=2, max_size=2, unique=True))
def test_two_levels_that_differ_never_share_a_topic(levels: list[str]) -> None:
    assume(not any("/" in level for level in levels))
    mapping = DownMapping("n.{x}", "c/{x}")
    topics = {mapping.topic(f"n.{topic_to_subject(level)}".encode()) for level in levels}
    assert len(topics) == 2


@pytest.mark.parametrize(
    ("subject", "why"),
    [
        (b"n.+", "has '+'"),
        (b"n.%23", "has '#'"),
        (b"n.%00", "has '\\x00'"),
        (b"n.%0A", "has '\\n'"),
        (b"n.a/b", "more than one level"),
        (b"n.%2F", "more than one level"),
        (b"n.\xff", "not UTF-8 at byte 2"),
        (b"n.a.b", "does not match 'n.{x}'"),
        (b"n", "does not match"),
        (b"m.a", "does not match"),
        (b"n." + b"x" * 65_536, "65,538 bytes".replace(",", "")),
    ],
)
def test_a_subject_without_a_topic_is_refused_with_the_reason(subject: bytes, why: str) -> None:
    with pytest.raises(DeliveryError) as refused:
        DownMapping("n.{x}", "c/{x}").topic(subject)
    assert why in refused.value.detail


def test_no_capture_begins_a_topic_of_the_brokers_own() -> None:
    with pytest.raises(DeliveryError, match="the broker's own"):
        DownMapping("n.{rest...}", "{rest...}").topic(b"n.$SYS.x")
    assert DownMapping("n.{x}", "$aws/{x}").topic(b"n.$a") == "$aws/$a"


def test_wildcards_match_without_a_name() -> None:
    mapping = DownMapping("*.{x}.>", "c/{x}")
    assert (mapping.subject_filter, mapping.topic_filter) == ("*.*.>", "c/+")
    assert mapping.topic(b"a.b.c.d") == "c/b"
    with pytest.raises(DeliveryError):
        mapping.topic(b"a.b")


def test_the_filters_are_what_the_mapping_takes_and_gives() -> None:
    mapping = DownMapping("n.{x}.{rest...}", "c/{rest...}/end/{x}")
    assert (mapping.subject_filter, mapping.topic_filter) == ("n.*.>", "c/#")


@pytest.mark.parametrize(
    ("pattern", "template", "problem"),
    [
        ("n.{x}", "c/{y}", "{y} is not captured by the subject pattern (captured: {x})"),
        ("n.{x...}", "c/{x}", "the template must say {x...} too"),
        ("n.{x}", "c/x{x}", "a capture is a whole level"),
        ("n.x{x}", "c", "a capture is a whole token"),
        ("n.{x}", "c/+", "a topic that is published to has no wildcards"),
        ("n.{x}", "c/#", "no wildcards"),
        ("n.{x...}.b", "c", "{x...} must be the last token"),
        ("n.>.b", "c", "> must be the last token"),
        ("n.{x}.{x}", "c", "{x} is captured twice"),
        ("n..b", "c", "'' can't be a token of a subject"),
        ("n. b", "c", "' b' can't be a token"),
        ("$JS.{x}", "c", "NATS's own"),
        ("_INBOX.{x}", "c", "NATS's own"),
        ("n.{x}", "", "a topic can't be empty"),
        ("n.{x}", "a\x01b", "a topic can't hold '\\x01'"),
        ("n.{x}", "$share/g/{x}", "'$share' is for subscriptions"),
        ("n.{partition(2, x)}", "c", "the only function of a template"),
    ],
)
def test_a_pattern_that_can_not_work_is_refused_with_a_sentence(pattern: str, template: str, problem: str) -> None:
    with pytest.raises(ValueError) as refused:
        DownMapping(pattern, template)
    assert problem in str(refused.value)
