"""Partitions: nats-server's own subject mapping as the oracle."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from tests.support.checker import flushed, nats_client
from tests.support.server import nats_server
from tests.support.wait import eventually
from tidegate.core import Mapping
from tidegate.core.template import fnv1a_32

_PARTS = 10
_CHARACTERS = "abcXYZ019-_/$%éß\U0001f600"


@pytest.mark.parametrize(
    ("data", "expected"), [(b"", 0x811C9DC5), (b"a", 0xE40C292C), (b"b", 0xE70C2DE5), (b"foobar", 0xBF9CF968)]
)
def test_the_hash_is_fnv_1a_with_32_bits(data: bytes, expected: int) -> None:
    """The published test vectors."""
    assert fnv1a_32(data) == expected


def test_a_partition_is_a_token_below_its_number_and_the_same_for_the_same_captures() -> None:
    mapping = Mapping("s/{site}/{device}/+", "plant.{partition(4, site, device)}.{site}")
    assert mapping.subject_filter == "plant.*.*"
    first = [mapping.subject(f"s/hall/d{n}/a") for n in range(400)]
    assert first == [mapping.subject(f"s/hall/d{n}/b") for n in range(400)]
    shares = [sum(subject.startswith(f"plant.{part}.") for subject in first) for part in range(4)]
    assert sum(shares) == 400
    assert min(shares) > 50


def test_a_subject_with_a_partition_maps_back_and_a_forged_one_does_not() -> None:
    mapping = Mapping("s/{site}", "plant.{partition(8, site)}.{site}")
    subject = mapping.subject("s/hall.1")
    assert mapping.reversible
    assert mapping.topic(subject) == "s/hall.1"
    part = int(subject.split(".")[1])
    assert mapping.topic(f"plant.{(part + 1) % 8}.hall//1") is None


def test_the_filters_of_a_subject_name_each_part_while_they_are_not_too_many() -> None:
    mapping = Mapping("s/{a}/{b...}", "p.{partition(2, a)}.{partition(3, a)}.{a}")
    assert mapping.subject_filter == "p.*.*.*"
    assert mapping.subject_filters(6) == [f"p.{one}.{two}.*" for one in range(2) for two in range(3)]
    assert mapping.subject_filters(5) == ["p.0.*.*", "p.1.*.*"]
    assert mapping.subject_filters(1) == ["p.*.*.*"]
    assert Mapping("s/{b...}", "p.{b...}.{partition(1, b)}.end").subject_filters(9) == ["p.>"]


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("p.{partition(0, x)}", "1 or more"),
        ("p.{partition(3)}", "whole token"),
        ("p.{partition(3, y)}", "{y} is not captured"),
        ("p.{partition(3, )}", "{} is not captured"),
        ("p.a{partition(3, x)}", "whole token"),
        ("p.{partition(-1, x)}", "whole token"),
        ("{partition(3, x)}.p", "must be literal"),
    ],
)
def test_a_partition_that_can_t_work_is_refused(template: str, problem: str) -> None:
    with pytest.raises(ValueError) as caught:
        Mapping("a/{x}", template)
    assert problem in str(caught.value)


async def test_nats_servers_own_mapping_chooses_the_same_partition(tmp_path: Path) -> None:
    """So a consumer of a mapped subject there and one of a bridge's subject here have the same share."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    topics = [
        "/".join("".join(rng.choices(_CHARACTERS, k=rng.randint(1, 8))).strip("/") or "x" for _ in range(2))
        for _ in range(300)
    ]
    topics = sorted({topic for topic in topics if topic.count("/") == 1})
    here = Mapping("{a}/{b}", f"here.{{partition({_PARTS}, a, b)}}.{{partition({_PARTS}, b)}}.{{a}}.{{b}}")
    plain = Mapping("{a}/{b}", "plain.{a}.{b}")
    there: dict[str, str] = {}

    async def record(msg: Msg) -> None:
        there[msg.data.decode()] = msg.subject

    mappings = (
        f'mappings: {{"plain.*.*": "there.{{{{partition({_PARTS},1,2)}}}}.{{{{partition({_PARTS},2)}}}}'
        '.{{wildcard(1)}}.{{wildcard(2)}}"}'
    )
    async with nats_server(tmp_path, mappings) as server, nats_client(server.port) as client:
        await client.subscribe("there.>", cb=record)
        await flushed(client)
        for topic in topics:
            await client.publish(plain.subject(topic), topic.encode())
        await eventually(lambda: len(there) == len(topics), "the server has mapped every subject")
    assert {topic: subject.removeprefix("there.") for topic, subject in there.items()} == {
        topic: here.subject(topic).removeprefix("here.") for topic in topics
    }
