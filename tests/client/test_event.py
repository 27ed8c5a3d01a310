"""Typed events: what is written is read, and what is not of its type is refused with a sentence."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tidegate.client import Envelope, Event, EventData
from tidegate.client.event import new_event, read_event

STRUCTURED = {"Content-Type": "application/cloudevents+json"}


class Reading(EventData):
    event_type = "com.example.reading.v1"

    device: str
    values: tuple[float, ...] = ()
    note: str | None = None


def event(data: Reading, cause: Envelope | None = None) -> Event[Reading]:
    return new_event(Reading, data, id="1", source="urn:example:s", type=None, cause=cause)


@settings(deadline=None, max_examples=80)
@given(
    st.builds(
        Reading,
        device=st.text(),
        values=st.lists(st.floats(-1e9, 1e9)).map(tuple),
        note=st.text(max_size=9),
    )
)
def test_what_is_written_is_read(data: Reading) -> None:
    """Defaults are written too: a reader may have others."""
    body = event(data).to_json()
    assert read_event(Reading, STRUCTURED, body).data == data
    assert orjson.loads(body)["data"] == data.model_dump(mode="json")


def test_an_event_is_one_to_others() -> None:
    written = event(Reading(device="d"))
    found: Any = from_structured_event(HTTPMessage(STRUCTURED, written.to_json()))
    assert found.get_type() == "com.example.reading.v1"
    assert found.get_data()["device"] == "d"


def test_data_may_be_of_any_type_that_is_json() -> None:
    written = new_event(dict, {"a": 1}, id="1", source="urn:example:s", type="com.example.x.v1", cause=None)
    assert read_event(dict[str, int], STRUCTURED, written.to_json()).data == {"a": 1}
    with pytest.raises(ValueError, match=r"data\.a: Input should be a valid boolean"):
        read_event(dict[str, bool], STRUCTURED, written.to_json().replace(b'{"a":1}', b'{"a":7}'))


def test_events_and_their_data_can_not_be_changed() -> None:
    some = event(Reading(device="d"))
    with pytest.raises(ValidationError):
        some.id = "2"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        some.data.device = "e"  # type: ignore[misc]


def test_members_that_a_reader_does_not_know_are_passed_over() -> None:
    body = event(Reading(device="d")).to_json().replace(b'"device"', b'"new":1,"device"')
    assert read_event(Reading, STRUCTURED, body).data == Reading(device="d")


def test_an_event_in_binary_mode_is_read_too() -> None:
    headers = {
        "ce-id": "1", "ce-source": "urn:example:s", "ce-specversion": "1.0", "ce-type": "com.example.reading.v1",
        "Content-Type": "application/json",
    }  # fmt: skip
    assert read_event(Reading, headers, b'{"device":"d"}').data == Reading(device="d")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"specversion":"1.0","id":"1","source":"s","type":"com.example.reading.v1"}', "data: Field required"),
        (
            b'{"specversion":"1.0","id":"1","source":"s","type":"com.example.reading.v1","data":{}}',
            "data.device: Field",
        ),
        (b'{"specversion":"1.0","id":"1","source":"s","type":"x","data":{}}', "its type is 'x'"),
        (b'{"specversion":"1.0","id":"1","source":"s","type":"x","data":{"device":"d"}}', "its type is 'x'"),
        (b'{"specversion":"0.3","id":"1","source":"s","type":"x"}', "specversion"),
        (b"{torn", "Invalid JSON"),
    ],
)
def test_what_is_not_an_event_of_the_type_is_refused_with_what_is_wrong(body: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_event(Reading, STRUCTURED, body)


def test_an_event_belongs_to_the_story_of_its_cause() -> None:
    first = event(Reading(device="d"))
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    cause = first.model_copy(update={"id": "0", "correlationid": "story", "traceparent": trace})
    second = event(Reading(device="d"), cause)
    assert first.correlationid == first.id
    assert first.causationid is None
    assert (second.correlationid, second.causationid, second.traceparent) == ("story", "0", trace)
    assert second.time is not None
    assert second.time <= datetime.now(UTC)


def test_data_without_a_type_need_one() -> None:
    with pytest.raises(ValueError, match="dict declares no event_type"):
        new_event(dict, {"a": 1}, id="1", source="s", type=None, cause=None)
    assert new_event(dict, {"a": 1}, id="1", source="s", type="com.example.x.v1", cause=None).data == {"a": 1}
