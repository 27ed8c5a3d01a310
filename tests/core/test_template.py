"""A bridge's mapping: pattern to template and back."""

from __future__ import annotations

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.core.strategies import few_topics, levels, topics
from tidegate.core import DeliveryError, Mapping, matches

_LITERALS = st.sampled_from(["a", "b", "", "x.y", "$x", "é"])


@st.composite
def mappings(draw: st.DrawFn) -> Mapping:
    """Reversible mappings: captures in any places of the pattern, and in any order in the template."""
    names = [f"{{{name}}}" for name in draw(st.lists(st.sampled_from("stuv"), unique=True, max_size=3))]
    pattern = [part for name in names for part in (*draw(st.lists(_LITERALS, max_size=1)), name)]
    pattern += draw(st.lists(_LITERALS, min_size=0 if names else 1, max_size=2))
    tokens = draw(st.permutations(names))
    if draw(st.booleans()):
        pattern.append("{rest...}")
        tokens.insert(draw(st.integers(0, len(tokens))), "{rest...}")
    assume("/".join(pattern))
    return Mapping("/".join(pattern), ".".join(["plant", *tokens, *draw(st.lists(st.just("end"), max_size=1))]))


@settings(deadline=None, max_examples=100)
@given(mappings(), st.data())
def test_a_reversible_mapping_maps_a_subject_back_to_its_topic(mapping: Mapping, data: st.DataObject) -> None:
    parts = [
        "/".join(data.draw(st.lists(levels, min_size=1, max_size=3)))
        if part == "{rest...}"
        else data.draw(levels)
        if part.startswith("{")
        else part
        for part in mapping.pattern.split("/")
    ]
    topic = "/".join(parts)
    assume(topic)
    assert mapping.reversible
    subject = mapping.subject(topic)
    assert mapping.topic(subject) == topic


@settings(deadline=None, max_examples=100)
@given(mappings(), st.lists(st.text("ab%20B+#*/.\x00 é", min_size=1, max_size=5), max_size=4))
@example(Mapping("a/{x}", "plant.{x}"), ["%41"])
@example(Mapping("a/{x}", "plant.{x}"), ["%2B"])
@example(Mapping("a/{x}", "plant.{x}"), ["+"])
@example(Mapping("a/{x}", "plant.{x}"), ["%00"])
@example(Mapping("a/{x}", "plant.{x}"), ["/b"])
@example(Mapping("a/{x}", "plant.{x}.{x}"), ["b", "c"])
@example(Mapping("{x...}", "plant.{x...}"), ["#"])
@example(Mapping("{x}", "plant.{x}"), ["/"])
def test_a_subject_that_no_topic_has_is_mapped_to_none(mapping: Mapping, tokens: list[str]) -> None:
    """So a sender on NATS's side can't forge a topic: another one's, or one with a wildcard."""
    subject = ".".join(["plant", *tokens])
    topic = mapping.topic(subject)
    if topic is not None:
        assert mapping.subject(topic) == subject
        assert topic
        assert not set("+#\x00") & set(topic)


@pytest.mark.parametrize(
    ("pattern", "template", "reversible"),
    [
        ("a/{x}/{y}", "p.{y}.{x}", True),
        ("a/{x}/{y}", "p.{x}", False),
        ("a/+/{y}", "p.{y}", False),
        ("a/{y}/#", "p.{y}", False),
        ("a/b", "p", True),
    ],
)
def test_a_mapping_that_drops_levels_says_that_it_is_not_reversible(
    pattern: str, template: str, reversible: bool
) -> None:
    assert Mapping(pattern, template).reversible is reversible


@pytest.mark.parametrize(
    ("pattern", "template", "topic", "subject"),
    [
        ("sensors/{site}/{device}/reading", "plant.{site}.{device}", "sensors/hall/d1/reading", "plant.hall.d1"),
        ("{site}/{device}", "plant.{device}.{site}", "hall/d1", "plant.d1.hall"),
        ("a/{rest...}", "p.{rest...}", "a/b/c/d", "p.b.c.d"),
        ("a/{rest...}", "p.{rest...}.end", "a/b/c", "p.b.c.end"),
        ("a/{rest...}", "p.{rest...}", "a/", "p./"),
        ("a/{rest...}", "p.{rest...}", "a//b.c/", "p./.b//c./"),
        ("+/{x}/#", "p.{x}", "any/b/c/d", "p.b"),
        ("a/#", "p.fixed", "a", "p.fixed"),
    ],
)
def test_topics_are_mapped_as_the_template_says(pattern: str, template: str, topic: str, subject: str) -> None:
    assert Mapping(pattern, template).subject(topic) == subject


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(
        ["a/{x}", "{x}/b", "+/a", "{x}/+/b", "a/#", "#", "{x...}", "a/{x...}", "a/{x}/{y...}", "$SYS/{x}", "a//b"]
    ),
    few_topics | topics,
)
def test_a_mapping_takes_what_its_topic_filter_subscribes_to(pattern: str, topic: str) -> None:
    """But for the parent of a `{x...}`, which an MQTT `#` matches too: there is nothing to capture."""
    mapping = Mapping(pattern, "plant.all")
    parent = "..." in pattern and topic.count("/") < pattern.count("/")
    if matches(mapping.topic_filter, topic):
        assert (mapping.captures(topic) is not None) != parent
    elif not topic.startswith("$"):
        assert mapping.captures(topic) is None


def test_a_topic_that_was_not_subscribed_to_is_a_delivery_error() -> None:
    with pytest.raises(DeliveryError) as raised:
        Mapping("a/{x}", "p.{x}").subject("b/c")
    assert raised.value.reason == "topic_unmatched"


def test_the_filters_cover_what_the_mapping_maps() -> None:
    mapping = Mapping("a/{x}/+/{rest...}", "plant.{x}.to.{rest...}")
    assert mapping.topic_filter == "a/+/+/#"
    assert mapping.subject_filter == "plant.*.to.>"
    assert Mapping("{site}/{rest...}", "plant.{rest...}.of.{site}").subject_filter == "plant.>"


@pytest.mark.parametrize(
    ("pattern", "template", "says"),
    [
        ("", "p", "empty"),
        ("a/#/b", "p", "'#'"),
        ("a/b+", "p", "'b+'"),
        ("a/\x00", "p", "NUL"),
        ("a" * 65_536, "p", "65535"),
        ("{x...}/b", "p.{x...}", "last level"),
        ("{x}/{x}", "p.{x}", "{x} is captured twice"),
        ("a/dev-{x}", "p.{x}", "whole level"),
        ("a/{x y}", "p", "whole level"),
        ("a/{1}", "p", "whole level"),
        ("a/{x}", "p.dev-{x}", "whole token"),
        ("a/{x}", "{x}.p", "first token must be literal"),
        ("a/{x...}", "{x...}", "first token must be literal"),
        ("a/{x}", "$JS.{x}", "'$JS' are NATS's own"),
        ("a/{x}", "$SYS.{x}", "'$SYS' are NATS's own"),
        ("a/{x}", "_INBOX.{x}", "'_INBOX' are NATS's own"),
        ("a/{x}", "", "first token must be literal"),
        ("a/{x}", ".p", "first token must be literal"),
        ("a/{x}", "p.{x..}", "whole token"),
        ("a/{x}", "p.{x", "whole token"),
        ("a/{x}", "p.x}.y", "whole token"),
        ("a/{x}", "p..{x}", "empty token"),
        ("a/{x}", "p.{x}.", "empty token"),
        ("a/{x}", "p.*", "wildcard"),
        ("a/{x}", "p.>", "wildcard"),
        ("a/{x}", "p q.{x}", "'p q'"),
        ("a/{x}", "p.\r\nPUB", "white space"),
        ("a/{x}", "p.{y}", "{y} is not captured by the topic pattern (captured: {x})"),
        ("a/b", "p.{y}", "captured: none"),
        ("a/{x}", "p.{x...}", "must say {x} too"),
        ("a/{x...}", "p.{x}", "must say {x...} too"),
        ("a/{x...}", "p.{x...}.{x...}", "once"),
    ],
)
def test_a_wrong_mapping_is_refused_with_a_sentence_that_names_the_problem(
    pattern: str, template: str, says: str
) -> None:
    with pytest.raises(ValueError) as raised:
        Mapping(pattern, template)
    assert says in str(raised.value)


def test_a_shared_subscription_maps_the_topics_behind_its_group() -> None:
    mapping = Mapping("$share/workers/sensors/{site}/{device}", "plant.{site}.{device}")
    assert mapping.topic_filter == "$share/workers/sensors/+/+"
    assert mapping.subject("sensors/hall/s1") == "plant.hall.s1"
    assert mapping.topic("plant.hall.s1") == "sensors/hall/s1"


@pytest.mark.parametrize("pattern", ["$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/{g}/a"])
def test_a_shared_subscription_without_a_group_or_a_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="shared subscription"):
        Mapping(pattern, "plant.x")
