"""Durations and sizes as people write them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tidegate.app.quantity import parse_duration, parse_size
from tidegate.core import rounded_duration, rounded_size, written_size

_SECONDS = {"ms": Decimal("0.001"), "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_BYTES = {"B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


@settings(deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(sorted(_BYTES)))
def test_a_whole_size_is_exact(number: int, unit: str) -> None:
    assert parse_size(f"{number}{unit}") == number * _BYTES[unit]


@settings(deadline=None, max_examples=100)
@given(st.decimals(0, 9999, places=3), st.sampled_from(["kB", "MB", "GB"]))
@example(Decimal("1.001"), "kB")
def test_a_size_with_three_places_is_exact_to_the_byte(number: Decimal, unit: str) -> None:
    assert parse_size(f"{number}{unit}") == number * _BYTES[unit]


@settings(deadline=None)
@given(st.integers(0, 5000), st.sampled_from(sorted(_SECONDS)), st.sampled_from(["", " ", "  "]))
def test_a_duration_is_its_number_times_its_unit(number: int, unit: str, space: str) -> None:
    assert parse_duration(f"{space}{number}{space}{unit}{space}") == pytest.approx(float(number * _SECONDS[unit]))


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("1.5s", 1.5), ("10m", 600), ("2h", 7200), ("7d", 604_800), ("1w", 604_800)]
)
def test_durations_as_the_documents_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


_WRONG = ["", "5", 5, 5.0, None, True, [], "s", "-1s", "+1s", "1e3s", "1 s s", "1,5s", ".5s", "5.s", "nan s", "inf s",
          "٣s", "5\x00s"]  # fmt: skip


@pytest.mark.parametrize("wrong", [*_WRONG, "5KB", "5kib", "5b", "5 Bytes", "1TB", "5s"])
def test_what_is_no_size_is_refused_with_an_example(wrong: object) -> None:
    with pytest.raises(ValueError, match="a size with its unit, as '64KiB'"):
        parse_size(wrong)


@pytest.mark.parametrize("wrong", [*_WRONG, "5S", "5 sec", "5min", "1y", "5B", "1h30m"])
def test_what_is_no_duration_is_refused_with_an_example(wrong: object) -> None:
    with pytest.raises(ValueError, match="a duration with its unit, as '500ms'"):
        parse_duration(wrong)


@pytest.mark.parametrize("number", ["9" * 20, "9" * 400])
def test_what_no_server_could_count_is_refused(number: str) -> None:
    with pytest.raises(ValueError, match="at most 36500d"):
        parse_duration(f"{number}s")
    with pytest.raises(ValueError, match="at most 1000000GiB"):
        parse_size(f"{number}B")


@settings(deadline=None)
@given(st.integers(0, 2**49))
def test_a_rounded_size_is_at_least_what_it_stands_for_and_nearly_so(size: int) -> None:
    said = parse_size(rounded_size(size))
    assert size <= said <= size * 1.1 + 1


def test_what_exceeds_a_limit_reads_as_more_than_the_limit() -> None:
    assert [written_size(1 << 30), rounded_size((1 << 30) + 1), rounded_size(1 << 30)] == ["1GiB", "1.1GiB", "1GiB"]
    assert [rounded_duration(seconds) for seconds in (0.0, 0.25, 60.001, 3600, 90_000)] == [
        "0ms",
        "250ms",
        "1.1m",
        "1h",
        "1.1d",
    ]
