"""A bridge's topic pattern and subject template: `sensors/{site}/{device}` to `plant.{site}.{device}` and back."""

from __future__ import annotations

import re

from tidegate.core.error import DeliveryError
from tidegate.core.subject import check_subject, level_to_token, token_to_level
from tidegate.core.topic import check_filter, decode_topic

_CAPTURE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(\.\.\.)?\}")
_TOKEN_END = re.compile(r"\.(?![^{}]*\})")  # the dots of '{x...}' end no token
_LITERAL_TOKEN = re.compile(r"[^\x00-\x20\x7f*>{}]+")


class Mapping:
    """Maps topics to subjects by a pattern with captures, and back where the template uses every capture.

    In the pattern `{x}` captures one level and `{x...}` the rest, one level or more; `+` and `#` match without
    capturing. `$share/GROUP/` before it shares the subscription with other clients. In the template a capture is a
    whole token. The first token of a template is always literal and is not one of NATS's own, so a device can reach no
    subject outside the bridge's (law 7).

    Raises ValueError with a sentence that says what is wrong.
    """

    def __init__(self, pattern: str, template: str) -> None:
        self.pattern = pattern
        self.template = template
        share, topic_pattern = _split_share(pattern)
        self._levels = [_parse_part(level, "level") for level in topic_pattern.split("/")]
        self._tokens = [_parse_part(token, "token") for token in _TOKEN_END.split(template)]
        topic_filter = "/".join(_filter_level(*level) for level in self._levels)
        _check_pattern(self._levels, topic_filter)
        self.topic_filter = share + topic_filter
        _check_template(self._tokens, self._levels)
        self.subject_filter = ".".join(_filter_token(*token) for token in self._tokens)

    def captures(self, topic: str) -> dict[str, list[str]] | None:
        """Return the levels that each name captures, or None if the topic does not match the pattern."""
        levels = topic.split("/")
        found: dict[str, list[str]] = {}
        for number, (literal, name, rest) in enumerate(self._levels):
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
        for literal, name, _ in self._tokens:
            if name:
                tokens.extend(map(level_to_token, found[name]))
            else:
                tokens.append(literal)
        subject = ".".join(tokens)
        check_subject(subject)
        return subject

    @property
    def reversible(self) -> bool:
        """Whether `topic` can undo `subject`: no wildcard without a name, and the template uses every capture."""
        used = {name for _, name, _ in self._tokens if name}
        return all(literal not in ("+", "#") and (not name or name in used) for literal, name, _ in self._levels)

    def topic(self, subject: str) -> str | None:
        """Return the topic that `subject` makes this subject from, or None if there is none. Needs `reversible`."""
        tokens = subject.split(".")
        found: dict[str, list[str]] = {}
        for number, (literal, name, rest) in enumerate(self._tokens):
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
            elif literal != tokens[number]:
                return None
        if len(tokens) != len(self._tokens):
            return None
        levels: list[str] = []
        for literal, name, _ in self._levels:
            levels.extend(found[name] if name else [literal])
        topic = "/".join(levels)
        return topic if self._makes(topic, subject) else None

    def _makes(self, topic: str, subject: str) -> bool:
        """Whether this is a topic name with that subject: others can write tokens that `level_to_token` never does."""
        try:
            return self.subject(decode_topic(topic.encode())) == subject
        except DeliveryError:
            return False


_Part = tuple[str, str, bool]
"""(literal, capture name, captures the rest): a literal has no name, a capture has no literal."""


def _split_share(pattern: str) -> tuple[str, str]:
    """Return `$share/GROUP/` and the rest: a shared subscription (MQTT 5 §4.8.2) is about topics without the two."""
    if not pattern.startswith("$share/"):
        return "", pattern
    group, _, rest = pattern.removeprefix("$share/").partition("/")
    if not group or not rest or set(group) & set("+#{}"):
        raise ValueError("a shared subscription is '$share/GROUP/' and a topic pattern")
    return f"$share/{group}/", rest


def _parse_part(text: str, kind: str) -> _Part:
    if found := _CAPTURE.fullmatch(text):
        return "", found[1], bool(found[2])
    if "{" in text or "}" in text:
        raise ValueError(f"a capture is a whole {kind}: '{{name}}' or '{{name...}}', not {text!r}")
    return text, "", False


def _filter_level(literal: str, name: str, rest: bool) -> str:
    return ("#" if rest else "+") if name else literal


def _filter_token(literal: str, name: str, rest: bool) -> str:
    return (">" if rest else "*") if name else literal


def _check_pattern(levels: list[_Part], topic_filter: str) -> None:
    if problem := check_filter(topic_filter):
        raise ValueError(problem)
    names = [name for _, name, _ in levels if name]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{{{repeated.pop()}}} is captured twice")


def _check_template(tokens: list[_Part], levels: list[_Part]) -> None:
    captured = {name: rest for _, name, rest in levels if name}
    first = tokens[0][0]
    if not first:
        raise ValueError("the first token must be literal, so that a device can't choose it: e.g. 'plant.{site}'")
    if first.startswith("$") or first == "_INBOX":
        raise ValueError(f"subjects under {first!r} are NATS's own")
    for literal, name, rest in tokens:
        if not name and not _LITERAL_TOKEN.fullmatch(literal):
            raise ValueError(f"{literal!r} can't be a token of a subject: no white space, wildcard or empty token")
        if name and name not in captured:
            known = ", ".join(f"{{{known}}}" for known in captured) or "none"
            raise ValueError(f"{{{name}}} is not captured by the topic pattern (captured: {known})")
        if name and rest != captured[name]:
            form = f"{{{name}...}}" if captured[name] else f"{{{name}}}"
            raise ValueError(f"the topic pattern captures {form}, so the template must say {form} too")
    if sum(rest for _, _, rest in tokens) > 1:
        raise ValueError("a template can use a '...' capture once")
