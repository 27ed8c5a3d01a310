"""The time that a device gives."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.bridge.device_time import AHEAD, EARLIEST, UNITS, read_time

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC).timestamp()
SAID = datetime(2026, 11, 23, 11, 59, 58, 500_000, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "value",
    [
        SAID, SAID * 1000, int(SAID * 1e6), int(SAID * 1e9), str(SAID), f" {SAID * 1000:.0f} ",
        "2026-11-23T11:59:58.5Z", "2026-11-23T12:59:58.500+01:00", "20261123T115958.5Z", "2026-11-23 11:59:58.5",
        "2026-W48-1T11:59:58.5Z",
    ],
)  # fmt: skip
def test_seconds_their_parts_and_iso_8601_are_told_apart(value: object) -> None:
    assert read_time(value, NOW) == pytest.approx(SAID, abs=1e-5)


@pytest.mark.parametrize(
    "value",
    [
        None, True, {}, [], "", "soon", "NaN", float("nan"), float("inf"), -1, 0, 1, 5e9, 1e300, "1e999", 10**400,
        "1970-01-01T00:00:00Z", "2106-02-07T06:28:15Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+23:59", 4294967295,
        "2026-13-01", "12:30", "9" * 5000, "2026-11-25T12:00:00Z", "1999-12-31T23:59:59Z",
    ],
)  # fmt: skip
def test_b27_what_is_no_time_or_an_absurd_one_is_none(value: object) -> None:
    assert read_time(value, NOW) is None


def test_a_time_without_an_offset_is_of_the_zone_that_is_configured() -> None:
    assert read_time("2026-07-01T12:00:00", NOW, None, ZoneInfo("Europe/Berlin")) == 1782900000
    assert read_time("2026-07-01T12:00:00+00:00", NOW, None, ZoneInfo("Europe/Berlin")) == 1782907200


def test_a_day_without_a_time_of_day_is_its_beginning() -> None:
    assert read_time("20261120", NOW) == read_time("2026-11-20", NOW) == 1795132800


@pytest.mark.parametrize("unit", list(UNITS))
def test_a_unit_that_is_given_is_not_guessed(unit: str) -> None:
    for other, factor in UNITS.items():
        found = read_time(SAID / factor, NOW, unit)  # type: ignore[arg-type]
        assert (found is not None) == (other == unit)


@settings(deadline=None)
@given(st.floats(EARLIEST, NOW + AHEAD), st.sampled_from(sorted(UNITS)))
def test_every_time_that_is_not_absurd_is_read_in_every_unit(seconds: float, unit: str) -> None:
    found = read_time(seconds / UNITS[unit], NOW)
    assert found is not None
    assert abs(found - seconds) < 1e-3


@settings(deadline=None)
@given(
    st.one_of(st.text(max_size=30), st.integers(), st.floats(), st.from_regex(r"[-+0-9TZ:.eW ]{1,30}", fullmatch=True))
)
def test_whatever_a_device_says_is_a_plausible_time_or_none(value: object) -> None:
    found = read_time(value, NOW)
    assert found is None or EARLIEST <= found <= NOW + AHEAD
