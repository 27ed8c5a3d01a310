"""What the documents say is true: every command and configuration in them runs."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
from asyncio import create_subprocess_exec, subprocess
from pathlib import Path

import pytest
from pydantic import BaseModel

from tests.support.gateway import GatewayProcess, gateway
from tests.support.server import any_broker, nats_server
from tidegate.app.cli import main
from tidegate.app.config import Config, DownBridge
from tidegate.app.config_file import load_config
from tidegate.app.embedded import free_port

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "deploy" / "tidegate.yaml"
README = (ROOT / "README.md").read_text()


def _fields(model: type[BaseModel], at: str = "") -> set[str]:
    """Return every option's name, those of sections with their section."""
    found = set()
    for name, field in model.model_fields.items():
        found.add(f"{at}{field.alias or name}")
        for inner in _sections(field.annotation):
            found |= _fields(inner, f"{name}.")
    return found


def _sections(annotation: object) -> list[type[BaseModel]]:
    """Return the sections that a field can hold, as one, in a tuple or as one of several."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in getattr(annotation, "__args__", ()) for found in _sections(inner)]


def _documented(text: str) -> set[str]:
    """Return the options that the sample names, commented out or not, with their section."""
    found, section = set(), ""
    for line in text.splitlines():
        if top := re.match(r"(\w+):", line):
            section = top[1]
            found.add(section)
        names = re.findall(r"(?:^[\s#-]+|[{,]\s*|\bor |\bwith )(\w+):", line)
        found |= {f"{section}.{name}" for name in names}
        found |= {f"tls.{name}" for name in names if name in ("ca", "cert", "key")}
    return found


def test_the_sample_configuration_is_valid_and_names_every_option() -> None:
    load_config(SAMPLE, {})
    assert _fields(Config) - _documented(SAMPLE.read_text()) == set()


def test_the_down_bridge_of_the_sample_works_without_its_comment_signs_and_shows_the_defaults(tmp_path: Path) -> None:
    """It names every option that down bridges have, with the default where there is one."""
    text = SAMPLE.read_text()
    start = text.index("  # - name: notices")
    commented = text[start : text.index("\n\n", start)]
    path = tmp_path / "tidegate.yaml"
    path.write_text(text.replace(commented, re.sub("^  # ", "  ", commented, flags=re.MULTILINE)))
    (bridge,) = load_config(path, {}).down_bridges
    assert bridge.model_fields_set == set(DownBridge.model_fields)
    minimal = DownBridge(name="notices", direction="down", nats=bridge.nats, mqtt=bridge.mqtt)
    assert bridge.model_dump() == minimal.model_dump()


def test_the_sample_configuration_shows_the_defaults() -> None:
    """What it sets, other than names and examples, is what a file without it would get."""
    sample = load_config(SAMPLE, {})
    minimal = Config.model_validate({"gateway": "plant-1", "bridges": [{"name": "x", "mqtt": "a", "nats": "b.c"}]})
    for section in ("mqtt", "nats", "dead_letters", "http", "log"):
        said = getattr(sample, section).model_dump(exclude={"client_id"})
        assert said == getattr(minimal, section).model_dump(exclude={"client_id"}), section
    assert sample.shutdown_timeout == minimal.shutdown_timeout
    example = {"name", "mqtt", "nats", "type"}
    assert sample.bridges[0].model_dump(exclude=example) == minimal.bridges[0].model_dump(exclude=example)


def test_the_configuration_in_the_readme_is_valid(tmp_path: Path) -> None:
    wholes = [block for block in _blocks("yaml") if block.startswith("gateway:")]
    parts = [f"gateway: plant-1\n{block}" for block in _blocks("yaml") if block.startswith("streams:")]
    assert wholes
    assert parts
    for block in wholes + parts:
        path = tmp_path / "tidegate.yaml"
        path.write_text(block)
        assert load_config(path, {}).bridges


def test_the_bridge_that_the_readme_shows_is_the_examples() -> None:
    (block,) = [block for block in _blocks("yaml") if block.startswith("bridges:")]
    assert block.partition("\n")[2] in (ROOT / "examples/normalise/tidegate.yaml").read_text()


def test_the_service_that_the_readme_shows_is_one_of_the_patterns() -> None:
    """Which are run by a test of their own."""
    (block,) = _blocks("python")
    assert block in (ROOT / "docs/patterns.md").read_text()


def _blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [text for name, text in found if name == language]


def _commands() -> list[str]:
    lines = [line.partition("  #")[0].strip() for block in _blocks("") for line in block.splitlines()]
    return [line for line in lines if re.match(r"(tidegate|make|python) ", line)]


def test_the_commands_in_the_readme_exist(capsys: pytest.CaptureFixture[str]) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = _commands()
    assert {command.split()[0] for command in commands} == {"tidegate", "make", "python"}
    for command in commands:
        program, first, *more = shlex.split(command)
        if program == "make":
            assert first in targets, command
        elif program == "python":
            assert (ROOT / first).exists(), command
        else:
            with pytest.raises(SystemExit) as ended:
                main([first, *(more[:1] if first == "dlq" else ()), "--help"])
            assert ended.value.code == 0
            help_text = capsys.readouterr().out
            for option in re.findall(r" (--?\w+)", command):
                assert option in help_text, command


@pytest.mark.parametrize("command", [c for c in _commands() if "examples/normalise" in c and " tap " not in c])
def test_the_commands_about_the_normalise_example_work(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """From the repository's folder, as the README says them; the configuration has no warnings."""
    with contextlib.chdir(ROOT):
        status = main(shlex.split(command)[1:])
    said = capsys.readouterr().out
    assert status == 0, said
    assert "warning" not in said


def test_the_readme_shows_what_the_tools_print(capsys: pytest.CaptureFixture[str]) -> None:
    (shown,) = [block for block in _blocks("text") if block.startswith("TOPIC")]
    topics = ("tele/plug-7/SENSOR", "spBv1.0/house/NDATA/boiler", "tele/plug-7/STATE")
    main(["map", "-c", str(ROOT / "examples/normalise/tidegate.yaml"), *topics])
    assert capsys.readouterr().out == shown


async def test_the_example_device_and_subscriber_work_with_the_example_configuration(tmp_path: Path) -> None:
    """As the README says to run them; every reading arrives with the correlation id that its device gave."""
    async with any_broker(tmp_path / "mqtt") as mqtt, nats_server(tmp_path / "nats") as server:
        http = free_port()
        ports = {"MQTT_PORT": str(mqtt), "NATS_PORT": str(server.port), "HTTP_PORT": str(http)}
        config = tmp_path / "tidegate.yaml"
        config.write_text((ROOT / "examples/sensors/tidegate.yaml").read_text())
        with pytest.MonkeyPatch.context() as environment:
            for name, value in ports.items():
                environment.setenv(name, value)
            async with gateway(config, http) as running:
                await _example(running, "device.py", "--port", str(mqtt), "--count", "6", "--every", "0.01")
                url = f"nats://127.0.0.1:{server.port}"
                said = await _example(running, "subscriber.py", "--server", url, "--count", "6")
    lines = said.splitlines()
    assert [line.rpartition("correlation ")[2] for line in lines] == [f"s1-{number}" for number in range(6)]
    assert all(line.startswith("sensors/hall/s1/reading {") for line in lines)


async def _example(running: GatewayProcess, name: str, *arguments: str) -> str:
    process = await create_subprocess_exec(
        sys.executable, str(ROOT / "examples/sensors" / name), *arguments,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ),
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, f"{err.decode()}\n{running.log_text()[-2000:]}"
    return out.decode()
