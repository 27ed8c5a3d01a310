"""One member of a JSON object, as it is written there."""

from __future__ import annotations

import json
import re

_SPACE = re.compile(r"[ \t\n\r]*")
_value = json.JSONDecoder().raw_decode


def raw_member(document: bytes, name: str) -> bytes:
    """Return the text of a member's value: numbers keep their digits. The document must be known to be a JSON object
    that has the member, and not to be nested deeply."""
    text = document.decode()
    position = text.index("{") + 1
    while True:
        key, position = _value(text, _skip(text, position))
        start = _skip(text, _skip(text, position) + 1)  # behind the colon
        _, end = _value(text, start)
        if key == name:
            return text[start:end].encode()
        position = _skip(text, end) + 1


def _skip(text: str, position: int) -> int:
    """Return the position after white space."""
    found = _SPACE.match(text, position)
    assert found is not None
    return found.end()
