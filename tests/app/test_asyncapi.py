"""The AsyncAPI document says what is true of the gateway: what it takes, and what it really sends."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from tests.app.helpers import CANARY, load
from tests.app.test_config_samples import ROOT
from tests.bridge.messages import message
from tidegate.app.asyncapi import asyncapi
from tidegate.app.asyncapi.schema_object import schema_object
from tidegate.app.cli import main
from tidegate.app.config import Config
from tidegate.app.config_file import load_config
from tidegate.app.running import new_converter
from tidegate.bridge import DeadLetters
from tidegate.core import Encoded, Envelope, Properties
from tidegate.memory import MemorySink

READING = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": "https://example.com/reading.json",
    "$defs": {
        "unit": {"enum": ["C", "F"]},
        "pair": {"prefixItems": [{"type": "number"}, {"$ref": "#/$defs/unit"}], "items": False},
    },
    "type": "object",
    "required": ["value"],
    "properties": {
        "value": {"type": "number"},
        "unit": {"$ref": "https://example.com/reading.json#/$defs/unit", "description": "Of the value."},
        "limits": {"type": "array", "items": {"$ref": "#/$defs/pair"}},
        "inner": {"$ref": "#"},
    },
    "dependentRequired": {"unit": ["value"]},
}
AVRO = {"type": "record", "name": "Reading", "fields": [{"name": "value", "type": "double"}]}
UNSAYABLE = {"type": "object", "properties": {"value": {"type": "number"}}, "unevaluatedProperties": False}

BRIDGES = """\
bridges:
  - {name: plain, mqtt: "plain/{site}/{device}", nats: "p.plain.{site}.{device}", qos: 2}
  - name: checked
    mqtt: checked/{device}
    nats: p.checked.{device}
    schema: reading.json
    type: com.example.reading.v1
    attributes: {site: hall, device: "a ({device})."}
    time: ts
    correlation: order.id
  - {name: again, mqtt: "again/{device}", nats: "p.again.{device}", schema: reading.json, mode: binary}
  - {name: parts, mqtt: "parts/{device}", nats: "p.parts.{partition(8, device)}.{device}", deliver: core,
     each: readings, filter: value > `1`, schema: reading.json, cloudevents: wrap}
  - {name: chosen, mqtt: chosen/x, nats: p.chosen, decode: text, select: "{value: length(@)}", schema: reading.json}
  - {name: many, mqtt: "many/{device}", nats: "p.many.{partition(65, device)}", type: "t.{device}", mode: binary}
  - {name: avro, mqtt: avro/x, nats: p.avro, schema: reading.avsc, mode: binary, attributes: {site: "a b%"}}
  - {name: avro2, mqtt: avro2/x, nats: p.avro2, schema: reading.avsc}
  - {name: other, mqtt: other/x, nats: p.other, schema: other/reading.json, cloudevents: wrap}
  - {name: raw, mqtt: "raw/{rest...}", nats: "p.raw.{rest...}", decode: raw}
  - {name: raw2, mqtt: "raw2/{rest...}", nats: "p.raw2.{rest...}", decode: raw, mode: binary}
  - {name: text, mqtt: "text/{a}", nats: "p.text.{a}", decode: text, source: "urn:x:{a}", time: "header:sent"}
  - {name: text2, mqtt: text2/x, nats: p.text2, decode: text, mode: binary, type: "nats-like type"}
  - {name: number, mqtt: number/x, nats: p.number, decode: number}
  - {name: wild, mqtt: "$share/group/wild/+/{rest}/#", nats: "p.wild.{rest}"}
  - {name: small, mqtt: small/x, nats: p.small, decompress: gzip}
"""


def rich(folder: Path, head: str = "") -> Config:
    """Return a configuration that has everything that shows in a document."""
    (folder / "other").mkdir(parents=True)
    (folder / "reading.json").write_text(json.dumps(READING))
    (folder / "other" / "reading.json").write_text(json.dumps(UNSAYABLE))
    (folder / "reading.avsc").write_text(json.dumps(AVRO))
    return load(folder, f"gateway: g\n{head}{BRIDGES}", C=CANARY)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A configuration that has everything that shows in a document."""
    return rich(tmp_path_factory.mktemp("rich") / "c")


@pytest.fixture(scope="module")
def document(config: Config) -> dict[str, Any]:
    """The document of that."""
    return asyncapi(config)


LOGINS = [
    "mqtt: {url: 'mqtts://b:8883', username: CANARY, password: '${C}', protocol: 3.1.1, tls: {cert: ../s, key: ../s}}\n"
    "nats: {servers: ['tls://n1:4222', 'tls://n2:4222'], token: '${C}', tls: {cert: ../s, key: ../s}}\n",
    "mqtt: {username: CANARY, password_file: ../s}\nnats: {nkey_seed_file: ../s}\n",
    "nats: {token_file: ../s}\n",
    "nats: {username: CANARY, password: '${C}'}\n",
    "nats: {credentials_file: ../s}\n",
]


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The documents of the configurations that users copy from, and of rich ones with all logins."""
    folder = tmp_path_factory.mktemp(CANARY)
    (folder / "s").write_text(CANARY)
    rich_ones = [rich(folder / f"{n}", head.replace("CANARY", CANARY)) for n, head in enumerate(["", *LOGINS])]
    samples = [*ROOT.glob("deploy/*.yaml"), *ROOT.glob("examples/*/tidegate.yaml")]
    variables = {"STATE_DIRECTORY": str(folder), "TIDEGATE_SECRETS": str(folder)}
    for name in ("mqtt", "nats"):
        (folder / name).write_text(CANARY)
    return [asyncapi(one) for one in (*(load_config(path, variables) for path in samples), *rich_ones)]


def parts(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every part of a document, with where it is."""
    yield at, value
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from parts(inner, f"{at}/{key}")


def resolve(document: dict[str, Any], reference: str) -> Any:
    """Return what a reference means; it must be there."""
    found: Any = document
    for key in reference.removeprefix("#/").split("/") if reference != "#" else ():
        found = found[int(key) if isinstance(found, list) else key]
    return found


def test_every_reference_is_to_a_part_of_the_document_and_every_component_is_referred_to(
    documents: list[dict[str, Any]],
) -> None:
    for document in documents:
        references = {value["$ref"] for _, value in parts(document) if isinstance(value, dict) and "$ref" in value}
        for reference in references:
            resolve(document, reference)
        for kind, named in document["components"].items():
            for name in named:
                place = f"#/components/{kind}/{name}"
                assert re.fullmatch(r"[a-zA-Z0-9._-]+", name)
                assert any(one == place or one.startswith(f"{place}/") for one in references), place


def test_an_address_has_just_the_parameters_that_are_described(documents: list[dict[str, Any]]) -> None:
    for document in documents:
        for channel in document["channels"].values():
            names = re.findall(r"\{(.*?)\}", channel["address"])
            assert set(names) == set(channel.get("parameters", {}))
            assert all(re.fullmatch("[A-Za-z0-9_-]+", name) for name in names)
            assert not set(channel["address"]) & set("+#*>$ ")
            assert channel.get("parameters") != {}


def test_an_operation_is_on_a_channel_with_all_of_its_messages(documents: list[dict[str, Any]]) -> None:
    for document in documents:
        for operation in document["operations"].values():
            channel = operation["channel"]["$ref"]
            assert channel.startswith("#/channels/")
            messages = [one["$ref"] for one in operation["messages"]]
            assert messages == [f"{channel}/messages/{name}" for name in resolve(document, channel)["messages"]]
            protocols = {resolve(document, one["$ref"])["protocol"] for one in resolve(document, channel)["servers"]}
            receives = operation["action"] == "receive"
            assert protocols <= ({"mqtt", "secure-mqtt"} if receives else {"nats"})
            assert list(operation["bindings"]) == (["mqtt"] if receives else ["nats"])


def test_each_bridge_receives_once_and_sends_once(config: Config, document: dict[str, Any]) -> None:
    actions = [(name, operation["action"]) for name, operation in document["operations"].items()]
    wanted = [(f"{one.name}.{action}", action) for one in config.bridges for action in ("receive", "send")]
    assert actions == [*wanted, ("dead_letters.send", "send")]


def test_a_document_shows_no_secret_no_user_and_no_path_of_this_machine(
    documents: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    for document in documents:
        text = json.dumps(document)
        assert CANARY not in text
        assert str(tmp_path_factory.getbasetemp()) not in text
        assert str(ROOT) not in text


@pytest.mark.parametrize(
    ("head", "mqtt", "nats"),
    [
        ("", [], []),
        (LOGINS[0], ["userPassword", "X509"], ["apiKey", "X509"]),
        (LOGINS[1], ["userPassword"], ["asymmetricEncryption"]),
        (LOGINS[2], [], ["apiKey"]),
        (LOGINS[3], [], ["userPassword"]),
        (LOGINS[4], [], ["asymmetricEncryption"]),
        ("mqtt: {tls: {cert: ../s, key: ../s}}\n", [], []),  # not over TLS, so it is not shown
    ],
)
def test_a_server_says_how_one_logs_in(tmp_path: Path, head: str, mqtt: list[str], nats: list[str]) -> None:
    (tmp_path / "s").touch()
    document = asyncapi(rich(tmp_path / "c", head))
    for name, server in document["servers"].items():
        types = [resolve(document, one["$ref"])["type"] for one in server.get("security", ())]
        assert types == (mqtt if name == "mqtt" else nats)


def test_the_servers_are_those_of_the_configuration(tmp_path: Path) -> None:
    head = "mqtt: {url: 'mqtts://[::1]:8883', session_expiry: 0s, keep_alive: 2m}\nnats: {servers: ['nats://n:1', 'tls://m:2']}\n"
    servers = asyncapi(load(tmp_path, f"gateway: g\n{head}{ONE}"))["servers"]
    assert servers["mqtt"]["host"] == "[::1]:8883"
    assert (servers["mqtt"]["protocol"], servers["mqtt"]["protocolVersion"]) == ("secure-mqtt", "5")
    assert servers["mqtt"]["bindings"]["mqtt"] == {
        "clientId": "tidegate-g-b",
        "cleanSession": True,
        "keepAlive": 120,
        "sessionExpiryInterval": 0,
        "bindingVersion": "0.2.0",
    }
    assert {name: (one["host"], one["protocol"]) for name, one in servers.items() if name != "mqtt"} == {
        "nats1": ("n:1", "nats"),
        "nats2": ("m:2", "nats"),
    }


def test_what_only_mqtt_5_has_is_not_there_with_3_1_1(tmp_path: Path) -> None:
    document = asyncapi(load(tmp_path, f"gateway: g\nmqtt: {{protocol: 3.1.1}}\n{ONE}"))
    assert document["servers"]["mqtt"]["protocolVersion"] == "3.1.1"
    assert "sessionExpiryInterval" not in document["servers"]["mqtt"]["bindings"]["mqtt"]
    assert {"headers", "correlationId", "bindings"}.isdisjoint(document["channels"]["b.mqtt"]["messages"]["message"])
    newer = asyncapi(load(tmp_path, f"gateway: g\n{ONE}"))["channels"]["b.mqtt"]["messages"]["message"]
    assert {"headers", "correlationId", "bindings"} <= newer.keys()


ONE = "bridges: [{name: b, mqtt: a, nats: p.b, decode: text}]\n"


@pytest.mark.parametrize(
    ("mqtt", "nats", "topic", "subject"),
    [
        ("a/b", "p.q", "a/b", "p.q"),
        ("a/{x}/{y...}", "p.{y...}.{x}", "a/{x}/{y}", "p.{y}.{x}"),
        ("+/a/+/#", "p.q", "{level1}/a/{level3}/{rest}", "p.q"),
        ("{rest}/{level2}/+/#", "p.{rest}", "{rest}/{level2}/{level3}/{rest_2}", "p.{rest}"),
        ("$share/g/a/+", "p.q", "a/{level2}", "p.q"),
        ("{a}/{partition}", "p.{partition(3, a)}.{partition}.{partition(99,a,partition)}",
         "{a}/{partition}", "p.{partition_2}.{partition}.{partition_3}"),
    ],
)  # fmt: skip
def test_an_address_names_each_place_that_can_differ(
    tmp_path: Path, mqtt: str, nats: str, topic: str, subject: str
) -> None:
    text = f"gateway: g\nbridges: [{{name: b, mqtt: '{mqtt}', nats: '{nats}'}}]\n"
    channels = asyncapi(load(tmp_path, text))["channels"]
    assert channels["b.mqtt"]["address"] == topic
    assert channels["b.nats"]["address"] == subject
    assert channels["dead_letters"]["address"] == "dead.{bridge}"
    assert channels["dead_letters"]["parameters"]["bridge"]["enum"] == ["b"]
    assert ("$share/g" in channels["b.mqtt"].get("description", "")) == mqtt.startswith("$share")


def test_the_numbers_of_few_partitions_are_listed_and_those_of_many_described(document: dict[str, Any]) -> None:
    channels = document["channels"]
    assert channels["parts.nats"]["parameters"]["partition"]["enum"] == ["0", "1", "2", "3", "4", "5", "6", "7"]
    many = channels["many.nats"]["parameters"]["partition"]
    assert "enum" not in many
    assert "below 65" in many["description"]


# What is really sent


def validator(document: dict[str, Any], schema: Any) -> jsonschema_rs.Draft7Validator:
    """Return a validator for a schema of the document, whose references are into the document."""
    return jsonschema_rs.Draft7Validator(
        {"components": document["components"], "allOf": [schema]}, validate_formats=True
    )


def kinds(document: dict[str, Any], channel: str, headers: dict[str, str], body: bytes) -> list[str]:
    """Return which of a channel's messages this one is."""
    found = []
    for name, one in document["channels"][channel]["messages"].items():
        schema = one["payload"]
        if "$ref" in schema and "schemaFormat" in (there := resolve(document, schema["$ref"])):
            assert there["schemaFormat"] == "application/vnd.apache.avro;version=1.9.0"
            holds = fastavro.validate(json.loads(body), there["schema"], raise_errors=False, strict=True)
        else:
            is_json = one["contentType"].endswith("json")
            value = json.loads(body) if is_json else body.decode("latin-1")
            holds = validator(document, schema).is_valid(value)
        if holds and validator(document, one["headers"]).is_valid(headers):
            found.append(name)
    return found


def convert(
    config: Config, name: str, topic: str, payload: bytes, properties: Properties | None = None
) -> list[Encoded]:
    """Return the events that the gateway makes of a message; it must make some."""
    bridge = next(one for one in config.bridges if one.name == name)
    received = message(topic, payload, properties=properties, retained=len(payload) % 2 == 0)
    _, events, rejected, _ = new_converter(config, bridge).convert([received])
    assert not rejected, rejected
    assert events
    return events


def device(*user: tuple[str, str], content_type: str | None = None) -> Properties:
    """Return MQTT 5 properties of a device."""
    return Properties(content_type, None, None, user)


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SENT = [
    ("plain", "plain/hall/s1", b'{"any": [1, null]}', device(("correlationid", "c"), ("traceparent", TRACE))),
    ("plain", "plain//a.b", b"null", None),
    ("plain", "plain/hall/s1", b"", None),
    ("checked", "checked/s 1", b'{"value": 1, "unit": "C", "limits": [[1, "F"]], "ts": 1700000000}', None),
    ("checked", "checked/s1", b'{"value": 1, "order": {"id": 7}, "inner": {"value": 2}}', None),
    ("again", "again/s1", b'{"value": 1.5}', device(("causationid", "\u00e9 \u00df"))),
    ("parts", "parts/s1", b'{"readings": [{"value": 2, "x": 1}, {"value": 3}]}', None),
    ("chosen", "chosen/x", b"hello", None),
    ("many", "many/nats-s1", b"{}", None),
    ("many", "many/a\u00e9 %", b"[]", None),
    ("avro", "avro/x", b'{"value": 1.5}', None),
    ("avro2", "avro2/x", b'{"value": 1.5}', None),
    ("other", "other/x", b'{"value": 1}', None),
    ("raw", "raw/a/b", b"\xff\x00", None),
    ("raw2", "raw2/a/b", b"\xff\x00", device(content_type="image/png")),
    ("text", "text/\u00e9/".rstrip("/"), "\u00e9".encode(), device(("sent", "2023-11-14T22:13:00Z"))),
    ("text2", "text2/x", b"hello", None),
    ("number", "number/x", b" 21.5", None),
    ("wild", "wild/a/b/c/d", b"{}", None),
    ("wild", "wild/a/b", b"{}", None),
    ("small", "small/x", gzip.compress(b'{"a": 1}', mtime=0), None),
]


@pytest.mark.parametrize(("name", "topic", "payload", "properties"), SENT)
def test_what_the_gateway_makes_is_the_bridge_s_event_and_no_other_message(
    config: Config, document: dict[str, Any], name: str, topic: str, payload: bytes, properties: Properties | None
) -> None:
    for event in convert(config, name, topic, payload, properties):
        assert kinds(document, f"{name}.nats", event.headers, event.body) == ["event"]
        assert matches_address(document["channels"][f"{name}.nats"], event.subject, ".")
    assert matches_address(document["channels"][f"{name}.mqtt"], topic, "/") or topic == "wild/a/b"  # '#' is nothing


def matches_address(channel: dict[str, Any], name: str, separator: str) -> bool:
    """Whether a topic or subject is one of a channel's."""

    def value(found: re.Match[str]) -> str:
        parameter = channel["parameters"][found[1]]
        if "enum" in parameter:
            return f"({'|'.join(parameter['enum'])})"
        return ".+" if found[1] == "rest" else f"[^{separator}]*"

    pattern = re.sub(r"\\\{(\w+)\\\}", value, re.escape(channel["address"]))
    return re.fullmatch(pattern, name) is not None


def test_every_bridge_of_the_rich_configuration_is_tried(config: Config) -> None:
    assert {name for name, *_ in SENT} == {bridge.name for bridge in config.bridges}


@pytest.mark.parametrize(("name", "topic", "payload", "properties"), SENT)
def test_what_a_device_may_send_fits_the_message_that_is_received(
    config: Config, document: dict[str, Any], name: str, topic: str, payload: bytes, properties: Properties | None
) -> None:
    received = document["channels"][f"{name}.mqtt"]["messages"]["message"]
    user = dict(properties.user) if properties else {}
    assert validator(document, received["headers"]).is_valid(user)
    if not payload or "schemaFormat" in str(resolve(document, received["payload"].get("$ref", "#/info"))):
        return
    value = json.loads(payload) if received["contentType"] == "application/json" else payload.decode("latin-1")
    assert validator(document, received["payload"]).is_valid(value)


@pytest.mark.parametrize(
    ("name", "attribute", "value"),
    [
        ("plain", "type", "other"),
        ("plain", "source", "urn:other"),
        ("plain", "specversion", "0.3"),
        ("plain", "id", ""),
        ("plain", "time", "yesterday"),
        ("plain", "subject", None),
        ("plain", "recordedtime", None),
        ("plain", "correlationid", 7),
        ("plain", "retained", "yes"),
        ("plain", "datacontenttype", "text/plain"),
        ("checked", "dataschema", "https://example.com/other.json"),
        ("checked", "dataschema", None),
        ("checked", "site", "cellar"),
        ("checked", "device", "a (s1)!"),
        ("checked", "data", {"value": "1"}),
        ("checked", "data", {"value": 1, "unit": "K"}),
        ("checked", "data", {"value": 1, "limits": [[1, "F", 2]]}),
        ("checked", "data", {"value": 1, "inner": {}}),
        ("parts", "data", {"unit": "C"}),
        ("chosen", "data", {"value": "5"}),
        ("chosen", "datacontenttype", "text/plain; charset=utf-8"),
        ("text", "data", 7),
        ("text", "source", "urn:y:a"),
        ("number", "data", "7"),
        ("raw", "data_base64", 7),
    ],
)
def test_an_event_with_one_wrong_attribute_is_not_the_bridge_s(
    config: Config, document: dict[str, Any], name: str, attribute: str, value: object
) -> None:
    _, topic, payload, properties = next(sent for sent in SENT if sent[0] == name)
    event = convert(config, name, topic, payload, properties)[0]
    wrong = {**json.loads(event.body), attribute: value}
    if value is None:
        del wrong[attribute]
    assert "event" in kinds(document, f"{name}.nats", event.headers, event.body)
    assert "event" not in kinds(document, f"{name}.nats", event.headers, json.dumps(wrong).encode())


@pytest.mark.parametrize(
    ("name", "header", "value"),
    [
        ("again", "ce-type", "other"),
        ("again", "ce-id", None),
        ("again", "Nats-Msg-Id", None),
        ("again", "ce-dataschema", "urn:x"),
        ("again", "Content-Type", "text/plain"),
        ("avro", "ce-site", "a b%"),  # it is percent-encoded
        ("text2", "ce-type", "nats-like type"),
        ("many", "ce-type", "u.s1"),
    ],
)
def test_an_event_in_binary_mode_with_one_wrong_header_is_not_the_bridge_s(
    config: Config, document: dict[str, Any], name: str, header: str, value: str | None
) -> None:
    _, topic, payload, properties = next(sent for sent in SENT if sent[0] == name)
    event = convert(config, name, topic, payload, properties)[0]
    wrong = {key: text for key, text in {**event.headers, header: value}.items() if text is not None}
    assert "event" not in kinds(document, f"{name}.nats", wrong, event.body)


def test_a_body_in_binary_mode_that_breaks_the_schema_is_not_the_bridge_s(
    config: Config, document: dict[str, Any]
) -> None:
    for name in ("again", "avro"):
        (event,) = convert(config, name, f"{name}/x", b'{"value": 1.5}')
        assert kinds(document, f"{name}.nats", event.headers, event.body) == ["event"]
        assert kinds(document, f"{name}.nats", event.headers, b'{"value": "1.5"}') == []


OWN = {"specversion": "1.0", "id": "1", "source": "urn:device", "type": "own.v1"}


@pytest.mark.parametrize(
    ("name", "topic", "payload", "properties"),
    [
        ("plain", "plain/a/b", json.dumps({**OWN, "data": {"any": 1}}).encode(), None),
        (
            "plain",
            "plain/a/b",
            json.dumps({**OWN, "subject": "x", "more": 7, "retained": 1, "data_base64": "AA=="}).encode(),
            None,
        ),
        ("plain", "plain/a/b", json.dumps(OWN | {"type": "io.tidegate.message.v1"}).encode(), None),
        ("checked", "checked/s1", json.dumps({**OWN, "data": {"value": 1}}).encode(), None),
        ("again", "again/s1", b'{"value": 1}', device(*OWN.items(), content_type="application/json")),
        ("many", "many/s1", b'{"value": 1}', device(*OWN.items(), content_type="application/json")),
        ("text", "text/a", b"hello", device(*OWN.items())),
        ("text2", "text2/x", b"1", device(*OWN.items(), content_type="image/png")),
        ("number", "number/x", json.dumps({**OWN, "data": {"any": 1}}).encode(), None),
    ],
)
def test_an_event_that_a_device_sent_is_a_message_of_its_own(
    config: Config, document: dict[str, Any], name: str, topic: str, payload: bytes, properties: Properties | None
) -> None:
    (event,) = convert(config, name, topic, payload, properties)
    assert kinds(document, f"{name}.nats", event.headers, event.body) == ["passed"]


@pytest.mark.parametrize(
    ("options", "protocol", "passes"),
    [
        ("decode: number", "3.1.1", True),
        ("decode: number, cloudevents: wrap", "'5'", False),
        ("decode: text", "'5'", True),
        ("decode: text", "3.1.1", False),
        ("decode: raw", "'5'", False),
    ],
)
def test_only_a_bridge_that_passes_events_on_has_messages_for_them(
    tmp_path: Path, options: str, protocol: str, passes: bool
) -> None:
    text = f"gateway: g\nmqtt: {{protocol: {protocol}}}\nbridges: [{{name: b, mqtt: a, nats: p.b, {options}}}]\n"
    document = asyncapi(load(tmp_path, text))
    assert list(document["channels"]["b.nats"]["messages"]) == (["event", "passed"] if passes else ["event"])
    received = document["channels"]["b.mqtt"]["messages"]["message"]["payload"]
    assert validator(document, received).is_valid(OWN) == passes
    assert not validator(document, received).is_valid(["neither"])


def test_an_event_of_bytes_says_where_they_are(document: dict[str, Any]) -> None:
    own = document["channels"]["raw.nats"]["messages"]["event"]["payload"]["allOf"][1]["properties"]
    assert own["data_base64"]["contentEncoding"] == "base64"
    assert "data" not in own


@pytest.mark.parametrize(
    "bad", [{"payload": b"{"}, {"topic": b"plain/\xff/b"}, {"payload": b"x", "defect": "payload_too_large"}]
)
async def test_a_dead_letter_is_the_message_of_its_channel(
    config: Config, document: dict[str, Any], bad: dict[str, Any]
) -> None:
    bridge = config.bridges[0]
    converter = new_converter(config, bridge)
    given = message(**{"topic": "plain/a/b", "qos": 1, "properties": device(("a", "b"), content_type="x/y"), **bad})
    (rejected,) = converter.convert([given]).rejected
    sink = MemorySink()
    letters = DeadLetters(sink, bridge.name, config.source(bridge.name), "dead.plain", converter.correlation_of)
    await letters.store([rejected])
    (letter,) = sink.stored.values()
    assert kinds(document, "dead_letters", letter.headers, letter.body) == ["letter"]
    assert matches_address(document["channels"]["dead_letters"], letter.subject, ".")
    wrong = json.dumps({**json.loads(letter.body), "size": "1"}).encode()
    assert kinds(document, "dead_letters", letter.headers, wrong) == []


def test_the_correlation_id_is_where_it_is_said_to_be(config: Config, document: dict[str, Any]) -> None:
    for name, topic, payload, properties in SENT:
        correlated = Properties(user=(("correlationid", "story-1"), *(properties.user if properties else ())))
        event = convert(config, name, topic, payload, correlated)[0]
        said = document["channels"][f"{name}.nats"]["messages"]["event"]["correlationId"]
        where = re.fullmatch(r"\$message\.(header|payload)#/(.+)", resolve(document, said["$ref"])["location"])
        assert where is not None
        found = event.headers if where[1] == "header" else json.loads(event.body)
        assert found[where[2]] == "story-1"


def test_every_attribute_of_an_event_is_described(config: Config, document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    described = schemas["CloudEvent"]["properties"].keys() | schemas["Event"]["allOf"][1]["properties"].keys()
    assert set(Envelope.model_fields) <= described
    seen: set[str] = set()
    for name, topic, payload, properties in SENT:
        bridge = next(one for one in config.bridges if one.name == name)
        for event in convert(config, name, topic, payload, properties):
            body = json.loads(event.body) if bridge.mode == "structured" else {}
            headers = [header.removeprefix("ce-") for header in event.headers if header.startswith("ce-")]
            assert {*body, *headers} - set(bridge.attributes) <= described
            seen |= {*body, *headers}
    assert {"retained", "emptypayload", "timefallback", "traceparent", "causationid"} <= seen


# Schemas of the data


def test_bridges_with_one_schema_share_it(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert {name for name in schemas if name.startswith("data.")} == {"data.reading", "data.reading.2"}


def test_a_schema_that_can_t_be_said_is_named_and_everything_is_allowed(document: dict[str, Any]) -> None:
    data = document["channels"]["other.nats"]["messages"]["event"]["payload"]["allOf"][1]["properties"]["data"]
    assert data == {"description": "As the schema urn:tidegate:g:schema:reading.json says."}


PLACE = "#/components/schemas/s"
TUPLE = {"prefixItems": [{"type": "string"}, {"const": 1}], "items": {"type": "null"}}
SCHEMAS: list[Any] = [
    True,
    False,
    {},
    {"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}},
    {"$ref": "#/$defs/a", "minLength": 2, "allOf": [{"maxLength": 3}], "$defs": {"a": {"type": "string"}}},
    {"$ref": "#/$defs/a/$defs/b", "$defs": {"a": {"$defs": {"b": {"enum": [1, "a", None]}}}}},
    {"$id": "urn:x", "properties": {"a": {"$ref": "urn:x#/$defs/a"}, "b": {"$ref": "urn:x"}}, "$defs": {"a": TUPLE}},
    {"type": ["array", "string"], "items": {"$ref": "#"}, "minItems": 1},
    TUPLE,
    {"prefixItems": [True, False]},
    {"prefixItems": [{"type": "integer"}], "items": False},
    {"not": {"prefixItems": [{"type": "integer"}]}},
    {"dependentRequired": {"a": ["b"]}, "dependentSchemas": {"b": {"properties": {"a": {"const": 1}}}}},
    {"properties": {"$ref": {"type": "string"}, "const": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"type": "null"}}},
    {"patternProperties": {"^a": {"type": "null"}}, "additionalProperties": {"$ref": "#"}, "discriminator": {"x": 1}},
    {"if": {"type": "object"}, "then": {"minProperties": 1}, "else": {"anyOf": [{"const": 1}, {"$ref": "#/$defs/a"}]},
     "$defs": {"a": {"type": "string"}}},
    {"const": {"a": [1]}, "examples": [{"$ref": 1}], "$anchor": "here", "$comment": "c"},
    {"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/definitions/a", "minLength": 2,
     "definitions": {"a": {"type": "string"}}},
    {"$schema": "http://json-schema.org/draft-07/schema", "items": [{"type": "string"}], "additionalItems": False,
     "dependencies": {"a": ["b"]}, "prefixItems": [False]},
]  # fmt: skip
KEYS = st.sampled_from(["a", "b", "$ref", "const", "abc"])
VALUES = st.recursive(
    st.sampled_from([None, True, 0, 1, 2.5, "", "a", "ab", "abcd", [1, "a"], ["a", 1], ["a", 1, None], {"a": [1]}]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("schema", SCHEMAS)
@settings(deadline=None, max_examples=50)
@given(value=VALUES)
def test_a_schema_in_the_document_accepts_what_the_user_s_own_accepts(schema: Any, value: Any) -> None:
    translated = schema_object(schema, PLACE)
    there = jsonschema_rs.Draft7Validator({"components": {"schemas": {"s": translated}}, "allOf": [{"$ref": PLACE}]})
    assert there.is_valid(value) == jsonschema_rs.validator_for(schema).is_valid(value)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_schema_in_the_document_is_one_of_draft_07_with_references_into_the_document(schema: Any) -> None:
    translated = schema_object(schema, PLACE)
    assert jsonschema_rs.Draft7Validator(META).is_valid(translated)
    document = {"components": {"schemas": {"s": translated}}}
    for _, value in parts(document):
        if isinstance(value, dict) and isinstance(value.get("$ref"), str):
            resolve(document, value["$ref"])


META = {"$ref": "http://json-schema.org/draft-07/schema#"}


@pytest.mark.parametrize(
    "schema",
    [
        {"$schema": "http://json-schema.org/draft-04/schema#", "exclusiveMinimum": True, "minimum": 1},
        {"$ref": "#here", "$defs": {"a": {"$anchor": "here"}}},
        {"$ref": "other.json"},
        {"$ref": "a", "$defs": {"a": {"$id": "a", "type": "string"}}},
        {"properties": {"a": {"$id": "urn:a", "$ref": "#/$defs/b", "$defs": {"b": {}}}}, "$defs": {"b": False}},
        {"items": {"$dynamicRef": "#a"}},
        {"not": {"unevaluatedProperties": False}},
        {"contains": {"const": 1}, "minContains": 0},
        {"dependentRequired": {"a": ["b"]}, "dependentSchemas": {"a": {"type": "object"}}},
        {"$ref": "#/properties/a", "properties": {"a": {}}},
    ],
)
def test_a_schema_that_draft_07_has_no_words_for_is_left_to_its_name(schema: Any) -> None:
    assert schema_object(schema, PLACE) is None


# The command


def test_the_command_prints_the_document_as_json_that_is_yaml_too(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = rich(tmp_path / "c", "nats: {token: '${C:-x}'}\n")
    assert main(["schema", "--asyncapi", "-c", str(tmp_path / "c" / "tidegate.yaml")]) == 0
    text = capsys.readouterr().out
    assert json.loads(text) == asyncapi(config)
    assert YAML(typ="safe", pure=True).load(text) == asyncapi(config)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--asyncapi"], "--asyncapi needs -c FILE"), (["-c", "none.yaml"], "-c FILE is for --asyncapi")],
)
def test_the_document_needs_a_configuration_and_the_json_schema_takes_none(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["schema", *arguments])
    assert ended.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err


def test_a_bad_configuration_ends_the_command_with_78(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("gateway: g\n")
    assert main(["schema", "--asyncapi", "-c", str(tmp_path / "bad.yaml")]) == 78
    assert "bridges" in capsys.readouterr().err
