"""`tidegate test`: cases against what the gateway would make of them."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator
from difflib import unified_diff
from itertools import islice
from typing import Any, NamedTuple

from tidegate.app.case import Case
from tidegate.app.case_file import load_cases
from tidegate.app.config import Config
from tidegate.app.document import yaml_lines
from tidegate.app.preview import Event, Made, Preview
from tidegate.app.terminal import printable, take_any_character
from tidegate.core import DeliveryError, Message, format_time

_CONTEXT = 8
"""Equal lines that are shown before and after a difference."""


class Verdict(NamedTuple):
    """Whether a case passed; and if it did not, lines that say why."""

    passed: bool
    lines: list[str]


def run_cases(config: Config, options: Namespace) -> int:
    """Try every case of a file and print what came of it; return 1 if one failed, else 0. Raises ConfigError."""
    cases = load_cases(options.cases, config)
    take_any_character()
    preview = Preview(config)
    failed = 0
    for number, case in enumerate(cases, 1):
        message = case.message(number, config.mqtt.max_payload)
        verdict = judge(case, message, preview.of(message, case.bridge))
        print(f"{'ok    ' if verdict.passed else 'FAILED'}  {printable(case.name)}")
        for line in verdict.lines:
            print(f"    {line}")
        failed += not verdict.passed
    print(f"passed {len(cases) - failed}, failed {failed}")
    return 1 if failed else 0


def judge(case: Case, message: Message, made: list[Made]) -> Verdict:
    """Compare what is expected with what came."""
    if not made:
        return Verdict(False, [f"no bridge takes the topic {printable(case.topic)}"])
    remarks = [f"# it would also send to {printable(topic)}" for one in made for topic in one.commands]
    refusing = [one.bridge for one in made if one.error is not None]
    if len(refusing) > 1:
        names = ", ".join(f"bridge: {name}" for name in refusing)
        remarks.append(f"# {len(refusing)} bridges refuse it: write a case for each, with {names}")
    if case.expect is None and case.expect_dead_letter is None:
        lines = ["nothing is expected; this is what comes:", *yaml_lines(_to_paste(message, made))]
        return Verdict(False, lines + remarks)
    expected = _expected(case)
    actual = _actual(expected, message, made)
    if json.dumps(expected, sort_keys=True) == json.dumps(actual, sort_keys=True):
        return Verdict(True, [])
    return Verdict(False, [*_difference(expected, actual), *remarks])


def _expected(case: Case) -> dict[str, Any]:
    document: dict[str, Any] = {f"event {number}": event for number, event in enumerate(case.expect or (), 1)}
    if case.expect_dead_letter is not None:
        document["dead letter"] = case.expect_dead_letter.model_dump(exclude_none=True)
    return document


def _actual(expected: dict[str, Any], message: Message, made: list[Made]) -> dict[str, Any]:
    """Return what came, in the form of what is expected: of an event only the members that are asked for."""
    events = [event for one in made for event in one.events]
    document: dict[str, Any] = {}
    for number, event in enumerate(events, 1):
        wanted = expected.get(key := f"event {number}")
        document[key] = _news(event, message) if wanted is None else _asked_for(event, wanted)
    errors = [one.error for one in made if one.error is not None]
    for number, error in enumerate(errors, 1):
        key = "dead letter" if number == 1 else f"dead letter {number}"
        document[key] = _letter(error, expected.get(key))
    return document


def _asked_for(event: Event, wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the members that are wanted. An attribute that is not set is null (CloudEvents, JSON format §2.2); data
    that is null and no data are two things."""
    found = _members(event)
    return {name: found.get(name) for name in wanted if name in found or name != "data"}


def _letter(error: DeliveryError, wanted: dict[str, str] | None) -> dict[str, str]:
    """Return what is wanted of a dead letter if it is so, else all that there is to say."""
    found = {"reason": error.reason, "detail": error.detail}
    if wanted is not None and wanted.get("reason", error.reason) == error.reason:
        return wanted if wanted.get("detail", "") in error.detail else found
    return found


def _members(event: Event) -> dict[str, Any]:
    return {"nats": event.nats} | {name: value for name, value in event.document.items() if name != "nats"}


def _news(event: Event, message: Message) -> dict[str, Any]:
    """Return an event's members but for those that only repeat what its message says."""
    received = format_time(message.received)
    found = _members(event)
    known = {
        "specversion": "1.0",
        "id": message.id,
        "correlationid": found["id"],
        "subject": message.topic.decode(),
        "time": received,
        "recordedtime": received,
    }
    return {name: value for name, value in found.items() if name not in known or value != known[name]}


def _to_paste(message: Message, made: list[Made]) -> dict[str, Any]:
    """Return what came as a case says it."""
    events = [_news(event, message) for one in made for event in one.events]
    errors = [one.error for one in made if one.error is not None]
    document: dict[str, Any] = {"expect": events} if events or not errors else {}
    if errors:
        document["expect_dead_letter"] = _letter(errors[0], None)
    return document


def _difference(expected: dict[str, Any], actual: dict[str, Any]) -> Iterator[str]:
    """Yield lines: with a minus what is expected and is not there, with a plus what is there instead."""
    before, after = _lines(expected), _lines(_arranged(actual, expected))
    for number, line in enumerate(islice(unified_diff(before, after, n=_CONTEXT, lineterm=""), 2, None)):
        if not line.startswith("@@"):
            yield f"{line[0]} {line[1:]}"
        elif number:
            yield "..."


def _lines(document: dict[str, Any]) -> list[str]:
    return yaml_lines(document) if document else ["nothing: it is filtered out"]


def _arranged(value: Any, like: Any) -> Any:
    """Return a value with its members in the order of another one's: that is no difference."""
    if isinstance(value, dict) and isinstance(like, dict):
        names = [*(name for name in like if name in value), *(name for name in value if name not in like)]
        return {name: _arranged(value[name], like.get(name)) for name in names}
    if isinstance(value, list) and isinstance(like, list):
        return [_arranged(one, like[number] if number < len(like) else None) for number, one in enumerate(value)]
    return value
