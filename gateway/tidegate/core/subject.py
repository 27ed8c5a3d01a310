"""MQTT topics as NATS subjects and back: total, injective, reversible.

The rule is nats-server's own for its MQTT listener, so that a topic has the same subject here and there: `/` becomes
`.`, an empty level becomes the token `/`, a `.` becomes `//`. What that server refuses or what NATS would take for
something else (space, control characters, `*`, `>`) is percent-encoded inside its token. A `%` stays as it is unless
it would read as such an escape.
"""

from __future__ import annotations

import re

from tidegate.core.error import DeliveryError

MAX_SUBJECT_BYTES = 2048
"""Longer subjects are refused: nats-server closes a connection whose command line exceeds 4 KiB, and the line also
holds a reply subject and, towards consumers, an acknowledgement subject that repeats names."""

MAX_LEVELS = 128
"""More levels than this are refused: a server's subject tree pays for each of them."""

# Space, controls and wildcards; a per cent sign only where the next two characters would make it an escape.
_ESCAPE = re.compile(r"[\x00-\x20\x7f*>]|%(?=[0-9A-F]{2})")
_UNESCAPE = re.compile(r"%([0-9A-F]{2})")
_PLAIN = re.compile(r"[0-9A-Za-z_\-]+").fullmatch


def level_to_token(level: str) -> str:
    """Return the subject token for one topic level. Every level has one, and no two share one."""
    if _PLAIN(level):
        return level
    if not level:
        return "/"
    return _ESCAPE.sub(lambda match: f"%{ord(match[0]):02X}", level.replace(".", "//"))


def token_to_level(token: str) -> str:
    """Return the topic level that `level_to_token` made this token from."""
    if token == "/":
        return ""
    return _UNESCAPE.sub(lambda match: chr(int(match[1], 16)), token).replace("//", ".")


def topic_to_subject(topic: str) -> str:
    """Return the subject for a whole topic. See `tidegate.core.template` for the mapping of a bridge."""
    return ".".join(map(level_to_token, topic.split("/")))


def subject_to_topic(subject: str) -> str:
    """Return the topic that `topic_to_subject` made this subject from."""
    return "/".join(map(token_to_level, subject.split(".")))


def check_subject(subject: str) -> None:
    """Raise DeliveryError if nats-server could not carry this subject.

    The subject must already be free of white space and wildcards, as every token of `level_to_token` is.
    """
    size = len(subject.encode())
    if size > MAX_SUBJECT_BYTES:
        raise DeliveryError("subject_too_long", f"the subject would have {size} bytes; {MAX_SUBJECT_BYTES} are allowed")
    levels = subject.count(".") + 1
    if levels > MAX_LEVELS:
        raise DeliveryError("subject_too_deep", f"the subject would have {levels} tokens; {MAX_LEVELS} are allowed")
