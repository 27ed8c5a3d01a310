"""Topic patterns and subject templates as addresses of AsyncAPI channels."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

MAX_ENUM = 64
"""Values of a parameter that are listed."""

_CAPTURE = re.compile(r"\{([A-Za-z0-9_]+)(\.\.\.|\([^()]*\))?\}")


class Address(NamedTuple):
    """An address with `{parameters}` (AsyncAPI 3.0.0, Channel Address Expressions), and the Parameters Object of them.

    share: `$share/GROUP`, which is no part of a topic (MQTT 5 §4.8.2), or nothing.
    """

    text: str
    parameters: dict[str, Any]
    share: str = ""


def topic_address(pattern: str) -> Address:
    """Return the address of a bridge's topic pattern, which must be a good one.

    An address is the name of a topic, not a filter, and must have no fragment, as `#` would begin one (Channel Object).
    So `+` and `#` are parameters too: `level2`, by its place, and `rest`.
    """
    levels = pattern.split("/")
    share = "/".join(levels[:2]) if levels[0] == "$share" else ""
    levels = levels[2:] if share else levels
    taken = _captured(pattern)
    parameters: dict[str, Any] = {}
    for number, level in enumerate(levels, 1):
        found = _CAPTURE.fullmatch(level)
        if found and found[2]:
            name, text = found[1], f"The topic from level {number} on: one level or more."
        elif found:
            name, text = found[1], f"Level {number} of the topic."
        elif level == "+":
            name, text = _free(f"level{number}", taken), f"Level {number} of the topic, whatever it is."
        elif level == "#":
            name, text = (
                _free("rest", taken),
                f"The topic from level {number} on; if none, no '/' stands before.",
            )
        else:
            continue
        parameters[name] = {"description": text}
        levels[number - 1] = f"{{{name}}}"
    return Address("/".join(levels), parameters, share)


def subject_address(template: str, pattern: str) -> Address:
    """Return the address of a bridge's subject template, which must be a good one for its topic pattern."""
    taken = _captured(pattern)
    parameters: dict[str, Any] = {}

    def parameter(found: re.Match[str]) -> str:
        name, more = found.groups()
        if more and more != "...":
            count, _, names = more.strip("()").partition(",")
            name = _free(name, taken)
            parameters[name] = _partition(int(count), names)
        else:
            what = "What the topic has there, as tokens" if more else "What the topic has there, as a token"
            text = f"{what}: '.' is '//', an empty level '/'; what NATS reserves is percent-encoded."
            parameters[name] = {"description": text}
        return f"{{{name}}}"

    text = _CAPTURE.sub(parameter, template)
    return Address(text, parameters)


def text_pattern(text: str) -> dict[str, str]:
    """Return the JSON Schema of a text with captures: what it always is, or a regular expression for it."""
    if not _CAPTURE.search(text):
        return {"const": text}
    parts, end = [], 0
    for found in _CAPTURE.finditer(text):
        parts += [_escaped(text[end : found.start()]), r"[\s\S]*" if found[2] else "[^/]*"]
        end = found.end()
    return {"type": "string", "pattern": f"^{''.join(parts)}{_escaped(text[end:])}$"}


def _escaped(text: str) -> str:
    """Return a text as ECMA 262 writes it in a regular expression: `re.escape` escapes more than may be."""
    return re.sub(r"[\\^$.*+?()\[\]{}|]", r"\\\g<0>", text)


def _partition(count: int, names: str) -> dict[str, Any]:
    text = f"A number below {count}, the same for the same {' and '.join(map(str.strip, names.split(',')))}."
    listed = {"enum": [str(number) for number in range(count)]} if count <= MAX_ENUM else {}
    return {"description": text, **listed}


def _captured(pattern: str) -> set[str]:
    return {found[1] for found in _CAPTURE.finditer(pattern)}


def _free(name: str, taken: set[str]) -> str:
    """Return the name, or one that begins with it and is not taken; take it."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    taken.add(found)
    return found
