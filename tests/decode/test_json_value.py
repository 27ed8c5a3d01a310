"""What other formats hold, as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.decode.rig import check_cheap
from tidegate.bridge.decode.json_value import MAX_DEPTH, MAX_SIZE, json_value, key_text
from tidegate.core import Envelope


class _Text(str):
    __slots__ = ()


_PLAIN = {
    "text": ("ü\x00", "ü\x00"),
    "bytes": (b"\x00\xff", "AP8="),
    "a byte array": (bytearray(b"\x00\xff"), "AP8="),
    "a view": (memoryview(b"\x00\xff"), "AP8="),
    "a tuple": ((1, (2,)), [1, [2]]),
    "a time in UTC": (datetime(2024, 5, 1, 12, tzinfo=UTC), "2024-05-01T12:00:00.000000Z"),
    "a time elsewhere": (
        datetime(2024, 5, 1, 12, 0, 0, 5, tzinfo=timezone(timedelta(hours=2))),
        "2024-05-01T10:00:00.000005Z",
    ),
    "a time before 1970": (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000000Z"),
    "the last time there is": (datetime.max.replace(tzinfo=UTC), "9999-12-31T23:59:59.999999Z"),
    "a time without an offset": (datetime(2024, 5, 1, 12), "2024-05-01T12:00:00"),
    "a date": (date(2024, 5, 1), "2024-05-01"),
    "a time of day": (time(12, 30, 0, 1), "12:30:00.000001"),
    "a decimal": (Decimal("21.50"), "21.50"),
    "a decimal of any size": (Decimal("1E+2147483647"), "1E+2147483647"),
    "a UUID": (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    "the largest integer": (2**64 - 1, 2**64 - 1),
    "the smallest integer": (-(2**63), -(2**63)),
    "keys that are no text": (
        {1: "b", 2.5: "c", b"\xff": "d", -1: "e"}, {"1": "b", "2.5": "c", "/w==": "d", "-1": "e"},
    ),
    "a true key": ({True: 1, False: 2}, {"true": 1, "false": 2}),
    "a subclass of text": (_Text("x"), "x"),
}  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), _PLAIN.values(), ids=_PLAIN)
def test_what_other_formats_have_becomes_what_json_has(value: Any, expected: Any) -> None:
    assert json_value(value) == expected
    assert json_value([value, {"a": value}]) == [expected, {"a": expected}]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (math.nan, "nan"),
        (-math.inf, "inf"),
        (Decimal("NaN"), "NaN"),
        (Decimal("-Infinity"), "Infinity"),
        (2**64, "64 bits"),
        (-(2**63) - 1, "64 bits"),
        ({1, 2}, "type set"),
        (object(), "type object"),
        (1j, "type complex"),
        ({None: 1}, "NoneType"),
        ({(1,): 1}, "tuple"),
        ({math.nan: 1}, "nan"),
        ({"1": 1, 1: 2}, "same"),
        ({"true": 1, True: 2}, "same"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=2))), "years"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-2))), "years"),
    ],
)
def test_what_json_can_not_hold_is_refused_with_a_sentence(value: Any, problem: str) -> None:
    for somewhere in (value, [value], {"a": [value]}):
        with pytest.raises(ValueError, match=problem):
            json_value(somewhere)


def _nested(depth: int, wrap: Any) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize("wrap", [lambda value: [value], lambda value: {"a": value}, lambda value: (value,)])
def test_what_is_nested_deepest_is_read_by_every_reader_and_no_deeper(wrap: Any) -> None:
    deepest = json_value(_nested(MAX_DEPTH, wrap))
    document = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": deepest}
    document |= dict.fromkeys(("time", "recordedtime"), "2024-05-01T12:00:00Z") | {"subject": "a", "correlationid": "1"}
    assert Envelope.model_validate_json(orjson.dumps(document)).data == deepest
    with pytest.raises(ValueError, match="deep"):
        json_value(_nested(MAX_DEPTH + 1, wrap))
    with pytest.raises(ValueError, match="deep"):
        json_value(_nested(500, wrap))


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="deep"):
        json_value(loop)


def _doubled(depth: int) -> Any:
    """A few lists, each of which holds the next one twice."""
    value: Any = ["x"]
    for _ in range(depth):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    ("value", "mib"),
    [
        (_doubled(100), None),
        ([["x" * 1_000_000] * 1000] * 1000, 16),
        (["x" * 1_000_000] * 1000, 16),
        ([b"x" * 1_000_000] * 1000, 32),
        ([{"k" * 1_000_000: 1}] * 1000, 16),
        ({str(n): "x" * 1_000_000 for n in range(100)}, 16),
        ([[]] * 10_000_000, 16),
    ],
    ids=[
        "doubled",
        "the same text, deep",
        "the same text",
        "the same bytes",
        "the same key",
        "texts in a map",
        "an array",
    ],
)
def test_what_would_be_huge_as_json_is_refused_before_it_is_there(value: Any, mib: float | None) -> None:
    def refused() -> None:
        with pytest.raises(ValueError, match=f"{MAX_SIZE} bytes"):
            json_value(value)

    check_cheap(refused, seconds=4, mib=mib)


def test_a_large_value_is_taken() -> None:
    value = [{"n": number, "text": "x" * 50} for number in range(50_000)]
    assert json_value(value) == value


def test_the_keys_of_a_custom_mapping_are_kept() -> None:
    class Odd(Mapping[str, int]):
        def __getitem__(self, key: str) -> int:
            return len(key)

        def __iter__(self) -> Any:
            return iter(("a", "bc"))

        def __len__(self) -> int:
            return 2

    assert json_value(Odd()) == {"a": 1, "bc": 2}


@pytest.mark.parametrize(("key", "text"), [("a", "a"), (1, "1"), (1.5, "1.5"), (True, "true"), (b"\xff", "/w==")])
def test_a_key_is_written_as_json_writes_its_value(key: object, text: str) -> None:
    assert key_text(key) == text


_scalars = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text() | st.binary(max_size=20)
    | st.dates() | st.times() | st.datetimes(timezones=st.sampled_from([None, UTC, timezone(timedelta(hours=-9))]))
    | st.decimals() | st.uuids() | st.complex_numbers()
)  # fmt: skip
_keys = st.text(max_size=3) | st.integers() | st.booleans() | st.none() | st.floats() | st.binary(max_size=3)
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=4), max_leaves=15
)


@settings(deadline=None, max_examples=100)
@given(_values)
def test_any_value_is_refused_or_becomes_json_that_stays_the_same(value: Any) -> None:
    try:
        found = json_value(value)
    except ValueError:
        return
    assert json_value(found) == found == json.loads(orjson.dumps(found))
