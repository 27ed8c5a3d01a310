"""deploy/systemd/tidegate.service: what systemd itself says of it, and that it fits the gateway's configuration."""

from __future__ import annotations

import shutil
from asyncio import create_subprocess_exec, subprocess
from pathlib import Path

import pytest

from tests.deploy.site import DEPLOY, replaced
from tidegate.app.config_file import load_config

UNIT = DEPLOY / "systemd" / "tidegate.service"
ANALYZE = shutil.which("systemd-analyze")
MOST_EXPOSED = 11
"""Tenths. What is left: network, a socket to systemd and to libc's resolver, /proc/sys, the clock's device, no list of
addresses."""

needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed (apt install systemd)")


def _unit() -> list[tuple[str, str]]:
    lines = [line for line in UNIT.read_text().splitlines() if line and line[0] not in "#["]
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]


def _values(name: str) -> list[str]:
    return [value for found, value in _unit() if found == name]


async def _analyze(*arguments: str | Path) -> tuple[int, str]:
    process = await create_subprocess_exec(
        ANALYZE or "", *map(str, arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


@needs_systemd
async def test_systemd_finds_nothing_to_say_about_the_unit(tmp_path: Path) -> None:
    here = tmp_path / "tidegate"
    here.write_text("#!/bin/sh\n")
    here.chmod(0o755)
    unit = tmp_path / "tidegate.service"
    unit.write_text(replaced(UNIT, {"/opt/tidegate/bin/tidegate": str(here)}))
    assert await _analyze("verify", "--man=no", unit) == (0, "")


@needs_systemd
async def test_the_service_is_exposed_no_more_than_it_has_to_be() -> None:
    status, out = await _analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", UNIT)
    assert status == 0, out


def test_the_configuration_needs_what_the_unit_gives_it_and_nothing_else(tmp_path: Path) -> None:
    """STATE_DIRECTORY is systemd's own; the secrets are copies that LoadCredential makes in %d."""
    for value in _values("LoadCredential"):
        (tmp_path / value.partition(":")[0]).write_text("x")
    given = dict(value.partition("=")[::2] for value in _values("Environment"))
    given = {name: value.replace("%d", str(tmp_path)) for name, value in given.items()}
    config = load_config(DEPLOY / "plant.yaml", {**given, "STATE_DIRECTORY": "/var/lib/tidegate"})
    assert config.state_dir == Path("/var/lib/tidegate")
    assert {config.mqtt.password_file, config.nats.password_file} == {tmp_path / "mqtt", tmp_path / "nats"}
    (stop,) = _values("TimeoutStopSec")
    assert float(stop.removesuffix("s")) > config.shutdown_timeout


def test_it_is_started_again_for_ever() -> None:
    assert _values("Restart") == ["on-failure"]
    assert _values("StartLimitIntervalSec") == ["0"]


def test_the_boot_id_can_be_read() -> None:
    """Without it no packet table is trusted, and what is in flight at a crash gets a second id."""
    assert "pid" not in _values("ProcSubset")
