"""Event ids: UUIDv7 that are unique and sort by time."""

from __future__ import annotations

import time
import uuid
from itertools import pairwise

import pytest

from tidegate.core import IdSource, id_of

_COUNT = 20_000


def test_an_id_is_a_uuid_of_version_7_that_holds_its_time() -> None:
    before = time.time_ns() // 1_000_000
    ids = [IdSource().take(1)[0] for _ in range(100)]
    after = time.time_ns() // 1_000_000
    for text in ids:
        parsed = uuid.UUID(text)
        assert str(parsed) == text
        assert parsed.version == 7
        assert parsed.variant == uuid.RFC_4122
        assert before <= parsed.int >> 80 <= after


def test_ids_of_one_source_are_unique_and_ascend_within_a_call() -> None:
    source = IdSource()
    calls = [source.take(count) for count in (1, 0, 7, 500, _COUNT)]
    assert [len(ids) for ids in calls] == [1, 0, 7, 500, _COUNT]
    assert all(one < other for ids in calls for one, other in pairwise(ids))
    assert len({text for ids in calls for text in ids}) == 1 + 7 + 500 + _COUNT


def test_ids_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a later call come later, within one millisecond too."""
    source = IdSource()
    ids: list[str] = []
    for tick in range(2000):
        monkeypatch.setattr(time, "time_ns", lambda tick=tick: 1_700_000_000_000_000_000 + tick * 250_000)
        ids += source.take(3)
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


def test_sources_side_by_side_give_different_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """As gateways do that start in the same millisecond."""
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_000_000_000)
    ids = [text for _ in range(500) for text in IdSource().take(20)]
    assert len(set(ids)) == len(ids)


def test_ids_stay_unique_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    source = IdSource()
    ids: list[str] = []
    start = 1_700_000_000_000
    for millisecond in (start, start + 1, start - 3_600_000, start, start + 1, start, start - 3_600_000, 0, -1):
        monkeypatch.setattr(time, "time_ns", lambda now=millisecond: now * 1_000_000)
        ids += source.take(_COUNT // 10)
    assert len(set(ids)) == len(ids)
    assert {uuid.UUID(text).version for text in ids} == {7}
    assert {uuid.UUID(text).variant for text in ids} == {uuid.RFC_4122}


def test_a_block_of_ids_and_ids_taken_beside_it_are_all_different() -> None:
    source = IdSource()
    ids = source.take(1000)
    reserved = source.reserve(1000)
    block = reserved.texts(1000)
    ids += block + source.take(1000)
    assert len(set(ids)) == 3000
    assert block == sorted(block)
    assert block == [id_of(reserved.high, reserved.low + number) for number in range(1000)]
    assert all(uuid.UUID(one).version == 7 for one in ids)
