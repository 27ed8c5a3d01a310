"""The configurations that are shown to users load."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.app.helpers import load

ROOT = Path(__file__).parents[2]

WHOLE = """\
gateway: plant-1
state_dir: ./state
mqtt:
  url: mqtt://127.0.0.1:1883
  protocol: "5"
  client_id: tidegate-plant-1
  username: edge
  password_file: secrets/mqtt
  tls: {ca: ca.pem, cert: client.pem, key: client.key}
  session_expiry: 1d
  receive_maximum: 1000
nats:
  servers: [nats://127.0.0.1:4222]
  credentials_file: secrets/edge.creds
  tls: {ca: ca.pem}
streams:
  - {name: SENSORS, subjects: ["plant.sensors.>"], max_age: 7d, max_bytes: 1GiB}
  - {name: KITCHEN, subjects: ["kitchen.tasks.>"], retention: workqueue}
bridges:
  - name: readings
    direction: up
    mqtt: sensors/{site}/{device}/reading
    nats: plant.sensors.{site}.{device}
    qos: 1
    deliver: jetstream
    decode: json
    type: com.example.sensor.reading.v1
    mode: structured
  - {name: everything, mqtt: "plant/{rest...}", nats: "plant.sensors.all.{rest...}", decode: raw, mode: binary}
  - {name: last, mqtt: "state/+/#", nats: plant.sensors.state, qos: 0, deliver: core, decode: text}
dead_letters: {stream: DEAD_LETTERS, subject: "dead.{bridge}"}
http: {listen: 127.0.0.1:9883}
log: {level: info, format: auto}
"""


def test_a_configuration_with_every_section_loads_as_written(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    for name in ("ca.pem", "client.pem", "client.key", "secrets/mqtt", "secrets/edge.creds"):
        (tmp_path / name).touch()
    config = load(tmp_path, WHOLE)
    assert config.mqtt.session_expiry == 86_400
    assert (config.streams[0].max_age, config.streams[0].max_bytes) == (7 * 86_400, 1024**3)
    assert config.streams[1].retention == "workqueue"
    assert [bridge.mapping().topic_filter for bridge in config.bridges] == [
        "sensors/+/+/reading",
        "plant/#",
        "state/+/#",
    ]
    assert config.client_id("readings") == "tidegate-plant-1-readings"
    assert config.source("readings") == "urn:tidegate:plant-1:readings"
    assert config.dead_letters.subject_for("readings") == "dead.readings"
    assert config.http is not None
    assert config.http.address == ("127.0.0.1", 9883)


def test_a_small_configuration_has_the_documented_defaults(tmp_path: Path) -> None:
    config = load(tmp_path, 'gateway: g\nbridges: [{name: b, mqtt: "a/{x}", nats: "p.{x}"}]\n')
    bridge = config.bridges[0]
    assert (bridge.direction, bridge.qos, bridge.deliver, bridge.decode, bridge.mode) == (
        "up", 1, "jetstream", "json", "structured",
    )  # fmt: skip
    assert (config.mqtt.url, config.mqtt.protocol, config.mqtt.session_expiry) == ("mqtt://127.0.0.1:1883", "5", 86400)
    assert config.nats.servers == ("nats://127.0.0.1:4222",)
    assert config.dead_letters.stream == "DEAD_LETTERS"
    assert config.http is not None
    assert config.http.listen == "127.0.0.1:9883"
    assert (config.log.level, config.log.format) == ("info", "auto")
    assert config.client_id("b") == "tidegate-g-b"


def test_the_endpoint_can_be_turned_off_and_can_be_of_ipv6(tmp_path: Path) -> None:
    small = 'gateway: g\nbridges: [{name: b, mqtt: "a/{x}", nats: "p.{x}"}]\n'
    assert load(tmp_path, small + "http: null\n").http is None
    http = load(tmp_path, small + "http: {listen: '[::1]:9883'}\n").http
    assert http is not None
    assert http.address == ("::1", 9883)


def _samples() -> list[tuple[str, str]]:
    """Return every whole configuration of the README and of the folders that users copy from."""
    readme = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```ya?ml\n(.*?)```", readme, re.DOTALL)
    found = [(f"README.md block {number}", block) for number, block in enumerate(blocks) if "gateway:" in block]
    for folder in ("deploy", "examples"):
        for path in sorted((ROOT / folder).rglob("*.y*ml")):
            text = path.read_text()
            if re.search(r"^gateway:", text, re.MULTILINE):
                found.append((str(path.relative_to(ROOT)), text))
    return found


@pytest.mark.parametrize("sample", [pytest.param(text, id=name) for name, text in _samples()])
def test_a_configuration_from_the_documentation_loads(tmp_path: Path, sample: str) -> None:
    """Each file that it names is there, and each variable is set."""
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas/reading.json").write_text("{}")
    for name in re.findall(r"(?:_file|ca|cert|key): *([\w./${}-]+)", sample):
        file = tmp_path / re.sub(r"\$\{\w+\}", "x", name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    variables = dict.fromkeys(re.findall(r"(?<!\$)\$\{(\w+)\}", sample), "x")
    assert load(tmp_path, sample, **variables).bridges


def test_there_are_samples_in_the_documentation() -> None:
    assert _samples()
