"""`tidegate check` warns of what is right by its rules and will hardly do what is meant; and of nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nats.js.errors import ServerError

from tests.app.helpers import load, tidegate
from tests.app.test_config_samples import ROOT, WHOLE
from tests.core.strategies import few_topics
from tests.support.checker import nats_client
from tests.support.server import nats_server
from tidegate.app.config_file import load_config
from tidegate.app.topic_map import bridges_for
from tidegate.app.warning import warnings

STREAM = 'streams: [{name: S, subjects: ["p.>"]}]\n'
BRIDGE = '{name: b, mqtt: "a/{x}", nats: "p.{x}"}'


def _warnings(
    folder: Path, bridges: list[str], more: str = STREAM, gateway: str = "g", **environment: str
) -> list[str]:
    text = f"gateway: {gateway}\n{more}bridges:\n" + "".join(f"  - {bridge}\n" for bridge in bridges)
    return list(warnings(load(folder, text, **environment), folder / "tidegate.yaml"))


def _one(folder: Path, *wanted: str, bridges: list[str] | None = None, more: str = STREAM, **kwargs: str) -> None:
    """There must be exactly one warning, with these words."""
    found = _warnings(folder, bridges or [BRIDGE], more, **kwargs)
    assert len(found) == 1, found
    for words in wanted:
        assert words in found[0]


def _bridge(mqtt: str, nats: str, name: str = "b", more: str = "") -> str:
    return f'{{name: {name}, mqtt: "{mqtt}", nats: "{nats}"{more}}}'


def test_a_sound_configuration_gives_no_warning(tmp_path: Path) -> None:
    assert _warnings(tmp_path, [BRIDGE]) == []
    assert _warnings(tmp_path, [BRIDGE, _bridge("c/{x...}", "p.c.{x...}", "c")]) == []
    assert _warnings(tmp_path, [_bridge("a/{x}", "q.{x}", more=", deliver: core")]) == []


SAMPLES = [
    *(pytest.param(path, id=str(path.relative_to(ROOT))) for path in sorted(ROOT.glob("examples/*/tidegate.yaml"))),
    ROOT / "deploy/tidegate.yaml",
]


@pytest.mark.parametrize("path", SAMPLES)
def test_what_users_copy_from_gives_no_warning_but_of_levels_that_are_left_out(path: Path) -> None:
    """An example may choose to tell devices apart by less than their whole topic."""
    assert [one for one in warnings(load_config(path, {}), path) if "may look like one" not in one] == []


async def test_check_prints_warnings_after_its_lines_and_ends_with_0(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"gateway: g\nbridges: [{BRIDGE}]\n")
    finished = await tidegate("check", path, "--rate", "1")
    assert (finished.status, finished.err) == (0, "")
    ok, bridge, spool, warning = finished.out.splitlines()
    assert (ok, bridge) == (f"{path}: ok", "  b: a/+ (QoS 1) -> p.* (jetstream)")
    assert spool.startswith("  spool: lasts ")
    assert warning.startswith("warning: bridge b: no stream in this file stores p.*; ")


@pytest.mark.parametrize(
    ("first", "second", "example"),
    [
        ("a/{x}", "a/b", "a/b"),
        ("a/{x}/c", "a/b/{y...}", "a/b/c"),
        ("$share/g/a/{x}", "a/{x}", "a/x"),
        ("$share/g/a/{x}", "$share/h/a/{x}", "a/x"),
        ("{x...}", "a/b", "a/b"),
    ],
)
def test_bridges_that_take_the_same_topics_are_named_with_an_example(
    tmp_path: Path, first: str, second: str, example: str
) -> None:
    bridges = [_bridge(first, "p.a", "one", ", type: 't.{x}'"), _bridge(second, "p.b", "two", ", type: 't'")]
    found = [one for one in _warnings(tmp_path, bridges) if "may look like one" not in one]
    assert len(found) == 1
    assert f"bridge one takes topics of two too, as {example!r}: " in found[0]
    assert "under an id of its own" in found[0]


def test_members_of_one_shared_subscription_get_each_message_once_and_that_is_said(tmp_path: Path) -> None:
    same = "$share/g/a/{x}"
    _one(
        tmp_path, "bridges one and two are members of one shared subscription", "only one of them",
        bridges=[_bridge(same, "p.a.{x}", "one"), _bridge(same, "p.b.{x}", "two")],
    )  # fmt: skip


def test_a_bridge_that_overlaps_with_many_is_one_warning(tmp_path: Path) -> None:
    few = [_bridge(f"{name}/{{x}}", f"p.{name}.{{x}}", name) for name in "cde"]
    _one(
        tmp_path, "bridge b takes topics of c, d and e too, as 'c/x'", bridges=[*few, _bridge("{r...}", "p.all.{r...}")]
    )


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(["a/{x}", "a/{x...}", "{x}/b", "{x...}", "a/b", "$SYS/{x}"]), min_size=2, max_size=3),
    few_topics,
)
def test_no_topic_is_taken_twice_without_a_warning(tmp_path: Path, patterns: list[str], topic: str) -> None:
    bridges = [_bridge(pattern, "p.x", f"b{number}") for number, pattern in enumerate(patterns)]
    text = f"gateway: g\n{STREAM}bridges:\n" + "".join(f"  - {bridge}\n" for bridge in bridges)
    config = load(tmp_path, text)
    if len(bridges_for(config, topic)) > 1:
        assert any("takes topics of" in one for one in warnings(config, tmp_path / "tidegate.yaml"))


@pytest.mark.parametrize(
    ("streams", "words"),
    [
        ("[]", "bridge b: no stream in this file stores p.*; unless there is another one, nothing is delivered"),
        ('[{name: S, subjects: ["q.>", p]}]', "bridge b: no stream in this file stores p.*; unless"),
        ('[{name: S, subjects: ["p.a"]}]', "bridge b: only a part of p.* is stored in this file, by S; unless another"),
        ('[{name: S, subjects: ["p.a"]}, {name: T, subjects: ["p.b"]}]', "is stored in this file, by S and T; unless"),
    ],
)
def test_subjects_that_no_stream_stores_wholly_are_named(tmp_path: Path, streams: str, words: str) -> None:
    _one(tmp_path, words, more=f"streams: {streams}\n")


def test_streams_together_may_store_what_a_bridge_sends(tmp_path: Path) -> None:
    streams = "streams: [{name: ONE, subjects: ['p.*']}, {name: MORE, subjects: ['p.*.>']}]\n"
    assert _warnings(tmp_path, [_bridge("a/{x...}", "p.{x...}")], streams) == []
    subjects = ", ".join(f"p.{number}.*" for number in range(4))
    parts = _bridge("a/{x}", "p.{partition(4, x)}.{x}")
    assert _warnings(tmp_path, [parts], f"streams: [{{name: S, subjects: [{subjects}]}}]\n") == []
    _one(
        tmp_path, "only a part of p.*.*", bridges=[parts], more=f"streams: [{{name: S, subjects: [{subjects[:-7]}]}}]\n"
    )


def test_a_stream_for_dead_letters_that_does_not_store_them_is_named(tmp_path: Path) -> None:
    more = 'streams: [{name: S, subjects: ["p.>"]}]\ndead_letters: {stream: S}\n'
    _one(tmp_path, "stores its dead letters, dead.b, and so they wait", "add dead.* to the subjects of S", more=more)
    assert _warnings(tmp_path, [BRIDGE], more.replace('"p.>"', '"p.>", "dead.*"')) == []


@pytest.mark.parametrize(
    ("subjects", "words"),
    [
        ('["p.>"]}, {name: T, subjects: ["p.x"]', "streams S and T have subjects that overlap, p.> and p.x, and NATS"),
        ('["p.>", "p.x"]', "stream S has subjects that overlap, p.> and p.x, and NATS refuses that"),
        ('["p.>", "dead.b"]', "streams S and DEAD_LETTERS have subjects that overlap, dead.b and dead.*, and NATS"),
    ],
)
def test_streams_that_nats_refuses_beside_each_other_are_named(tmp_path: Path, subjects: str, words: str) -> None:
    _one(tmp_path, words, more=f"streams: [{{name: S, subjects: {subjects}}}]\n")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("max_bytes: 1GiB", "stream S forgets its oldest messages at 1073741824 bytes, read or not; with discard: new"),
        ("max_age: 1h", "stream S forgets messages after 3600 s, read or not"),
        (
            "max_msgs_per_subject: 9",
            "stream S keeps only the last 9 of each subject: a reader that is late misses",
        ),
        ("retention: interest", "stream S keeps only what a consumer exists for at that moment; create the consumers"),
        ("storage: memory", "stream S is in memory: a restart of nats-server loses it; use storage: file"),
        (
            "max_age: 7d, duplicate_window: 8d",
            "S has a duplicate_window of 691200 s, longer than its max_age of 604800",
        ),
    ],
)
def test_a_stream_that_loses_what_nobody_has_read_is_named_with_what_to_do(
    tmp_path: Path, options: str, words: str
) -> None:
    _one(tmp_path, words, more=f'streams: [{{name: S, subjects: ["p.>"], {options}}}]\n')


@pytest.mark.parametrize(
    "options", ["max_age: 7d", "max_bytes: 1GiB, discard: new", "max_bytes: 1GiB, retention: workqueue", "max_age: 30d"]
)
def test_limits_that_lose_nothing_unread_or_leave_enough_time_are_no_warning(tmp_path: Path, options: str) -> None:
    assert _warnings(tmp_path, [BRIDGE], f'streams: [{{name: S, subjects: ["p.>"], {options}}}]\n') == []


def test_a_bucket_of_an_interest_stream_misses_values_and_that_is_said(tmp_path: Path) -> None:
    bridges = [_bridge("a/{x}", "p.{x}", more=", last_value: LAST")]
    assert _warnings(tmp_path, bridges) == []
    streams = 'streams: [{name: S, subjects: ["p.>"], retention: interest}]\n'
    found = _warnings(tmp_path, bridges, streams)
    (one,) = set(found) - set(_warnings(tmp_path, [BRIDGE], streams))
    assert one.startswith("bridge b: S keeps only what a consumer waits for, and a bucket does not wait while")
    other = [_bridge("a/{x}", "q.{x}", more=", last_value: LAST")]
    assert not any("LAST" in one for one in _warnings(tmp_path, other, streams))


def test_dead_letters_that_are_not_kept_for_long_are_named_too(tmp_path: Path) -> None:
    _one(tmp_path, "stream DEAD_LETTERS forgets messages after 3600 s", more=f"{STREAM}dead_letters: {{max_age: 1h}}\n")


async def test_nats_refuses_a_duplicate_window_longer_than_the_messages_age_as_the_warning_says(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server, nats_client(server.port) as client:
        with pytest.raises(ServerError, match="duplicates window can not be larger"):
            await client.jetstream().add_stream(name="S", subjects=["p.>"], max_age=60, duplicate_window=61)
        await client.jetstream().add_stream(name="S", subjects=["p.>"], max_age=60, duplicate_window=60)


@pytest.mark.parametrize(
    ("bridge", "topics"),
    [
        (_bridge("a/+/{x}", "p.{x}"), "'a/x/x' and 'a/y/x' both become p.x"),
        (_bridge("a/#", "p.a"), "'a/x' and 'a/y' both become p.a"),
        (_bridge("a/{x}/{y}", "p.{y}"), "'a/x/x' and 'a/y/x' both become p.x"),
        (_bridge("$share/g/a/{x...}", "p.a"), "'a/x' and 'a/y' both become p.a"),
    ],
)
def test_topics_that_become_one_subject_are_named_by_an_example(tmp_path: Path, bridge: str, topics: str) -> None:
    _one(tmp_path, f"bridge b: {topics}, and two devices may look like one", bridges=[bridge])


@pytest.mark.parametrize(
    "more",
    [
        ", type: 't.{y}'", ", source: 'urn:{y}'", ", attributes: {device: '{y}'}", ", select: \"{d: capture('y')}\"",
        ", filter: \"capture( 'y' ) == 'a'\"",
    ],
)  # fmt: skip
def test_a_level_that_is_used_elsewhere_is_not_lost(tmp_path: Path, more: str) -> None:
    assert _warnings(tmp_path, [_bridge("a/{x}/{y}", "p.{x}", more=more)]) == []
    assert _warnings(tmp_path, [_bridge("a/{y}", "p.{partition(8, y)}")]) == []


@pytest.mark.parametrize(
    "name", ["HOSTNAME", "POD_NAME", "MY_POD", "CONTAINER_ID", "RANDOM", "PID", "K8S_POD_UID", "Uuid"]
)
def test_a_client_id_that_changes_with_every_start_is_named(tmp_path: Path, name: str) -> None:
    given = f"${{{name}:-x}}"
    _one(tmp_path, f"the client ids come from ${{{name}}} in gateway", gateway=f'"{given}"')
    client_id = f'mqtt: {{client_id: "edge-{given}"}}\n{STREAM}'
    _one(tmp_path, f"the client ids come from ${{{name}}} in mqtt.client_id", more=client_id)


@pytest.mark.parametrize(
    ("gateway", "mqtt"),
    [
        ("${SITE:-x}", "{}"),
        ("${TRIPOD:-x}", "{}"),
        ("${PODIUM:-x}", "{}"),
        ("${HOSTNAME:-x}", "{client_id: fixed}"),
        ("${HOSTNAME:-x}", "{session_expiry: 0s}"),
        ("g", "{client_id: '$${HOSTNAME}'}"),
    ],
)
def test_a_client_id_that_stays_or_a_session_that_does_not_is_no_warning(
    tmp_path: Path, gateway: str, mqtt: str
) -> None:
    assert _warnings(tmp_path, [BRIDGE], f"mqtt: {mqtt}\n{STREAM}", gateway=f'"{gateway}"') == []


def test_where_nothing_is_kept_in_a_session_its_client_id_may_change(tmp_path: Path) -> None:
    assert _warnings(tmp_path, [_bridge("a/{x}", "p.{x}", more=", qos: 0")], gateway='"${HOSTNAME:-x}"') == []


@pytest.mark.parametrize(
    ("pattern", "nats", "words"),
    [
        (
            "spBv1.0/{g}/DDATA/{n}/{d}",
            "p.{g}.{n}.{d}",
            "'spBv1.0/x/DDATA/x/x' and not 'spBv1.0/x/NBIRTH/x' and 'spBv1.0/x/DB",
        ),
        (
            "spBv1.0/{g}/NDATA/{n}",
            "p.{g}.{n}",
            "it takes 'spBv1.0/x/NDATA/x' and not 'spBv1.0/x/NBIRTH/x', which names",
        ),
        ("spBv1.0/{g}/{t}/{n}/{d}", "p.{g}.{t}.{n}.{d}", "'spBv1.0/x/DDATA/x/x' and not 'spBv1.0/x/NBIRTH/x', which"),
        (
            "$share/w/spBv1.0/{r...}",
            "p.{r...}",
            "a shared subscription gives births to one member and their data to another",
        ),
    ],
)
def test_a_sparkplug_bridge_that_misses_births_is_named(tmp_path: Path, pattern: str, nats: str, words: str) -> None:
    _one(tmp_path, words, bridges=[_bridge(pattern, nats, more=", decode: sparkplug_b")])


@pytest.mark.parametrize(
    "pattern", ["spBv1.0/{r...}", "spBv1.0/G/{r...}", "{r...}", "spBv1.0/G/NBIRTH/{r...}", "a/{r...}"]
)
def test_a_sparkplug_bridge_that_takes_births_with_the_data_is_no_warning(tmp_path: Path, pattern: str) -> None:
    assert _warnings(tmp_path, [_bridge(pattern, "p.{r...}", more=", decode: sparkplug_b")]) == []


def test_an_option_about_the_device_s_time_without_that_time_has_no_effect(tmp_path: Path) -> None:
    _one(tmp_path, "time_zone has no effect", bridges=[_bridge("a/{x}", "p.{x}", more=", time_zone: Europe/Berlin")])
    _one(tmp_path, "time_unit has no effect", bridges=[_bridge("a/{x}", "p.{x}", more=", time_unit: ms")])
    assert _warnings(tmp_path, [_bridge("a/{x}", "p.{x}", more=", time: ts, time_unit: ms")]) == []


def test_a_configuration_with_every_section_is_warned_of_what_it_does(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    for name in ("ca.pem", "client.pem", "client.key", "secrets/mqtt", "secrets/edge.creds"):
        (tmp_path / name).touch()
    found = list(warnings(load(tmp_path, WHOLE), tmp_path / "tidegate.yaml"))
    assert [one.partition(",")[0].partition(";")[0] for one in found] == [
        "stream SENSORS forgets its oldest messages at 1073741824 bytes",
        "bridge last: 'state/x/x' and 'state/y/x' both become plant.sensors.state",
    ]


DOWN = '{name: d, direction: down, nats: "%s", mqtt: "c/x"%s}'


def test_a_down_bridge_is_warned_of_unless_one_stream_stores_its_subjects(tmp_path: Path) -> None:
    _one(tmp_path, "bridge d: no stream in this file stores q.*; unless", bridges=[DOWN % ("q.*", "")])
    two = 'streams: [{name: S, subjects: ["p.a"]}, {name: T, subjects: ["p.b"]}]\n'
    _one(tmp_path, "bridge d: p.> is stored by S and T; use a bridge for each", bridges=[DOWN % ("p.>", "")], more=two)
    assert (
        _warnings(tmp_path, [DOWN % ("p.>", ""), DOWN.replace("name: d", "name: e") % ("q.x", ", deliver: core")]) == []
    )
