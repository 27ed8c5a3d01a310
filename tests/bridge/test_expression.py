"""JMESPath, and the functions that gateways need."""

from __future__ import annotations

from typing import Any

import pytest

from tidegate.bridge.expression import Expression, is_true

VALUE = {"t": 2345, "unit": "C", "s": [{"n": "a", "v": 1}, {"n": "b", "v": 2}]}


def search(text: str, value: Any = VALUE, root: Any = None) -> Any:
    return Expression(text).search(value, root or value, {"site": ["hall"], "rest": ["x", "y"]})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{value: t, unit: unit}", {"value": 2345, "unit": "C"}),
        ("round(multiply(t, `0.01`), `2`)", 23.45),
        ("add(t, `-1000`)", 1345),
        ("capture('site')", "hall"),
        ("capture('rest')", "x/y"),
        ("capture('none')", None),
        ("s[?v > `1`].n | [0]", "b"),
        ("nothing", None),
    ],
)
def test_an_expression_finds_what_it_says(text: str, expected: object) -> None:
    assert search(text) == expected


def test_root_is_the_whole_value_where_a_part_is_looked_at() -> None:
    assert search("{n: n, unit: root().unit}", VALUE["s"][0], VALUE) == {"n": "a", "unit": "C"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a[", "not a JMESPath expression"),
        ("foo(@)", "there is no function foo()"),
        ("a.b(c)", "no function b()"),
        ("s[?add(v) > t]", "add() takes 2 argument(s), and here it has 1"),
        ("root(@)", "root() takes 0 argument(s)"),
        ("merge()", "merge() takes 1 argument(s), and here it has 0"),
    ],
)
def test_a_bad_expression_is_refused_before_any_message_comes(text: str, problem: str) -> None:
    with pytest.raises(ValueError) as caught:
        Expression(text)
    assert problem in str(caught.value)


@pytest.mark.parametrize("text", ["length(t)", "multiply(unit, `2`)", "sum(unit)"])
def test_what_a_function_can_t_take_is_an_error_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="function"):
        search(text)


@pytest.mark.parametrize("value", [1, 0, "0", "false", [0], {"a": None}, True, 0.0])
def test_numbers_and_all_that_is_not_empty_are_true(value: object) -> None:
    """As JMESPath has it: zero is true."""
    assert is_true(value)


@pytest.mark.parametrize("value", [None, False, "", [], {}])
def test_nothing_false_and_empty_are_false(value: object) -> None:
    assert not is_true(value)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [("quality == good", True), ('quality == "good"', True), ("a[?x != null]", True), ("quality == 'good'", False),
     ("t > `1`", False), ("length(a) == length(b)", False), ("a && b", False)],
)  # fmt: skip
def test_a_text_in_the_wrong_quotes_is_seen(text: str, wrong: bool) -> None:
    assert Expression(text).compares_members == wrong


def test_a_device_can_t_keep_round_busy() -> None:
    with pytest.raises(ValueError, match="digits"):
        search("round(t, p)", {"t": 5, "p": -3_000_000})
