"""The fast path against the public model and against the CloudEvents SDK."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_binary_event, from_structured_event
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.strategies import messages
from tidegate.bridge import Converter, Shape, new_decoder
from tidegate.core import Encoded, Envelope, Mapping, Message, Properties, format_time, header_lines

_SOURCE, _TYPE = "urn:tidegate:plant-1:readings", "com.example.sensor.reading.v1"


def convert(message: Message, decoder: str, mode: str) -> Encoded:
    """Return the event of one message, as a bridge makes it."""
    shape = Shape(bridge="b", mapping=Mapping("{all...}", "plant.{all...}"), source=_SOURCE, type=_TYPE, mode=mode)
    _, events, rejected, _ = Converter(shape, new_decoder(decoder)).convert([message])
    assert not rejected, rejected
    return events[0]


def expected(message: Message, decoder: str, event: Envelope) -> dict[str, Any]:
    """Return the document that the contract wants, written without the product's help. What the event says of the
    device's correlation id and content type is taken over: tests of the converter have them."""
    stamp = format_time(message.received)
    document: dict[str, Any] = {
        "specversion": "1.0", "id": message.id, "source": _SOURCE, "type": _TYPE, "subject": message.topic.decode(),
        "time": stamp, "recordedtime": stamp, "correlationid": event.correlationid,
    }  # fmt: skip
    if message.retained:
        document["retained"] = True
    if not message.payload:
        return document | {"emptypayload": True}
    document["datacontenttype"] = event.datacontenttype
    if decoder == "raw":
        return document | {"data_base64": b64encode(message.payload).decode()}
    return document | {"data": json.loads(message.payload) if decoder == "json" else message.payload.decode()}


def assert_same_value(one: Any, other: Any) -> None:
    """Equal, and with the same type: in Python 1 == 1.0 == True."""
    assert json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@pytest.mark.parametrize("decoder", ["json", "text", "raw"])
@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_a_structured_event_is_the_document_that_the_model_writes(decoder: str, data: st.DataObject) -> None:
    message = data.draw(messages(decoder))
    event = convert(message, decoder, "structured")
    assert event.headers == {"Nats-Msg-Id": message.id, "Content-Type": "application/cloudevents+json"}
    document = json.loads(event.body)
    model = Envelope.model_validate_json(event.body)
    assert_same_value(json.loads(model.to_json()), document)
    assert_same_value(document, expected(message, decoder, model))
    assert Envelope.from_nats(event.headers, event.body) == model


@pytest.mark.parametrize("decoder", ["json", "text", "raw"])
@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_a_binary_event_says_the_same_as_the_structured_one(decoder: str, data: st.DataObject) -> None:
    message = data.draw(messages(decoder))
    event = convert(message, decoder, "binary")
    structured = Envelope.model_validate_json(convert(message, decoder, "structured").body)
    assert event.body == message.payload
    read = Envelope.from_nats(event.headers, event.body)
    attributes = read.model_dump(exclude={"data", "data_base64", "emptypayload"}, exclude_unset=True)
    assert attributes == structured.model_dump(exclude={"data", "data_base64", "emptypayload"}, exclude_unset=True)
    assert _as_bytes(read.payload(), message.payload) == message.payload
    if decoder != "raw":
        assert_same_value(read.payload(), structured.payload())


@pytest.mark.parametrize("mode", ["structured", "binary"])
@pytest.mark.parametrize("decoder", ["json", "text", "raw"])
@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_the_cloudevents_sdk_reads_every_event(mode: str, decoder: str, data: st.DataObject) -> None:
    message = data.draw(messages(decoder))
    event = convert(message, decoder, mode)
    http = HTTPMessage(headers=dict(event.headers), body=event.body)
    read = (from_structured_event if mode == "structured" else from_binary_event)(http)
    ours = Envelope.from_nats(event.headers, event.body)
    assert (read.get_id(), read.get_source(), read.get_type()) == (message.id, _SOURCE, _TYPE)
    assert read.get_subject() == message.topic.decode()
    assert read.get_time() == ours.time
    assert read.get_datacontenttype() == ours.datacontenttype
    assert read.get_extension("correlationid") == ours.correlationid
    assert bool(read.get_extension("retained")) == message.retained
    assert bool(read.get_extension("emptypayload")) == (not message.payload)
    if decoder == "json":
        assert_same_value(read.get_data(), json.loads(message.payload) if message.payload else None)
    else:
        assert _as_bytes(read.get_data(), message.payload) == message.payload


def _as_bytes(value: Any, payload: bytes) -> bytes:
    """Return the payload that a reader's value stands for: readers give text and JSON where the type says so."""
    if value is None:
        assert payload in (b"", b"null")
        return payload
    if isinstance(value, bytes | str):
        return value.encode() if isinstance(value, str) and value.encode() == payload else _json_or(value, payload)
    return _json_or(value, payload)


def _json_or(value: Any, payload: bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    assert_same_value(value, json.loads(payload))
    return payload


@pytest.mark.parametrize("mode", ["structured", "binary"])
@settings(deadline=None, max_examples=100)
@given(message=messages("raw"))
def test_no_header_carries_what_nats_would_take_for_its_own(mode: str, message: Message) -> None:
    """Neither a line break, nor a name or a value that starts like one of NATS's own headers."""
    headers = convert(message, "raw", mode).headers
    assert [name for name in headers if name.lower().startswith("nats-")] == ["Nats-Msg-Id"]
    assert headers["Nats-Msg-Id"] == message.id
    for name, value in headers.items():
        assert (name + value).isascii()
        assert (name + value).isprintable()
        assert not value.lower().startswith("nats-")


@pytest.mark.parametrize("given_type", ["application/cloudevents+json", "Application/CloudEvents-batch+json"])
def test_a_devices_content_type_does_not_make_its_payload_the_event(given_type: str) -> None:
    """In binary mode that type says that the body is the event; a device could forge one of another source."""
    forged = b'{"specversion":"1.0","id":"x","source":"urn:other","type":"forged"}'
    message = Message(b"a", forged, "id-1", properties=Properties(content_type=given_type))
    event = convert(message, "raw", "binary")
    read = Envelope.from_nats(event.headers, event.body)
    assert (read.id, read.source, read.type) == ("id-1", _SOURCE, _TYPE)
    assert read.payload() == forged


def test_the_devices_own_digits_are_kept() -> None:
    payload = b'{ "t" : 21.50, "big":123456789012345678901234567890, "e":1E+2 }'
    assert payload in convert(Message(b"a", payload, "1"), "json", "structured").body
    assert convert(Message(b"a", payload, "1"), "json", "binary").body == payload


@pytest.mark.parametrize(
    ("name", "value"), [("ce bad", "x"), ("", "x"), ("ce:bad", "x"), ("ce-bad", "x\r\ny: z"), ("ce-bad", "\u00e9")]
)
def test_a_header_that_would_not_stay_in_its_line_is_refused(name: str, value: str) -> None:
    """Law 7, for headers: no device text can add one."""
    assert header_lines({"ce-good": "a: b"}) == "ce-good: a: b\r\n"
    with pytest.raises(ValueError, match="not a header"):
        header_lines({name: value})
