"""What a device gets of a message from NATS."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.bridge import DownConverter, DownPayload
from tidegate.bridge.json_member import raw_member
from tidegate.core import DownMapping, Encoded, Envelope, Message, Properties

MAPPING = DownMapping("n.{x}", "c/{x}")
CONTENT_TYPE = "application/cloudevents+json"
ATTRIBUTES = {
    "specversion": "1.0",
    "id": "7",
    "source": "orders",
    "type": "ready",
    "recordedtime": "2026-01-02T03:04:05Z",
}
HEADERS = {f"ce-{name}": value for name, value in ATTRIBUTES.items()}


def message(payload: bytes, headers: dict[str, str] | None = None, subject: bytes = b"n.a") -> Message:
    if headers is None:
        return Message(subject, payload, "own-id")
    content_type = next((value for name, value in headers.items() if name.lower() == "content-type"), None)
    return Message(subject, payload, "own-id", properties=Properties(content_type, user=tuple(headers.items())))


def one(found: Message, payload: DownPayload = "data") -> Encoded:
    converted = DownConverter(MAPPING, payload).convert([found])
    assert not converted.rejected, converted.rejected
    (event,) = converted.events
    assert (event.subject, event.message, event.id) == ("c/a", found, "own-id")
    return event


def refusal(found: Message, payload: DownPayload = "data") -> str:
    converted = DownConverter(MAPPING, payload).convert([found])
    assert not converted.events
    return converted.rejected[0].error.reason


def attributes(event: Encoded) -> dict[str, str]:
    return {name[3:]: value for name, value in event.headers.items() if name.startswith("ce-")}


STRUCTURED = [
    pytest.param({"Content-Type": CONTENT_TYPE}, id="said"),
    pytest.param(None, id="seen"),
]


@pytest.mark.parametrize("headers", STRUCTURED)
def test_the_data_of_a_document_goes_as_it_is_written_there(headers: dict[str, str] | None) -> None:
    document = b'{"data" : {"t":21.50,"n":12345678901234567890123} ,' + json.dumps(ATTRIBUTES).encode()[1:]
    event = one(message(document, headers))
    assert event.body == b'{"t":21.50,"n":12345678901234567890123}'
    assert event.headers["Content-Type"] == "application/json"
    assert attributes(event) == ATTRIBUTES


def test_binary_data_goes_as_bytes_and_text_as_text() -> None:
    binary = one(message(json.dumps(ATTRIBUTES | {"data_base64": "AP8=", "datacontenttype": "image/png"}).encode()))
    assert (binary.body, binary.headers["Content-Type"]) == (b"\x00\xff", "image/png")
    text = one(message(json.dumps(ATTRIBUTES | {"data": "grüß", "datacontenttype": "text/plain"}).encode()))
    assert (text.body, text.headers["Content-Type"]) == ("grüß".encode(), "text/plain")
    none = one(message(json.dumps(ATTRIBUTES).encode()))
    assert (none.body, "Content-Type" in none.headers) == (b"", False)


def test_an_event_in_headers_goes_with_its_body_untouched() -> None:
    headers = {name.upper(): value for name, value in HEADERS.items()} | {"content-type": "application/json"}
    event = one(message(b'{"t": 21.50}', headers | {"ce-note": "a%20b"}))
    assert event.body == b'{"t": 21.50}'
    assert attributes(event) == ATTRIBUTES | {"note": "a%20b"}


def test_what_is_no_event_goes_as_it_is_with_the_id_that_it_has() -> None:
    assert one(message(b"\x00plain")).lines == "ce-id: own-id\r\n"
    event = one(message(b"x", {"Content-Type": "text/plain", "Nats-Msg-Id": "m 1", "Other": "y"}))
    assert event.headers == {"ce-id": "m%201", "Content-Type": "text/plain"}
    assert one(message(b'{"specversion":')).body == b'{"specversion":'


def test_the_whole_event_is_the_document_that_came() -> None:
    document = b' {"t":1 ,' + json.dumps(ATTRIBUTES | {"data": 1.50}).encode()[1:]
    event = one(message(document), "event")
    assert event.body == document
    assert event.headers == {"ce-id": "7", "Content-Type": CONTENT_TYPE}


@pytest.mark.parametrize(
    ("body", "content_type"), [(b'{"t": 21.50}', "application/json"), (b"\x00\xff", "image/png"), (b"", "")]
)
def test_the_whole_event_of_headers_is_one_document(body: bytes, content_type: str) -> None:
    headers = HEADERS | ({"Content-Type": content_type} if content_type else {})
    event = one(message(body, headers), "event")
    read = Envelope.from_nats(event.headers, event.body)
    assert read == Envelope.from_nats(headers, body)


def test_a_whole_event_is_wanted_and_there_is_none() -> None:
    assert refusal(message(b"plain"), "event") == "not_an_event"
    assert refusal(message(b"plain", {"Content-Type": "text/plain"}), "event") == "not_an_event"


@pytest.mark.parametrize("payload", ["data", "event"])
def test_what_says_that_it_is_an_event_and_is_none_becomes_a_dead_letter(payload: DownPayload) -> None:
    assert refusal(message(b"{}", {"Content-Type": CONTENT_TYPE}), payload) == "event_invalid"
    assert refusal(message(b"{", {"Content-Type": CONTENT_TYPE}), payload) == "decode_failed"
    assert refusal(message(b"x", {"ce-specversion": "1.0", "ce-id": "1"}), payload) == "event_invalid"


def test_one_bad_message_stops_no_other() -> None:
    bad = message(b"x", subject=b"n.+")
    converted = DownConverter(MAPPING, "data").convert([message(b"1"), bad, message(b"2")])
    assert [event.body for event in converted.events] == [b"1", b"2"]
    assert [(one.message, one.stage) for one in converted.rejected] == [(bad, "convert")]


def test_the_correlation_id_is_the_events() -> None:
    converter = DownConverter(MAPPING, "data")
    assert converter.correlation_of(message(b"", HEADERS | {"ce-correlationid": "c-1"})) == "c-1"
    assert converter.correlation_of(message(json.dumps(ATTRIBUTES | {"correlationid": "c-2"}).encode())) == "c-2"
    assert converter.correlation_of(message(b"{", {"Content-Type": CONTENT_TYPE})) is None
    assert converter.correlation_of(message(b"x")) is None


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=4), VALUES, st.sampled_from([None, 2]), st.booleans())
def test_a_member_is_found_whatever_is_around_it(
    others: dict[str, object], value: object, indent: int | None, ascii_: bool
) -> None:
    document = json.dumps(others | {"data": value} | {"zz": {"data": 0}}, indent=indent, ensure_ascii=ascii_)
    raw = raw_member(document.encode(), "data")
    assert json.loads(raw) == value
    assert raw.decode() in document


@given(
    st.binary(max_size=60),
    st.dictionaries(
        st.sampled_from(["Content-Type", "ce-id", "ce-specversion", "ce-source", "ce-type", "x"]), st.text(max_size=10)
    ),
)
def test_whatever_comes_is_an_event_or_rejected(payload: bytes, headers: dict[str, str]) -> None:
    for kind in ("data", "event"):
        converted = DownConverter(MAPPING, kind).convert([message(payload, headers)])
        assert len(converted.events) + len(converted.rejected) == 1
        for event in converted.events:
            assert event.lines.isascii()
            assert kind == "data" or orjson.loads(event.body)
        assert not any(one.error.reason == "conversion_failed" for one in converted.rejected), converted.rejected
