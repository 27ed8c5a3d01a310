"""MQTT topic names and topic filters (MQTT 5 §4.7)."""

from __future__ import annotations

import re

from tidegate.core.error import DeliveryError

MAX_TOPIC_BYTES = 65_535
_FORBIDDEN = re.compile("[\x00+#]")
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def decode_topic(raw: bytes) -> str:
    """Return a topic name as text.

    Raises DeliveryError if it is not a valid topic name: not UTF-8 [MQTT-1.5.4-1], empty [MQTT-4.7.3-1], with a NUL
    [MQTT-4.7.3-2] or with a wildcard [MQTT-3.3.2-2].
    """
    if not raw:
        raise DeliveryError("topic_invalid", "the topic is empty")
    try:
        topic = raw.decode()
    except UnicodeDecodeError as error:
        raise DeliveryError("topic_invalid", f"the topic is not UTF-8 at byte {error.start}") from None
    if found := _FORBIDDEN.search(topic):
        raise DeliveryError("topic_invalid", f"the topic has {found[0]!r} at character {found.start()}")
    return topic


def unfit_character(text: str) -> str | None:
    """Return a character that no text sent over MQTT should have, as a receiver may close the connection over it
    (MQTT 5 §1.5.4): controls, halves of surrogate pairs, non-characters; or None."""
    found = _UNFIT.search(text)
    return found[0] if found else None


def check_filter(topic_filter: str) -> str | None:
    """Return what is wrong with a topic filter, or None: `#` only last, wildcards only as whole levels (§4.7.1)."""
    if not topic_filter:
        return "a topic filter can't be empty"
    if len(topic_filter.encode()) > MAX_TOPIC_BYTES:
        return f"a topic filter can't have more than {MAX_TOPIC_BYTES} bytes"
    if "\x00" in topic_filter:
        return "a topic filter can't hold a NUL character"
    levels = topic_filter.split("/")
    for number, level in enumerate(levels):
        if "#" in level and (level != "#" or number != len(levels) - 1):
            return "'#' must be the whole last level"
        if "+" in level and level != "+":
            return f"'+' must be a whole level, not part of {level!r}"
    return None


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a topic name matches a topic filter.

    A wildcard at the first level does not match a topic that starts with `$` [MQTT-4.7.2-1]. `a/#` matches `a`.
    """
    if topic.startswith("$") and topic_filter[:1] in ("+", "#"):
        return False
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted.pop()
        if len(levels) < len(wanted):
            return False
    elif len(levels) != len(wanted):
        return False
    return all(want in ("+", level) for want, level in zip(wanted, levels, strict=False))


def unshared(topic_filter: str) -> str:
    """Return a topic filter without the `$share/GROUP/` of a shared subscription (MQTT 5 §4.8.2): what topics match."""
    return topic_filter.split("/", 2)[2] if topic_filter.startswith("$share/") else topic_filter


def common_topic(first: str, second: str) -> str | None:
    """Return a topic name that matches both topic filters, as an example, or None if none does."""
    one, other = first.split("/"), second.split("/")
    found: list[str] = []
    for number in range(max(len(one), len(other))):
        if "#" in (one[number : number + 1] + other[number : number + 1]):
            rest = other if one[number : number + 1] == ["#"] else one
            found += [_ANY if level in ("+", "#") else level for level in rest[number:]]
            break
        if number >= min(len(one), len(other)):
            return None
        wanted = {one[number], other[number]} - {"+"}
        if len(wanted) > 1:
            return None
        found.append(wanted.pop() if wanted else _ANY)
    topic = "/".join(found)
    # A topic name is not empty, and a wildcard does not match one that starts with `$`.
    return topic if topic and matches(first, topic) and matches(second, topic) else None


_ANY = "x"
"""What stands for a wildcard in an example."""
