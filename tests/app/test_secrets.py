"""No secret is ever shown: one canary stands wherever a secret can be, and is looked for in everything we say."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.app.helpers import BRIDGES, CANARY, faults, gateway_config, load, tidegate
from tests.support.gateway import GatewayProcess, gateway, get
from tests.support.server import any_broker, nats_server
from tests.support.wait import eventually
from tidegate.app.embedded import free_port

HEAD = "gateway: a\n"


@pytest.mark.parametrize("section", ["mqtt", "nats"])
@pytest.mark.parametrize(
    "value",
    [
        CANARY,
        f'"{CANARY}"',
        f'"{CANARY}${{"',
        f'"$${{{CANARY}}}"',
        f'"{CANARY}${{P}}"',
        f"[{CANARY}]",
        f"{{a: {CANARY}}}",
        f"!!binary {CANARY}=",
        f"!own {CANARY}",
        f"*{CANARY}",
        f"!{CANARY}!x y",
        f"'{CANARY}",
        f"{CANARY}\n  password: {CANARY}2",
        f"|\n{CANARY}",
        f"@{CANARY}",
        f"%{CANARY}",
        f"{{{CANARY}",
    ],
)
def test_a_secret_in_the_file_is_refused_without_being_shown(tmp_path: Path, section: str, value: str) -> None:
    found = faults(tmp_path, f"{HEAD}{section}:\n  username: u\n  password: {value}\n{BRIDGES}", P="x")
    assert CANARY not in "\n".join(found)


@pytest.mark.parametrize(
    ("section", "key", "instead"),
    [("mqtt", "password", "password_file"), ("nats", "password", "password_file"), ("nats", "token", "token_file")],
)
@pytest.mark.parametrize("value", ["hunter2", "12345", "'${P}x'", "'$${P}'"])
def test_a_literal_secret_is_told_where_it_belongs(
    tmp_path: Path, section: str, key: str, instead: str, value: str
) -> None:
    login = "  username: u\n" if key == "password" else ""
    found = faults(tmp_path, f"{HEAD}{section}:\n{login}  {key}: {value}\n{BRIDGES}", P="x")
    line = 4 if login else 3
    assert found == [
        f"line {line}, {section}.{key}: a secret has no place in the file: use {instead}, or ${{VARIABLE}}"
    ]


@pytest.mark.parametrize(
    "text",
    [
        f"mqtt: {{url: 'mqtt://u:{CANARY}@h:1'}}\n{BRIDGES}",
        f"mqtt: {{url: 'mqtt://u:{CANARY}@h:x'}}\n{BRIDGES}",
        f"mqtt: {{url: 'mqtt://[{CANARY}@h:1'}}\n{BRIDGES}",
        f"nats: {{servers: ['nats://{CANARY}@h:1']}}\n{BRIDGES}",
        f"nats: {{servers: 'nats://{CANARY}@h:1'}}\n{BRIDGES}",
        f"mqtt: {{username: u, password: '${{C}}', password_file: '${{C}}'}}\n{BRIDGES}",
        f"mqtt: {{password: '${{C}}'}}\n{BRIDGES}",
        f"mqtt: '${{C}}'\n{BRIDGES}",
        f"mqtt: {{url: '${{C}}', protocol: '${{C}}', receive_maximum: '${{C}}', max_payload: '${{C}}'}}\n{BRIDGES}",
        f"nats: {{token: '${{C}}', username: u, password: '${{C}}'}}\n{BRIDGES}",
        f"nats: {{token: '${{C}}', token_file: '${{C}}'}}\n{BRIDGES}",
        f"nats: {{nkey_seed_file: '${{C}}', credentials_file: '${{C}}'}}\n{BRIDGES}",
        f"nats: {{passwort: '${{C}}', nkey_seed: '${{C}}', credentials: '{CANARY}'}}\n{BRIDGES}",
        "bridges: [{name: '${C}', mqtt: '${C}/#/x', nats: '$JS.${C}', qos: '${C}'}]\n",
    ],
)
def test_an_error_shows_no_value_that_may_be_a_secret(tmp_path: Path, text: str) -> None:
    found = faults(tmp_path, HEAD + text, C=CANARY)
    named = [fault for fault in found if "bridges[0].mqtt" not in fault and "bridges[0].nats" not in fault]
    assert CANARY not in "\n".join(named)


SECRETS = [
    "mqtt: {username: u, password: '${C}'}\nnats: {username: u, password: '${C}'}\n",
    "mqtt: {username: u, password_file: f}\nnats: {token: '${C}'}\n",
    "nats: {token_file: f}\n",
    "nats: {username: u, password_file: f}\n",
    "nats: {nkey_seed_file: f}\n",
    "nats: {credentials_file: f}\n",
]


@pytest.mark.parametrize("section", SECRETS)
def test_a_configuration_shows_no_secret_of_its_own(tmp_path: Path, section: str) -> None:
    from tidegate.app.options import nats_options, session_options

    (tmp_path / "f").write_text(CANARY)
    config = load(tmp_path, HEAD + section + BRIDGES, C=CANARY)
    shown = [config, config.mqtt, config.nats, session_options(config, config.bridges[0]), nats_options(config)]
    for value in shown:
        assert CANARY not in f"{value!r} {value!s}"
    assert CANARY not in config.model_dump_json() + str(config.model_dump())


@pytest.mark.parametrize("right", [True, False])
async def test_a_running_gateway_shows_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, right: bool) -> None:
    """Neither with a login that is taken, nor with one that is refused, nor with a reload that fails."""
    secret = CANARY if right else f"{CANARY}-wrong"
    auth = f'authorization {{token: "{CANARY}"}}'
    async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats", auth) as server:
        http = free_port()
        text = gateway_config(
            broker,
            server.port,
            mqtt_more="username: u, password_file: pw",
            nats_more="token: '${CANARY}'",
            more=f"http: {{listen: 127.0.0.1:{http}}}\nlog: {{level: debug}}\n",
        )
        (tmp_path / "pw").write_text(secret)
        path = tmp_path / "tidegate.yaml"
        path.write_text(text)
        monkeypatch.setenv("CANARY", secret)
        async with gateway(path, http, ready=right) as running:
            if not right:
                await eventually(lambda: _refused(running), "the login is refused")
            shown = [(await get(http, page))[1].decode() for page in ("/metrics", "/-/ready", "/-/healthy", "/nothing")]
            path.write_text(text.replace("token: '${CANARY}'", f"token: '{CANARY}', password: {CANARY}"))
            assert running.process is not None
            running.process.send_signal(signal.SIGHUP)
            await eventually(lambda: "reload: " in running.log_text(), "the reload is refused")
        shown.append(running.log_text())
        assert CANARY not in "\n".join(shown)


async def _refused(running: GatewayProcess) -> bool:
    return "uthorization" in (await running.nats_away() or "")


async def test_the_command_line_shows_no_secret(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(f"{HEAD}mqtt: {{username: u, password: {CANARY}}}\nnats: {{token: '${{C}}', url: x}}\n{BRIDGES}")
    good = tmp_path / "good.yaml"
    good.write_text(f"{HEAD}mqtt: {{username: u, password: '${{C}}'}}\nnats: {{token: '${{C}}'}}\n{BRIDGES}")
    first, second, third = await asyncio.gather(
        tidegate("check", bad, C=CANARY), tidegate("check", good, C=CANARY), tidegate("run", "-c", bad, C=CANARY)
    )
    assert [finished.status for finished in (first, second, third)] == [78, 0, 78]
    assert CANARY not in "".join(f"{finished.out}{finished.err}" for finished in (first, second, third))
