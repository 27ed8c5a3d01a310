"""What repeats is told as a number: the first lines at once, nothing twice, nothing forgotten."""

from __future__ import annotations

import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.app.log_repeat import BURST, MAX_ALIKE, MAX_THINGS, PERIOD, Repeats


def _record(text: str = "%s: not connected: %s", *args: object) -> logging.LogRecord:
    return logging.LogRecord("tidegate.test", logging.WARNING, "", 1, text, args or ("readings", "refused"), None)


def _texts(records: list[logging.LogRecord]) -> list[str]:
    return [record.getMessage() for record in records]


def test_the_first_ones_are_told_at_once_and_the_rest_as_a_number_when_the_minute_is_over() -> None:
    repeats = Repeats()
    told = [repeats.admit(_record(), float(second)) for second in range(BURST + 17)]
    assert [len(records) for records in told] == [1] * BURST + [0] * 17
    assert repeats.next_end == PERIOD
    assert _texts(repeats.due(PERIOD - 1)) == []
    assert _texts(repeats.due(PERIOD)) == ["readings: not connected: refused (16 more in the last 60 s)"]


def test_what_goes_on_is_one_line_a_minute_and_what_rests_for_a_minute_is_told_at_once_again() -> None:
    repeats = Repeats()
    told = [_texts(repeats.admit(_record(), float(second))) for second in range(600)]
    assert [texts for texts in told[BURST:] if texts] == [
        [f"readings: not connected: refused ({49 if minute == 0 else 59} more in the last 60 s)"] for minute in range(9)
    ]
    assert len(repeats.due(600.0)) == 1
    assert repeats.due(660.0) == []
    assert len(repeats.admit(_record(), 661.0)) == 1


def test_another_bridge_another_text_and_another_logger_have_lines_of_their_own() -> None:
    repeats = Repeats()
    for _ in range(BURST + 1):
        repeats.admit(_record(), 0.0)
    other = _record()
    other.name = "another"
    for record in (_record("%s: not connected: %s", "alarms", "refused"), _record("%s: connected", "readings"), other):
        assert repeats.admit(record, 1.0) == [record]


def test_the_one_line_that_was_held_back_is_told_without_a_number() -> None:
    repeats = Repeats()
    for _ in range(BURST + 1):
        repeats.admit(_record(), 0.0)
    assert _texts(repeats.due(PERIOD)) == ["readings: not connected: refused"]


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("consumers: %s of stream %s: %s", ("KITCHEN", "it is not there")),
        ("nats: stream %s created for %s", ("plant.a",)),
        ("%s: guarantee: %s", ("at least once",)),
        ("%s: connected to %s, subscribed to %r", ("a broker", "a/b")),
    ],
)
def test_a_start_tells_every_line_of_thirty_streams_consumers_and_bridges(text: str, last: tuple[str, ...]) -> None:
    repeats = Repeats()
    records = [_record(text, f"name-{number}", *last) for number in range(30)]
    assert [told for record in records for told in repeats.admit(record, 0.0)] == records


def test_a_number_that_comes_first_is_not_what_a_line_is_about() -> None:
    repeats = Repeats()
    records = [_record("spool: %d messages wait for a bridge %r", 1, f"bridge-{number}") for number in range(30)]
    assert [told for record in records for told in repeats.admit(record, 0.0)] == records
    counts = [_record("%d of %d", number, 9) for number in range(30)]
    assert sum(len(repeats.admit(record, 0.0)) for record in counts) == BURST


def test_names_that_a_device_makes_up_are_told_as_a_number_too_and_leave_other_lines_alone() -> None:
    repeats = Repeats()
    ours = _record()
    for _ in range(BURST + 1):
        repeats.admit(ours, 0.0)
    told = [
        one
        for number in range(10_000)
        for one in repeats.admit(_record("sparkplug: asked %r of %r", f"node-{number}", "group"), 1.0)
    ]
    assert len(told) == MAX_ALIKE + BURST
    assert repeats.admit(ours, 2.0) == []
    assert f"({10_000 - len(told) - 1} more in" in _texts(repeats.rest(3.0))[-1]


def test_at_the_end_every_number_is_told() -> None:
    repeats = Repeats()
    for _ in range(BURST + 3):
        repeats.admit(_record(), 0.0)
    assert _texts(repeats.rest(5.0)) == ["readings: not connected: refused (2 more in the last 5 s)"]
    assert repeats.rest(6.0) == []


def test_a_traceback_is_told_with_the_first_and_not_held() -> None:
    repeats = Repeats()
    try:
        raise ValueError("broken")
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
    records = [logging.LogRecord("t", logging.ERROR, "", 1, "it failed", (), info) for _ in range(BURST + 1)]
    assert repeats.admit(records[0], 0.0)[0].exc_info == info
    for record in records[1:]:
        repeats.admit(record, 0.0)
    (number,) = repeats.rest(0.0)
    assert number.exc_info is None


def test_a_thousand_things_take_no_more_memory_than_the_bound_and_lose_no_number() -> None:
    repeats = Repeats()
    told: list[logging.LogRecord] = []
    for thing in range(5 * MAX_THINGS):
        for _ in range(BURST + 1):
            told += repeats.admit(_record("%s: " + str(thing), "readings"), 0.0)
    assert len(repeats._periods) == MAX_THINGS
    told += repeats.rest(1.0)
    assert len(told) == 5 * MAX_THINGS * (BURST + 1)


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.floats(0, 30)), max_size=200))
def test_what_is_told_and_what_is_counted_is_what_came(coming: list[tuple[str, float]]) -> None:
    repeats, now, told = Repeats(), 0.0, []
    for bridge, pause in coming:
        now += pause
        told += _texts(repeats.admit(_record("%s: flaps", bridge), now))
    told += _texts(repeats.rest(now))
    counts = [re.search(r"\((\d+) more", text) for text in told]
    assert sum(1 + int(count[1]) if count else 1 for count in counts) == len(coming)


@pytest.mark.parametrize("args", [(), ({"a": 1},), (1,)])
def test_any_record_can_be_looked_at(args: tuple[object, ...]) -> None:
    record = logging.LogRecord("t", logging.INFO, "", 1, ValueError("no text"), args, None)  # type: ignore[arg-type]
    assert Repeats().admit(record, 0.0) == [record]
