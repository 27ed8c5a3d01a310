"""deploy/compose/: validated, not run: what it mounts exists, what it gives is asked for, and nothing is open."""

from __future__ import annotations

import re
import shutil
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.deploy.site import DEPLOY
from tests.support.server import needs_mosquitto
from tidegate.app.config_file import load_config

COMPOSE = DEPLOY / "compose"
PROJECT: dict[str, Any] = YAML(typ="safe").load(COMPOSE / "compose.yaml")
SERVICES: dict[str, dict[str, Any]] = PROJECT["services"]
SECRETS = {"mqtt", "nats", "grafana", "passwd", "nats.env"}

each_service = pytest.mark.parametrize("service", sorted(SERVICES))


def _binds(service: str) -> dict[str, str]:
    """Return the mounted files by their place in the container."""
    mounts = [volume.split(":") for volume in SERVICES[service]["volumes"]]
    assert all(mount[2:] == ["ro"] for mount in mounts if mount[0].startswith("."))
    return {mount[1]: mount[0] for mount in mounts if mount[0].startswith(".")}


@each_service
def test_what_is_mounted_is_there_or_a_secret(service: str) -> None:
    for source in _binds(service).values():
        path = (COMPOSE / source).resolve()
        assert path.exists() or (path.parent == COMPOSE / "secrets" and path.name in SECRETS), source


@each_service
def test_every_volume_and_secret_that_is_used_is_declared(service: str) -> None:
    named = {volume.partition(":")[0] for volume in SERVICES[service]["volumes"] if not volume.startswith(".")}
    assert named <= PROJECT["volumes"].keys()
    assert set(SERVICES[service].get("secrets", [])) <= PROJECT["secrets"].keys()


@each_service
def test_a_service_has_few_rights_a_pinned_image_and_bounds(service: str) -> None:
    found = SERVICES[service]
    assert re.fullmatch(r"[\w/.-]+:v?\d+\.\d+\.\d+(-\w+)?", found["image"])
    assert found["read_only"] is True
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert not found.get("privileged")
    assert {"mem_limit", "pids_limit", "restart", "logging"} <= found.keys()
    assert "healthcheck" in found or "build" in found, "the image has one of its own"


@each_service
def test_nothing_listens_beyond_this_machine(service: str) -> None:
    """With network_mode host, what a server listens on is open; the next test looks at where that is."""
    assert SERVICES[service]["network_mode"] == "host"
    assert "ports" not in SERVICES[service]


def test_the_addresses_in_the_configurations_are_loopback() -> None:
    nats = (DEPLOY / "nats" / "nats.conf").read_text()
    assert set(re.findall(r"^(?:listen|http): (\S+):", nats, re.MULTILINE)) == {"127.0.0.1"}
    mosquitto = (DEPLOY / "mosquitto" / "mosquitto.conf").read_text()
    assert re.findall(r"^listener (.+)$", mosquitto, re.MULTILINE) == ["1883 127.0.0.1"]
    assert "--web.listen-address=127.0.0.1:9090" in SERVICES["prometheus"]["command"]
    assert SERVICES["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"


def test_the_monitoring_looks_where_the_gateway_is() -> None:
    listen = YAML(typ="safe").load(DEPLOY / "plant.yaml")["http"]["listen"]
    assert f'"{listen}"' in (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    datasources = "".join(path.read_text() for path in (DEPLOY / "grafana" / "provisioning").rglob("*.yaml"))
    assert "http://127.0.0.1:9090" in datasources


def test_each_server_finds_its_configuration_and_keeps_its_data_on_a_volume() -> None:
    assert "/etc/nats/nats.conf" in SERVICES["nats"]["command"]
    assert "/etc/nats/nats.conf" in _binds("nats")
    assert "/etc/mosquitto/mosquitto.conf" in SERVICES["mosquitto"]["entrypoint"][-1]
    mosquitto = (DEPLOY / "mosquitto" / "mosquitto.conf").read_text()
    for name in ("password_file", "acl_file"):
        (path,) = re.findall(rf"^{name} (\S+)$", mosquitto, re.MULTILINE)
        assert path in _binds("mosquitto")
    (data,) = re.findall(r"^persistence_location (\S+)/$", mosquitto, re.MULTILINE)
    assert f"mosquitto:{data}" in SERVICES["mosquitto"]["volumes"]
    (data,) = re.findall(r"store_dir: (\S+)", (DEPLOY / "nats" / "nats.conf").read_text())
    assert f"nats:{data}" in SERVICES["nats"]["volumes"]
    assert "gateway:/var/lib/tidegate" in SERVICES["gateway"]["volumes"]


needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl is not installed (apt install openssl)"
)


@needs_mosquitto
@needs_openssl
async def test_the_secrets_are_made_once_and_fit_the_configurations(tmp_path: Path) -> None:
    shutil.copy(COMPOSE / "secrets.sh", tmp_path)
    made = await _make_secrets(tmp_path)
    assert made == await _make_secrets(tmp_path), "the second time changes nothing"
    assert made.keys() == SECRETS
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    variables = dict(line.split("=") for line in made["nats.env"].split())
    asked = set(re.findall(r"\$(NATS_\w+)", (DEPLOY / "nats" / "nats.conf").read_text()))
    assert variables.keys() == asked
    assert len({*variables.values(), made["mqtt"], made["grafana"]}) == len(asked) + 2, "each is another"
    assert made["nats"].strip() == variables["NATS_GATEWAY_PASSWORD"]
    config = load_config(
        DEPLOY / "plant.yaml", {"STATE_DIRECTORY": "/x", "TIDEGATE_SECRETS": str(tmp_path / "secrets")}
    )
    assert config.nats.password_file == tmp_path / "secrets" / "nats"


_BROKEN = {"no openssl": None, "openssl fails": "exit 1", "openssl says nothing": "exit 0", "too little": "echo 12"}


def _tools(folder: Path, openssl: str | None) -> str:
    """Return a PATH with everything but a working openssl."""
    folder.mkdir()
    for tool in ("sh", "dirname", "mkdir", "mv", "grep", "sed", "chmod", "mosquitto_passwd"):
        (folder / tool).symlink_to(shutil.which(tool) or "/nowhere")
    if openssl is not None:
        (folder / "openssl").write_text(f"#!/bin/sh\n{openssl}\n")
        (folder / "openssl").chmod(0o755)
    return str(folder)


@needs_mosquitto
@needs_openssl
@pytest.mark.parametrize("openssl", _BROKEN.values(), ids=_BROKEN)
async def test_without_a_working_openssl_no_secret_is_made_and_the_next_run_makes_them(
    tmp_path: Path, openssl: str | None
) -> None:
    shutil.copy(COMPOSE / "secrets.sh", tmp_path)
    process = await create_subprocess_exec(
        "sh", "secrets.sh", cwd=tmp_path, env={"PATH": _tools(tmp_path / "bin", openssl)}
    )
    assert await process.wait() != 0
    assert not {file.name for file in (tmp_path / "secrets").iterdir()} & SECRETS
    made = await _make_secrets(tmp_path)
    assert made.keys() == SECRETS
    assert min(map(len, made.values())) > 48


@needs_mosquitto
@needs_openssl
@pytest.mark.parametrize("name", ["mqtt", "grafana", "nats.env"])
async def test_a_password_of_nothing_is_not_kept(tmp_path: Path, name: str) -> None:
    shutil.copy(COMPOSE / "secrets.sh", tmp_path)
    (tmp_path / "secrets").mkdir()
    weak = tmp_path / "secrets" / name
    weak.write_text("NATS_GATEWAY_PASSWORD=p\n" if name == "nats.env" else "p\n")
    process = await create_subprocess_exec("sh", "secrets.sh", cwd=tmp_path, stderr=PIPE, stdout=PIPE)
    said, _ = await process.communicate()
    assert process.returncode != 0
    assert name.encode() in said
    assert not (tmp_path / "secrets" / "passwd").exists()
    weak.unlink()
    assert (await _make_secrets(tmp_path)).keys() == SECRETS


@pytest.mark.parametrize("openssl", [*_BROKEN.values(), "echo " + "a1" * 24], ids=[*_BROKEN, "it works"])
async def test_the_readmes_commands_keep_no_weak_secret(tmp_path: Path, openssl: str | None) -> None:
    (commands,) = re.findall(r"^\(\n.*?^\)\n", (DEPLOY / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    commands = commands.replace("/etc/tidegate/secrets", str(tmp_path))
    path = _tools(tmp_path / "bin", openssl)
    process = await create_subprocess_exec("sh", "-c", commands, env={"PATH": path})
    status = await process.wait()
    made = {file.name: file.read_text() for file in tmp_path.iterdir() if file.is_file()}
    works = openssl is not None and len(openssl) > 48
    assert (status == 0, made) == (works, dict.fromkeys(("mqtt", "nats"), "p" + "a1" * 24 + "\n") if works else {})


async def _make_secrets(folder: Path) -> dict[str, str]:
    process = await create_subprocess_exec("sh", "secrets.sh", cwd=folder)
    assert await process.wait() == 0
    return {file.name: file.read_text() for file in (folder / "secrets").iterdir()}
