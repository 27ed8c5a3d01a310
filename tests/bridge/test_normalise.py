"""The way of a message that is looked into: each, filter, select, time, ids, constants, schema."""

from __future__ import annotations

import gc
import gzip
import json
import time
import tracemalloc
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bridge.messages import (
    RECEIVED,
    convert_all,
    converter,
    document,
    events_of,
    message,
    properties,
    rejection,
    shaped,
)
from tidegate.bridge import Converter, Decoder, Expression, Shape, Steps, new_inflate
from tidegate.bridge.normalise import MAX_BYTES, MAX_EVENTS
from tidegate.core import DeliveryError, Envelope, Mapping, Properties, format_time

MODES = pytest.mark.parametrize("mode", ["structured", "binary"])


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


def refuse_odd(value: object) -> None:
    """A schema, as far as these tests need one: no value may be odd."""
    if isinstance(value, int) and value % 2:
        raise DeliveryError("schema_failed", f"$: {value} is odd")


@MODES
def test_select_makes_the_data_and_each_an_event_for_each_element(mode: str) -> None:
    some = shaped(mode=mode, each="readings", select="{value: v, device: root().device, site: capture('all')}")
    one = message("hall", as_json({"device": "d1", "readings": [{"v": 1}, {"v": 2.5}]}))
    events = events_of(some, one)
    assert [event.id for event in events] == [f"{one.id}.0", f"{one.id}.1"]
    assert [event.data for event in events] == [
        {"value": 1, "device": "d1", "site": "hall"},
        {"value": 2.5, "device": "d1", "site": "hall"},
    ]
    assert {event.datacontenttype for event in events} == {"application/json"}
    assert {event.subject for event in events} == {"hall"}
    assert {event.correlationid for event in events} == {one.id}


def test_an_element_keeps_its_id_whatever_is_filtered_before_it() -> None:
    """So a message that comes again, or again with another filter, makes no other events."""
    one = message("hall", b"[1,2,3,4]")
    assert [event.id for event in events_of(shaped(each="@", filter="@ > `2`"), one)] == [f"{one.id}.2", f"{one.id}.3"]


def test_a_message_whose_elements_are_all_filtered_out_or_absent_is_filtered() -> None:
    some = shaped(each="@", filter="@ > `9`")
    assert events_of(some, message(payload=b"[1,2]")) == events_of(some, message(payload=b"[]")) == []


@pytest.mark.parametrize(
    ("payload", "passes"),
    [(b'{"t":21}', True), (b'{"t":19}', False), (b'{"u":1}', False), (b"[]", False), (b"", False)],
)
def test_a_filter_lets_through_only_what_it_is_true_for(payload: bytes, passes: bool) -> None:
    assert bool(events_of(shaped(filter="t > `20`"), message(payload=payload))) == passes


@MODES
@pytest.mark.parametrize("payload", [b'{"t": 1.10,"n":123456789012345678901234567890}', b'{"t":1e2}', b"0.10"])
def test_what_is_only_looked_at_stays_as_the_device_wrote_it(payload: bytes, mode: str) -> None:
    events, _ = convert_all(shaped(mode=mode, filter="`1`", time="t", correlation="n"), message(payload=payload))
    assert payload in events[0].body


def test_a_bridge_without_steps_makes_the_same_event_as_one_that_looks() -> None:
    """The plain way and the other one are two writings of one document."""
    for given_properties in (None, properties(correlationid="c-1"), Properties(content_type="text/html")):
        for payload in (b'{"a":[1,2]}', b'"x"', b""):
            for mode in ("structured", "binary"):
                one = message("a/b", payload, retained=not payload, properties=given_properties)
                plain = convert_all(converter(mode=mode), one)[0][0]
                looked = convert_all(shaped(mode=mode, causation="@.nothing"), one)[0][0]
                assert Envelope.from_nats(plain.headers, plain.body) == Envelope.from_nats(looked.headers, looked.body)
                assert plain.headers == looked.headers
                assert (plain.id, plain.subject) == (looked.id, looked.subject)


@pytest.mark.parametrize(
    ("steps", "payload", "problem"),
    [
        ({"each": "a"}, b'{"a":1}', "each: finds no array, but a value of type int"),
        ({"each": "a"}, b"{}", "each: finds no array, but nothing"),
        ({"select": "a"}, b"{}", "select: finds nothing"),
        ({"select": "length(a)"}, b'{"a":1}', "select: In function length()"),
        ({"select": "to_number(a)"}, b'{"a":"nan"}', "select: nan is no number that JSON has"),
        ({"select": "multiply(a, a)"}, b'{"a":1e300}', "select: inf is no number that JSON has"),
        ({"filter": "length(a)"}, b'{"a":1}', "filter: In function length()"),
        ({"each": "@", "select": "length(a)"}, b'[{"a":""},{"a":1}]', "[1] select: In function length()"),
        ({"each": "@"}, b"[" + b"1," * MAX_EVENTS + b"1]", f"{MAX_EVENTS + 1} elements"),
    ],
)
def test_what_the_steps_can_t_do_is_a_dead_letter_that_says_which(
    steps: dict[str, Any], payload: bytes, problem: str
) -> None:
    error = rejection(shaped(**steps), message(payload=payload))
    assert error.reason == "normalise_failed"
    assert problem in error.detail


def test_an_array_becomes_events_all_or_none() -> None:
    """A message has one fate: it can be sent again whole, once its bridge or its device is mended."""
    some = shaped(each="@", check=refuse_odd)
    assert len(events_of(some, message(payload=b"[2,4,6]"))) == 3
    error = rejection(some, message(payload=b"[2,4,5,6]"))
    assert (error.reason, error.detail) == ("schema_failed", "[2] $: 5 is odd")


def test_law_8_a_defect_that_one_message_brings_out_costs_that_message_alone() -> None:
    def stumble(value: object) -> None:
        if value == 3:
            raise KeyError("a defect")

    some = shaped(check=stumble)
    events, rejected = convert_all(some, message(payload=b"1"), message(payload=b"3"), message(payload=b"2"))
    assert [event.message.payload for event in events] == [b"1", b"2"]
    assert (rejected[0].error.reason, "a defect" in rejected[0].error.detail) == ("conversion_failed", True)


def test_events_that_repeat_the_whole_message_can_t_fill_the_memory() -> None:
    payload = as_json({"big": "x" * (MAX_BYTES // 100), "items": list(range(200))})
    error = rejection(shaped(each="items", select="{n: @, all: root()}"), message(payload=payload))
    assert error.reason == "normalise_failed"


@MODES
def test_the_devices_time_is_the_events_and_receipt_is_kept(mode: str) -> None:
    (event,) = events_of(
        shaped(mode=mode, time="at.ms"), message(payload=as_json({"at": {"ms": RECEIVED * 1000 - 250}}))
    )
    assert event.time == datetime.fromtimestamp(RECEIVED - 0.25, UTC)
    assert event.recordedtime == datetime.fromtimestamp(RECEIVED, UTC)
    assert "timefallback" not in event.model_dump()


@MODES
@pytest.mark.parametrize("value", [0, 86_400, 4_294_967_295, "soon", None, {"a": 1}])
def test_b27_an_absurd_time_falls_back_to_receipt_and_is_flagged_and_stays_in_the_data(
    value: object, mode: str
) -> None:
    (event,) = events_of(shaped(mode=mode, time="ts"), message(payload=as_json({"ts": value})))
    assert event.time == event.recordedtime == datetime.fromtimestamp(RECEIVED, UTC)
    assert str(event.model_dump()["timefallback"]).lower() == "true"
    assert event.data == {"ts": value}


def test_the_time_can_come_from_a_user_property() -> None:
    some = shaped("text", time_property="sent")
    given_time = Properties(user=(("sent", format_time(RECEIVED - 5)),))
    assert events_of(some, message(properties=given_time))[0].time == datetime.fromtimestamp(RECEIVED - 5, UTC)
    for none in (None, Properties(user=(("other", "x"),))):
        assert events_of(some, message(properties=none))[0].model_dump()["timefallback"] is True


@MODES
def test_ids_come_from_mqtt_5_before_the_payload(mode: str) -> None:
    some = shaped(mode=mode, correlation="order.id", causation="order.cause")
    payload = as_json({"order": {"id": 17, "cause": "placed"}})
    (event,) = events_of(some, message(payload=payload))
    assert (event.correlationid, event.causationid) == ("17", "placed")
    user = Properties(user=(("correlationid", "c"), ("causationid", "d")))
    (event,) = events_of(some, message(payload=payload, properties=user))
    assert (event.correlationid, event.causationid) == ("c", "d")
    (event,) = events_of(some, one := message(payload=b"{}"))
    assert (event.correlationid, event.causationid) == (one.id, None)


@MODES
@pytest.mark.parametrize("steps", [{}, {"filter": "`1`"}], ids=["plain", "looked into"])
@pytest.mark.parametrize(
    ("given_trace", "kept"),
    [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", False),
        ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01", False),
        ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", False),
        ("nonsense\r\nNats-Msg-Id: x", False),
        ("", False),
    ],
)
def test_trace_context_goes_on_where_it_is_one(given_trace: str, kept: bool, steps: dict[str, Any], mode: str) -> None:
    user = Properties(user=(("traceparent", given_trace), ("tracestate", "vendor=1"), ("causationid", "cause-1")))
    (event,) = events_of(shaped(mode=mode, **steps), message(payload=b"1", properties=user))
    assert event.traceparent == (given_trace if kept else None)
    assert ("tracestate" in event.model_dump()) == kept
    assert event.causationid == "cause-1"


@MODES
@pytest.mark.parametrize("steps", [{}, {"filter": "`1`"}], ids=["plain", "looked into"])
def test_type_source_and_attributes_may_have_what_the_topic_captures(steps: dict[str, Any], mode: str) -> None:
    some = shaped(
        pattern="{site}/{rest...}", template="plant.{site}", mode=mode,
        type="com.{site}.v1", source="urn:x:{site}:{rest}", attributes={"line": "{rest}", "plant": "north"}, **steps,
    )  # fmt: skip
    (event,) = events_of(some, message("hall é/a b/c", b"1"))
    assert (event.type, event.source) == ("com.hall é.v1", "urn:x:hall%20%C3%A9:a%20b/c")
    assert (event.model_dump()["line"], event.model_dump()["plant"]) == ("a b/c", "north")


@MODES
def test_no_event_of_a_devices_changes_an_attribute_that_is_configured(mode: str) -> None:
    some = shaped(mode=mode, pattern="a/{site}", template="p.{site}", attributes={"site": "{site}"})
    forged = {"specversion": "1.0", "id": "1", "source": "/a", "type": "t", "site": "forged"}
    (event,) = events_of(some, message("a/hall", as_json(forged)))
    assert (event.id, event.model_dump()["site"]) == ("1", "hall")


@MODES
def test_an_attribute_of_an_empty_level_is_left_out(mode: str) -> None:
    some = shaped(mode=mode, pattern="a/{site}", template="p.{site}", attributes={"site": "{site}"}, select="@")
    (event,) = events_of(some, message("a/", b"1"))
    assert "site" not in event.model_dump()


def test_a_payload_is_decompressed_before_all_else() -> None:
    some = shaped(inflate=new_inflate("gzip", 1000), select="a")
    assert events_of(some, message(payload=gzip.compress(b'{"a":5}', mtime=0)))[0].data == 5
    assert rejection(some, message(payload=b'{"a":5}')).reason == "decompress_failed"
    assert rejection(some, message(payload=gzip.compress(bytes(1001), mtime=0))).reason == "payload_too_large"
    assert events_of(shaped(inflate=new_inflate("gzip", 1000)), message(payload=b""))[0].payload() is None


def test_what_is_much_work_is_done_in_portions() -> None:
    """Others have to be served meanwhile, and the events of a portion are in memory at once."""
    digits = b"[" + b"1," * 999 + b"1]"
    for some, payload in (
        (shaped(each="@", select="{a: @}"), digits),
        (shaped(inflate=new_inflate("gzip", 1 << 20)), gzip.compress(as_json(["x" * 9] * 60_000), mtime=0)),
        (shaped(), as_json({"big": "x" * 100_000})),
    ):
        batch = [message(payload=payload) for _ in range(64)]
        parts, rest = [], batch
        while rest:
            start = time.process_time()
            found = some.convert(rest)
            parts.append((len(found.messages), time.process_time() - start))
            assert {id(event.message) for event in found.events} == {id(one) for one in found.messages}
            rest = rest[len(found.messages) :]
        assert len(parts) > 8
        assert max(seconds for _, seconds in parts) < 0.5


def test_an_expression_that_looks_at_everything_for_each_element_does_not_stop_the_rest() -> None:
    rows = {"rows": [{"k": f"x{n}", "v": n} for n in range(1000)]}
    start = time.process_time()
    error = rejection(
        shaped(each="rows", select="{all: root().rows[?v > `-1`].k | length(@)}"), message(payload=as_json(rows))
    )
    assert (error.reason, "s to make" in error.detail) == ("normalise_failed", True)
    assert time.process_time() - start < 4


def test_long_topics_are_not_kept_in_memory() -> None:
    some = shaped(template="plant.all", select="@")
    some.convert([message()])
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(500):
            some.convert([message(f"{number:06}/{'x' * 60_000}")])
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def test_a_topic_is_refused_on_this_way_too() -> None:
    some = shaped(select="@")
    assert rejection(some, message(b"\xff")).reason == "topic_invalid"
    assert rejection(some, message("a" * 65_000)).reason == "subject_too_long"
    assert rejection(some, message(defect="payload_too_large")).reason == "payload_too_large"


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(deadline=None, max_examples=100)
@given(st.lists(_values, max_size=5), st.sampled_from(["structured", "binary"]))
def test_each_element_of_any_array_arrives_as_it_was(values: list[Any], mode: str) -> None:
    some = shaped(mode=mode, each="@")
    events, rejected = convert_all(some, message(payload=as_json(values)))
    assert not rejected
    read = [Envelope.from_nats(event.headers, event.body).data for event in events]
    assert json.dumps(read) == json.dumps(values)
    assert len({event.id for event in events}) == len(values)


def test_a_structured_event_has_its_members_once() -> None:
    (event,), _ = convert_all(shaped(select="@", time="t"), message(payload=b'{"t":1}', retained=True))
    names = [name for name, _ in json.loads(event.body, object_pairs_hook=list)]
    assert len(names) == len(set(names))
    assert set(document(event)) >= {"specversion", "id", "source", "type", "subject", "time", "recordedtime", "data"}


class Hostile(str):
    """A value that a decoder of somebody's may return."""

    def __str__(self) -> str:
        raise RuntimeError("a defect")


@pytest.mark.parametrize("value", ["\ud800", "a\nb", Hostile("x"), object(), [], None, 1.5, True, ""])
def test_no_value_of_a_decoder_keeps_a_dead_letter_from_being_written(value: object) -> None:
    shape = Shape(bridge="b", mapping=Mapping("{all...}", "plant.{all...}"), source="s", type="t")
    some = Converter(shape, Decoder(lambda _payload, _topic: {"id": value}), Steps(correlation=Expression("id")))
    assert some.correlation_of(message()) is None


def test_a_message_that_was_received_when_a_clock_began_has_its_time() -> None:
    """A machine without a battery for its clock may begin there."""
    (event,) = events_of(shaped(select="@"), message(received=0.0))
    assert event.time == event.recordedtime == datetime(1970, 1, 1, tzinfo=UTC)
