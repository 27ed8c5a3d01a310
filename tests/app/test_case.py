"""`tidegate test`: cases are read as a configuration is, and pass exactly where the gateway does what they say."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.app.helpers import load, tidegate
from tests.core.strategies import json_values
from tests.sparkplug.payloads import INT32, Node, birth_metric
from tidegate.app.case_file import load_cases
from tidegate.app.cli import main
from tidegate.app.document import plain, read_document, yaml_lines
from tidegate.core import ConfigError

CONFIG = """\
gateway: test
mqtt: {max_payload: 64B}
bridges:
  - name: readings
    mqtt: sensors/{site}/{device}
    nats: plant.{site}.{device}
    type: com.example.{site}.v1
    filter: "!(type(value) == 'number' && value < `0`)"
    time: ts
  - {name: raw, mqtt: "raw/{rest...}", nats: "raw.{rest...}", decode: raw, mode: binary}
  - {name: both, mqtt: "sensors/hall/+", nats: both, select: "{v: value}", attributes: {extra: "1"}}
  - {name: sparkplug, mqtt: "spBv1.0/{group}/{type}/{node...}", nats: "sp.{group}.{type}.{node...}",
     decode: sparkplug_b}
"""
GOOD = """\
cases:
  - name: one
    topic: sensors/yard/s1
    json: {value: 21.50, ts: 2025-12-31T03:04:05+01:00}
    expect:
      - nats: plant.yard.s1
        data: {ts: '2025-12-31T03:04:05+01:00', value: 21.5}
        time: 2025-12-31T02:04:05Z
        id: 00000000-0000-7000-8000-000000000001
        causationid: null
  - {name: nobody reads it, topic: sensors/yard/s1, payload: '{"value": -1}', expect: []}
"""


class Folder:
    """A configuration, and cases that are written beside it and run."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self.config = path / "tidegate.yaml"
        self.config.write_text(CONFIG)
        self.cases = path / "cases.yaml"
        self._capsys = capsys

    def run(self, cases: str) -> tuple[int, list[str]]:
        """Return the exit status and the lines of output, which must be fit for a terminal."""
        self.cases.write_text(cases)
        status = main(["test", "-c", str(self.config), str(self.cases)])
        shown = self._capsys.readouterr()
        assert shown.err == ""
        assert all(char == "\n" or char.isprintable() for char in shown.out), ascii(shown.out)
        return status, shown.out.splitlines()

    def one(self, case: str) -> tuple[int, list[str]]:
        """Run one case, a flow mapping without its braces; return its lines without the last, which counts."""
        status, lines = self.run("- {name: x, %s}" % case)  # noqa: UP031 - it is full of braces
        assert lines[-1] == ("passed 0, failed 1" if status else "passed 1, failed 0")
        assert lines[0] == ("FAILED  x" if status else "ok      x")
        return status, lines[1:-1]

    def passes(self, case: str) -> bool:
        """Whether a case passes."""
        return self.one(case)[0] == 0


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Folder:
    return Folder(tmp_path, capsys)


def test_a_good_file_is_a_line_for_each_case_and_a_count_and_ends_with_0(folder: Folder) -> None:
    assert folder.run(GOOD) == (0, ["ok      one", "ok      nobody reads it", "passed 2, failed 0"])


async def test_as_processes_one_failure_ends_with_1_and_a_bad_file_with_78(folder: Folder) -> None:
    folder.cases.write_text(GOOD.replace("21.50", "21.51"))
    bad_cases = folder.path / "bad.yaml"
    bad_cases.write_text("cases: []\n")
    failed, bad = await asyncio.gather(
        tidegate("test", "-c", folder.config, folder.cases), tidegate("test", "-c", folder.config, bad_cases)
    )
    assert (failed.status, failed.err) == (1, "")
    assert failed.out.splitlines()[-2:] == ["ok      nobody reads it", "passed 1, failed 1"]
    assert (bad.status, bad.out) == (78, "")
    assert bad.err == f"{bad_cases}: line 1, cases: should have at least one entry\n"


def test_a_file_that_is_not_there_is_told_by_name(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "-c", str(folder.config), str(folder.cases)]) == 78
    assert capsys.readouterr().err == f"{folder.cases}: can't be read: No such file or directory\n"


def test_a_failure_shows_the_members_that_were_asked_for_with_plus_and_minus(folder: Folder) -> None:
    status, lines = folder.run(
        GOOD.replace("value: 21.5}", "value: 22, unit: C}").replace("plant.yard.s1", "plant.yard.s2")
    )
    assert status == 1
    assert lines == [
        "FAILED  one",
        "      event 1:",
        "    -   nats: plant.yard.s2",
        "    +   nats: plant.yard.s1",
        "        data:",
        "          ts: '2025-12-31T03:04:05+01:00'",
        "    -     value: 22",
        "    -     unit: C",
        "    +     value: 21.5",
        "        time: '2025-12-31T02:04:05.000000Z'",
        "        id: 00000000-0000-7000-8000-000000000001",
        "        causationid: null",
        "ok      nobody reads it",
        "passed 1, failed 1",
    ]


def test_a_dead_letter_that_came_instead_is_shown_with_its_reason_and_detail(folder: Folder) -> None:
    status, lines = folder.one("topic: sensors/yard/s1, payload: '{torn', expect: [{nats: plant.yard.s1}]")
    assert status == 1
    assert lines[:4] == [
        "    - event 1:",
        "    -   nats: plant.yard.s1",
        "    + dead letter:",
        "    +   reason: decode_failed",
    ]
    assert lines[4].startswith("    +   detail: 'not JSON: ")


def test_events_that_are_too_many_or_missing_are_shown(folder: Folder) -> None:
    status, lines = folder.one("topic: sensors/hall/s1, json: {value: 1}, bridge: readings, expect: []")
    assert status == 1
    assert lines[0] == "    - nothing: it is filtered out"
    assert "    +   nats: plant.hall.s1" in lines
    status, lines = folder.one("topic: sensors/hall/s1, json: {value: -1}, bridge: readings, expect: [{type: t}]")
    assert (status, lines) == (1, ["    - event 1:", "    -   type: t", "    + nothing: it is filtered out"])


@pytest.mark.parametrize(
    ("expect", "passes"),
    [
        ("expect: [{}]", True),
        ("expect: [{type: com.example.yard.v1, subject: sensors/yard/s1, recordedtime: 2026-01-01T00:00:00Z}]", True),
        ("expect: [{recordedtime: '2026-01-01T01:00:00.000+01:00'}]", True),
        ("expect: [{recordedtime: 2026-01-01T00:00:01Z}]", False),
        ("expect: [{timefallback: true}]", True),
        ("expect: [{timefallback: 1}]", False),
        ("expect: [{timefallback: null}]", False),
        ("expect: [{tpye: com.example.yard.v1}]", False),
        ("expect: [{data: {b: [1, {c: null}], a: 'é'}}]", True),
        ("expect: [{data: {a: 'é', b: [1, {c: null}], d: 1}}]", False),
        ("expect: [{data: {a: 'é'}}]", False),
        ("expect: [{data: {a: 'é', b: [true, {c: null}]}}]", False),
        ("expect: [{data: {a: 'é', b: [1.0, {c: null}]}}]", False),
        ("expect: [{data: {a: 'é', b: ['1', {c: null}]}}]", False),
        ("expect: [{data: null}]", False),
        ("expect: [{data_base64: null}]", True),
        ("expect: [{}, {}]", False),
        ("expect_dead_letter: {}", False),
        ("expect: [{}], expect_dead_letter: {reason: decode_failed}", False),
    ],
)
def test_attributes_are_compared_where_they_are_named_and_data_as_a_whole(
    folder: Folder, expect: str, passes: bool
) -> None:
    case = """topic: sensors/yard/s1, payload: '{"a": "\u00e9", "b": [1, {"c": null}]}', """
    assert folder.passes(case + expect) is passes


def test_data_that_is_null_is_not_the_same_as_no_data(folder: Folder) -> None:
    assert folder.passes("topic: sensors/yard/s1, json: null, expect: [{data: null}]")
    assert not folder.passes("topic: sensors/yard/s1, expect: [{data: null}]")
    assert folder.passes("topic: sensors/yard/s1, expect: [{emptypayload: true}]")


@pytest.mark.parametrize(
    ("expect", "passes"),
    [
        ("expect_dead_letter: {}", True),
        ("expect_dead_letter: {reason: decode_failed}", True),
        ("expect_dead_letter: {detail: 'not JSON'}", True),
        ("expect: [], expect_dead_letter: {reason: decode_failed, detail: column}", True),
        ("expect_dead_letter: {reason: schema_failed}", False),
        ("expect_dead_letter: {detail: 'not YAML'}", False),
        ("expect: []", False),
        ("expect: [{}], expect_dead_letter: {reason: decode_failed}", False),
    ],
)
def test_a_dead_letter_is_compared_by_its_reason_and_a_part_of_its_detail(
    folder: Folder, expect: str, passes: bool
) -> None:
    assert folder.passes("topic: sensors/yard/s1, payload: '{torn', " + expect) is passes


UNEXPECTED = [
    'name: several bridges, topic: sensors/hall/s1, json: {value: 1, text: "\\e[2J\\u202e é\\n two"}',
    'name: bytes and properties, topic: raw/a/b, hex: "00 ff", content_type: image/png, retained: true, '
    'correlation_data: {hex: "00ff"}, user: [[causationid, first], [causationid, second]]',
    "name: filtered, topic: sensors/yard/s1, json: {value: -1}",
    'name: a dead letter, topic: sensors/yard/s1, payload: "\\e{"',
    "name: a dead letter and an event, topic: sensors/hall/s1, content_type: application/cloudevents+cbor, bridge: raw",
    f"name: too large, topic: raw/x, payload: {'x' * 65}",
    "name: a wildcard, topic: raw/+",
    "name: one refuses it, topic: sensors/hall/s1, json: {value: 1, ts: 1}, user: {specversion: '1.0'}, bridge: both",
    "name: one refuses what the other takes, topic: sensors/hall/s1, json: null",
]


def test_a_case_without_an_expectation_fails_and_prints_one_that_passes(folder: Folder) -> None:
    """Whatever a device sends: put where it belongs, what was printed is what comes."""
    status, lines = folder.run("".join(f"- {{{case}}}\n" for case in UNEXPECTED))
    assert (status, lines[-1]) == (1, f"passed 0, failed {len(UNEXPECTED)}")
    starts = [number for number, line in enumerate(lines) if line.startswith("FAILED  ")]
    assert len(starts) == len(UNEXPECTED)
    pasted = "cases:\n"
    for case, start, end in zip(UNEXPECTED, starts, [*starts[1:], -1], strict=True):
        assert lines[start + 1] == "    nothing is expected; this is what comes:"
        pasted += "\n".join(["  - <<: {%s}" % case, *lines[start + 2 : end]]) + "\n"  # noqa: UP031
    status, lines = folder.run(pasted)
    assert [line[:8] for line in lines] == ["ok      "] * len(UNEXPECTED) + [f"passed {len(UNEXPECTED)}"[:8]]
    assert status == 0


def test_what_is_printed_leaves_out_only_what_the_case_says_itself(folder: Folder) -> None:
    _, lines = folder.one("topic: raw/x, payload: x, content_type: text/plain, user: {correlationid: order-7}")
    assert lines == [
        "    nothing is expected; this is what comes:",
        "    expect:",
        "      - nats: raw.x",
        "        source: urn:tidegate:test:raw",
        "        type: io.tidegate.message.v1",
        "        correlationid: order-7",
        "        datacontenttype: text/plain",
        "        data: x",
    ]


def test_where_several_bridges_refuse_a_message_it_is_said_to_name_one(folder: Folder) -> None:
    _, lines = folder.one("topic: sensors/hall/s1, payload: '{torn'")
    assert lines[-1] == "    # 2 bridges refuse it: write a case for each, with bridge: readings, bridge: both"


def test_several_bridges_give_their_events_in_the_order_of_the_configuration_and_one_can_be_named(
    folder: Folder,
) -> None:
    both = "topic: sensors/hall/s1, json: {value: 1}, "
    assert folder.passes(both + "expect: [{nats: plant.hall.s1, data: {value: 1}}, {nats: both, data: {v: 1}}]")
    assert not folder.passes(both + "expect: [{nats: both}, {nats: plant.hall.s1}]")
    assert folder.passes(both + "bridge: both, expect: [{nats: both, extra: '1'}]")
    assert folder.passes("topic: elsewhere, bridge: both, expect_dead_letter: {reason: topic_unmatched}")


def test_a_topic_that_no_bridge_takes_fails_whatever_is_expected(folder: Folder) -> None:
    for expect in ("", "expect: []", "expect_dead_letter: {}"):
        assert folder.one(f"topic: 'else\\x1b', {expect}".replace("'", '"')) == (
            1, ["    no bridge takes the topic else\\x1b"]
        )  # fmt: skip


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ("payload: héllo", "aMOpbGxv"),
        ("json: {b: [1, 2.50, null, é], a: true}", "eyJiIjogWzEsIDIuNSwgbnVsbCwgIsOpIl0sICJhIjogdHJ1ZX0="),
        ("json: null", "bnVsbA=="),
        ("json: [&yes true, *yes]", "W3RydWUsIHRydWVd"),
        ("hex: '00 0a FF'", "AAr/"),
        ("base64: 'AAr/'", "AAr/"),
        ("file: payloads/one.bin", "/w=="),
    ],
)
def test_a_payload_can_be_given_in_each_form(folder: Folder, payload: str, expected: str) -> None:
    (folder.path / "payloads").mkdir()
    (folder.path / "payloads/one.bin").write_bytes(b"\xff")
    assert folder.passes(f"topic: raw/x, {payload}, expect: [{{data_base64: '{expected}'}}]")


def test_mqtt_properties_and_the_rest_of_a_message_arrive(folder: Folder) -> None:
    message = (
        "topic: raw/x, payload: x, content_type: text/plain, correlation_data: order-7, response_topic: a/b, "
        "retained: true, qos: 2, received: 2026-02-03T04:05:06.5+01:00, user: {causationid: before}, "
    )
    expected = (
        "correlationid: order-7, causationid: before, datacontenttype: text/plain, data: x, "
        "retained: 'true', recordedtime: 2026-02-03T03:05:06.5Z, nats: raw.x, source: 'urn:tidegate:test:raw'"
    )
    assert folder.passes(f"{message} expect: [{{{expected}}}]")


def test_a_message_over_the_limit_is_refused_as_the_session_does(folder: Folder) -> None:
    assert folder.passes(f"topic: raw/x, payload: '{'x' * 64}', expect: [{{}}]")
    assert folder.passes(f"topic: raw/x, payload: '{'x' * 65}', expect_dead_letter: {{reason: payload_too_large}}")


def test_ids_and_times_are_the_same_every_day(folder: Folder) -> None:
    case = "- {name: x, topic: raw/x, expect: [{id: %s, recordedtime: 2026-01-01T00:00:00Z}]}\n"
    ids = [f"00000000-0000-7000-8000-{number:012x}" for number in range(1, 18)]
    assert folder.run("".join(case % event_id for event_id in ids))[1][-1] == "passed 17, failed 0"


def test_cases_share_what_the_bridges_remember_and_a_rebirth_is_only_said(folder: Folder) -> None:
    node = Node()
    born = node.born(birth_metric("temperature", INT32, 7, int_value=20))
    says = node.says("NDATA", {"alias": 7, "int_value": 21})

    def case(name: str, message: Any, expect: str) -> str:
        topic = message.topic.decode()
        return f"- {{name: {name}, topic: {topic}, hex: '{message.payload.hex()}', bridge: sparkplug, {expect}}}\n"

    status, lines = folder.run(
        case("early", says, "expect: []")
        + case("birth", born, "expect: [{nats: sp.g.NBIRTH.n}]")
        + case("data", says, "")
    )
    assert status == 1
    early, data = lines.index("FAILED  early"), lines.index("FAILED  data")
    assert "    # it would also send to spBv1.0/g/NCMD/n" in lines[early:data]
    assert lines[data - 1] == "ok      birth"
    assert any("temperature" in line for line in lines[data:])


@pytest.mark.parametrize(
    ("cases", "fault"),
    [
        ("", "should be a list of cases, or a mapping that starts with 'cases:'"),
        ("hello", "should be a list of cases, or a mapping that starts with 'cases:'"),
        ("cases: []", "line 1, cases: should have at least one entry"),
        ("[]", "should be a list of cases, or a mapping that starts with 'cases:'"),
        ("case: []", "line 1, case: unknown key; did you mean 'cases'?"),
        ("cases: 1", "line 1, cases: should be a list"),
        ("- 1", "line 1, [0]: should be a mapping of keys to values"),
        ("cases:\n- name: x", "line 2, cases[0].topic: is required"),
        ("- name: x\n  topic: a\n  paylaod: x", "line 3, [0].paylaod: unknown key; did you mean 'payload'?"),
        ("- name: x\n  topic: a\n  jsn: x", "line 3, [0].jsn: unknown key; did you mean 'json'?"),
        ("- name: x\n  topic: a\n  payload: 12.5", "line 3, [0].payload: should be text; put it in quotes"),
        ("- name: 7\n  topic: a", "line 1, [0].name: should be text; put it in quotes"),
        ('- name: x\n  topic: "\\ud800"', "line 2, [0].topic: is no text: it has half of a surrogate pair"),
        ("- name: x\n  topic: a\n  hex: 0g", "line 3, [0].hex: should be bytes in hexadecimal, in quotes"),
        ("- name: x\n  topic: a\n  hex: 10", "line 3, [0].hex: should be bytes in hexadecimal, in quotes"),
        ("- name: x\n  topic: a\n  base64: '*'", "line 3, [0].base64: should be base64"),
        ("- name: x\n  topic: a\n  json: .nan", "line 3, [0].json: has no form in JSON"),
        ("- name: x\n  topic: a\n  file: none.bin", "line 3, [0].file: the file can't be read: No such file"),
        ('- name: x\n  topic: a\n  file: "a\\0"', "line 3, [0].file: the file can't be read: "),
        ("- name: x\n  topic: a\n  hex: 0a\n  json: 1", "line 1, [0]: json and hex exclude each other"),
        ("- name: x\n  topic: a\n  correlation_data: 7", "line 3, [0].correlation_data: should be text, or bytes as"),
        ("- name: x\n  topic: a\n  user: {a: 1}", "line 3, [0].user: should be names with texts, as {correlationid"),
        ("- name: x\n  topic: a\n  user: [[a]]", "line 3, [0].user: should be names with texts, as {correlationid"),
        ("- name: x\n  topic: a\n  qos: 3", "line 3, [0].qos: should be 0, 1 or 2"),
        ("- name: x\n  topic: a\n  received: today", "line 3, [0].received: should be a time with its offset"),
        ("- name: x\n  topic: a\n  received: 2026-01-01T00:00:00", "line 3, [0].received: should be a time with its"),
        (
            "- name: x\n  topic: a\n  bridge: gone",
            "line 3, [0].bridge: no bridge is called 'gone'; there are readings, raw, both, sparkplug",
        ),
        ("- name: x\n  topic: a\n  expect: {nats: a}", "line 3, [0].expect: should be a list"),
        ("- name: x\n  topic: a\n  expect:\n  - a", "line 4, [0].expect[0]: should be a mapping of keys to values"),
        (
            "- name: x\n  topic: a\n  expect_dead_letter: {raeson: x}",
            "line 3, [0].expect_dead_letter.raeson: unknown key; did you mean 'reason'?",
        ),
        ("- name: x\n  topic: a\n  name: y", "line 3: the key 'name' is there twice"),
        ("- name: x\n topic: a", "line 2: not YAML: "),
        ("- " * 2000 + "a", "is nested too deeply"),
        ("- name: x\n  topic: a\n  json: !!set {a}", "a YAML value of the kind CommentedSet has no form in JSON"),
    ],
)
def test_a_fault_in_a_file_of_cases_is_told_with_its_line_and_key(folder: Folder, cases: str, fault: str) -> None:
    folder.cases.write_text(cases)
    with pytest.raises(ConfigError) as caught:
        load_cases(folder.cases, load(folder.path, CONFIG))
    lines = str(caught.value).split("\n")
    assert any(line.startswith(f"{folder.cases}: {fault}") for line in lines), lines
    assert len(lines) == (2 if "case: unknown" in fault else 1), lines  # `cases` is missing then, too


def test_properties_have_no_place_where_the_gateway_speaks_mqtt_3_1_1(folder: Folder) -> None:
    folder.cases.write_text("- {name: x, topic: a, content_type: text/plain}")
    with pytest.raises(ConfigError, match=r"line 1, \[0\]: a message of MQTT 3\.1\.1"):
        load_cases(folder.cases, load(folder.path, CONFIG.replace("mqtt: {", "mqtt: {protocol: 3.1.1, ")))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=40) | st.text(alphabet="ab:-{}[]&*!%@|>'\"#, \n\t$", max_size=40).map(str.encode))
def test_no_bytes_make_anything_but_cases_or_a_config_error(folder: Folder, text: bytes) -> None:
    config = load(folder.path, CONFIG)
    for content in (text, GOOD.encode() + text, b"- name: x\n  topic: a\n  json: " + text):
        folder.cases.write_bytes(content)
        try:
            cases = load_cases(folder.cases, config)
        except ConfigError:
            continue
        assert cases


_AWKWARD = ["<<", "=", "2026-01-01", "on", "null", "~", "1e3", "- a", "a: b", "&a", "'", "\n", " a", "\x85", "\u2028"]
_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(_AWKWARD)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(json_values | st.dictionaries(_texts, _texts | st.lists(_texts, max_size=3), max_size=3))
def test_every_value_is_printed_so_that_it_can_be_read_again(tmp_path: Path, value: object) -> None:
    lines = yaml_lines({"value": value})
    assert all(line.isprintable() for line in lines)
    path = tmp_path / "value.yaml"
    path.write_text("\n".join(lines), encoding="utf-8")
    assert repr(plain(read_document(path))) == repr({"value": value})
