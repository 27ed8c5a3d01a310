"""Topics that are no topics, topics that would be something else in NATS, and too much of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.hostile.rig import Rig, scripted, through_a_broker
from tests.support.checker import flushed
from tidegate.core import subject_to_topic

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fake(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """The gateway at a broker that lets everything through."""
    async with scripted(tmp_path_factory.mktemp("fake")) as rig:
        yield rig


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["fake", "real"])
async def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """The gateway at a fake broker, and at a real one."""
    run = scripted if request.param == "fake" else through_a_broker
    async with run(tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.mark.parametrize(
    "topic", [b"a/\xff\xfe/b", b"\xed\xa0\x80", b"\xff" * 300, b"a/\x00/b", b"\xc0\xaf", b"a\xe2\x82"]
)
async def test_b1_a_topic_that_is_not_utf_8_becomes_a_dead_letter(fake: Rig, topic: bytes) -> None:
    letter = await fake.rejected(topic)
    assert letter["reason"] == "topic_invalid"


@pytest.mark.parametrize("topic", [b"a/+/b", b"#", b"+", b"a/#", b"a+b/c", b"a/b#"])
async def test_b2_a_topic_with_wildcards_becomes_a_dead_letter(fake: Rig, topic: bytes) -> None:
    letter = await fake.rejected(topic)
    assert letter["reason"] == "topic_invalid"


async def test_b2_an_empty_topic_becomes_a_dead_letter(fake: Rig) -> None:
    (message,) = await fake.case(b"")
    assert message.subject == "dead.all"


@pytest.mark.parametrize("topic", ["a b/c", " ", " /  / ", "PUB evil 3", "é/日本"])
async def test_b4_spaces_in_a_topic_are_encoded(rig: Rig, topic: str) -> None:
    await _encoded(rig, topic)


@pytest.mark.parametrize("topic", ["a\tb", "x\r\nPUB evil 3\r\nbad\r\n", "a\nb", "\r\n", "a\x7f/\x01", "a\x0b\x0c"])
async def test_b4_control_characters_in_a_topic_are_encoded(fake: Rig, topic: str) -> None:
    """Real brokers refuse some of them."""
    await _encoded(fake, topic)


async def _encoded(rig: Rig, topic: str) -> None:
    _, message = await rig.event(topic.encode())
    assert not any(char.isspace() or ord(char) < 32 for char in message.subject)
    assert subject_to_topic(message.subject.removeprefix("plant.")) == topic
    assert not [seen for seen in rig.seen if seen.subject == "evil"]


async def test_b5_topics_that_look_alike_get_subjects_of_their_own(rig: Rig) -> None:
    topics = ["a.b/c", "a/b/c", "a//b", "/a/b", "a/b/", "a%2Eb/c", "a/b%20", "a/b "]
    subjects = [(await rig.event(topic.encode()))[1].subject for topic in topics]
    assert len(set(subjects)) == len(topics)
    assert [subject_to_topic(subject.removeprefix("plant.")) for subject in subjects] == topics


@pytest.mark.parametrize("topic", ["*", ">", "a/*/b", "a/>", "a*", ">>", "*/>"])
async def test_b6_no_wildcard_reaches_a_subject(rig: Rig, topic: str) -> None:
    _, message = await rig.event(topic.encode())
    assert "*" not in message.subject
    assert ">" not in message.subject
    assert subject_to_topic(message.subject.removeprefix("plant.")) == topic


@pytest.mark.parametrize(
    "topic",
    [
        b"$JS/API/STREAM/DELETE/EVENTS",
        b"$SYS/x",
        b"_INBOX/x",
        b"x/$JS/API/STREAM/DELETE/EVENTS",
    ],
)
async def test_b7_no_topic_reaches_a_subject_outside_the_bridges_own(fake: Rig, topic: bytes) -> None:
    (message,) = await fake.case(topic)
    assert message.subject.startswith(("plant.", "dead.all"))
    info = await fake.client.jetstream().stream_info("EVENTS")
    assert info.state.messages > 0


@pytest.mark.parametrize(
    "topic",
    [b"x" * 65_535, b"/".join([b"l"] * 600), b"/" * 65_535, "é/".encode() * 2000, b"*" * 1500],
    ids=["65535 bytes", "600 levels", "only slashes", "not ASCII", "long once encoded"],
)
async def test_b9_a_topic_that_nats_could_not_carry_becomes_a_dead_letter(fake: Rig, topic: bytes) -> None:
    letter = await fake.rejected(topic)
    assert letter["reason"] in ("subject_too_long", "subject_too_deep")


async def test_b9_the_longest_topics_that_fit_are_delivered(fake: Rig) -> None:
    _, message = await fake.event(b"y" * 2000)
    assert len(message.subject) == 2006
    await fake.event(b"/".join([b"l"] * 127))


async def test_a_flood_of_bad_topics_among_good_ones_loses_neither(fake: Rig) -> None:
    """A thousand of them in one go, each second one good."""
    start = len(fake.seen)
    for number in range(500):
        await fake.send(b"\xff/%d" % number)
        await fake.send(b"flood/%d" % number)
    await fake.good()
    await flushed(fake.client)
    seen = fake.seen[start:]
    assert sum(message.subject == "dead.all" for message in seen) == 500
    assert [m.subject for m in seen if m.subject.startswith("plant.flood")] == [f"plant.flood.{n}" for n in range(500)]
