"""The way of a topic, without connecting: its bridges, its subjects, the streams that store it, and the way back."""

from __future__ import annotations

import os
from argparse import Namespace
from typing import NamedTuple

from tidegate.app.config import Bridge, Config
from tidegate.app.options import stream_specs
from tidegate.app.terminal import columns, printable, take_any_character
from tidegate.core import DeliveryError, decode_topic, is_covered, matches, unshared


class Way(NamedTuple):
    """What a bridge makes of a topic.

    streams: the configured ones that store the subject. back: the topic that the subject is turned back into, or None
    where the mapping has no way back. problem: why there is no subject.
    """

    bridge: str
    subject: str = ""
    streams: tuple[str, ...] = ()
    back: str | None = None
    problem: str = ""


def bridges_for(config: Config, topic: str) -> list[Bridge]:
    """Return the bridges whose subscription takes a topic, in the order of the configuration."""
    return [bridge for bridge in config.up_bridges if matches(unshared(bridge.mapping().topic_filter), topic)]


def ways(config: Config, topic: str) -> list[Way]:
    """Return what the bridges make of a topic, in the order of the configuration."""
    return [_way(config, bridge, topic) for bridge in bridges_for(config, topic)]


def show(config: Config, options: Namespace) -> int:
    """Print a table of topics and their ways; return 1 if one of them has none, else 0."""
    take_any_character()
    rows: list[tuple[str, ...]] = [("TOPIC", "BRIDGE", "SUBJECT", "STREAM", "BACK")]
    problems = []
    for argument in options.topics:
        raw = os.fsencode(argument)
        shown = printable(raw.decode(errors="backslashreplace")) or "''"
        try:
            found = ways(config, decode_topic(raw))
        except DeliveryError as error:
            problems.append(f"{shown}: {printable(str(error))}")
            continue
        if not found:
            problems.append(f"{shown}: no bridge takes it")
        problems += [f"{shown}: {way.bridge}: {printable(way.problem)}" for way in found if way.problem]
        rows += [_row(shown, way) for way in found if not way.problem]
    if len(rows) > 1:
        for line in columns(rows):
            print(line)
    for problem in problems:
        print(problem)
    return 1 if problems else 0


def _way(config: Config, bridge: Bridge, topic: str) -> Way:
    mapping = bridge.mapping()
    try:
        subject = mapping.subject(topic)
    except DeliveryError as error:
        return Way(bridge.name, problem=str(error))
    streams = tuple(spec.name for spec in stream_specs(config) if is_covered(subject, spec.subjects))
    return Way(bridge.name, subject, streams, mapping.topic(subject) if mapping.reversible else None)


def _row(shown: str, way: Way) -> tuple[str, ...]:
    back = "(not reversible)" if way.back is None else printable(way.back)
    return shown, way.bridge, printable(way.subject), ", ".join(way.streams) or "(none here)", back
