"""No secret is ever shown: one canary stands wherever a secret can be, and is looked for in everything we say."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel, SecretStr

from tests.app.helpers import BRIDGES, CANARY, faults, gateway_config, load, running_with, tidegate
from tests.support.checker import nats_client, stored
from tests.support.gateway import GatewayProcess, gateway, get
from tests.support.server import any_broker, nats_server
from tests.support.wait import eventually
from tidegate.app.config import Config
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


# A field that is added later is covered, too: the fields that hold secrets are found in the model.


def _secret_fields(model: type[BaseModel], path: tuple[str, ...] = ()) -> dict[str, bool]:
    """Return the fields that hold a secret, by their path, and whether each names a file that holds it."""
    found: dict[str, bool] = {}
    for name, field in model.model_fields.items():
        here = (*path, field.alias or name)
        kinds = set(_kinds(field.annotation))
        if SecretStr in kinds:
            found[".".join(here)] = False
        elif Path in kinds and re.search("password|token|seed|credentials|headers|^key$|secret", name):
            found[".".join(here)] = True
        for kind in kinds:
            if issubclass(kind, BaseModel):
                found |= _secret_fields(kind, here)
    return found


def _kinds(annotation: object) -> Iterator[type]:
    if isinstance(annotation, type):
        yield annotation
    for argument in get_args(annotation):
        yield from _kinds(argument)


SECRET_FIELDS = _secret_fields(Config)


def test_the_fields_that_hold_secrets_are_found() -> None:
    assert SECRET_FIELDS.keys() >= {
        "mqtt.password", "mqtt.password_file", "mqtt.tls.key", "nats.password", "nats.password_file", "nats.token",
        "nats.token_file", "nats.nkey_seed_file", "nats.credentials_file", "nats.tls.key", "tracing.headers",
        "tracing.headers_file",
    }  # fmt: skip


_NEEDED = {"password": "username: u", "key": "cert: f"}
"""What else a section needs, by the beginning of a field's name."""

_NOWHERE = "endpoint: 'http://127.0.0.1:1', sample: 1"
"""Of a collector that does not answer."""


@pytest.mark.slow
@pytest.mark.parametrize("field", sorted(SECRET_FIELDS))
async def test_a_gateway_shows_nothing_of_a_secret_wherever_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    """Neither where it says something, nor in what it is asked, nor in what the system shows of its processes."""
    text = f"Authorization: {CANARY}" if field.startswith("tracing.headers") else CANARY
    monkeypatch.setenv("CANARY", text)
    (tmp_path / "f").write_text(text)
    http = free_port()
    path = tmp_path / "tidegate.yaml"
    section, *middle, name = field.split(".")
    value = "f" if SECRET_FIELDS[field] else "'${CANARY}'"
    needed = next((more for start, more in _NEEDED.items() if name.startswith(start)), None)
    inner = "{" + ", ".join(filter(None, (needed, f"{name}: {value}"))) + "}"
    for key in reversed(middle):
        inner = f"{{{key}: {inner}}}"
    async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        url = {"mqtt": f"url: 'mqtt://127.0.0.1:{broker}'", "nats": f"servers: ['nats://127.0.0.1:{server.port}']"}
        if middle == ["tls"]:
            url["mqtt"] = url["mqtt"].replace("mqtt://", "mqtts://")
        sections = {one: f"{{{given}}}" for one, given in url.items()}
        sections[section] = f"{{{url.get(section, _NOWHERE)}, {inner[1:]}"
        lines = "".join(f"{one}: {text}\n" for one, text in sections.items())
        streams = "streams: [{name: SENSORS, subjects: ['plant.>']}]\n"
        end = f"http: {{listen: 127.0.0.1:{http}}}\nlog: {{level: debug}}\nstate_dir: state\n"
        path.write_text(HEAD + lines + streams + BRIDGES + end)
        checked = await tidegate("check", path)
        assert checked.status == 0, checked
        shown = [f"{checked.out}{checked.err}"]
        async with gateway(path, http, ready=False) as running:
            await eventually(lambda: "connected" in running.log_text(), "it has tried")
            assert running.process is not None
            pages = ("/", "/metrics", "/status.json", "/-/ready", "/-/healthy")
            shown += [(await get(http, page))[1].decode() for page in pages]
            shown += running_with(str(tmp_path)).values()
            path.write_text(path.read_text().replace("gateway: a", "gateway: a\nunknown: 1"))
            running.process.send_signal(signal.SIGHUP)
            await eventually(lambda: "reload: " in running.log_text(), "the reload is refused")
            running.process.send_signal(signal.SIGABRT)  # what a crash leaves on standard error
            await running.process.wait()
        shown.append(running.log_text())
        async with nats_client(server.port) as client:
            for info in await client.jetstream().streams_info():
                shown.append(repr(info.config))
                shown += [repr(message) for message in await stored(client, info.config.name)]
    assert CANARY not in "\n".join(shown)
    assert all(len(one) for one in shown[:3])
