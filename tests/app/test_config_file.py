"""A wrong configuration is refused with sentences that name the file, the line, the key and what would be right."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.app.helpers import BRIDGES, faults, load
from tidegate.app.config_file import load_config
from tidegate.core import ConfigError

HEAD = "gateway: plant-1\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (f"{HEAD}brigdes: []\n{BRIDGES}", "line 2, brigdes: unknown key; did you mean 'bridges'?"),
        (f"{HEAD}nats:\n  tls:\n    cca: x\n{BRIDGES}", "line 4, nats.tls.cca: unknown key; did you mean 'ca'?"),
        (f"{HEAD}{BRIDGES}    qso: 1\n", "line 6, bridges[0].qso: unknown key; did you mean 'qos'?"),
        (f"{HEAD}log: {{zzz: 1}}\n{BRIDGES}", "line 2, log.zzz: unknown key; known here: level, format"),
        (f"{HEAD}7: x\n{BRIDGES}", "line 2, 7: unknown key; known here: gateway, state_dir,"),
        (BRIDGES, "gateway: is required"),
        (f"{HEAD}bridges:\n  - name: a\n    mqtt: b\n", "line 3, bridges[0].nats: is required"),
        (HEAD, "bridges: is required"),
        (f"{HEAD}bridges: []\n", "line 2, bridges: should have at least one entry"),
        (f"{HEAD}bridges: x\n", "line 2, bridges: should be a list"),
        (f"{HEAD}mqtt: x\n{BRIDGES}", "line 2, mqtt: should be a mapping of keys to values"),
        (f"{HEAD}mqtt:\n  receive_maximum: many\n{BRIDGES}", "line 3, mqtt.receive_maximum: should be a valid integer"),
        (f"{HEAD}mqtt:\n  receive_maximum: 0\n{BRIDGES}", "line 3, mqtt.receive_maximum: should be greater than or"),
        (f"{HEAD}mqtt:\n  protocol: 4\n{BRIDGES}", "line 3, mqtt.protocol: should be '5' or '3.1.1'"),
        (f"{HEAD}shutdown_timeout: 10\n{BRIDGES}", "line 2, shutdown_timeout: should be a duration with its unit, as"),
        (f"{HEAD}shutdown_timeout: 5 parsecs\n{BRIDGES}", "line 2, shutdown_timeout: should be a duration with its"),
        (f"{HEAD}shutdown_timeout: {'9' * 400}d\n{BRIDGES}", "line 2, shutdown_timeout: should be at most 36500d"),
        (f"{HEAD}mqtt:\n  max_payload: 1TB\n{BRIDGES}", "line 3, mqtt.max_payload: should be a size with its unit, as"),
        (f"{HEAD}mqtt:\n  max_payload: {'9' * 400}B\n{BRIDGES}", "line 3, mqtt.max_payload: should be at most"),
        (f"{HEAD}mqtt:\n  max_payload: 1GiB\n{BRIDGES}", "line 3, mqtt.max_payload: should be less than or equal to"),
        (f"{HEAD}mqtt:\n  keep_alive: 1d\n{BRIDGES}", "line 3, mqtt.keep_alive: should be less than or equal to"),
        (f"{HEAD}mqtt:\n  url: http://x\n{BRIDGES}", "line 3, mqtt.url: should be mqtt://host:port or mqtts://host:"),
        (f"{HEAD}mqtt:\n  url: mqtt://x:99999\n{BRIDGES}", "line 3, mqtt.url: should be mqtt://host:port or"),
        (f"{HEAD}mqtt:\n  url: mqtt://x:1/y\n{BRIDGES}", "line 3, mqtt.url: should be mqtt://host:port or"),
        (f"{HEAD}mqtt:\n  url: mqtt://me:it@x:1\n{BRIDGES}", "line 3, mqtt.url: a user or password has no place in a"),
        (f"{HEAD}nats:\n  servers:\n  - nats://a:1\n  - me@b:2\n{BRIDGES}", "line 5, nats.servers[1]: should be nats"),
        (f"{HEAD}nats:\n  servers:\n  - nats://tok@a:1\n{BRIDGES}", "line 4, nats.servers[0]: a user or password has"),
        (f"{HEAD}nats: {{servers: []}}\n{BRIDGES}", "line 2, nats.servers: should have at least one entry"),
        (f"{HEAD}http:\n  listen: 127.0.0.1:99999\n{BRIDGES}", "line 3, http.listen: should be host:port, as"),
        (f"{HEAD}http:\n  listen: localhost\n{BRIDGES}", "line 3, http.listen: should be host:port, as"),
        (f"{HEAD}{BRIDGES}    qos: 3\n", "line 6, bridges[0].qos: should be 0, 1 or 2"),
        (f"gateway: Plant 1\n{BRIDGES}", "line 1, gateway: should be lower-case letters, digits"),
        (
            f"{HEAD}streams:\n- {{name: S, subjects: [a], retention: workqueue, discard: old}}\n{BRIDGES}",
            "line 3, streams[0]: a work queue with discard 'old' deletes unread work when it is full; say 'new'",
        ),
        (
            f"{HEAD}streams:\n- {{name: S, subjects: [a], retention: workqueue, max_msgs_per_subject: 1}}\n{BRIDGES}",
            "line 3, streams[0]: a work queue with max_msgs_per_subject deletes unread work; leave that out",
        ),
        (
            f"{HEAD}streams:\n- {{name: S, subjects: [a], retention: interest, max_msgs_per_subject: 1}}\n{BRIDGES}",
            "line 3, streams[0]: max_msgs_per_subject deletes the oldest messages of a subject, which discard 'new' "
            "would have kept; say discard: old",
        ),
        (
            f"{HEAD}streams:\n- {{name: S, subjects: [a]}}\n- {{name: S, subjects: [b]}}\n{BRIDGES}",
            "line 2, streams: two are called 'S'; each needs a name of its own",
        ),
        (
            f"{HEAD}{BRIDGES}  - {{name: readings, mqtt: a, nats: b}}\n",
            "line 2, bridges: two are called 'readings'; each needs a name of its own",
        ),
    ],
)
def test_a_fault_is_told_with_its_line_its_key_and_what_would_be_right(tmp_path: Path, text: str, fault: str) -> None:
    found = faults(tmp_path, text)
    assert len(found) == 1, found
    assert fault in found[0]


@pytest.mark.parametrize(
    ("pattern", "template", "fault"),
    [
        ("a/{x}", "{x}.a", "line 5, bridges[0].nats: the first token must be literal"),
        ("a/{x}", "plant.{y}", "line 5, bridges[0].nats: {y} is not captured by the topic pattern (captured: {x})"),
        ("a/{x}", "$JS.{x}", "line 5, bridges[0].nats: subjects under '$JS' are NATS's own"),
        ("a/{x}", "plant.a{x}", "line 5, bridges[0].nats: a capture is a whole token"),
        ("a/{x}", "plant..{x}", "line 5, bridges[0].nats: '' can't be a token of a subject"),
        ("a/{x}", "plant.*", "line 5, bridges[0].nats: '*' can't be a token of a subject"),
        ("a/{x...}", "plant.{x}", "line 5, bridges[0].nats: the topic pattern captures {x...}"),
        ("a/#/b", "plant", "line 4, bridges[0].mqtt: '#' must be the whole last level"),
        ("a/{x...}/b", "plant", "line 4, bridges[0].mqtt: '#' must be the whole last level"),
        ("a/b+", "plant", "line 4, bridges[0].mqtt: '+' must be a whole level"),
        ("{x}/{x}", "plant.{x}", "line 4, bridges[0].mqtt: {x} is captured twice"),
        ("", "plant", "line 4, bridges[0].mqtt: a topic filter can't be empty"),
    ],
)
def test_a_bad_mapping_is_told_at_the_side_that_is_wrong(
    tmp_path: Path, pattern: str, template: str, fault: str
) -> None:
    text = f'{HEAD}bridges:\n  - name: a\n    mqtt: "{pattern}"\n    nats: "{template}"\n'
    found = faults(tmp_path, text)
    assert len(found) == 1, found
    assert found[0].startswith(fault)


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    text = (
        f'{HEAD}mqtt:\n  url: x\n  keep_alive: 5\nnats: {{username: $NO}}\nlog: {{level: "${{NO}}"}}\nfoo: 1\n{BRIDGES}'
    )
    found = sorted(faults(tmp_path, text))
    assert [fault.split(":")[0] for fault in found] == [
        "line 3, mqtt.url",
        "line 4, mqtt.keep_alive",
        "line 5, nats",
        "line 6, log.level",
        "line 7, foo",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"", "should be a mapping that starts with 'gateway: NAME'"),
        (b"# nothing yet\n", "should be a mapping that starts with 'gateway: NAME'"),
        (b"- a\n", "should be a mapping that starts with 'gateway: NAME'"),
        (b"hello", "should be a mapping that starts with 'gateway: NAME'"),
        (b"gateway: caf\xe9\n", "is not UTF-8 text"),
        (b"gateway: a\n\tmqtt: x\n", "line 2: not YAML: "),
        (b'gateway: "a\nbridges: []\n', "line 3: not YAML: "),
        (b"gateway: a\nmqtt: {url: x\n", "line 3: not YAML: "),
        (b"gateway: a\n---\ngateway: b\n", "line 2: not YAML: "),
        (b"gateway: a\nmqtt: a\x01b\n", "line 2: not YAML: the control character #x01"),
        (b"gateway: a\nmqtt: *nowhere\n", "line 2: not YAML: "),
        (b"gateway: a\nlog: {}\ngateway: b\n", "line 3: the key 'gateway' is there twice"),
        (b"gateway: a\nlog: {level: info, level: debug}\n", "line 2: the key 'level' is there twice"),
        (b"gateway: " + b"[" * 300 + b"]" * 300, "is nested too deeply"),
        (b"gateway: a\nmqtt: {receive_maximum: " + b"9" * 5000 + b"}\n", "not YAML: a value can't be read"),
    ],
)
def test_a_file_that_is_not_a_yaml_mapping_is_refused_in_one_sentence(tmp_path: Path, text: bytes, fault: str) -> None:
    found = faults(tmp_path, text)
    assert len(found) == 1, found
    assert found[0].startswith(fault)


def test_a_file_that_is_not_there_and_a_folder_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: can't be read: No such file"):
        load_config(tmp_path / "none.yaml", {})
    with pytest.raises(ConfigError, match=r"can't be read: Is a directory"):
        load_config(tmp_path, {})


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    assert load(tmp_path, b"\xef\xbb\xbf" + f"{HEAD}{BRIDGES}".encode()).gateway == "plant-1"


def test_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    text = (
        f'{HEAD}bridges:\n  - &one {{name: a, mqtt: "a/{{x}}", nats: "p.{{x}}", qos: 2}}\n  - {{<<: *one, name: b}}\n'
    )
    assert [(bridge.name, bridge.qos) for bridge in load(tmp_path, text).bridges] == [("a", 2), ("b", 2)]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60) | st.text(alphabet="ab:-{}[]&*!%@|>'\"#, \n\t$", max_size=40).map(str.encode))
def test_no_bytes_make_anything_but_a_config_or_a_config_error(tmp_path: Path, text: bytes) -> None:
    """Alone, and after a good configuration."""
    for content in (text, f"{HEAD}{BRIDGES}".encode() + text):
        with contextlib.suppress(ConfigError):
            load(tmp_path, content)
