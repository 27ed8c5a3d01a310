"""Messages that are CloudEvents already: read by the MQTT binding, written by the NATS binding, checked by the SDK."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import datetime
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_binary_event, from_structured_event
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bridge.messages import RECEIVED, convert_all, events_of, message, rejection, shaped
from tidegate.core import Envelope, Message, Properties, format_time

MODES = pytest.mark.parametrize("mode", ["structured", "binary"])
EVENT = {
    "specversion": "1.0", "id": "A234-1234", "source": "/devices/42", "type": "com.example.reading.v2",
    "time": "2023-11-14T22:13:10.5Z", "subject": "sensor 7", "datacontenttype": "application/json",
    "correlationid": "order-1", "comexampleextension": 7, "data": {"value": 21.5},
}  # fmt: skip
STRUCTURED = Properties(content_type="application/cloudevents+json; charset=utf-8")


def structured(properties: Properties | None = STRUCTURED, **change: Any) -> Message:
    """Return a message in structured mode; a member that is None is left out."""
    document = {name: value for name, value in {**EVENT, **change}.items() if value is not None}
    return message("a/b", json.dumps(document).encode(), properties=properties)


def binary(
    payload: bytes = b'{"value":21.5}', content_type: str | None = "application/json", **change: str | None
) -> Message:
    """Return a message in binary mode."""
    names = {name: str(value) for name, value in EVENT.items() if name not in ("data", "datacontenttype")} | change
    user = tuple((name, value) for name, value in names.items() if value is not None)
    return message("a/b", payload, properties=Properties(content_type=content_type, user=user))


@MODES
@pytest.mark.parametrize(
    "sent", [structured(), structured(None), binary()], ids=["structured", "structured without MQTT 5", "binary"]
)
def test_an_event_passes_with_its_own_id_and_attributes(sent: Message, mode: str) -> None:
    (event,) = events_of(shaped(mode=mode), sent)
    said = event.model_dump(mode="json", exclude_none=True)
    assert {**said, "comexampleextension": 7} == {
        **EVENT, "time": "2023-11-14T22:13:10.500000Z", "recordedtime": format_time(RECEIVED),
    }  # fmt: skip
    assert str(said["comexampleextension"]) == "7"


@MODES
def test_what_an_event_does_not_say_is_added(mode: str) -> None:
    sent = structured(correlationid=None, time=None, subject=None)
    (event,) = events_of(shaped(mode=mode), sent)
    assert event.correlationid == event.id == "A234-1234"
    assert event.time == event.recordedtime == datetime.fromisoformat(format_time(RECEIVED))
    assert event.subject == "a/b"


@MODES
@pytest.mark.parametrize(
    ("payload", "content_type"),
    [
        (b"\x00\xff", "application/octet-stream"), (b"\x00\xff", None), ("é".encode(), "text/plain"),
        (b"\xff", "text/plain"), (b"<a/>", "application/xml"), (b'"x"', "application/vnd.x+json"),
        (b'{"a": 1.10}', "application/json; charset=utf-8"),
        (b"7", "application/json"),
    ],
)  # fmt: skip
def test_the_data_of_an_event_in_binary_mode_arrives_as_it_was(
    payload: bytes, content_type: str | None, mode: str
) -> None:
    ((encoded,), _) = convert_all(shaped(mode=mode), binary(payload, content_type))
    data = Envelope.from_nats(encoded.headers, encoded.body).payload()
    if mode == "binary":
        assert encoded.body == payload
    if content_type and "json" in content_type:
        assert data == json.loads(payload)
        assert Envelope.from_nats(encoded.headers, encoded.body).datacontenttype == content_type
    else:
        assert (data.encode() if isinstance(data, str) else data) == payload


@MODES
@pytest.mark.parametrize("data", [None, b"", b"\x00\xff" * 10])
def test_bytes_in_a_structured_event_arrive_as_they_were(data: bytes | None, mode: str) -> None:
    sent = structured(data=None, datacontenttype=None, data_base64=None if data is None else b64encode(data).decode())
    (event,) = events_of(shaped(mode=mode), sent)
    assert (event.payload() or None) == (data or None)


@MODES
def test_the_sdk_reads_what_passes(mode: str) -> None:
    for sent in (
        structured(),
        binary(),
        binary(b"\xff", "image/png"),
        structured(data="text", datacontenttype="text/plain"),
    ):
        ((encoded,), _) = convert_all(shaped(mode=mode), sent)
        http = HTTPMessage(encoded.headers, encoded.body)
        event = from_structured_event(http) if mode == "structured" else from_binary_event(http)
        assert (event.get_id(), event.get_source(), event.get_type()) == ("A234-1234", "/devices/42", EVENT["type"])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"specversion": "2.0"}, "specversion"),
        ({"id": None}, "id is missing"),
        ({"id": ""}, "id is missing"),
        ({"source": None}, "source is missing"),
        ({"type": 7}, "the attribute type"),
        ({"time": "yesterday"}, "time is not RFC 3339"),
        ({"time": "2023-01-01T00:00:00"}, "time is not RFC 3339"),
        ({"time": "20231114T100000Z"}, "time is not RFC 3339"),
        ({"time": "2023-W46-2T10:00:00Z"}, "time is not RFC 3339"),
        ({"time": "2023-11-31T10:00:00Z"}, "time is not RFC 3339"),
        ({"Bad-Name": "x"}, "'Bad-Name'"),
        ({"extension": {"a": 1}}, "the attribute extension"),
        ({"extension": 1.5}, "the attribute extension"),
        ({"extension": "x" * 5000}, "more than"),
        ({"data_base64": "AA=="}, "exclude each other"),
        ({"data": None, "data_base64": "%"}, "not base64"),
        ({"data": None, "data_base64": 5}, "not base64"),
    ],
)
def test_what_is_said_to_be_an_event_and_is_none_is_a_dead_letter(change: dict[str, Any], problem: str) -> None:
    error = rejection(shaped(), structured(**change))
    assert error.reason == "event_invalid"
    assert problem in error.detail


def test_json_that_only_looks_like_an_event_is_data() -> None:
    """Nobody said that it is one."""
    for sent in (structured(None, id=None), structured(None, specversion="2.0"), structured(None, time="x")):
        (event,) = events_of(shaped(), sent)
        assert (event.id, event.type) == (sent.id, "t.v1")
        assert event.data == json.loads(sent.payload)


@pytest.mark.parametrize("content_type", ["application/cloudevents-batch+json", "application/cloudevents+avro"])
def test_a_format_that_is_not_read_is_a_dead_letter(content_type: str) -> None:
    assert rejection(shaped(), message(properties=Properties(content_type=content_type))).reason == "event_invalid"
    assert rejection(shaped(), structured(data=None)._replace(payload=b"[]")).reason == "event_invalid"
    assert rejection(shaped(), structured()._replace(payload=b"{")).reason == "decode_failed"


def test_wrapped_or_as_raw_bytes_an_event_is_a_payload_like_any_other() -> None:
    sent = structured()
    (event,) = events_of(shaped(pass_events=False), sent)
    assert (event.id, event.data) == (sent.id, EVENT)
    (event,) = events_of(shaped("raw"), sent)
    assert (event.id, event.payload()) == (sent.id, sent.payload)


def test_two_devices_that_count_alike_do_not_hide_each_others_events() -> None:
    """An id is unique with its source only (CloudEvents §3.1.1), and the stream drops what it knows."""
    one, other = structured(id="1", source="/a"), structured(id="1", source="/b")
    keys = [convert_all(shaped(), sent)[0][0].headers["Nats-Msg-Id"] for sent in (one, other, one)]
    assert keys[0] == keys[2] != keys[1]
    alike = structured(id="2", source="/a#1"), structured(id="1#2", source="/a")
    assert len({convert_all(shaped(), sent)[0][0].id for sent in alike}) == 2
    uuid = "01a2083a-e498-71c9-b5c3-1b05e6b8b38a"
    assert convert_all(shaped(), structured(id=uuid))[0][0].headers["Nats-Msg-Id"] == uuid


@MODES
@pytest.mark.parametrize("wild", ["x" * 4000, "Nats-Rollup: all\r\nx: y", "é \x00\x7f", "a b", "%41", "\U0001f600"])
def test_no_id_of_a_device_breaks_a_header(wild: str, mode: str) -> None:
    ((encoded,), _) = convert_all(shaped(mode=mode), structured(id=wild, subject=wild))
    read = Envelope.from_nats(encoded.headers, encoded.body)
    assert (read.id, read.subject) == (wild, wild)
    assert len(encoded.headers["Nats-Msg-Id"]) < 1000
    assert not {name for name in encoded.headers if name.startswith("Nats-")} - {"Nats-Msg-Id"}


def test_a_device_can_t_get_around_filter_select_and_schema_with_an_event() -> None:
    some = shaped(filter="value > `20`", select="{v: value}")
    (event,) = events_of(some, structured())
    assert (event.id, event.data) == ("A234-1234", {"v": 21.5})
    assert events_of(some, structured(data={"value": 1})) == []
    assert rejection(some, binary(b"\xff", "image/png")).reason == "decode_failed"
    some = shaped(attributes={"dataschema": "urn:checked"}, select="@")
    assert events_of(some, structured(dataschema="urn:other"))[0].dataschema == "urn:checked"


def test_the_elements_of_an_events_array_have_its_id_with_a_number() -> None:
    events = events_of(shaped(each="values"), structured(data={"values": [1, 2]}))
    assert [(event.id, event.data) for event in events] == [("A234-1234.0", 1), ("A234-1234.1", 2)]


_values = st.text(max_size=9) | st.integers(-(2**31), 2**31 - 1) | st.booleans()
_times = st.from_regex(
    r"20[0-9]{2}-(0[1-9]|1[0-2])-[0-2][1-8][Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?([Zz]|\+05:30)",
    fullmatch=True,
)
_texts = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=20)


@settings(deadline=None, max_examples=100)
@given(
    st.fixed_dictionaries(
        {"id": _texts, "source": _texts, "type": _texts},
        optional={
            "subject": _texts,
            "ext": _values,
            "time": _times,
        },
    ),
    st.none() | st.integers(-9, 9) | st.text(max_size=5) | st.dictionaries(st.text(max_size=3), st.integers(0, 9)),
    st.sampled_from(["structured", "binary"]),
)
def test_any_event_arrives_as_it_was_sent(attributes: dict[str, Any], data: Any, mode: str) -> None:
    document = {"specversion": "1.0", **attributes, "data": data}
    sent = message("a/b", json.dumps(document).encode(), properties=STRUCTURED)
    ((encoded,), rejected) = convert_all(shaped(mode=mode), sent)
    assert not rejected
    event = Envelope.from_nats(encoded.headers, encoded.body)
    read = event.model_dump()
    if "time" in attributes:
        sent_time = datetime.fromisoformat(attributes.pop("time").upper())
        assert event.time is not None
        assert abs((event.time - sent_time).total_seconds()) < 1e-6
    for name, value in attributes.items():
        expected = value if mode == "structured" else str(value).lower() if isinstance(value, bool) else str(value)
        assert read[name] == expected
    assert json.dumps(read["data"]) == json.dumps(data)


@settings(deadline=None, max_examples=100)
@given(
    st.dictionaries(
        st.sampled_from(["correlationid", "causationid", "traceparent", "recordedtime", "retained", "emptypayload",
                         "timefallback", "tracestate", "dataschema", "datacontenttype", "subject", "time", "data"]),
        _values,
    ),
    st.sampled_from(["structured", "binary"]),
)  # fmt: skip
def test_whatever_a_device_says_in_an_event_its_readers_can_read_it_or_it_is_a_dead_letter(
    odd: dict[str, Any], mode: str
) -> None:
    document = {"specversion": "1.0", "id": "i", "source": "s", "type": "t", **odd}
    events, rejected = convert_all(
        shaped(mode=mode), message("a/b", json.dumps(document).encode(), properties=STRUCTURED)
    )
    if rejected:
        assert rejected[0].error.reason == "event_invalid"
    else:
        read = Envelope.from_nats(events[0].headers, events[0].body)
        assert read.recordedtime == datetime.fromisoformat(format_time(RECEIVED))
        assert (read.retained, read.model_dump().get("emptypayload")) == (None, None)
