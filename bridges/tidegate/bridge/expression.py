"""JMESPath expressions (https://jmespath.org) over what a device sent, with some functions that gateways need."""

from __future__ import annotations

from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions, signature

from tidegate.core import Captures


class Expression:
    """A compiled expression. Raises ValueError if it is none.

    Besides JMESPath's own functions there are `root()`, the whole value where `each` made parts of it;
    `capture('site')`, what the topic pattern captured; `add(a, b)`, `multiply(a, b)` and `round(number, digits)`.
    """

    def __init__(self, text: str) -> None:
        try:
            self._compiled = jmespath.compile(text)
        except JMESPathError as error:
            raise ValueError(f"not a JMESPath expression: {' '.join(str(error).split())}") from None
        _check_functions(self._compiled.parsed)
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
        return round(number, int(digits))


def _check_functions(node: Any) -> None:
    """Raise ValueError for a function that does not exist, which the library says only when a message comes."""
    if node.get("type") == "function_expression" and node["value"] not in _Functions.FUNCTION_TABLE:
        known = ", ".join(sorted(_Functions.FUNCTION_TABLE))
        raise ValueError(f"there is no function {node['value']}(); there are {known}")
    for child in node.get("children", ()):
        if isinstance(child, dict):
            _check_functions(child)
