"""NATS subject filters: `*` is any one token, `>` the rest, one token or more."""

from __future__ import annotations

from collections.abc import Iterable


def overlap(first: str, second: str) -> bool:
    """Whether there is a subject that matches both filters."""
    one, other = _tokens(first), _tokens(second)
    for left, right in zip(one, other, strict=False):
        if ">" in (left, right):
            return True
        if left != right and "*" not in (left, right):
            return False
    return len(one) == len(other)


def is_covered(subjects: str, filters: Iterable[str]) -> bool:
    """Whether every subject that matches `subjects` matches one of the filters.

    As tokens are of any text, that is so if for each number of tokens one filter takes them all; and beyond the longest
    filter the number makes no difference.
    """
    tokens, wider = _tokens(subjects), [_tokens(one) for one in filters]
    if tokens[-1] != ">":
        return any(_covers(one, tokens) for one in wider)
    longest = max([len(tokens), *map(len, wider)])
    parts = (tokens[:-1] + ["*"] * more for more in range(1, longest - len(tokens) + 3))
    return all(any(_covers(one, part) for one in wider) for part in parts)


def _covers(wider: list[str], tokens: list[str]) -> bool:
    """Whether a filter takes all subjects of a filter that has no `>`."""
    for number, token in enumerate(wider):
        if number >= len(tokens):
            return False
        if token == ">":
            return True
        if token not in ("*", tokens[number]):
            return False
    return len(wider) == len(tokens)


def _tokens(subject_filter: str) -> list[str]:
    """Return a filter's tokens, up to a `>`: a template may go on after it, as no filter of NATS's does."""
    tokens = subject_filter.split(".")
    return tokens[: tokens.index(">") + 1] if ">" in tokens else tokens
