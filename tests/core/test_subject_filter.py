"""Subject filters against each other, with nats-server as the second opinion."""

from __future__ import annotations

import re
from contextlib import nullcontext
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nats.js.errors import BadRequestError

from tests.support.checker import nats_client
from tests.support.server import nats_server
from tidegate.core import is_covered, overlap

_TOKENS = ["a", "b", "*"]
filters = st.tuples(st.lists(st.sampled_from(_TOKENS), min_size=1, max_size=4), st.booleans()).map(
    lambda parts: ".".join([*parts[0], *([">"] if parts[1] else [])])
)
SUBJECTS = [".".join(tokens) for size in range(1, 7) for tokens in product("abc", repeat=size)]
"""Every subject of up to six tokens; `c` stands for all that no filter names."""


def _matches(subject_filter: str, subject: str) -> bool:
    pattern = re.escape(subject_filter).replace(r"\*", "[^.]+").replace(">", ".+")
    return re.fullmatch(pattern, subject) is not None


@settings(deadline=None, max_examples=80)
@given(filters, filters)
def test_filters_overlap_where_a_subject_matches_both(first: str, second: str) -> None:
    expected = any(_matches(first, subject) and _matches(second, subject) for subject in SUBJECTS)
    assert overlap(first, second) == overlap(second, first) == expected


@settings(deadline=None, max_examples=80)
@given(filters, st.lists(filters, max_size=3))
def test_a_filter_is_covered_where_each_of_its_subjects_matches_one_of_the_others(
    narrow: str, wider: list[str]
) -> None:
    inside = [subject for subject in SUBJECTS if _matches(narrow, subject)]
    assert is_covered(narrow, wider) == all(any(_matches(one, subject) for one in wider) for subject in inside)


@pytest.mark.parametrize(
    ("narrow", "wider", "covered"),
    [
        ("plant.*.*", ["plant.>"], True),
        ("plant.>", ["plant.*", "plant.*.>"], True),
        ("plant.>", ["plant.*", "plant.*.*"], False),
        ("plant.*", ["plant.a", "plant.b"], False),
        ("plant", ["plant.>"], False),
        ("plant.a", [], False),
        ("plant.>.end", ["plant.>"], True),
    ],
)
def test_what_a_list_of_filters_covers(narrow: str, wider: list[str], covered: bool) -> None:
    assert is_covered(narrow, wider) is covered


PAIRS = [
    ("a.>", "a.b"), ("a.*", "a.b.c"), ("a.>", "a"), ("a.*.c", "a.b.*"), ("a.*.b", "a.b.>"), ("a.b", "a.b"),
    ("a.*.*", "a.*"), ("a.b.>", "a.*.c"), ("a.b", "b.a"), ("a.*.x", "a.b.y"),
]  # fmt: skip


async def test_two_streams_stand_beside_each_other_exactly_where_their_subjects_do_not_overlap(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server, nats_client(server.port) as client:
        jetstream = client.jetstream()
        for number, (first, second) in enumerate(PAIRS):  # with new names: a server may still be deleting the old
            await jetstream.add_stream(name=f"FIRST-{number}", subjects=[first])
            expected = pytest.raises(BadRequestError, match="overlap") if overlap(first, second) else nullcontext()
            with expected:
                await jetstream.add_stream(name=f"SECOND-{number}", subjects=[second])
                await jetstream.delete_stream(f"SECOND-{number}")
            await jetstream.delete_stream(f"FIRST-{number}")
