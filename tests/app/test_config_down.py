"""What a file may say about bridges from NATS to MQTT."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.app.helpers import faults, load
from tidegate.app.cli import main
from tidegate.app.config import DownBridge
from tidegate.app.guarantee import down_guarantee
from tidegate.app.loop_guard import Hop, find_loop
from tidegate.nats import StreamSpec

DOWN = 'gateway: g\nbridges:\n  - {{name: d, direction: down, nats: "n.{{x}}", mqtt: "c/{{x}}", {more}}}\n'
UP = '  - {name: u, mqtt: "devices/#", nats: "plant.devices"}\n'


def test_a_down_bridge_has_its_own_defaults(tmp_path: Path) -> None:
    (bridge,) = load(tmp_path, DOWN.format(more="")).bridges
    assert isinstance(bridge, DownBridge)
    assert (bridge.qos, bridge.retain, bridge.deliver, bridge.payload) == (1, False, "jetstream", "data")


def test_a_variable_can_say_the_qos(tmp_path: Path) -> None:
    (bridge,) = load(tmp_path, DOWN.format(more="qos: '${QOS}', retain: '${KEPT}'"), QOS="2", KEPT="true").down_bridges
    assert (bridge.qos, bridge.retain) == (2, True)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            DOWN.format(more="decode: json"),
            "line 3, bridges[0].decode: unknown key with direction: down; it is an option of direction: up",
        ),
        (
            DOWN.replace("down", "up").format(more="retain: true"),
            "line 3, bridges[0].retain: unknown key with direction: up; it is an option of direction: down",
        ),
        (DOWN.format(more="retian: true"), "line 3, bridges[0].retian: unknown key; did you mean 'retain'?"),
        (
            DOWN.format(more="zzz: 1"),
            "unknown key; known here: name, direction, nats, mqtt, qos, retain, deliver, payload",
        ),
        (
            DOWN.replace("down", "sideways").format(more=""),
            "bridges[0].direction: should be 'up' (from MQTT to NATS) or",
        ),
        (DOWN.format(more="qos: 3"), "line 3, bridges[0].qos: should be 0, 1 or 2"),
        (DOWN.format(more="payload: all"), "bridges[0].payload: should be 'data' or 'event'"),
        (DOWN.replace("c/{{x}}", "c/{{y}}").format(more=""), "bridges[0].mqtt: {y} is not captured by the subject"),
        (DOWN.replace("n.{{x}}", "n.{{x").format(more=""), "bridges[0].nats: a capture is a whole token"),
        ("gateway: g\nbridges:\n  - {name: d, direction: down, nats: n.a}\n", "bridges[0].mqtt: is required"),
        ("gateway: g\nbridges: [5]\n", "bridges[0]: should be a mapping of keys to values"),
    ],
)
def test_a_fault_is_told_by_line_and_key(text: str, problem: str, tmp_path: Path) -> None:
    found = "\n".join(faults(tmp_path, text))
    assert problem in found
    assert len(found.splitlines()) == 1


def bridges(*lines: str) -> str:
    return "gateway: g\nbridges:\n" + "".join(f"  - {{{line}}}\n" for line in lines)


@pytest.mark.parametrize(
    ("lines", "loop"),
    [
        (
            ('name: u, mqtt: "a/#", nats: "plant.all"', 'name: d, direction: down, nats: "plant.>", mqtt: "a/x"'),
            "u gives plant.all to d, and d gives a/x to u",
        ),
        (
            ('name: u, mqtt: "$share/g/a/+", nats: "p.u"', 'name: d, direction: down, nats: "p.{x}", mqtt: "a/{x}"'),
            "u gives p.u to d, and d gives a/+ to u",
        ),
        (
            (
                'name: u1, mqtt: "a/+", nats: "p.1"', 'name: d1, direction: down, nats: "p.1", mqtt: "b/x"',
                'name: u2, mqtt: "b/+", nats: "p.2"', 'name: d2, direction: down, nats: "p.2", mqtt: "a/x"',
            ),
            "u1 gives p.1 to d1, and d1 gives b/x to u2, and u2 gives p.2 to d2, and d2 gives a/x to u1",
        ),
        (('name: d, direction: down, nats: "dead.{b}", mqtt: "alarms/{b}"',), "d gives dead.d to d"),
        (
            ('name: u, mqtt: "alarms/+", nats: "p.u"', 'name: d, direction: down, nats: "dead.u", mqtt: "alarms/x"'),
            "u gives dead.u to d, and d gives alarms/x to u",
        ),
    ],
)  # fmt: skip
def test_messages_that_would_go_round_are_refused_with_their_way(
    lines: tuple[str, ...], loop: str, tmp_path: Path
) -> None:
    (found,) = faults(tmp_path, bridges(*lines))
    assert f"messages would go round for ever: {loop}; let their subjects or topics exclude each other" in found


def test_bridges_side_by_side_and_one_after_the_other_are_no_loop(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        bridges(
            'name: u, mqtt: "a/+", nats: "p.u"',
            'name: d, direction: down, nats: "p.{x}", mqtt: "b/{x}"',
            'name: w, mqtt: "b/+", nats: "q.w"',
            'name: e, direction: down, nats: "dead.u", mqtt: "alarms/u"',
        ),
    )
    assert [bridge.name for bridge in config.up_bridges] == ["u", "w"]
    assert [bridge.name for bridge in config.down_bridges] == ["d", "e"]


def test_the_shortest_loop_is_told() -> None:
    hops = [
        Hop.up("u", "a/#", "p.u", "dead.u"),
        Hop.down("long", "p.u", "b/x", "dead.long"),
        Hop.up("v", "b/#", "p.v", "dead.v"),
        Hop.down("back", "p.*", "a/x", "dead.back"),
    ]
    assert find_loop(hops) == "u gives p.u to back, and back gives a/x to u"
    assert find_loop(hops[:3]) is None


def test_check_shows_where_messages_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tidegate.yaml"
    path.write_text(DOWN.format(more="qos: 2, deliver: core") + UP)
    assert main(["check", str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[1:3] == [
        "  d: n.* (core) -> c/+ (QoS 2)",
        "  u: devices/# (QoS 1) -> plant.devices (jetstream)",
    ]


def test_the_guarantee_says_how_often_a_device_may_get_a_message(tmp_path: Path) -> None:
    def of(more: str, stream: StreamSpec | None) -> tuple[str, str]:
        (bridge,) = load(tmp_path, DOWN.format(more=more)).down_bridges
        promise, weaknesses = down_guarantee(bridge, stream)
        return promise, "\n".join(weaknesses)

    stream = StreamSpec(name="NOTICES", subjects=("n.>",))
    assert of("", stream)[0].startswith("at least once from NOTICES to the broker, in order")
    assert of("", stream)[1] == ""
    assert "qos 0" in of("qos: 0", stream)[1]
    assert of("deliver: core", stream)[0].startswith("at most once")
    assert "no stream stores n.*" in of("", None)[1]
