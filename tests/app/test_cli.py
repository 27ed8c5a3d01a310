"""The command line as a user has it: a process, its output and its exit status."""

from __future__ import annotations

import asyncio
import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.app.helpers import BRIDGES, command, gateway_config, tidegate
from tests.app.json_schema import violations
from tests.app.test_config_samples import WHOLE
from tidegate.app.cli import main
from tidegate.app.embedded import free_port

GOOD = f"gateway: a\n{BRIDGES}"


async def test_check_says_ok_and_shows_what_each_bridge_does(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD + '  - {name: last, mqtt: "state/#", nats: plant.state, qos: 0, deliver: core}\n')
    finished = await tidegate("check", path)
    assert (finished.status, finished.err) == (0, "")
    ok, *bridges = [line for line in finished.out.splitlines() if not line.startswith("warning: ")]
    assert (ok, bridges) == (
        f"{path}: ok",
        [
            "  readings: sensors/+/+ (QoS 1) -> plant.*.* (jetstream)",
            "  last: state/# (QoS 0) -> plant.state (core)",
        ],
    )


async def test_check_and_run_end_with_78_and_every_fault_where_the_configuration_is_bad(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("gateway: a\nlog: {level: loud}\nfoo: 1\n" + BRIDGES)
    checked, run, missing = await asyncio.gather(
        tidegate("check", path), tidegate("run", "-c", path), tidegate("run", "-c", tmp_path / "none.yaml")
    )
    assert (checked.status, run.status, missing.status) == (78, 78, 78)
    assert checked.out == ""
    assert checked.err == run.err
    assert [line.removeprefix(f"{path}: ") for line in checked.err.splitlines()] == [
        "line 2, log.level: should be 'debug', 'info', 'warning' or 'error'",
        "line 3, foo: unknown key; known here: gateway, state_dir, shutdown_timeout, mqtt, nats, streams, bridges, "
        "consumers, dead_letters, spool, http, log, tracing",
    ]
    assert missing.err == f"{tmp_path}/none.yaml: can't be read: No such file or directory\n"


async def test_a_port_in_use_ends_run_with_1_and_one_clear_line(tmp_path: Path) -> None:
    taken = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with taken:
        port = taken.sockets[0].getsockname()[1]
        path = tmp_path / "c.yaml"
        text = gateway_config(free_port(), free_port(), more=f"http: {{listen: 127.0.0.1:{port}}}\n")
        path.write_text(text + "log: {level: error}\n")
        finished = await tidegate("run", "-c", path)
    assert finished.status == 1
    (line,) = finished.err.splitlines()
    assert re.fullmatch(rf"tidegate: http\.listen 127\.0\.0\.1:{port}: .*address already in use.*", line, re.IGNORECASE)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["run"],
        ["run", "-c"],
        ["check"],
        ["check", "a", "b"],
        ["run", "-c", "a", "--fast"],
        ["demo", "--for", "10"],
        ["demo", "--for", "soon"],
        ["demo", "--rate", "0"],
        ["demo", "--rate", "-1"],
        ["demo", "--rate", "many"],
        ["schema", "x"],
    ],
)
def test_bad_usage_ends_with_2_and_says_what_is_meant(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("usage: tidegate")
    assert "Traceback" not in shown.err


async def test_bad_usage_ends_a_process_with_2() -> None:
    finished = await tidegate("run")
    assert finished.status == 2
    assert "-c/--config" in finished.err


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (None, ["run", "check", "demo", "schema", "--version"]),
        ("run", ["--config FILE", "--embedded", "SIGTERM"]),
        ("check", ["FILE", "without connecting"]),
        ("demo", ["--for TIME", "--rate N", "Ctrl-C"]),
        ("schema", ["usage: tidegate schema"]),
    ],
)
def test_help_tells_of_every_option(capsys: pytest.CaptureFixture[str], name: str | None, wanted: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"] if name else ["--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in wanted:
        assert words in text


async def test_version_is_the_package_s_own() -> None:
    finished = await tidegate("--version")
    assert (finished.status, finished.out) == (0, f"tidegate {version('tidegate')}\n")


def _schema(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert isinstance(schema, dict)
    return schema


def test_the_schema_accepts_good_configurations(capsys: pytest.CaptureFixture[str]) -> None:
    schema = _schema(capsys)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for text in (GOOD, WHOLE):
        assert list(violations(schema, YAML(typ="safe").load(text))) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"foo": 1}, "'foo' is not known"),
        ({"mqtt": {"uri": "x"}}, "'uri' is not known"),
        ({"mqtt": {"receive_maximum": "x"}}, "'x' is not a integer"),
        ({"shutdown_timeout": 10}, "10 is not a string"),
        ({"bridges": [{"name": "a"}]}, "'mqtt' is missing"),
        ({"bridges": []}, "[] against 1"),
        ({"log": {"level": "loud"}}, "'loud' against"),
    ],
)
def test_the_schema_refuses_what_the_gateway_refuses(
    capsys: pytest.CaptureFixture[str], change: dict[str, object], named: str
) -> None:
    schema = _schema(capsys)
    document = {**YAML(typ="safe").load(GOOD), **change}
    assert named in "\n".join(violations(schema, document))


async def test_output_into_a_closed_pipe_is_no_crash() -> None:
    """As with `tidegate schema | head -1`."""
    script = f"{' '.join(command('schema'))} | true"
    process = await asyncio.create_subprocess_exec("/bin/sh", "-c", script, stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(60):
        _, err = await process.communicate()
    assert err == b""
