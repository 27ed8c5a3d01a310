"""`tidegate tap`: what the gateway would make of the messages that come now. Needs the broker, and no NATS."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import signal
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from tidegate.app.config import Config
from tidegate.app.log import configure_logging
from tidegate.app.options import broker_options
from tidegate.app.preview import Event, Made, Preview
from tidegate.app.terminal import json_line, printable, take_any_character
from tidegate.core import Message, TidegateError, check_filter, format_time
from tidegate.mqtt import Session, SessionOptions

_LONGEST = 2000
"""Characters of a value that are shown; `--json` has all of them."""

_LOOK = 0.1
"""Seconds between two looks at whether the broker refuses us."""

_PASSING = ("server unavailable", "server busy", "quota exceeded", "connection rate exceeded")
"""Refusals that may not last."""


class RefusedError(TidegateError):
    """The broker refuses the login or the subscription; to try again would not help."""


def filter_problem(topic_filter: str) -> str | None:
    """Return why a topic filter can't be tapped, or None."""
    try:
        topic_filter.encode()
    except UnicodeEncodeError:
        return "a topic filter is UTF-8 text"
    if topic_filter.startswith(("$share/", "$queue/")):
        return "a shared subscription would take messages away from those that share it; give the topics alone"
    return check_filter(topic_filter)


async def tap(config: Config, options: Namespace) -> int:
    """Print what comes and what would become of it, until there were `count` messages, `duration` seconds are over, or
    SIGINT or SIGTERM comes; return the exit status, which is 1 if there was no connection in all that time.

    A broker that is away is said and tried again. Raises RefusedError.
    """
    configure_logging(config.log.model_copy(update={"level": "info", "format": "text"}))
    logging.getLogger("tidegate.bridge").setLevel(logging.WARNING)  # what they say that they send is not sent here
    take_any_character()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    work = _Tap(config, options.count, as_json=options.json)
    try:
        async with Session(_session_options(config, options.filter), "tap") as session:
            try:
                async with asyncio.timeout(options.duration):
                    await work.run(session, stop)
            except TimeoutError:
                return 0 if session.connects else 1
    finally:
        print(work.summary, file=sys.stderr)
    return 0


def _session_options(config: Config, topic_filter: str) -> SessionOptions:
    """Return a session of its own, which the broker forgets with the connection: no gateway's is touched."""
    ours = replace(
        broker_options(config, "tap"), client_id=f"{config.client_id('tap')}-{secrets.token_hex(4)}", session_expiry=0
    )
    return SessionOptions(**vars(ours), topic_filter=topic_filter, qos=0, max_payload=config.mqtt.max_payload)


class _Tap:
    """Shows messages, and counts what would become of them."""

    def __init__(self, config: Config, count: int | None, *, as_json: bool) -> None:
        self._preview = Preview(config)
        self._left = count
        self._as_json = as_json
        self._counts: Counter[str] = Counter()

    @property
    def summary(self) -> str:
        """What came in all."""
        names = ("messages", "events", "filtered", "dead letters", "taken by no bridge")
        return ", ".join(f"{name} {self._counts[name]}" for name in names)

    async def run(self, session: Session, stop: asyncio.Event) -> None:
        """Show messages until enough have come or `stop` is set. Raises RefusedError."""
        stopping = asyncio.create_task(stop.wait())
        receiving = asyncio.create_task(session.receive())
        try:
            while not stop.is_set() and self._left != 0:
                parts = [receiving, stopping, session.task]
                await asyncio.wait(parts, timeout=_LOOK, return_when=asyncio.FIRST_COMPLETED)
                if session.task.done():
                    session.task.result()
                if receiving.done():
                    batch = receiving.result()
                    self._show(batch.messages)
                    batch.settle()
                    receiving = asyncio.create_task(session.receive())
                elif (problem := session.last_error) and _is_final(problem):
                    raise RefusedError(problem)
        finally:
            stopping.cancel()
            receiving.cancel()

    def _show(self, messages: Sequence[Message]) -> None:
        for message in islice(messages, self._left):
            made = self._preview.of(message)
            self._count(made)
            print(json_line(_document(message, made)) if self._as_json else "\n".join(_lines(message, made)))
            if self._left is not None:
                self._left -= 1
        sys.stdout.flush()

    def _count(self, made: list[Made]) -> None:
        counts = self._counts
        counts["messages"] += 1
        counts["taken by no bridge"] += not made
        for one in made:
            counts["events"] += len(one.events)
            counts["dead letters"] += one.error is not None
            counts["filtered"] += not one.events and one.error is None


def _is_final(problem: str) -> bool:
    refused = "the broker refused the connection" in problem or problem.startswith("subscription to ")
    return refused and not any(words in problem for words in _PASSING)


def _document(message: Message, made: list[Made]) -> dict[str, Any]:
    """Return a message and what would become of it as a JSON object."""
    return {
        "received": format_time(message.received),
        "topic": _topic(message),
        "size": message.size,
        "retained": message.retained,
        "bridges": [_bridge_document(one) for one in made],
    }


def _bridge_document(made: Made) -> dict[str, Any]:
    document: dict[str, Any] = {"bridge": made.bridge}
    if made.error is not None:
        document["dead_letter"] = {"reason": made.error.reason, "detail": made.error.detail}
    else:
        document["events"] = [{"nats": event.nats, "event": event.document} for event in made.events]
    return document | ({"commands": made.commands} if made.commands else {})


def _lines(message: Message, made: list[Made]) -> Iterator[str]:
    """Yield a message and what would become of it for a person."""
    retained = ", retained" if message.retained else ""
    yield f"{_cut(_topic(message))}  {message.size} bytes{retained}"
    if not made:
        yield "  no bridge takes it"
    for one in made:
        if one.error is not None:
            yield f"  {one.bridge}: dead letter: {_cut(str(one.error))}"
        elif not one.events:
            yield f"  {one.bridge}: filtered"
        for event in one.events:
            yield from _event_lines(one.bridge, event, message)
        for topic in one.commands:
            yield f"  {one.bridge} would send to {printable(topic)}, unless it knows more than this tap has seen"
    if not any(one.events for one in made):
        yield f"    payload: {_cut(_payload(message))}"


def _event_lines(bridge: str, event: Event, message: Message) -> Iterator[str]:
    yield f"  {bridge} -> {_cut(event.nats)}"
    for name, value in event.document.items():
        if (name, value) not in (("specversion", "1.0"), ("subject", _topic(message))):
            text = value if isinstance(value, str) and name != "data" else json.dumps(value, ensure_ascii=False)
            yield f"    {name}: {_cut(text)}"


def _topic(message: Message) -> str:
    return message.topic.decode(errors="backslashreplace")


def _payload(message: Message) -> str:
    try:
        return message.payload.decode()
    except UnicodeDecodeError:
        return f"(hex) {message.payload[:_LONGEST].hex(' ')}"


def _cut(text: str) -> str:
    """Return text of a device's as a terminal may have it, and not too much of it."""
    if len(text) > _LONGEST:
        return f"{printable(text[:_LONGEST])}… ({len(text)} characters)"
    return printable(text)
