"""Topics as subjects: total, injective, reversible, and harmless (law 7)."""

from __future__ import annotations

import re
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.strategies import awkward_text, topics
from tidegate.core import DeliveryError, Mapping, subject_to_topic, topic_to_subject

# What ends a token in NATS's protocol, or hides in a log. White space outside ASCII is a character like any other to
# nats-server, which gives such topics the same subject.
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f]")


def assert_harmless(subject: str) -> None:
    """A subject that is one word of the protocol, without wildcards, and whole."""
    assert not _FORBIDDEN.search(subject)
    tokens = subject.split(".")
    assert all(tokens)
    assert not any(wildcard in token for token in tokens for wildcard in "*>")


@settings(deadline=None, max_examples=100)
@given(topics)
def test_every_topic_has_a_harmless_subject_that_leads_back_to_it(topic: str) -> None:
    subject = topic_to_subject(topic)
    assert_harmless(subject)
    assert subject_to_topic(subject) == topic


@settings(deadline=None, max_examples=100)
@given(st.lists(awkward_text, min_size=1, max_size=3), st.lists(awkward_text, min_size=1, max_size=3))
def test_two_topics_never_share_a_subject(one: list[str], other: list[str]) -> None:
    same = topic_to_subject("/".join(one)) == topic_to_subject("/".join(other))
    assert same == (one == other)


def test_no_two_of_all_short_topics_share_a_subject() -> None:
    """Every topic of up to four characters out of those that the rule treats in a special way."""
    some = "./%*2A "
    every = [""]
    for _ in range(4):
        every += [text + character for text in every for character in some]
    unique = {topic for topic in every if topic}
    assert len({topic_to_subject(topic) for topic in unique}) == len(unique)


def test_every_character_is_harmless_as_a_level_and_within_one() -> None:
    for character in set(map(chr, range(1, 0x300))) - set("+#/"):
        topic = f"a/{character}/b{character}c"
        subject = topic_to_subject(topic)
        assert_harmless(subject)
        assert subject_to_topic(subject) == topic


def test_b5_topics_with_dots_and_empty_levels_have_five_different_subjects() -> None:
    five = ["a.b/c", "a/b/c", "a//b", "/a/b", "a/b/"]
    subjects = {topic_to_subject(topic): topic for topic in five}
    assert len(subjects) == 5
    assert {subject: subject_to_topic(subject) for subject in subjects} == subjects


@pytest.mark.parametrize(
    "topic", ["a b", "a\tb", "a\r\nPUB evil 3\r\nhey\r\n", "*", ">", "a/*/b", "a/>", "*a/b>", "\x0b", "\x1f"]
)
def test_b4_b6_white_space_and_wildcards_of_a_topic_are_encoded(topic: str) -> None:
    mapping = Mapping("{all...}", "plant.{all...}")
    subject = mapping.subject(topic)
    assert_harmless(subject)
    assert subject.startswith("plant.")
    assert mapping.topic(subject) == topic


@pytest.mark.parametrize("topic", ["$JS/API/STREAM/DELETE/X", "$SYS/x", "_INBOX/x", "$KV/a", "/$JS/API", ".$JS.API"])
def test_b7_a_device_reaches_no_subject_outside_the_bridges_own(topic: str) -> None:
    assert Mapping("{all...}", "plant.{all...}").subject(topic).startswith("plant.")


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("a" * 65_535, "subject_too_long"),
        ("é" * 32_767, "subject_too_long"),
        ("*" * 1000, "subject_too_long"),
        ("/".join("abcdefghij" * 30), "subject_too_deep"),
        ("/" * 500, "subject_too_deep"),
    ],
)
def test_b9_a_topic_too_long_or_too_deep_for_nats_is_a_delivery_error(topic: str, reason: str) -> None:
    with pytest.raises(DeliveryError) as raised:
        Mapping("{all...}", "plant.{all...}").subject(topic)
    assert raised.value.reason == reason
    assert raised.value.detail


@settings(deadline=None, max_examples=100)
@given(st.text(st.sampled_from("a.é* /"), min_size=1, max_size=3), st.integers(1, 3000))
def test_a_subject_is_refused_exactly_where_it_would_not_fit_into_natss_control_line(part: str, times: int) -> None:
    """4 KiB for the whole line; a consumer's acknowledgement subject and the reply need the rest."""
    topic = part * times
    mapping = Mapping("{all...}", "plant.{all...}")
    whole = f"plant.{topic_to_subject(topic)}"
    if len(whole.encode()) <= 2048 and whole.count(".") < 128:
        assert mapping.subject(topic) == whole
    else:
        with pytest.raises(DeliveryError, match=r"subject_too_(long|deep)"):
            mapping.subject(topic)


def test_a_percent_sign_stays_unless_it_would_read_as_an_escape() -> None:
    texts = ["50%", "a%b", "%20", "%2F", "%25", "%2520", "%%20", "% ", "%2a", "%.20", "%2/0", "%2%41"]
    subjects = [topic_to_subject(text) for text in texts]
    assert topic_to_subject("50%") == "50%"
    assert [subject_to_topic(subject) for subject in subjects] == texts
    assert all(one != other for one, other in combinations(subjects, 2))
