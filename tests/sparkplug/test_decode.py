"""What a Sparkplug B message is on its own, without anything that came before it."""

from __future__ import annotations

import json
import math
import struct
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bridge.messages import RECEIVED, message
from tests.sparkplug.payloads import (
    BOOLEAN,
    DOUBLE,
    INT32,
    INT64,
    STAMP,
    TEMPLATE,
    birth_metric,
    converter,
    metrics_of,
    payload,
    values,
)
from tidegate.bridge import new_decoder
from tidegate.bridge.decode.sparkplug_payload import MAX_VALUES
from tidegate.core import Envelope

DDATA = "spBv1.0/plant/DDATA/edge-1/press"

BIRTH = b"".join(
    [
        b"\x08\x80\xd0\x95\xff\xbc\x31",  # 1, varint: timestamp 1700000000000
        b"\x12\x0e",  # 2, 14 bytes: a metric
        b"\x0a\x05bdSeq",  # 1, 5 bytes: name
        b"\x20\x04",  # 4, varint: datatype Int64
        b"\x18\xe8\x07",  # 3, varint: timestamp 1000
        b"\x58\x07",  # 11, varint: long_value 7
        b"\x12\x15",  # 2, 21 bytes: a metric
        b"\x0a\x04temp",  # 1, 4 bytes: name
        b"\x10\x05",  # 2, varint: alias 5
        b"\x20\x0a",  # 4, varint: datatype Double
        b"\x30\x01",  # 6, varint: is_transient
        b"\x69\x00\x00\x00\x00\x00\x80\x35\x40",  # 13, 64 bits: double_value 21.5
        b"\x12\x11",  # 2, 17 bytes: a metric
        b"\x0a\x05level",  # 1, 5 bytes: name
        b"\x10\x06",  # 2, varint: alias 6
        b"\x20\x03",  # 4, varint: datatype Int32
        b"\x50\xfb\xff\xff\xff\x0f",  # 10, varint: int_value 2^32 - 5, which is -5
        b"\x18\x00",  # 3, varint: seq 0
    ]
)

DATA = b"".join(
    [
        b"\x08\x80\xd0\x95\xff\xbc\x31",  # 1, varint: timestamp 1700000000000
        b"\x12\x13",  # 2, 19 bytes: a metric
        b"\x0a\x04temp",  # 1, 4 bytes: name
        b"\x20\x0a",  # 4, varint: datatype Double
        b"\x28\x01",  # 5, varint: is_historical
        b"\x69\x00\x00\x00\x00\x00\x80\x35\x40",  # 13, 64 bits: double_value 21.5
        b"\x12\x0b",  # 2, 11 bytes: a metric
        b"\x0a\x05level",  # 1, 5 bytes: name
        b"\x20\x03",  # 4, varint: datatype Int32
        b"\x38\x01",  # 7, varint: is_null
        b"\x18\x03",  # 3, varint: seq 3
    ]
)


def decode(body: bytes, topic: str = DDATA, events: str = "message") -> Any:
    """Return the one event's data."""
    (value,) = values(converter(events), message(topic, body))
    return value


def value_of(datatype: int, **value: Any) -> Any:
    """Return what the value of one metric becomes, or the reason for a refusal."""
    found = decode(payload(birth_metric("m", datatype, **value)))
    return found if isinstance(found, str) else found["metrics"][0]["value"]


def test_a_birth_is_read_byte_by_byte() -> None:
    assert decode(BIRTH, "spBv1.0/plant/NBIRTH/edge-1") == {
        "type": "NBIRTH",
        "group": "plant",
        "node": "edge-1",
        "timestamp": STAMP,
        "seq": 0,
        "metrics": [
            {"name": "bdSeq", "timestamp": 1000, "datatype": "Int64", "value": 7},
            {"name": "temp", "datatype": "Double", "value": 21.5, "is_transient": True},
            {"name": "level", "datatype": "Int32", "value": -5},
        ],
    }


def test_data_are_read_byte_by_byte() -> None:
    assert decode(DATA) == {
        "type": "DDATA",
        "group": "plant",
        "node": "edge-1",
        "device": "press",
        "timestamp": STAMP,
        "seq": 3,
        "metrics": [
            {"name": "temp", "datatype": "Double", "value": 21.5, "is_historical": True},
            {"name": "level", "datatype": "Int32", "value": None},
        ],
    }


def test_each_metric_can_be_an_event_of_its_own() -> None:
    birth = message("spBv1.0/plant/NBIRTH/edge-1", BIRTH)
    head = {"type": "NBIRTH", "group": "plant", "node": "edge-1", "seq": 0}
    assert values(converter("metric"), birth) == [
        {**head, "name": "bdSeq", "timestamp": 1000, "datatype": "Int64", "value": 7},
        {**head, "timestamp": STAMP, "name": "temp", "datatype": "Double", "value": 21.5, "is_transient": True},
        {**head, "timestamp": STAMP, "name": "level", "datatype": "Int32", "value": -5},
    ]
    events = converter("metric").convert([birth]).events
    assert [event.id for event in events] == [f"{birth.id}.{number}" for number in range(3)]


def test_a_death_without_metrics_is_an_event_either_way() -> None:
    head = {"type": "DDEATH", "group": "plant", "node": "edge-1", "device": "press", "timestamp": STAMP, "seq": 9}
    body = payload(seq=9)
    assert decode(body, "spBv1.0/plant/DDEATH/edge-1/press", "metric") == head
    assert decode(body, "spBv1.0/plant/DDEATH/edge-1/press") == {**head, "metrics": []}


def test_the_state_of_a_host_is_its_json() -> None:
    for events in ("message", "metric"):
        found = decode(b'{"online":true,"timestamp":1700000000000}', "spBv1.0/STATE/scada", events)
        assert found == {"type": "STATE", "host": "scada", "online": True, "timestamp": STAMP}
        for bad in (b"ONLINE", b"[1]", b'{"online":NaN}'):
            assert decode(bad, "spBv1.0/STATE/scada", events) == "decode_failed"


@pytest.mark.parametrize("kind", ["NCMD", "DCMD"])
def test_commands_are_read_as_data(kind: str) -> None:
    topic = f"spBv1.0/plant/{kind}/edge-1{'/press' if kind == 'DCMD' else ''}"
    found = decode(payload({"name": "Node Control/Rebirth", "boolean_value": True}), topic)
    assert found["type"] == kind
    assert found["metrics"] == [{"name": "Node Control/Rebirth", "value": True}]


def test_the_body_and_the_uuid_of_a_payload_are_kept() -> None:
    found = decode(payload(uuid="schema-1", body=b"\x00\xff"))
    assert (found["uuid"], found["body"], found["metrics"]) == ("schema-1", "AP8=", [])


VALUES = [
    (1, {"int_value": 127}, 127),
    (1, {"int_value": (1 << 32) - 128}, -128),
    (1, {"int_value": 0xFB}, -5),
    (1, {"long_value": (1 << 64) - 1}, -1),
    (2, {"int_value": 32_767}, 32_767),
    (2, {"int_value": (1 << 32) - 32_768}, -32_768),
    (2, {"int_value": 0x8000}, -32_768),
    (3, {"int_value": (1 << 31) - 1}, (1 << 31) - 1),
    (3, {"int_value": 1 << 31}, -(1 << 31)),
    (3, {"long_value": (1 << 64) - 1}, -1),
    (4, {"long_value": (1 << 63) - 1}, (1 << 63) - 1),
    (4, {"long_value": 1 << 63}, -(1 << 63)),
    (4, {"int_value": 4_294_967_295}, 4_294_967_295),
    (5, {"int_value": 255}, 255),
    (6, {"int_value": 65_535}, 65_535),
    (7, {"int_value": 4_294_967_295}, 4_294_967_295),
    (7, {"long_value": 4_294_967_295}, 4_294_967_295),
    (8, {"long_value": (1 << 64) - 1}, (1 << 64) - 1),
    (9, {"float_value": 0.5}, 0.5),
    (10, {"double_value": -1e300}, -1e300),
    (10, {"float_value": 1.5}, 1.5),
    (11, {"boolean_value": True}, True),
    (12, {"string_value": "Grüße\n"}, "Grüße\n"),
    (12, {"string_value": ""}, ""),
    (13, {"long_value": STAMP + 250}, "2023-11-14T22:13:20.250000Z"),
    (13, {"long_value": (1 << 64) - 1}, "1969-12-31T23:59:59.999000Z"),
    (14, {"string_value": "text"}, "text"),
    (15, {"string_value": "018c251b-0000-7000-8000-000000000000"}, "018c251b-0000-7000-8000-000000000000"),
    (17, {"bytes_value": b"\x00\xff"}, "AP8="),
    (18, {"bytes_value": b""}, ""),
    (22, {"bytes_value": b"\xff\x7f"}, [-1, 127]),
    (23, {"bytes_value": b"\xd0\x8a\x30\x75"}, [-30_000, 30_000]),
    (24, {"bytes_value": b"\xff\xff\xff\xff\xfa\xaf\xcb\x12"}, [-1, 315_338_746]),
    (25, {"bytes_value": struct.pack("<qq", -(1 << 63), 1)}, [-(1 << 63), 1]),
    (26, {"bytes_value": b"\x17\xfa"}, [23, 250]),
    (27, {"bytes_value": b"\x1e\x00\x88\xcc"}, [30, 52_360]),
    (28, {"bytes_value": b"\x34\x00\x00\x00\x49\xfb\x55\xc4"}, [52, 3_293_969_225]),
    (29, {"bytes_value": b"\xff" * 8}, [(1 << 64) - 1]),
    (30, {"bytes_value": b"\x00\x00\x00\x3f\x00\x00\x80\xbf"}, [0.5, -1.0]),
    (31, {"bytes_value": struct.pack("<d", 0.1)}, [0.1]),
    # twelve bits, the highest first: 0011 0100, and 1101 with a rest that means nothing
    (32, {"bytes_value": b"\x0c\x00\x00\x00\x34\xdf"}, [bit == "1" for bit in "001101001101"]),
    (32, {"bytes_value": b"\x00\x00\x00\x00"}, []),
    (32, {"is_null": True, "bytes_value": b"\x0c"}, None),
    (33, {"bytes_value": b"ABC\x00hello\x00"}, ["ABC", "hello"]),
    (33, {"bytes_value": b"\x00"}, [""]),
    (33, {"bytes_value": b""}, []),
    (34, {"bytes_value": struct.pack("<Q", STAMP)}, ["2023-11-14T22:13:20.000000Z"]),
]


@pytest.mark.parametrize(("datatype", "value", "expected"), VALUES)
def test_every_datatype_is_read(datatype: int, value: dict[str, Any], expected: Any) -> None:
    found = value_of(datatype, **value)
    assert found == expected
    assert type(found) is type(expected)


def test_a_data_set_is_columns_types_and_rows() -> None:
    cells = [{"int_value": (1 << 32) - 1}, {"string_value": "a"}, {"long_value": STAMP}]
    data = {"num_of_columns": 3, "columns": ["n", "s", "t"], "types": [INT32, 12, 13], "rows": [{"elements": cells}]}
    assert value_of(16, dataset_value=data) == {
        "columns": ["n", "s", "t"],
        "types": ["Int32", "String", "DateTime"],
        "rows": [[-1, "a", "2023-11-14T22:13:20.000000Z"]],
    }
    data["rows"] = [{"elements": [{}, {}, {}]}]
    assert value_of(16, dataset_value=data)["rows"] == [[None, None, None]]
    for wrong in (
        {"columns": ["n", "s"]},
        {"num_of_columns": 2},
        {"types": [INT32, 12, 99]},
        {"rows": [{"elements": cells[:2]}]},
        {"rows": [{"elements": [{"string_value": "1"}, *cells[1:]]}]},
    ):
        assert value_of(16, dataset_value={**data, **wrong}) == "decode_failed"


def test_a_template_has_its_members_and_parameters() -> None:
    inner = {"metrics": [birth_metric("rpm", INT32, int_value=(1 << 32) - 3)], "is_definition": False}
    template = {
        "version": "2",
        "template_ref": "motor",
        "metrics": [birth_metric("drive", TEMPLATE, template_value=inner), {"name": "on", "boolean_value": True}],
        "parameters": [{"name": "axis", "type": INT32, "int_value": 2}, {"name": "maker", "string_value": "x"}],
    }
    assert value_of(TEMPLATE, template_value=template) == {
        "version": "2",
        "template_ref": "motor",
        "metrics": [
            {
                "name": "drive",
                "datatype": "Template",
                "value": {
                    "is_definition": False,
                    "metrics": [{"name": "rpm", "datatype": "Int32", "value": -3}],
                },
            },
            {"name": "on", "value": True},
        ],
        "parameters": [
            {"name": "axis", "datatype": "Int32", "value": 2},
            {"name": "maker", "value": "x"},
        ],
    }


def test_properties_and_metadata_are_shown() -> None:
    nested = {"keys": ["deep"], "values": [{"type": INT32, "int_value": (1 << 32) - 1}]}
    properties = {
        "keys": ["unit", "none", "set", "list"],
        "values": [
            {"type": 12, "string_value": "°C"},
            {"type": INT32, "is_null": True},
            {"type": 20, "propertyset_value": nested},
            {"type": 21, "propertysets_value": {"propertyset": [nested, nested]}},
        ],
    }
    metadata = {"content_type": "text/plain", "size": 3}
    metric = birth_metric("m", DOUBLE, double_value=1.0, properties=properties, metadata=metadata)
    (found,) = decode(payload(metric))["metrics"]
    assert found["properties"] == {"unit": "°C", "none": None, "set": {"deep": -1}, "list": [{"deep": -1}] * 2}
    assert found["metadata"] == metadata
    for keys in (["unit"], ["unit", "unit", "set", "list"]):
        wrong = birth_metric("m", DOUBLE, double_value=1.0, properties={**properties, "keys": keys})
        assert decode(payload(wrong)) == "decode_failed"


REFUSED = [
    (9, {"float_value": math.nan}),
    (10, {"double_value": math.inf}),
    (10, {"double_value": -math.inf}),
    (31, {"bytes_value": struct.pack("<d", math.nan)}),
    (30, {"bytes_value": struct.pack("<f", math.inf)}),
    (1, {"int_value": 256}),
    (2, {"int_value": 65_536}),
    (3, {"long_value": 1 << 32}),
    (5, {"int_value": 256}),
    (6, {"int_value": 65_536}),
    (7, {"long_value": 1 << 32}),
    (3, {"double_value": 1.0}),
    (10, {"string_value": "1.0"}),
    (11, {"int_value": 1}),
    (12, {"bytes_value": b"text"}),
    (13, {"long_value": 1 << 62}),
    (17, {"string_value": "text"}),
    (23, {"bytes_value": b"\x00"}),
    (32, {"bytes_value": b"\x09\x00\x00\x00\x00"}),
    (32, {"bytes_value": b"\x01\x00"}),
    (33, {"bytes_value": b"no end"}),
    (33, {"bytes_value": b"\xff\x00"}),
    (35, {"int_value": 1}),
    (4_294_967_295, {"int_value": 1}),
    (35, {"is_null": True}),
    (12, {"extension_value": {}}),
    (0, {"extension_value": {}}),
]


@pytest.mark.parametrize(("datatype", "value"), REFUSED)
def test_what_does_not_fit_its_datatype_is_refused(datatype: int, value: dict[str, Any]) -> None:
    assert value_of(datatype, **value) == ("decode_failed" if datatype else "datatype_unknown")


def test_the_metric_that_is_wrong_is_said() -> None:
    body = payload(birth_metric("good", DOUBLE, double_value=1.0), birth_metric("bad", DOUBLE, double_value=math.nan))
    (rejected,) = converter().convert([message(DDATA, body)]).rejected
    assert "metric 'bad'" in rejected.error.detail
    assert "nan" in rejected.error.detail


@pytest.mark.parametrize("events", ["message", "metric"])
def test_a_metric_with_only_an_alias_is_refused_and_which_is_said(events: str) -> None:
    body = payload(birth_metric("good", DOUBLE, double_value=1.0), {"alias": 77, "double_value": 1.0})
    (rejected,) = converter(events).convert([message(DDATA, body)]).rejected
    assert rejected.error.reason == "alias_unknown"
    assert "alias 77" in rejected.error.detail
    assert decode(payload({"double_value": 1.0}), events=events) == "decode_failed"


def test_a_value_that_could_mean_two_things_without_its_datatype_is_refused() -> None:
    for value in ({"int_value": 5}, {"long_value": 5}, {"bytes_value": b"12"}):
        assert decode(payload({"name": "m", **value})) == "datatype_unknown"
    for certain in ({"double_value": 0.5}, {"float_value": 0.5}):
        assert metrics_of(decode(payload({"name": "m", **certain}))) == {"m": 0.5}


@pytest.mark.parametrize(
    "topic",
    [
        "spBv1.0",
        "spBv1.0/g",
        "spBv1.0/g/NDATA",
        "spBv1.0/g/NDATA/n/d",
        "spBv1.0/g/DDATA/n",
        "spBv1.0/g/DDATA/n/d/e",
        "spBv1.0/g/XDATA/n",
        "spBv1.0//NDATA/n",
        "spBv1.0/g/NDATA/",
        "spAv1.0/g/NDATA/n",
        "spBv1.0/STATE/h/x",
        "sensors/a",
    ],
)
def test_another_topic_is_refused(topic: str) -> None:
    assert decode(DATA, topic) == "decode_failed"
    assert decode(DATA, topic, "metric") == "decode_failed"


def test_an_option_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="'message' or 'metric', not 'device'"):
        new_decoder("sparkplug_b", {"events": "device"})


_BITS = {"datatype": 32, "bytes_value": (MAX_VALUES // 4).to_bytes(4, "little") + bytes(MAX_VALUES // 32)}
_CELLS = {"columns": ["c"], "types": [INT32], "rows": [{"elements": [{}]}] * (MAX_VALUES // 6)}
_MEMBERS = {"metrics": [{"name": "m"}] * (MAX_VALUES // 3)}
_SET = {"keys": [str(number) for number in range(MAX_VALUES // 3)], "values": [{}] * (MAX_VALUES // 3)}


@pytest.mark.parametrize(
    ("metric", "times"),
    [
        ({"name": "m"}, MAX_VALUES + 1),
        ({"name": "m", **_BITS}, 4),
        ({"name": "m", "datatype": 16, "dataset_value": _CELLS}, 4),
        ({"name": "m", "datatype": TEMPLATE, "template_value": _MEMBERS}, 4),
        ({"name": "m", "properties": _SET}, 4),
    ],
    ids=["metrics", "booleans", "cells", "members", "properties"],
)
def test_a_message_of_too_many_values_is_refused_in_bounded_time(metric: dict[str, Any], times: int) -> None:
    """However they are spread over its parts."""
    body = payload(*[metric] * times)
    started = time.process_time()
    (rejected,) = converter().convert([message(DDATA, body)]).rejected
    assert f"more than {MAX_VALUES} values" in rejected.error.detail
    assert time.process_time() - started < 2.0
    assert len(decode(payload(*[metric] * min(times - 2, 3)))["metrics"]) == min(times - 2, 3)


def _nested(depth: int) -> bytes:
    metric: dict[str, Any] = birth_metric("m", DOUBLE, double_value=1.0)
    for _ in range(depth):
        metric = birth_metric("m", TEMPLATE, template_value={"metrics": [metric]})
    return payload(metric)


def test_no_depth_of_templates_becomes_an_event_that_readers_can_not_read() -> None:
    taken = []
    for depth in range(1, 60):
        _, events, rejected, _ = converter().convert([message(DDATA, _nested(depth))])
        assert len(events) + len(rejected) == 1
        if events:
            taken.append(depth)
            assert json.loads(Envelope.model_validate_json(events[0].body).to_json())["data"]["metrics"]
    assert taken == list(range(1, taken[-1] + 1))
    assert 40 < taken[-1] < 59


_LIMITS = {1: 8, 2: 16, 3: 32, 4: 64, 5: 8, 6: 16, 7: 32, 8: 64}


@st.composite
def _metrics(draw: st.DrawFn) -> tuple[dict[str, Any], Any]:
    """Return a metric's fields, and the value that was put in."""
    datatype = draw(st.sampled_from([*_LIMITS, 9, DOUBLE, BOOLEAN, 12, 14, 25, 33]))
    metric: dict[str, Any] = {"name": draw(st.text(min_size=1, max_size=8)), "datatype": datatype}
    if draw(st.booleans()):
        metric["timestamp"] = draw(st.integers(0, (1 << 64) - 1))
    if datatype in _LIMITS:
        bits = _LIMITS[datatype]
        low, high = (-(1 << bits - 1), 1 << bits - 1) if datatype <= INT64 else (0, 1 << bits)
        value = draw(st.integers(low, high - 1))
        width = 64 if bits == 64 else 32
        field, raw = ("long_value" if bits == 64 else "int_value"), value % (1 << width)
    elif datatype in (9, DOUBLE):
        value = draw(st.floats(allow_nan=False, allow_infinity=False, width=32 if datatype == 9 else 64))
        field, raw = ("float_value" if datatype == 9 else "double_value"), value
    elif datatype == BOOLEAN:
        field, raw = "boolean_value", (value := draw(st.booleans()))
    elif datatype == 25:
        value = draw(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=4))
        field, raw = "bytes_value", struct.pack(f"<{len(value)}q", *value)
    elif datatype == 33:
        value = draw(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=4))
        field, raw = "bytes_value", b"".join(text.encode() + b"\0" for text in value)
    else:
        field, raw = "string_value", (value := draw(st.text(max_size=20)))
    return {**metric, field: raw}, value


@settings(deadline=None, max_examples=100)
@given(st.lists(_metrics(), max_size=6), st.integers(0, 255))
def test_any_metrics_are_read_as_what_was_put_in(metrics: list[tuple[dict[str, Any], Any]], seq: int) -> None:
    found = decode(payload(*[fields for fields, _ in metrics], seq=seq))
    assert found["seq"] == seq
    assert [metric["value"] for metric in found["metrics"]] == [value for _, value in metrics]
    for metric, (fields, _) in zip(found["metrics"], metrics, strict=True):
        assert metric["name"] == fields["name"]
        assert metric.get("timestamp") == fields.get("timestamp")


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=60) | st.integers(0, len(BIRTH) - 1).map(lambda size: BIRTH[:size]))
def test_any_bytes_are_taken_or_refused(body: bytes) -> None:
    for events in ("message", "metric"):
        _, found, rejected, _ = converter(events).convert([message(DDATA, body)])
        assert found or [one.error.reason for one in rejected] in (["decode_failed"], ["alias_unknown"])
        for event in found:
            json.loads(event.body)


def test_the_time_of_an_event_can_be_the_metrics_own() -> None:
    """In the form of an event for each metric, `time: timestamp` is what a configuration says."""
    decoder = new_decoder("sparkplug_b", {"events": "metric"})
    own = birth_metric("own", DOUBLE, double_value=1.0, timestamp=STAMP - 1)
    stamps = [one["timestamp"] for one in decoder.decode(payload(own, birth_metric("none", DOUBLE)), DDATA)]
    assert stamps == [STAMP - 1, STAMP]
    assert RECEIVED * 1000 == STAMP
