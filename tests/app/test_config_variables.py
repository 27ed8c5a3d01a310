"""Variables in values, and paths relative to the file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.app.helpers import BRIDGES, faults, load
from tidegate.app.config_file import load_config


def _client_id(folder: Path, value: str, **environment: str) -> str | None:
    return load(folder, f'gateway: a\nmqtt:\n  client_id: "{value}"\n{BRIDGES}', **environment).mqtt.client_id


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("${A}", "x"),
        ("<${A}-${A}>", "<x-x>"),
        ("${A:-y}", "x"),
        ("${A:?say why}", "x"),
        ("${B:-y}", "y"),
        ("${B:-}", ""),
        ("${EMPTY}", ""),
        ("${EMPTY:-y}", "y"),
        ("$${A}", "${A}"),
        ("$${A:-y}", "${A:-y}"),
        ("$$${A}", "$${A}"),
        ("$A costs 5$", "$A costs 5$"),
        ("{A}", "{A}"),
    ],
)
def test_a_variable_is_replaced_and_anything_else_left_alone(tmp_path: Path, value: str, wanted: str) -> None:
    assert _client_id(tmp_path, value, A="x", EMPTY="") == wanted


def test_a_variable_s_value_is_not_looked_into_again(tmp_path: Path) -> None:
    assert _client_id(tmp_path, "${A}", A="${B}", B="x") == "${B}"


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("${NOPE}", "the variable NOPE is not set; set it, or give a default: ${NOPE:-...}"),
        ("${NOPE:?ask the plant}", "the variable NOPE is not set: ask the plant"),
        ("${EMPTY:?ask the plant}", "the variable EMPTY is not set: ask the plant"),
        ("${MY-VAR}", "'${' begins a variable: ${NAME}, ${NAME:-default} or ${NAME:?message}; for itself write $${"),
        ("${A", "'${' begins a variable"),
        ("${}", "'${' begins a variable"),
    ],
)
def test_a_variable_that_is_not_set_or_not_one_is_a_fault(tmp_path: Path, value: str, fault: str) -> None:
    text = f'gateway: a\nmqtt:\n  client_id: "{value}"\n{BRIDGES}'
    found = faults(tmp_path, text, EMPTY="", A="x")
    assert len(found) == 1, found
    assert found[0].startswith(f"line 3, mqtt.client_id: {fault}")


def test_a_number_can_come_from_a_variable(tmp_path: Path) -> None:
    text = f"gateway: a\nmqtt: {{receive_maximum: '${{N}}', protocol: '${{P:-5}}'}}\n{BRIDGES}    qos: ${{Q}}\n"
    config = load(tmp_path, text, N="7", Q="2")
    assert (config.mqtt.receive_maximum, config.mqtt.protocol, config.bridges[0].qos) == (7, "5", 2)


def test_the_environment_of_the_process_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_TEST_NAME", "from-outside")
    path = tmp_path / "c.yaml"
    path.write_text(f"gateway: ${{TIDEGATE_TEST_NAME}}\n{BRIDGES}")
    assert load_config(path).gateway == "from-outside"


def test_relative_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the working directory is, and also where the default is meant."""
    folder = tmp_path / "etc"
    (folder / "secrets").mkdir(parents=True)
    for name in ("secrets/mqtt", "ca.pem"):
        (folder / name).write_text("x")
    monkeypatch.chdir(tmp_path)
    text = f"gateway: a\nmqtt: {{username: u, password_file: secrets/mqtt, tls: {{ca: ca.pem}}}}\n{BRIDGES}"
    config = load(folder, text)
    assert config.mqtt.password_file == folder / "secrets/mqtt"
    assert config.mqtt.tls.ca == folder / "ca.pem"
    assert config.state_dir == folder / "state"
    assert load(folder, text + "state_dir: ../var\n").state_dir.resolve() == tmp_path / "var"
    assert load(folder, text + f"state_dir: {tmp_path}/abs\n").state_dir == tmp_path / "abs"
    assert load(folder, text + "state_dir: ~/tide\n").state_dir == Path.home() / "tide"


@pytest.mark.parametrize(
    "section",
    [
        "mqtt:\n  username: u\n  password_file: {file}\n",
        "mqtt:\n  tls:\n    ca: {file}\n",
        "nats:\n  username: u\n  password_file: {file}\n",
        "nats:\n  token_file: {file}\n",
        "nats:\n  nkey_seed_file: {file}\n",
        "nats:\n  credentials_file: {file}\n",
    ],
)
@pytest.mark.parametrize(
    ("file", "reason"),
    [("none", "No such file or directory"), (".", "Is a directory"), ('"a\\0b"', "should be the path of a file")],
)
def test_a_file_that_can_t_be_read_is_a_fault_of_its_key(tmp_path: Path, section: str, file: str, reason: str) -> None:
    lines = section.splitlines()
    place = ".".join(line.strip().partition(":")[0] for line in lines if line.endswith(":") or "{file}" in line)
    found = faults(tmp_path, f"gateway: a\n{section.format(file=file)}{BRIDGES}")
    assert len(found) == 1, found
    assert found[0].startswith(f"line {len(lines) + 1}, {place}: ")
    assert reason in found[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_a_fault_of_its_key(tmp_path: Path) -> None:
    (tmp_path / "pw").touch(mode=0)
    found = faults(tmp_path, f"gateway: a\nnats:\n  token_file: pw\n{BRIDGES}")
    assert found == [f"line 3, nats.token_file: the file {tmp_path}/pw can't be read: Permission denied"]


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ("mqtt:\n  password: ${P}\n", "line 2, mqtt: a password needs a username"),
        ("mqtt:\n  password_file: pw\n", "line 2, mqtt: a password needs a username"),
        (
            "mqtt:\n  username: u\n  password: ${P}\n  password_file: pw\n",
            "line 2, mqtt: password and password_file exclude each other",
        ),
        ("nats:\n  password: ${P}\n", "line 2, nats: username and password go together"),
        ("nats:\n  username: u\n", "line 2, nats: username and password go together"),
        ("nats:\n  token: ${P}\n  token_file: pw\n", "line 2, nats: token and token_file exclude each other"),
        (
            "nats:\n  username: u\n  password: ${P}\n  credentials_file: pw\n",
            "line 2, nats: username and credentials_file exclude each other",
        ),
        ("mqtt:\n  tls: {cert: pw}\n", "line 3, mqtt.tls: cert and key go together"),
        ("nats:\n  tls: {key: pw}\n", "line 3, nats.tls: cert and key go together"),
    ],
)
def test_a_login_that_is_half_or_double_is_a_fault(tmp_path: Path, section: str, fault: str) -> None:
    (tmp_path / "pw").write_text("x")
    assert faults(tmp_path, f"gateway: a\n{section}{BRIDGES}", P="x") == [fault]
