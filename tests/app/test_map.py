"""`tidegate map`: the way of a topic, as the gateway would take it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.app.helpers import load, tidegate
from tests.core.strategies import topics
from tidegate.app.cli import main
from tidegate.app.topic_map import ways
from tidegate.core import matches, unshared

CONFIG = """\
gateway: test
streams:
  - {name: SENSORS, subjects: ["plant.sensors.>"]}
  - {name: HALL, subjects: ["plant.hall.*", "plant.hall.*.>"]}
bridges:
  - {name: readings, mqtt: "sensors/{site}/{device}/reading", nats: "plant.sensors.{site}.{device}"}
  - {name: everything, mqtt: "$share/g/sensors/{rest...}", nats: "plant.{rest...}", decode: raw}
  - {name: last, mqtt: "state/{x}", nats: plant.sensors.state, deliver: core}
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "tidegate.yaml"
    path.write_text(CONFIG)
    return str(path)


def _map(capsys: pytest.CaptureFixture[str], config: str, *arguments: str) -> tuple[int, list[str]]:
    status = main(["map", "-c", config, *arguments])
    shown = capsys.readouterr()
    assert shown.err == ""
    assert all(char == "\n" or char.isprintable() for char in shown.out), ascii(shown.out)
    return status, shown.out.splitlines()


def test_each_bridge_that_takes_a_topic_is_a_line_with_subject_stream_and_the_topic_that_comes_back(
    capsys: pytest.CaptureFixture[str], config: str
) -> None:
    status, lines = _map(capsys, config, "sensors/hall/s1/reading", "state/s1", "sensors/a.b")
    assert status == 0
    assert lines == [
        "TOPIC                    BRIDGE      SUBJECT                STREAM       BACK",
        "sensors/hall/s1/reading  readings    plant.sensors.hall.s1  SENSORS      sensors/hall/s1/reading",
        "sensors/hall/s1/reading  everything  plant.hall.s1.reading  HALL         sensors/hall/s1/reading",
        "state/s1                 last        plant.sensors.state    SENSORS      (not reversible)",
        "sensors/a.b              everything  plant.a//b             (none here)  sensors/a.b",
    ]


@pytest.mark.parametrize(
    ("topic", "problem"),
    [
        ("a/b", "a/b: no bridge takes it"),
        ("$SYS/sensors", "$SYS/sensors: no bridge takes it"),
        ("", "'': topic_invalid: the topic is empty"),
        ("sensors/+/x", "sensors/+/x: topic_invalid: the topic has '+' at character 8"),
        ("sensors/\x1b[2J#", "sensors/\\x1b[2J#: topic_invalid: the topic has '#' at character 12"),
        (os.fsdecode(b"sensors/\xff"), "sensors/\\xff: topic_invalid: the topic is not UTF-8 at byte 8"),
        ("sensors", "sensors: everything: topic_unmatched: the topic does not match '$share/g/sensors/{rest...}'"),
        ("sensors/" + "/".join("x" * 130), "subject_too_deep: the subject would have 131 tokens; 128 are allowed"),
        ("sensors/" + "x" * 2100, "subject_too_long: the subject would have 2106 bytes; 2048 are allowed"),
    ],
)
def test_a_topic_without_a_way_is_told_why_and_ends_with_1_and_does_not_hide_the_others(
    capsys: pytest.CaptureFixture[str], config: str, topic: str, problem: str
) -> None:
    status, lines = _map(capsys, config, topic, "state/s1")
    assert status == 1
    assert len(lines) == 3
    assert lines[1].split()[:2] == ["state/s1", "last"]
    assert lines[2].endswith(problem)


async def test_as_a_process_it_shows_a_topic_with_control_characters_escaped(config: str) -> None:
    finished = await tidegate("map", "-c", config, "sensors/\x1b]0;x\x07/é", "nowhere", PYTHONIOENCODING="ascii")
    assert (finished.status, finished.err) == (1, "")
    _, line, problem = finished.out.splitlines()
    assert line.split() == [
        "sensors/\\x1b]0;x\\x07/\\xe9", "everything", "plant.%1B]0;x%07.\\xe9",
        "(none", "here)", "sensors/\\x1b]0;x\\x07/\\xe9",
    ]  # fmt: skip
    assert problem == "nowhere: no bridge takes it"


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(topics | topics.map("sensors/{}".format) | st.sampled_from(["state/x", "state/", "sensors/a/b/reading"]))
def test_a_way_is_what_the_broker_hands_over_and_what_the_mapping_makes_of_it(tmp_path: Path, topic: str) -> None:
    config = load(tmp_path, CONFIG)
    found = {way.bridge: way for way in ways(config, topic)}
    for bridge in config.bridges:
        mapping = bridge.mapping()
        assert (bridge.name in found) == matches(unshared(mapping.topic_filter), topic)
        if (way := found.get(bridge.name)) and not way.problem:
            assert way.subject == mapping.subject(topic)
            assert way.back == (topic if mapping.reversible else None)
