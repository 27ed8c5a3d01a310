"""JMESPath expressions (https://jmespath.org) over what a device sent, with some functions that gateways need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions, signature

from tidegate.core import Captures


class Expression:
    """A compiled expression. Raises ValueError if it is none.

    captured: the names that it asks `capture` for. compares_members: it compares two members with each other, which a
    text in the wrong quotes is.

    Besides JMESPath's own functions there are `root()`, the whole value where `each` made parts of it;
    `capture('site')`, what the topic pattern captured; `add(a, b)`, `multiply(a, b)` and `round(number, digits)`.
    """

    def __init__(self, text: str) -> None:
        try:
            self._compiled = jmespath.compile(text)
        except JMESPathError as error:
            raise ValueError(f"not a JMESPath expression: {' '.join(str(error).split())}") from None
        _check_functions(self._compiled.parsed)
        self.captured = set(_captured(self._compiled.parsed))
        self.compares_members = _compares_members(self._compiled.parsed)
        self._functions = _Functions()
        self._options = jmespath.Options(custom_functions=self._functions)

    def search(self, value: object, root: object, captures: Captures) -> Any:
        """Return what the expression finds, or None. Raises ValueError where a function can't take its arguments."""
        self._functions.root = root
        self._functions.captures = captures
        try:
            return self._compiled.search(value, self._options)
        except (JMESPathError, ArithmeticError, TypeError, RecursionError) as error:
            raise ValueError(" ".join(str(error).split())[:200]) from None
        finally:
            self._functions.root = None


_MAX_DIGITS = 15
"""Of a number's fraction: a double has no more."""


def is_true(value: object) -> bool:
    """Whether a value counts as true (JMESPath, "or expressions"): all but null, false and what is empty."""
    return value is True or (value is not None and value is not False and value not in ("", [], {}))


class _Functions(Functions):
    """The library finds its methods by the names of the functions."""

    root: object = None
    captures: Captures

    @signature()
    def _func_root(self) -> Any:
        return self.root

    @signature({"types": ["string"]})
    def _func_capture(self, name: str) -> str | None:
        levels = self.captures.get(name)
        return None if levels is None else "/".join(levels)

    @signature({"types": ["number"]}, {"types": ["number"]})
    def _func_add(self, one: float, other: float) -> float:
        return one + other

    @signature({"types": ["number"]}, {"types": ["number"]})
    def _func_multiply(self, one: float, other: float) -> float:
        return one * other

    @signature({"types": ["number"]}, {"types": ["number"]})
    def _func_round(self, number: float, digits: float) -> float:
        if not -_MAX_DIGITS <= digits <= _MAX_DIGITS:
            raise ArithmeticError(f"round() to {digits} digits; at most {_MAX_DIGITS}")
        return round(number, int(digits))


def _nodes(node: Any) -> Iterator[Any]:
    """Yield every part of a parsed expression."""
    yield node
    for child in node.get("children", ()):
        if isinstance(child, dict):
            yield from _nodes(child)


def _check_functions(parsed: Any) -> None:
    """Raise ValueError for what the library says only when a message comes: a function that does not exist, or one with
    too few or too many arguments."""
    for node in _nodes(parsed):
        if node["type"] != "function_expression":
            continue
        name, given = node["value"], len(node["children"])
        if name not in _Functions.FUNCTION_TABLE:
            known = ", ".join(sorted(_Functions.FUNCTION_TABLE))
            raise ValueError(f"there is no function {name}(); there are {known}")
        wanted = _Functions.FUNCTION_TABLE[name]["signature"]
        is_variadic = bool(wanted) and wanted[-1].get("variadic", False)
        if given < len(wanted) or (given > len(wanted) and not is_variadic):
            raise ValueError(f"{name}() takes {len(wanted)} argument(s), and here it has {given}")


def _captured(parsed: Any) -> Iterator[str]:
    for node in _nodes(parsed):
        if node["type"] == "function_expression" and node["value"] == "capture":
            argument = node["children"][0]
            if argument["type"] == "literal" and isinstance(argument["value"], str):
                yield argument["value"]


def _compares_members(parsed: Any) -> bool:
    comparisons = [node for node in _nodes(parsed) if node["type"] == "comparator"]
    return any({child["type"] for child in node["children"]} == {"field"} for node in comparisons)
