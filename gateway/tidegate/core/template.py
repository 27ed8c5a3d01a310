"""A bridge's topic pattern and subject template: `sensors/{site}/{device}` to `plant.{site}.{device}` and back."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote

from tidegate.core.error import DeliveryError
from tidegate.core.subject import check_subject, level_to_token, token_to_level
from tidegate.core.topic import check_filter, decode_topic

_CAPTURE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(\.\.\.)?\}")
TOKEN_END = re.compile(r"\.(?![^{}]*\})")  # the dots of '{x...}' end no token
_PARTITION = re.compile(r"\{partition\(\s*([0-9]{1,9})\s*,([^(){}]*)\)\}")
LITERAL_TOKEN = re.compile(r"[^\x00-\x20\x7f*>{}]+")

Captures = dict[str, list[str]]
"""The levels that each name of a pattern captured."""


class Mapping:
    """Maps topics to subjects by a pattern with captures, and back where the template uses every capture.

    In the pattern `{x}` captures one level and `{x...}` the rest, one level or more; `+` and `#` match without
    capturing. `$share/GROUP/` before it shares the subscription with other clients. In the template a capture is a
    whole token, and `{partition(N, x, y)}` is a number below N that is the same for the same captures. The first token
    of a template is always literal and is not one of NATS's own, so a device can reach no subject outside the bridge's
    (law 7).

    Raises ValueError with a sentence that says what is wrong.
    """

    def __init__(self, pattern: str, template: str) -> None:
        self.pattern = pattern
        self.template = template
        share, topic_pattern = _split_share(pattern)
        self._levels = [parse_part(level, "level") for level in topic_pattern.split("/")]
        self._tokens = [_parse_token(token) for token in TOKEN_END.split(template)]
        topic_filter = "/".join(_filter_level(level) for level in self._levels)
        _check_pattern(self._levels, topic_filter)
        self.topic_filter = share + topic_filter
        _check_template(self._tokens, self._levels)
        (self.subject_filter,) = self.subject_filters(1)

    @property
    def names(self) -> list[str]:
        """The names that the pattern captures."""
        return [level.name for level in self._levels if level.name]

    def subject_filters(self, most: int) -> list[str]:
        """Return at most so many filters that together match what `subject_filter` matches, with the numbers of
        partitions one by one: each may have a stream of its own. `*` stands for those that would be too many."""
        found: list[list[str]] = [[]]
        for token in self._tokens:
            choices = [_filter_token(token)]
            if token.partition and len(found) * token.partition.parts <= most:
                choices = [str(number) for number in range(token.partition.parts)]
            if found[0][-1:] != [">"]:  # which a NATS filter can have only at its end
                found = [[*tokens, choice] for tokens in found for choice in choices]
        return [".".join(tokens) for tokens in found]

    def captures(self, topic: str) -> Captures | None:
        """Return the levels that each name captures, or None if the topic does not match the pattern."""
        levels = topic.split("/")
        found: Captures = {}
        for number, (literal, name, rest, _) in enumerate(self._levels):
            if literal == "#":
                return found
            if number >= len(levels):
                return None
            if rest:
                found[name] = levels[number:]
                return found
            if name:
                found[name] = levels[number : number + 1]
            elif literal not in ("+", levels[number]):
                return None
        return found if len(levels) == len(self._levels) else None

    def subject(self, topic: str) -> str:
        """Return the subject for a topic.

        Raises DeliveryError if the topic does not match (a broker sent what was not subscribed to) or the subject
        would be one that nats-server refuses.
        """
        found = self.captures(topic)
        if found is None:
            raise DeliveryError("topic_unmatched", f"the topic does not match {self.pattern!r}")
        tokens: list[str] = []
        for literal, name, _, partition in self._tokens:
            if name:
                tokens.extend(map(level_to_token, found[name]))
            elif partition:
                tokens.append(partition.of(found))
            else:
                tokens.append(literal)
        subject = ".".join(tokens)
        check_subject(subject)
        return subject

    @property
    def reversible(self) -> bool:
        """Whether `topic` can undo `subject`: no wildcard without a name, and the template uses every capture."""
        used = {token.name for token in self._tokens if token.name}
        return all(level.literal not in ("+", "#") and (not level.name or level.name in used) for level in self._levels)

    def topic(self, subject: str) -> str | None:
        """Return the topic that `subject` makes this subject from, or None if there is none. Needs `reversible`."""
        tokens = subject.split(".")
        found: Captures = {}
        for number, (literal, name, rest, partition) in enumerate(self._tokens):
            if number >= len(tokens):
                return None
            if rest:
                after = len(self._tokens) - number - 1
                end = len(tokens) - after
                if end <= number:
                    return None
                found[name] = [token_to_level(token) for token in tokens[number:end]]
                tokens = [*tokens[: number + 1], *tokens[end:]]
            elif name:
                found[name] = [token_to_level(tokens[number])]
            elif not partition and literal != tokens[number]:
                return None
        if len(tokens) != len(self._tokens):
            return None
        levels: list[str] = []
        for level in self._levels:
            levels.extend(found[level.name] if level.name else [level.literal])
        topic = "/".join(levels)
        return topic if self._makes(topic, subject) else None

    def _makes(self, topic: str, subject: str) -> bool:
        """Whether this is a topic name with that subject: others can write tokens that `level_to_token` never does."""
        try:
            return self.subject(decode_topic(topic.encode())) == subject
        except DeliveryError:
            return False


class Partition(NamedTuple):
    """A number that spreads topics over so many parts, the same for the same captures: as nats-server's own subject
    mapping `{{partition(n, ...)}}` computes it, FNV-1a over the tokens joined, so that both agree on who has what."""

    parts: int
    names: tuple[str, ...]

    def of(self, found: Captures) -> str:
        """Return the number, as a token."""
        key = "".join(level_to_token(level) for name in self.names for level in found[name])
        return str(fnv1a_32(key.encode()) % self.parts)


def fnv1a_32(data: bytes) -> int:
    """Return the hash of Fowler, Noll and Vo, in its variant 1a with 32 bits."""
    found = 0x811C9DC5
    for byte in data:
        found = (found ^ byte) * 0x01000193 & 0xFFFFFFFF
    return found


def fill(text: str, found: Captures, *, as_uri: bool = False) -> str:
    """Return a text with its captures replaced, each by its levels as they are. as_uri: percent-encoded (RFC 3986)."""
    if "{" not in text:
        return text

    def value(match: re.Match[str]) -> str:
        level = "/".join(found[match[1]])
        return quote(level, safe="/") if as_uri else level

    return _CAPTURE.sub(value, text)


def check_text(text: str, names: list[str]) -> None:
    """Raise ValueError if `fill` could not replace every brace of a text."""
    for match in _CAPTURE.finditer(text):
        if match[1] not in names:
            raise ValueError(f"{{{match[1]}}} is not captured by the topic pattern (captured: {known_names(names)})")
    rest = _CAPTURE.sub("", text)
    if set("{}") & set(rest):
        raise ValueError(f"a capture is '{{name}}'; a brace has no other meaning in {text!r}")


class Part(NamedTuple):
    """A level or a token: a literal, a capture (of the rest, or of one level), or a partition."""

    literal: str
    name: str = ""
    rest: bool = False
    partition: Partition | None = None


def _split_share(pattern: str) -> tuple[str, str]:
    """Return `$share/GROUP/` and the rest: a shared subscription (MQTT 5 §4.8.2) is about topics without the two."""
    if not pattern.startswith("$share/"):
        return "", pattern
    group, _, rest = pattern.removeprefix("$share/").partition("/")
    if not group or not rest or set(group) & set("+#{}"):
        raise ValueError("a shared subscription is '$share/GROUP/' and a topic pattern")
    return f"$share/{group}/", rest


def parse_part(text: str, kind: str) -> Part:
    """Return a level of a pattern or a token of a template (`kind` says which). Raises ValueError."""
    if found := _CAPTURE.fullmatch(text):
        return Part("", found[1], bool(found[2]))
    if text.startswith("{") and "(" in text:
        raise ValueError(f"the only function of a template is '{{partition(8, device)}}', not {text!r}")
    if "{" in text or "}" in text:
        raise ValueError(f"a capture is a whole {kind}: '{{name}}' or '{{name...}}', not {text!r}")
    return Part(text)


def _parse_token(text: str) -> Part:
    if found := _PARTITION.fullmatch(text):
        names = tuple(name.strip() for name in found[2].split(","))
        if not int(found[1]):
            raise ValueError("a partition's number of parts is 1 or more: '{partition(8, device)}'")
        return Part("", partition=Partition(int(found[1]), names))
    if text.startswith("{partition("):
        raise ValueError(f"a partition is a whole token: '{{partition(8, device)}}', not {text!r}")
    return parse_part(text, "token")


def _filter_level(level: Part) -> str:
    return ("#" if level.rest else "+") if level.name else level.literal


def _filter_token(token: Part) -> str:
    return (">" if token.rest else "*") if token.name or token.partition else token.literal


def _check_pattern(levels: list[Part], topic_filter: str) -> None:
    if problem := check_filter(topic_filter):
        raise ValueError(problem)
    names = [level.name for level in levels if level.name]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{{{repeated.pop()}}} is captured twice")


def _check_template(tokens: list[Part], levels: list[Part]) -> None:
    captured = {level.name: level.rest for level in levels if level.name}
    first = tokens[0].literal
    if not first:
        raise ValueError("the first token must be literal, so that a device can't choose it: e.g. 'plant.{site}'")
    if first.startswith("$") or first == "_INBOX":
        raise ValueError(f"subjects under {first!r} are NATS's own")
    for literal, name, rest, partition in tokens:
        if not name and not partition and not LITERAL_TOKEN.fullmatch(literal):
            raise ValueError(f"{literal!r} can't be a token of a subject: no white space, wildcard or empty token")
        for used in partition.names if partition else [name] if name else []:
            if used not in captured:
                raise ValueError(f"{{{used}}} is not captured by the topic pattern (captured: {known_names(captured)})")
        if name and rest != captured[name]:
            form = f"{{{name}...}}" if captured[name] else f"{{{name}}}"
            raise ValueError(f"the topic pattern captures {form}, so the template must say {form} too")
    if sum(token.rest for token in tokens) > 1:
        raise ValueError("a template can use a '...' capture once")


def known_names(names: Iterable[str]) -> str:
    """Return captures as a sentence lists them."""
    return ", ".join(f"{{{name}}}" for name in names) or "none"
