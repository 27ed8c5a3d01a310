"""deploy/Dockerfile and what it is given. Validated, not built: that needs a Docker daemon and a registry."""

from __future__ import annotations

import json
import re
import shlex
import sys
import tomllib
from asyncio import create_subprocess_exec
from pathlib import Path

from tests.app.helpers import gateway_config
from tests.deploy.site import DEPLOY
from tests.support.gateway import gateway
from tidegate.app.embedded import free_port

ROOT = DEPLOY.parent


def _instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions, each in one line."""
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines if line.strip())]


def _last(name: str) -> str:
    return [rest for found, rest in _instructions() if found == name][-1]


def _copied() -> set[str]:
    """Return what comes from the context."""
    lines = [rest for name, rest in _instructions() if name == "COPY" and not rest.startswith("--from")]
    return {source for line in lines for source in line.split()[:-1]}


def test_what_is_copied_is_there_and_is_all_that_is_let_through() -> None:
    assert all((ROOT / source).exists() for source in _copied())
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignore
    assert {line[1:] for line in ignore if line.startswith("!")} == _copied()


def test_the_wheel_can_be_built_from_what_is_copied() -> None:
    """Everything that pyproject.toml puts into a wheel."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["only-include"], project["project"]["readme"], *project["project"]["license-files"]}
    missing = {path for path in needed if not any(Path(path).is_relative_to(source) for source in _copied())}
    assert missing == set()


def test_there_are_wheels_only_and_the_versions_are_pinned() -> None:
    assert all(
        re.fullmatch(r"python:3\.\d+-slim-\w+( AS \w+)?", rest) for name, rest in _instructions() if name == "FROM"
    )
    installs = [rest for name, rest in _instructions() if name == "RUN" and "pip install" in rest]
    assert installs
    assert all(
        "pip install" not in part or "--only-binary :all:" in part for rest in installs for part in rest.split("&&")
    )


def test_it_runs_as_nobody_in_particular_and_gets_its_signals_itself() -> None:
    assert int(_last("USER").partition(":")[0]) > 0
    assert json.loads(_last("ENTRYPOINT")) == ["tidegate"]
    assert json.loads(_last("CMD"))[0] == "run"
    assert _last("STOPSIGNAL") == "SIGTERM"
    assert f"STATE_DIRECTORY={_last('VOLUME')}" in shlex.split(_last("ENV"))


async def test_the_health_check_knows_a_gateway_that_runs_from_one_that_does_not(tmp_path: Path) -> None:
    http = free_port()
    path = tmp_path / "tidegate.yaml"
    path.write_text(gateway_config(free_port(), free_port(), more=f"http: {{listen: 127.0.0.1:{http}}}\n"))
    async with gateway(path, http, ready=False):
        assert await _check(http) == 0
    assert await _check(http) != 0


async def _check(http: int) -> int:
    _, _, command = _last("HEALTHCHECK").partition("CMD ")
    python, *arguments = json.loads(command.replace("9883", str(http)))
    assert python == "python"
    return await (await create_subprocess_exec(sys.executable, *arguments)).wait()
