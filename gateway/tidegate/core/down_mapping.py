"""A down bridge's subject pattern and topic template: `notices.{customer}` to `customers/{customer}/notice`."""

from __future__ import annotations

from tidegate.core.error import DeliveryError
from tidegate.core.subject import token_to_level
from tidegate.core.template import LITERAL_TOKEN, TOKEN_END, Captures, Part, known_names, parse_part
from tidegate.core.topic import MAX_TOPIC_BYTES, check_filter, decode_topic, unfit_character


class DownMapping:
    """Maps subjects to topics by a pattern with captures.

    In the pattern `{x}` captures one token and `{x...}` the rest, one token or more; `*` and `>` match without
    capturing. In the template a capture is a whole level. A captured token becomes a level as `subject_to_topic` has
    it, so what an up bridge made of a level is that level again.

    Raises ValueError with a sentence that says what is wrong.
    """

    def __init__(self, pattern: str, template: str) -> None:
        self.pattern = pattern
        self.template = template
        self._tokens = [parse_part(token, "token") for token in TOKEN_END.split(pattern)]
        self._levels = [parse_part(level, "level") for level in template.split("/")]
        _check_pattern(self._tokens)
        _check_template(self._levels, {token.name: token.rest for token in self._tokens if token.name})
        self.subject_filter = ".".join((">" if t.rest else "*") if t.name else t.literal for t in self._tokens)
        self.topic_filter = "/".join((_REST if one.rest else "+") if one.name else one.literal for one in self._levels)
        if _REST in self.topic_filter:  # a topic filter has `#` only at its end
            self.topic_filter = self.topic_filter[: self.topic_filter.index(_REST) + 1]

    def topic(self, raw: bytes) -> str:
        """Return the topic for a subject, given as its bytes.

        Raises DeliveryError if the subject is not of the pattern, or MQTT can't carry the topic.
        """
        try:
            subject = raw.decode()
        except UnicodeDecodeError as error:
            raise DeliveryError("topic_invalid", f"the subject is not UTF-8 at byte {error.start}") from None
        found = self._captures(subject.split("."))
        if found is None:
            raise DeliveryError("subject_unmatched", f"the subject does not match {self.pattern!r}")
        levels: list[str] = []
        for level in self._levels:
            levels.extend(found[level.name] if level.name else [level.literal])
        return _checked("/".join(levels), literal=not self._levels[0].name)

    def _captures(self, tokens: list[str]) -> Captures | None:
        """Return the levels that each name captures, or None if the subject does not match."""
        found: Captures = {}
        for number, (literal, name, rest, _) in enumerate(self._tokens):
            if number >= len(tokens):
                return None
            if literal == ">":
                return found
            if rest:
                found[name] = list(map(_level, tokens[number:]))
                return found
            if name:
                found[name] = [_level(tokens[number])]
            elif literal not in ("*", tokens[number]):
                return None
        return found if len(tokens) == len(self._tokens) else None


_REST = "#"


def _level(token: str) -> str:
    level = token_to_level(token)
    if "/" in level:
        raise DeliveryError("topic_invalid", f"the token {token[:80]!r} would be more than one level")
    return level


def _checked(topic: str, *, literal: bool) -> str:
    """Return a topic that MQTT can carry. literal: its first level is the template's. Raises DeliveryError."""
    raw = topic.encode()
    decode_topic(raw)
    if len(raw) > MAX_TOPIC_BYTES:
        raise DeliveryError("topic_invalid", f"the topic would have {len(raw)} bytes; {MAX_TOPIC_BYTES} are allowed")
    if found := unfit_character(topic):
        raise DeliveryError("topic_invalid", f"the topic has {found!r} at character {topic.index(found)}")
    if topic.startswith("$") and not literal:
        raise DeliveryError("topic_invalid", "topics that begin with $ are the broker's own [MQTT-4.7.2-1]")
    return topic


def _check_pattern(tokens: list[Part]) -> None:
    for number, (literal, name, rest, _) in enumerate(tokens):
        if not name and literal not in ("*", ">") and not LITERAL_TOKEN.fullmatch(literal):
            raise ValueError(f"{literal!r} can't be a token of a subject: no white space, wildcard or empty token")
        if (rest or literal == ">") and number != len(tokens) - 1:
            raise ValueError(f"{f'{{{name}...}}' if rest else '>'} must be the last token: it takes all the rest")
    names = [token.name for token in tokens if token.name]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{{{repeated.pop()}}} is captured twice")
    if tokens[0].literal.startswith("$") or tokens[0].literal == "_INBOX":
        raise ValueError(f"subjects under {tokens[0].literal!r} are NATS's own")


def _check_template(levels: list[Part], captured: dict[str, bool]) -> None:
    literals = "/".join(level.literal for level in levels)
    if set(literals) & set("+#"):
        raise ValueError(
            "a topic that is published to has no wildcards; use captures, as 'customers/{customer}/notice'"
        )
    if problem := check_filter("/".join(level.literal or level.name for level in levels)):
        raise ValueError(problem.replace("topic filter", "topic"))
    if found := unfit_character(literals):
        raise ValueError(f"a topic can't hold {found!r}")
    if levels[0].literal == "$share":
        raise ValueError("'$share' is for subscriptions; a topic to publish to has none")
    for _, name, rest, _ in levels:
        if name and name not in captured:
            known = known_names(captured)
            raise ValueError(f"{{{name}}} is not captured by the subject pattern (captured: {known})")
        if name and rest != captured[name]:
            form = f"{{{name}...}}" if captured[name] else f"{{{name}}}"
            raise ValueError(f"the subject pattern captures {form}, so the template must say {form} too")
