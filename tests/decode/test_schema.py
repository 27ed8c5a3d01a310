"""Schemas of the data: JSON Schema and Avro, where a fault is, and that nothing is fetched."""

from __future__ import annotations

import io
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bridge.messages import convert_all, message, shaped
from tests.core.strategies import json_values
from tidegate.bridge import Schema, load_schema
from tidegate.bridge.avro_json import find_fault
from tidegate.bridge.decode.avro_datum import AvroSchema, Source
from tidegate.core import DeliveryError

DRAFT_4 = "http://json-schema.org/draft-04/schema#"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_2019 = "https://json-schema.org/draft/2019-09/schema"
DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"

Load = Callable[..., Schema]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Return what loads a schema from a file."""

    def load_from(schema: Any, name: str = "some.json") -> Schema:
        path = tmp_path / name
        path.write_bytes(schema if isinstance(schema, bytes) else json.dumps(schema).encode())
        return load_schema(path)

    return load_from


@pytest.fixture
def avro(load: Load) -> Load:
    """Return what loads an Avro schema."""
    return lambda schema: load(schema, "some.avsc")


def fault(schema: Schema, value: Any) -> str:
    """Return where and why a value is not as its schema says."""
    with pytest.raises(DeliveryError) as caught:
        schema.check(value)
    assert caught.value.reason == "schema_failed"
    assert len(caught.value.detail) < 450
    assert "\n" not in caught.value.detail
    return caught.value.detail


def test_json_schema_is_2020_12_unless_it_says_otherwise(load: Load) -> None:
    pair = {"prefixItems": [{"type": "string"}], "items": False}
    for schema in (pair, {"$schema": DRAFT_2020, **pair}):
        load(schema).check(["a"])
        assert fault(load(schema), [1]).startswith('$[0]: 1 is not of type "string"')
        assert fault(load(schema), ["a", "b"]).startswith("$")
    old = load({"$schema": DRAFT_7, "items": [{"type": "string"}], "additionalItems": False, "prefixItems": 5})
    old.check(["a"])
    assert fault(old, [1]).startswith("$[0]: ")
    load({"$schema": DRAFT_4, "minimum": 5, "exclusiveMinimum": True}).check(6)
    assert fault(load({"$schema": DRAFT_4, "minimum": 5, "exclusiveMinimum": True}), 5).startswith("$: ")
    load({"$schema": DRAFT_2019, "dependentRequired": {"a": ["b"]}}).check({"a": 1, "b": 2})
    assert fault(load({"$schema": DRAFT_2019, "dependentRequired": {"a": ["b"]}}), {"a": 1}).startswith("$: ")


@pytest.mark.parametrize("draft", [DRAFT_4, DRAFT_7, DRAFT_2019, DRAFT_2020, None])
@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date-time", "2024-05-01T12:00:00Z", "2024-05-01 12:00"),
        ("email", "a@example.com", "a"),
        ("ipv4", "192.0.2.1", "192.0.2"),
        ("ipv6", "2001:db8::1", "2001:db8"),
        ("hostname", "plant-1.example", "-plant"),
        ("uri", "https://example.com/", "not a uri"),
    ],
)
def test_formats_are_checked_in_every_draft(draft: str | None, name: str, good: str, bad: str, load: Load) -> None:
    schema = load({"format": name} if draft is None else {"$schema": draft, "format": name})
    schema.check(good)
    schema.check(5)
    assert name in fault(schema, bad)


@pytest.mark.parametrize(
    ("name", "good", "bad"), [("uuid", "0" * 8 + "-0000-0000-0000-" + "0" * 12, "x"), ("duration", "PT1S", "1s")]
)
def test_newer_formats_are_checked_by_default(name: str, good: str, bad: str, load: Load) -> None:
    load({"format": name}).check(good)
    assert name in fault(load({"format": name}), bad)
    load({"$schema": DRAFT_7, "format": name}).check(bad)


def test_the_place_of_a_fault_is_said_as_json_path_has_it(load: Load) -> None:
    reading = {"type": "object", "properties": {"value": {"type": "number"}}, "required": ["value"]}
    schema = load({"properties": {"readings": {"items": reading}}, "additionalProperties": {"type": "null"}})
    rows: list[Any] = [{"value": 1}, {"value": 2}, {"value": 3}, {"value": "x"}]
    assert fault(schema, {"readings": rows}) == '$.readings[3].value: "x" is not of type "number"'
    assert fault(schema, {"readings": [{}]}) == '$.readings[0]: "value" is a required property'
    assert fault(schema, {"a b": 1}).startswith("$['a b']: ")
    assert fault(schema, {"it's": 1}).startswith('$["it\'s"]: ')
    assert fault(schema, {"größe": 1}).startswith("$['größe']: ")
    assert fault(load({"type": "object"}), []).startswith("$: ")


def test_a_fault_never_quotes_a_whole_payload(load: Load, avro: Load) -> None:
    huge = "x" * 1_000_000
    for value in (huge, [huge], {"a": huge}, {huge: {huge: huge}}, list(range(200_000))):
        for schema in (
            {"type": "number"},
            {"enum": [1]},
            {"additionalProperties": {"type": "null"}, "maxItems": 0, "maxLength": 0},
        ):
            assert fault(load(schema), value).startswith("$")
        for kind in (
            "int",
            {"type": "map", "values": {"type": "map", "values": "int"}},
            {"type": "array", "items": "int"},
        ):
            if not (isinstance(value, list) and kind != "int" and huge not in value):
                assert fault(avro(kind), value).startswith("$")
    assert fault(load({"type": "number"}), huge).endswith('is not of type "number"')


def test_references_inside_the_file_work(load: Load) -> None:
    for definitions, draft in (("$defs", DRAFT_2020), ("definitions", DRAFT_7)):
        tree = {"type": "object", "properties": {"next": {"$ref": f"#/{definitions}/tree"}, "v": {"type": "number"}}}
        schema = load({"$schema": draft, "$ref": f"#/{definitions}/tree", definitions: {"tree": tree}})
        schema.check({"next": {"next": {"v": 1}}})
        assert fault(schema, {"next": {"next": {"v": "x"}}}) == '$.next.next.v: "x" is not of type "number"'
    named = load({"$id": "https://example.com/a.json", "$ref": "b.json",
                  "$defs": {"b": {"$id": "https://example.com/b.json", "type": "number"}}})  # fmt: skip
    assert named.uri == "https://example.com/a.json"
    assert fault(named, "x").startswith("$: ")
    anchored = load({"$ref": "#here", "$defs": {"b": {"$anchor": "here", "type": "number"}}})
    assert fault(anchored, "x").startswith("$: ")
    load({"$ref": DRAFT_2020}).check({"type": "string"})  # the meta-schemas are there without being fetched


@pytest.mark.parametrize(
    "reference",
    [
        "https://example.com/x.json", "http://127.0.0.1:1/x.json", "ftp://example.com/x", "urn:example:x",
        "//example.com/x", "file:///etc/passwd", "file:other.json", "other.json", "./other.json", "/etc/passwd",
        "other.json#/a", "data:application/json,true",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "wrap",
    [
        lambda reference: {"$ref": reference},
        lambda reference: {"properties": {"a": {"items": {"$ref": reference}}}},
        lambda reference: {"$dynamicRef": reference},
        lambda reference: {"$schema": DRAFT_7, "allOf": [{"$ref": reference}]},
        lambda reference: {"$id": "https://example.com/a.json", "$ref": reference},
        lambda reference: {"$id": "file:///etc/a.json", "$ref": reference},
    ],
    ids=["at the top", "deep", "dynamic", "draft 7", "with an id", "with an id of a file"],
)
def test_a_reference_out_of_the_file_is_refused_when_it_is_loaded_and_nothing_is_fetched(
    reference: str, wrap: Callable[[str], Any], load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other.json").write_text("true")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket, "socket", None)
    monkeypatch.setattr(socket, "getaddrinfo", None)
    with pytest.raises(
        ValueError, match=r"refers to '.*', which is not in this file, and nothing is fetched"
    ) as caught:
        load(wrap(reference))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        (b"{", "is not JSON"),
        (b"", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        ([], "should be an object"),
        (5, "should be an object"),
        (None, "should be an object"),
        ("{}", "should be an object"),
        ({"type": "strnig"}, r"\$\.type: \"strnig\" is not valid"),
        ({"properties": {"a": {"minimum": "x"}}}, r"\$\.properties\.a\.minimum: \"x\" is not of type"),
        ({"required": "a"}, r"\$\.required: \"a\" is not of type"),
        ({"pattern": "("}, r"\$\.pattern: \"\(\" is not a \"regex\""),
        ({"$ref": "#/$defs/a"}, "/\\$defs/a"),
        ({"$schema": "https://example.com/mine"}, "https://example.com/mine"),
        ({"$schema": "http://json-schema.org/draft-03/schema#"}, "draft-03"),
        ({"$schema": 5}, "."),
        ({"$id": 5}, "."),
        ({"properties": {"a": 5}}, r"\$\.properties\.a: 5"),
    ],
)
def test_what_is_no_json_schema_is_refused_with_one_sentence(schema: Any, problem: str, load: Load) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        load(schema)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_true_and_false_are_schemas(load: Load) -> None:
    load(True).check({"a": 1})
    assert fault(load(False), 1).startswith("$: ")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(ValueError, match=f"the file {path} can't be read"):
            load_schema(path)


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|aa)+$", "(a*)*b", ".*.*=.*x"])
def test_no_text_of_a_device_keeps_a_pattern_busy(pattern: str, load: Load) -> None:
    schema = load({"pattern": pattern})
    started = time.process_time()
    for text in ("a" * 40 + "!", "a" * 100_000 + "!"):
        fault(schema, text)
    assert time.process_time() - started < 2


@pytest.mark.parametrize("pattern", ["^(?=(a+)+b)a+$", "^(a+)+\\1$", "(?<!a)b"])
def test_a_pattern_that_has_to_go_back_is_refused_at_once(pattern: str, load: Load) -> None:
    """A device could send a text that keeps it busy for ever."""
    with pytest.raises(ValueError, match="not a JSON Schema"):
        load({"pattern": pattern})


def test_unique_items_of_a_large_array_are_found_quickly(load: Load) -> None:
    schema = load({"uniqueItems": True})
    started = time.process_time()
    schema.check([{"a": number} for number in range(20_000)])
    schema.check([[number] for number in range(20_000)])
    assert time.process_time() - started < 2


READING = {
    "type": "record", "name": "plant.Reading", "fields": [
        {"name": "device", "type": "string"}, {"name": "seq", "type": "long"}, {"name": "small", "type": "int"},
        {"name": "value", "type": "double"}, {"name": "rough", "type": "float"}, {"name": "ok", "type": "boolean"},
        {"name": "unit", "type": {"type": "enum", "name": "Unit", "symbols": ["C", "F"]}},
        {"name": "note", "type": ["null", "string"]}, {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "extra", "type": {"type": "map", "values": "long"}, "default": {}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}}, {"name": "raw", "type": "bytes"},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}},
        {"name": "mac", "type": {"type": "fixed", "name": "Mac", "size": 6}},
        {"name": "parts", "type": {"type": "array", "items": "Reading"}, "default": []},
    ],
}  # fmt: skip
ROW: dict[str, Any] = {
    "device": "d", "seq": 2**62, "small": -(2**31), "value": 21.5, "rough": 1.5, "ok": True, "unit": "C", "note": None,
    "tags": ["a"], "at": 1_700_000_000_000, "day": 19_000, "raw": "AP8=", "price": "12.50", "mac": "AAECAwQF",
}  # fmt: skip


def test_avro_takes_what_json_makes_of_its_data(avro: Load) -> None:
    schema = avro(READING)
    assert schema.media_type == "application/vnd.apache.avro+json"
    schema.check(ROW)
    schema.check(ROW | {"value": 21, "rough": -3, "note": "n", "extra": {"a": 1}, "parts": [ROW]})
    schema.check(ROW | {"at": "2023-11-14T22:13:20.000000Z", "day": "2023-11-14", "price": 12.5})
    schema.check(ROW | {"more": "than the schema has", "-type": "x"})


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"device": 5}, "$.device: 5 is not string"),
        ({"device": None}, "$.device: null is not string"),
        ({"seq": 21.0}, "$.seq: 21.0 is not long"),
        ({"seq": 2**63}, "$.seq: 9223372036854775808 is not long"),
        ({"seq": True}, "$.seq: true is not long"),
        ({"seq": "5"}, '$.seq: "5" is not long'),
        ({"small": 2**31}, "$.small: 2147483648 is not int"),
        ({"value": "21.5"}, '$.value: "21.5" is not double'),
        ({"value": False}, "$.value: false is not double"),
        ({"rough": None}, "$.rough: null is not float"),
        ({"ok": 1}, "$.ok: 1 is not boolean"),
        ({"unit": "K"}, '$.unit: "K" is not enum plant.Unit'),
        ({"unit": ["C"]}, "$.unit: an array is not enum plant.Unit"),
        ({"note": 5}, "$.note: 5 is not null or string"),
        ({"note": {"string": "n"}}, "$.note: an object is not null or string"),
        ({"tags": "a"}, '$.tags: "a" is not array'),
        ({"tags": ["a", "b", 3]}, "$.tags[2]: 3 is not string"),
        ({"extra": {"a": 1, "b c": "x"}}, "$.extra['b c']: \"x\" is not long"),
        ({"extra": []}, "$.extra: an array is not map"),
        ({"at": 1.5}, "$.at: 1.5 is not timestamp-millis"),
        ({"raw": 5}, "$.raw: 5 is not bytes"),
        ({"price": []}, "$.price: an array is not decimal"),
        ({"mac": 5}, "$.mac: 5 is not fixed plant.Mac"),
        ({"parts": [ROW, {**ROW, "value": "x"}]}, '$.parts[1].value: "x" is not double'),
        ({"parts": [5]}, "$.parts[0]: 5 is not record plant.Reading"),
        ({"device": "x" * 1000, "note": "y", "seq": "z" * 1000}, '$.seq: "' + "z" * 40 + '..." is not long'),
    ],
)
def test_avro_says_which_field_is_not_what_it_should_be(changes: dict[str, Any], problem: str, avro: Load) -> None:
    assert fault(avro(READING), ROW | changes) == problem


@pytest.mark.parametrize("name", [*ROW])
def test_avro_wants_every_field_that_has_no_default(name: str, avro: Load) -> None:
    missing = {key: value for key, value in ROW.items() if key != name}
    assert fault(avro(READING), missing) == f"$: the field {name} is missing"
    assert fault(avro(READING), ROW | {"parts": [missing]}) == f"$.parts[0]: the field {name} is missing"


def test_avro_tells_what_is_wrong_in_the_nearest_branch_of_a_union(avro: Load) -> None:
    schema = avro([
        "null", {"type": "record", "name": "A", "fields": [{"name": "a", "type": {"type": "array", "items": "int"}}]},
        {"type": "record", "name": "B", "fields": [{"name": "b", "type": "int"}]},
    ])  # fmt: skip
    for value in (None, {"a": [1]}, {"b": 1}):
        schema.check(value)
    assert fault(schema, {"a": [1, "x"]}) == '$.a[1]: "x" is not int'
    assert fault(schema, {"b": "x"}) == '$.b: "x" is not int'
    assert fault(schema, 5) == "$: 5 is not null or record A or record B"


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ("nope", "not an Avro schema: there is no type nope"),
        ({"type": "array"}, "not an Avro schema: "),
        ({"type": "record", "name": "R"}, ""),
        ([], ""),
        (5, "not an Avro schema: "),
        (None, "not an Avro schema: "),
        (
            {"type": "record", "name": "R", "fields": [{"name": "a", "type": "int", "default": "x"}]},
            "Default value <x>",
        ),
        (b"{", "is not JSON"),
    ],
)
def test_what_is_no_avro_schema_is_refused_with_one_sentence(schema: Any, problem: str, avro: Load) -> None:
    if not problem:
        avro(schema)
        return
    with pytest.raises(ValueError, match=problem) as caught:
        avro(schema)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_avro_takes_any_depth_that_json_has_and_refuses_more(avro: Load) -> None:
    node = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
    schema = avro(node)

    def nested(depth: int, end: Any = None) -> Any:
        for _ in range(depth):
            end = {"next": end}
        return end

    schema.check(nested(200))
    assert fault(schema, nested(200, 5)).startswith("$.next.next")
    assert fault(schema, nested(20_000)) == "nested too deep"


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_what_the_decoder_makes_of_avro_data_is_right_by_their_schema(data: st.DataObject) -> None:
    row = {
        "device": data.draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=5)),
        "seq": data.draw(st.integers(-(2**63), 2**63 - 1)), "value": data.draw(st.floats(-1e9, 1e9)),
        "note": data.draw(st.none() | st.just("n")), "raw": data.draw(st.binary(max_size=5)),
        "at": data.draw(st.datetimes()),
    }  # fmt: skip
    fields = [field for field in READING["fields"] if field["name"] in row and field["name"] != "at"]
    fields.append({"name": "at", "type": {"type": "long", "logicalType": "local-timestamp-micros"}})
    document = {"type": "record", "name": "R", "fields": fields}
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(document), row)
    schema = AvroSchema(document)
    value = schema.read(Source(out.getvalue()))
    assert find_fault(value, schema.parsed, schema.names) is None


@settings(deadline=None, max_examples=60)
@given(json_values)
def test_any_value_is_right_or_has_a_fault_in_some_place(value: Any) -> None:
    for document in (READING, {"type": "map", "values": ["null", "long", "string"]}, ["boolean", "double", "null"]):
        schema = AvroSchema(document)
        fault = find_fault(value, schema.parsed, schema.names)
        assert fault is None or fault.problem


def test_one_bad_message_becomes_a_dead_letter_and_its_neighbours_events(load: Load, avro: Load) -> None:
    number = {"type": "record", "name": "R", "fields": [{"name": "v", "type": "double"}]}
    for schema in (load({"properties": {"v": {"type": "number"}}}), avro(number)):
        some = shaped(check=schema.check)
        payloads = (b'{"v":1}', b'{"v":"x"}', b'{"v":2}')
        events, (rejected,) = convert_all(some, *(message(payload=payload) for payload in payloads))
        assert (rejected.error.reason, len(events)) == ("schema_failed", 2)
        assert rejected.error.detail.startswith('$.v: "x" is not ')
