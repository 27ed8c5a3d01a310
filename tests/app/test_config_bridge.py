"""What a bridge may say about its messages: every fault is found before the first message comes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.app.helpers import faults, load
from tidegate.app.running import new_converter
from tidegate.core import Message

BRIDGE = 'gateway: g\nbridges:\n  - {{name: b, mqtt: "a/{{site}}/{{rest...}}", nats: "p.{{site}}", {more}}}\n'


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("last_value: LAST, deliver: core", "bridges[0]: last_value: a bucket has its values from a stream"),
        ("last_value: a.b", "bridges[0].last_value: "),
        ("decode: yaml", "line 3, bridges[0].decode: there is no decoder 'yaml'; there are json, text, number, cbor"),
        ("decode: {json: {x: 1}}", "bridges[0].decode: the decoder 'json': got an unexpected keyword argument 'x'"),
        ("decode: {csv: {}, json: {}}", "bridges[0].decode: should be a decoder's name"),
        ("decode: 5", "bridges[0].decode: should be a decoder's name"),
        ("decode: {csv: 5}", "bridges[0].decode: should be a decoder's name"),
        ("select: 'a['", "bridges[0].select: not a JMESPath expression"),
        ("filter: 'foo(@)'", "bridges[0].filter: there is no function foo()"),
        ("each: ''", "bridges[0].each: not a JMESPath expression"),
        ("time: '!'", "bridges[0].time: not a JMESPath expression"),
        ("filter: 'header:x'", "bridges[0].filter: not a JMESPath expression"),
        ("time: 'header:'", "bridges[0].time: needs the name of a user property"),
        ("select: round(v)", "bridges[0].select: round() takes 2 argument(s), and here it has 1"),
        ("filter: root(@)", "bridges[0].filter: root() takes 0 argument(s), and here it has 1"),
        (
            "select: \"{d: capture('sight')}\"",
            "bridges[0]: select: capture('sight'): the topic pattern captures site, rest",
        ),
        ("select: {v: v}", "bridges[0].select: should be text; in quotes where YAML takes it for something else"),
        ("attributes: {line: 4}", "bridges[0].attributes.line: should be text; in quotes"),
        ("time_unit: minutes", "bridges[0].time_unit: should be 's', 'ms', 'us' or 'ns'"),
        ("time_zone: Europe/Berln", "bridges[0].time_zone: there is no time zone 'Europe/Berln'"),
        ("time_zone: ../../etc/passwd", "bridges[0].time_zone: there is no time zone"),
        ("decompress: rar", "bridges[0].decompress: should be 'gzip', 'zlib' or 'zstd'"),
        ("type: 'x.{nowhere}'", "bridges[0]: type: {nowhere} is not captured by the topic pattern (captured: {site}, "),
        ("source: 'x.{'", "bridges[0]: source: a capture is '{name}'"),
        ("attributes: {site: '{nowhere}'}", "bridges[0]: site: {nowhere} is not captured"),
        ("type: '{site}'", "bridges[0]: type: needs a text besides {site}"),
        ("source: '{site}{rest}'", "bridges[0]: source: needs a text besides"),
        ("attributes: {Site: x}", "bridges[0].attributes: 'Site' can't be an attribute"),
        ("attributes: {id: x}", "bridges[0].attributes: 'id' is an attribute that the gateway sets"),
        (
            "attributes: {timefallback: x}",
            "bridges[0].attributes: 'timefallback' is an attribute that the gateway sets",
        ),
        ("attributes: {site: ''}", "bridges[0].attributes: the value of 'site' should have 1 to 256 characters"),
        ("schema: none.json", "bridges[0].schema: the file"),
        ("schema: broken.json", "bridges[0].schema: the file"),
        ("schema: wrong.json", "bridges[0].schema: not a JSON Schema"),
        ("schema: wrong.avsc", "bridges[0].schema: not an Avro schema"),
        ("schema: remote.json", "bridges[0].schema: not a JSON Schema"),
        ("decode: raw, select: a", "bridges[0]: select looks into the payload, and decode: raw leaves it as bytes"),
        ("decode: raw, schema: good.json", "bridges[0]: schema looks into the payload"),
        ("decode: sparkplug_b, decompress: gzip", "bridges[0]: decompress: Sparkplug messages are not compressed"),
        ("cloudevents: maybe", "bridges[0].cloudevents: should be 'pass' or 'wrap'"),
        ("schemas: good.json", "bridges[0].schemas: unknown key; did you mean 'schema'?"),
    ],
)
def test_b28_what_can_t_work_is_said_with_its_key(tmp_path: Path, more: str, problem: str) -> None:
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "wrong.json").write_text('{"type": "text"}')
    (tmp_path / "wrong.avsc").write_text('{"type": "text"}')
    (tmp_path / "remote.json").write_text('{"$ref": "http://127.0.0.1:9/other.json"}')
    (tmp_path / "good.json").write_text("{}")
    (line,) = faults(tmp_path, BRIDGE.format(more=more))
    assert problem in line


def test_a_bridge_with_every_option_loads_and_makes_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "good.json").write_text(json.dumps({"type": "object", "required": ["v"]}))
    more = (
        "decode: json, each: readings, filter: 'v > `0`', select: '{v: v}', time: at, time_unit: s, time_zone: UTC, "
        "correlation: root().c, causation: root().d, type: 'com.{site}.v1', source: 'urn:{rest}', "
        "attributes: {site: '{site}', key: k}, schema: good.json, cloudevents: wrap, mode: binary"
    )
    config = load(tmp_path, BRIDGE.format(more=more))
    payload = b'{"readings": [{"v": 1, "at": 1700000000}, {"v": 0}], "c": "c-1", "d": 7}'
    message = Message(b"a/hall/x/y", payload, "id-1", received=1_700_000_001.0)
    converted = new_converter(config, config.bridges[0]).convert([message])
    assert not converted.rejected
    (event,) = converted.events
    assert (event.subject, event.body) == ("p.hall", b'{"v":1}')
    assert event.headers == {
        "Nats-Msg-Id": "id-1.0", "ce-id": "id-1.0", "ce-specversion": "1.0", "ce-source": "urn:x/y",
        "ce-type": "com.hall.v1", "ce-subject": "a/hall/x/y", "ce-site": "hall", "ce-key": "k",
        "ce-dataschema": "urn:tidegate:g:schema:good.json", "ce-time": "2023-11-14T22:13:20.000000Z",
        "ce-recordedtime": "2023-11-14T22:13:21.000000Z", "ce-correlationid": "c-1", "ce-causationid": "7",
        "Content-Type": "application/json",
    }  # fmt: skip


def test_a_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for module, extra, more in (
        ("fastavro", "avro", "decode: {avro: {}}"),
        ("google.protobuf", "protobuf", "decode: sparkplug_b"),
        ("zstandard", "zstd", "decompress: zstd"),
        ("jsonschema_rs", "schema", "schema: good.json"),
    ):
        (tmp_path / "good.json").write_text("{}")
        with monkeypatch.context() as patch:
            for name in [name for name in sys.modules if name.startswith((module, "tidegate.bridge.decode."))]:
                if not name.endswith((".decoder", ".json", ".json_value", ".text", ".number", ".raw")):
                    patch.delitem(sys.modules, name)
            patch.setitem(sys.modules, module, None)
            (line,) = faults(tmp_path, BRIDGE.format(more=more))
        assert f"pip install 'tidegate[{extra}]'" in line, (module, line)
