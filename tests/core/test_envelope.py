"""The public event model."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.core.strategies import device_texts
from tidegate.core import Envelope, format_time, percent_encode

_LEAST = {"specversion": "1.0", "id": "1", "source": "urn:s", "type": "t"}


def test_the_least_event_is_written_as_it_was_read() -> None:
    assert json.loads(Envelope.model_validate(_LEAST).to_json()) == _LEAST
    assert json.loads(Envelope(id="1", source="urn:s", type="t").to_json()) == _LEAST


@pytest.mark.parametrize("missing", ["id", "source", "type"])
def test_an_event_without_a_required_attribute_is_refused(missing: str) -> None:
    for document in ({k: v for k, v in _LEAST.items() if k != missing}, _LEAST | {missing: ""}):
        with pytest.raises(ValidationError, match=missing):
            Envelope.model_validate(document)


def test_an_event_of_another_specification_is_refused() -> None:
    with pytest.raises(ValidationError, match="specversion"):
        Envelope.model_validate(_LEAST | {"specversion": "0.3"})


def test_an_event_with_both_data_members_is_refused() -> None:
    with pytest.raises(ValidationError, match="not both"):
        Envelope.model_validate(_LEAST | {"data": None, "data_base64": "AA=="})


@pytest.mark.parametrize(
    ("members", "payload"),
    [
        ({}, None),
        ({"data": None}, None),
        ({"data": {"a": [1, "é"]}}, {"a": [1, "é"]}),
        ({"data": 10**30}, 10**30),
        ({"data_base64": "//4A"}, b"\xff\xfe\x00"),
        ({"data_base64": ""}, b""),
    ],
)
def test_the_payload_is_the_value_or_the_bytes(members: dict[str, object], payload: object) -> None:
    event = Envelope.model_validate(_LEAST | members)
    assert event.payload() == payload
    assert json.loads(event.to_json()) == _LEAST | members


def test_extension_attributes_are_kept() -> None:
    document = _LEAST | {"myextension": "x", "count": 5, "flag": True, "traceparent": "00-ab-cd-01"}
    assert json.loads(Envelope.model_validate(document).to_json()) == document


def test_times_are_written_in_utc_with_microseconds() -> None:
    time = datetime(2024, 5, 1, 2, 0, 0, tzinfo=timezone(timedelta(hours=3)))
    event = Envelope(id="1", source="s", type="t", time=time)
    assert json.loads(event.to_json())["time"] == "2024-04-30T23:00:00.000000Z"


@settings(deadline=None, max_examples=100)
@given(st.floats(-2_000_000_000, 40_000_000_000))
def test_format_time_is_rfc_3339_in_utc_to_the_microsecond(seconds: float) -> None:
    text = format_time(seconds)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text)
    assert abs(datetime.fromisoformat(text) - datetime.fromtimestamp(seconds, UTC)) <= timedelta(microseconds=1)


def test_format_time_gives_times_that_sort_as_text() -> None:
    seconds = [0, 0.000001, 0.5, 1, 59.999999, 1e9, 1.7e9 + 0.25, 4.3e9, 1e10]
    texts = [format_time(value) for value in seconds]
    assert texts == sorted(texts)
    assert texts[0] == "1970-01-01T00:00:00.000000Z"


@settings(deadline=None, max_examples=100)
@given(device_texts)
def test_any_text_is_a_harmless_header_value_that_leads_back_to_it(text: str) -> None:
    value = percent_encode(text)
    assert re.fullmatch(r"[!#-~]*", value)
    assert not value.lower().startswith("nats-")
    headers = {"ce-id": "1", "ce-source": "s", "ce-type": "t", "ce-myextension": value}
    assert Envelope.from_nats(headers, b"").model_dump()["myextension"] == text


def test_text_that_needs_no_encoding_has_none() -> None:
    assert percent_encode("sensors/hall/d1:x?y=1&z'#~") == "sensors/hall/d1:x?y=1&z'#~"
    assert percent_encode('Euro € 😀 50% "x"') == "Euro%20%E2%82%AC%20%F0%9F%98%80%2050%25%20%22x%22"


@pytest.mark.parametrize(
    "headers", [None, {}, {"Content-Type": "application/json"}, {"ce-source": "s", "ce-type": "t"}]
)
def test_a_message_that_is_no_event_is_refused(headers: dict[str, str] | None) -> None:
    with pytest.raises(ValueError, match="not a CloudEvent"):
        Envelope.from_nats(headers, b"{}")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"id":"1"}', b"\xff", b"null"])
def test_a_structured_message_that_is_not_valid_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):
        Envelope.from_nats({"Content-Type": "application/cloudevents+json; charset=UTF-8"}, body)


@pytest.mark.parametrize(
    ("content_type", "body", "payload"),
    [
        ("application/json", b'{"a":18446744073709551617}', {"a": 18446744073709551617}),
        ("application/senml+json; v=1", b"[1.50]", [1.5]),
        ("text/plain", "é".encode(), "é"),
        ("application/octet-stream", b"text", b"text"),
        ("", b"text", b"text"),
        ("text/csv; charset=latin-1", b"\xe9", b"\xe9"),
        ("application/json", b"{torn", b"{torn"),
        ("application/json", b"NaN", b"NaN"),
        ("text/plain", b"", None),
    ],
)
def test_binary_mode_gives_the_payload_by_its_content_type_or_its_bytes(
    content_type: str, body: bytes, payload: object
) -> None:
    """The type is the device's word: where the bytes are something else, they are still there."""
    headers = {"CE-Id": "1", "ce-source": "s", "ce-type": "t", "ce-specversion": "1.0", "ce-retained": "true"}
    event = Envelope.from_nats(headers | ({"Content-Type": content_type} if content_type else {}), body)
    assert event.payload() == payload
    assert event.datacontenttype == (content_type or None)
    assert event.retained is True
