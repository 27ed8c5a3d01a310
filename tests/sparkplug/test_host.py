"""What a host remembers of its edge nodes: names, sequence numbers, and whom to ask for a rebirth."""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bridge.messages import message
from tests.sparkplug.payloads import (
    BOOLEAN,
    DOUBLE,
    INT32,
    INT64,
    STAMP,
    TEMPLATE,
    Host,
    Node,
    bd_seq,
    birth_metric,
    converter,
    metrics_of,
    payload,
    values,
)
from tidegate.bridge import sparkplug
from tidegate.bridge.decode.sparkplug_payload import MAX_VALUES, Payload
from tidegate.bridge.sparkplug import MAX_ADDED, MAX_METRICS, MAX_NODES, MAX_TOPIC, REBIRTH_INTERVAL
from tidegate.core import Message
from tidegate.spool.chunk import decode_chunk, encode_chunk, encode_records

TEMP = birth_metric("temp", DOUBLE, 5, double_value=20.0)
LEVEL = birth_metric("level", INT32, 6, int_value=1)
MINUS_FIVE = (1 << 32) - 5


def temp(value: float) -> dict[str, Any]:
    """Return TEMP as data have it."""
    return {"alias": 5, "double_value": value}


def level(value: int) -> dict[str, Any]:
    """Return LEVEL as data have it: neither a name nor a datatype."""
    return {"alias": 6, "int_value": value % (1 << 32)}


def topics(host: Host) -> list[str]:
    """Return the topics of the requests so far."""
    return [topic for topic, _ in host.requests]


def through_the_spool(messages: Sequence[Message]) -> list[Message]:
    """Return messages as they come back from the disk."""
    return decode_chunk(encode_chunk(encode_records(messages)))


# Names


def test_data_under_an_alias_get_the_name_and_the_datatype_of_their_birth() -> None:
    host, node = Host(), Node()
    _, found = host.values(node.born(TEMP, LEVEL), node.says("NDATA", temp(21.5), level(-5)))
    assert found["metrics"] == [
        {"name": "temp", "datatype": "Double", "value": 21.5},
        {"name": "level", "datatype": "Int32", "value": -5},
    ]
    assert (found["timestamp"], found["seq"]) == (STAMP, 1)
    assert host.requests == []


def test_what_lies_on_the_disk_needs_no_state_to_be_decoded() -> None:
    """The births may be other ones by then, or the process a new one."""
    host, node = Host(), Node()
    live = [
        node.born(TEMP, LEVEL),
        node.says("NDATA", temp(1.5), level(-5)),
        node.says("DBIRTH", birth_metric("speed", INT32, 9, int_value=0), device="d"),
        node.says("DDATA", {"alias": 9, "int_value": MINUS_FIVE}, device="d"),
        node.says("DDEATH", device="d"),
        node.died(),
    ]
    expected = host.values(*live)
    again, other = Host(), Node()
    again.takes(other.born(birth_metric("other", BOOLEAN, 5), birth_metric("more", INT64, 6)))
    stored = through_the_spool(Host().takes(*live))
    assert stored != live
    assert values(converter(), *stored) == expected
    assert again.values(*stored) == expected


def test_the_rest_of_a_payload_stays_as_it_was() -> None:
    host, node = Host(), Node()
    before = {**temp(1.0), "timestamp": 5, "is_historical": True, "properties": {"keys": ["q"], "values": [{}]}}
    host.takes(node.born(TEMP))
    (restored,) = host.takes(
        message("spBv1.0/g/NDATA/n", payload(before, seq=1, uuid="u", body=b"b") + b"\xf8\x06\x01")
    )
    expected = payload({**before, "name": "temp", "datatype": DOUBLE}, seq=1, uuid="u", body=b"b") + b"\xf8\x06\x01"
    assert Payload.FromString(restored.payload) == Payload.FromString(expected)
    assert restored.size == len(restored.payload)


def test_data_by_name_get_the_datatype_of_their_own_birth() -> None:
    """A node that uses no aliases leaves the datatype out all the same (§6.4.6); without it -5 would be 4294967291."""
    host, node = Host(), Node()
    host.takes(
        node.born(birth_metric("x", INT32)),
        node.says("DBIRTH", birth_metric("x", INT64), device="d"),
        node.says("DBIRTH", birth_metric("y", INT64), device="e"),
    )
    raw = {"name": "x", "int_value": MINUS_FIVE}
    of_node, of_device = host.values(node.says("NDATA", raw), node.says("DDATA", raw, device="d"))
    assert (metrics_of(of_node), metrics_of(of_device)) == ({"x": -5}, {"x": MINUS_FIVE})
    assert host.requests == []
    assert host.values(node.says("DDATA", raw, device="e")) == ["datatype_unknown"]
    assert len(host.requests) == 1


def test_members_of_a_template_get_theirs() -> None:
    """Data may have only some of the members (§6.4.14), and they may have names of other metrics."""
    host, node = Host(), Node()
    inner = {"metrics": [birth_metric("x", INT32), birth_metric("y", INT64, 8)]}
    outer = {"metrics": [birth_metric("inner", TEMPLATE, template_value=inner), birth_metric("x", INT64)]}
    host.takes(node.born(birth_metric("t", TEMPLATE, 7, template_value=outer), birth_metric("x", DOUBLE)))
    part = {"metrics": [{"name": "x", "int_value": MINUS_FIVE}, {"alias": 8, "long_value": 1}]}
    whole = {"metrics": [{"name": "inner", "template_value": part}]}
    (found,) = host.values(node.says("NDATA", {"alias": 7, "template_value": whole}))
    (metric,) = found["metrics"]
    assert metric["name"] == "t"
    assert metrics_of(metrics_of(metric["value"])["inner"]) == {"x": -5, "y": 1}


def test_commands_under_an_alias_get_their_names_too() -> None:
    host, node = Host(), Node()
    host.takes(node.born(LEVEL))
    body = payload(level(-1), seq=99)  # which a command should not have
    (found,) = host.values(message("spBv1.0/g/NCMD/n", body))
    assert metrics_of(found) == {"level": -1}
    assert host.values(message("spBv1.0/g/DCMD/n/d", body))[0]["device"] == "d"
    assert host.values(node.says("NDATA", level(2)))[0]["seq"] == 1
    assert (host.requests, host.host.sequence_gaps) == ([], 0)


def test_an_alias_that_no_birth_had_is_refused_and_the_node_asked() -> None:
    host, node = Host(), Node()
    host.takes(node.born(TEMP))
    says = node.says("NDATA", temp(1.0), {"alias": 7, "double_value": 1.0})
    (rejected,) = host.converter.convert([says]).rejected
    assert rejected.error.reason == "alias_unknown"
    assert rejected.message == says  # the dead letter has what the device sent
    assert topics(host) == ["spBv1.0/g/NCMD/n"]


def test_a_birth_of_the_node_replaces_what_it_and_its_devices_said() -> None:
    host, node = Host(), Node()
    host.takes(node.born(TEMP), node.says("DBIRTH", LEVEL, device="d"))
    host.takes(node.born(birth_metric("new", DOUBLE, 6)))
    assert host.values(node.says("NDATA", temp(1.0))) == ["alias_unknown"]
    (found,) = host.values(node.says("NDATA", {"alias": 6, "double_value": 2.0}))
    assert metrics_of(found) == {"new": 2.0}


def test_births_of_devices_add_and_a_second_of_one_replaces_the_first() -> None:
    host, node = Host(), Node()
    host.takes(
        node.born(TEMP),
        node.says("DBIRTH", LEVEL, device="d"),
        node.says("DBIRTH", birth_metric("speed", DOUBLE, 7), device="e"),
        node.says("DBIRTH", birth_metric("height", DOUBLE, 8), device="d"),
    )
    seven, eight = ({"alias": alias, "double_value": 1.0} for alias in (7, 8))
    found = host.values(node.says("NDATA", temp(1.0)), node.says("DDATA", seven, device="e"))
    assert [metrics_of(one) for one in found] == [{"temp": 1.0}, {"speed": 1.0}]
    assert metrics_of(host.values(node.says("DDATA", eight, device="d"))[0]) == {"height": 1.0}
    assert host.values(node.says("DDATA", level(1), device="d")) == ["alias_unknown"]


def test_nodes_of_the_same_name_in_two_groups_are_two() -> None:
    host, one, other = Host(), Node("n", "g"), Node("n", "h")
    host.takes(one.born(TEMP), other.born(birth_metric("other", DOUBLE, 5)))
    found = host.values(one.says("NDATA", temp(1.0)), other.says("NDATA", temp(1.0)))
    assert [metrics_of(value) for value in found] == [{"temp": 1.0}, {"other": 1.0}]


def test_a_message_that_needs_nothing_is_passed_on_as_it_is() -> None:
    host, node = Host(), Node()
    birth = node.born(TEMP)
    data = node.says("NDATA", birth_metric("temp", DOUBLE, 5, double_value=1.0))
    others = [message("sensors/a", b"1"), message("spBv1.0/STATE/h", b"{}"), message("spBv1.0/g/NDATA/n", b"\xff\xff")]
    for given_one in (birth, data, *others):
        assert host.takes(given_one)[0] is given_one


# The sequence


def test_a_gap_is_counted_once_and_asks_for_a_rebirth() -> None:
    host, node = Host(), Node()
    host.takes(node.born(TEMP), node.says("NDATA", temp(1.0)))
    node.skip()
    found = host.values(node.says("NDATA", temp(2.0)), *(node.says("NDATA", temp(3.0)) for _ in range(5)))
    assert [metrics_of(value)["temp"] for value in found] == [2.0] + [3.0] * 5
    assert (host.host.sequence_gaps, len(host.requests)) == (1, 1)


def test_the_request_is_what_the_specification_says() -> None:
    """§6.4.23."""
    host = Host()
    host.takes(Node("edge 1", "plant").says("NDATA"))
    ((topic, body),) = host.requests
    request = Payload.FromString(body)
    (metric,) = request.metrics
    assert topic == "spBv1.0/plant/NCMD/edge 1"
    assert (metric.name, metric.datatype, metric.boolean_value) == ("Node Control/Rebirth", BOOLEAN, True)
    assert request.timestamp == metric.timestamp > STAMP
    assert not request.HasField("seq")
    assert host.host.rebirth_requests == 1


def test_the_sequence_goes_over_all_messages_of_a_node_and_from_255_to_0() -> None:
    host, node = Host(), Node()
    host.takes(node.born(TEMP), node.says("DBIRTH", LEVEL, device="d"))
    for _ in range(200):
        host.takes(node.says("NDATA", temp(1.0)), node.says("DDATA", level(1), device="d"), node.says("NDATA"))
    host.takes(node.says("DDEATH", device="d"), node.says("DBIRTH", LEVEL, device="d"))
    assert (host.host.sequence_gaps, host.requests) == (0, [])
    node.skip(255)  # the same number as before
    host.takes(node.says("NDATA", temp(1.0)))
    assert host.host.sequence_gaps == 1


def test_a_birth_may_start_the_sequence_anywhere() -> None:
    host = Host()
    birth = message("spBv1.0/g/NBIRTH/n", payload(bd_seq(0), TEMP, seq=255))
    host.takes(birth, message("spBv1.0/g/NDATA/n", payload(temp(1.0), seq=0)))
    assert host.host.sequence_gaps == 0


def test_deaths_of_nodes_and_commands_have_no_sequence_number() -> None:
    host, node = Host(), Node()
    host.takes(node.born(TEMP), message("spBv1.0/g/NCMD/n", payload(temp(1.0))))
    host.takes(node.died(session=3), node.says("NDATA", temp(1.0)))
    assert host.host.sequence_gaps == 0


@pytest.mark.parametrize("flag", ["duplicate", "retained"])
def test_a_duplicate_or_retained_message_is_named_but_not_counted(flag: str) -> None:
    host, node = Host(), Node()
    host.takes(node.born(TEMP), node.says("NDATA", temp(1.0)))
    old = message("spBv1.0/g/NDATA/n", payload(temp(2.0), seq=0), **{flag: True})
    assert metrics_of(host.values(old)[0]) == {"temp": 2.0}
    host.takes(node.says("NDATA", temp(3.0)))
    assert (host.host.sequence_gaps, host.requests) == (0, [])


def test_a_duplicate_that_did_not_come_before_is_no_gap() -> None:
    """The connection broke while it was on its way, so the broker marks it; it is still the next one."""
    host, node = Host(), Node()
    host.takes(node.born(TEMP), node.says("NDATA", temp(1.0), duplicate=True), node.says("NDATA", temp(2.0)))
    assert (host.host.sequence_gaps, host.requests) == (0, [])


def test_a_birth_that_comes_again_tells_its_names_and_moves_no_sequence() -> None:
    host, node = Host(), Node()
    birth = node.born(TEMP)
    host.takes(birth, node.says("NDATA", temp(1.0)), birth._replace(duplicate=True), node.says("NDATA", temp(2.0)))
    assert host.host.sequence_gaps == 0
    host.takes(birth._replace(duplicate=True))
    node.skip()
    host.takes(node.says("NDATA", temp(2.5)))
    assert host.host.sequence_gaps == 1
    other = Host()
    data = node.says("NDATA", temp(3.0))
    assert metrics_of(other.values(birth._replace(duplicate=True), data)[1]) == {"temp": 3.0}
    assert (other.host.sequence_gaps, other.requests) == (0, [])


# Rebirths


def test_data_before_any_birth_ask_for_it() -> None:
    host = Host()
    assert host.values(Node().says("NDATA", temp(1.0))) == ["alias_unknown"]
    assert topics(host) == ["spBv1.0/g/NCMD/n"]
    host.values(Node("m").says("DDATA", birth_metric("named", DOUBLE, double_value=1.0), device="d"))
    assert topics(host)[1:] == ["spBv1.0/g/NCMD/m"]
    assert host.host.sequence_gaps == 0


def test_data_of_a_device_before_its_birth_ask_for_it() -> None:
    """Even if nothing is missing in them."""
    host, node = Host(), Node()
    named = birth_metric("named", DOUBLE, double_value=1.0)
    host.takes(node.born(TEMP), node.says("NDATA", named))
    assert host.requests == []
    assert metrics_of(host.values(node.says("DDATA", named, device="d"))[0]) == {"named": 1.0}
    assert topics(host) == ["spBv1.0/g/NCMD/n"]


def test_a_node_is_asked_once_in_ten_seconds_until_it_is_born() -> None:
    host, node = Host(), Node()
    for _ in range(50):
        host.takes(node.says("NDATA", temp(1.0)))
    assert len(host.requests) == 1
    host.clock += REBIRTH_INTERVAL - 0.01
    host.takes(node.says("NDATA", temp(1.0)))
    assert len(host.requests) == 1
    host.clock += 0.02
    host.takes(node.says("NDATA", temp(1.0)), node.says("NDATA", temp(1.0)))
    assert len(host.requests) == host.host.rebirth_requests == 2
    host.clock += 2 * REBIRTH_INTERVAL
    host.takes(node.born(TEMP), node.says("NDATA", temp(1.0)))
    assert len(host.requests) == 2


def test_a_gap_is_asked_about_again_until_there_is_a_birth() -> None:
    """A request at QoS 0 can get lost."""
    host, node = Host(), Node()
    host.takes(node.born(TEMP))
    node.skip()
    for _ in range(3):
        host.takes(node.says("NDATA", temp(1.0)))
        host.clock += REBIRTH_INTERVAL
    assert (host.host.sequence_gaps, len(host.requests)) == (1, 3)


def test_without_a_connection_it_is_tried_again_with_the_next_message() -> None:
    host, node = Host(), Node()
    host.connected = False
    host.takes(node.says("NDATA"), node.says("NDATA"))
    assert (host.requests, host.host.rebirth_requests) == ([], 0)
    host.connected = True
    host.takes(node.says("NDATA"), node.says("NDATA"))
    assert len(host.requests) == host.host.rebirth_requests == 1


def test_after_a_death_data_ask_for_a_rebirth_and_old_names_are_not_used() -> None:
    """The next session may give the aliases other meanings."""
    host, node = Host(), Node()
    host.takes(node.born(TEMP, session=7), node.died(session=7))
    assert host.requests == []
    assert host.values(node.says("NDATA", temp(1.0))) == ["alias_unknown"]
    assert len(host.requests) == 1


def test_a_stale_death_changes_nothing_and_is_still_an_event() -> None:
    """The will of a connection that was replaced comes late (§6.4.25)."""
    host, node = Host(), Node()
    host.takes(node.born(TEMP, session=8))
    death, data = host.values(node.died(session=7), node.says("NDATA", temp(1.0)))
    assert death["type"] == "NDEATH"
    assert metrics_of(death) == {"bdSeq": 7}
    assert metrics_of(data) == {"temp": 1.0}
    assert host.requests == []


def test_a_death_whose_number_lacks_the_datatype_is_an_event_too() -> None:
    host, node = Host(), Node()
    host.takes(node.born(TEMP, session=8))
    bare = message("spBv1.0/g/NDEATH/n", payload({"name": "bdSeq", "long_value": 8}))
    assert metrics_of(host.values(bare)[0]) == {"bdSeq": 8}
    assert host.values(node.says("NDATA", temp(1.0))) == ["alias_unknown"]


def test_a_dead_device_has_no_names_and_its_node_is_asked_for_a_rebirth() -> None:
    host, node = Host(), Node()
    host.takes(node.born(TEMP), node.says("DBIRTH", LEVEL, device="d"), node.says("DDEATH", device="d"))
    assert metrics_of(host.values(node.says("NDATA", temp(1.0)))[0]) == {"temp": 1.0}
    assert host.requests == []
    assert host.values(node.says("DDATA", level(1), device="d")) == ["alias_unknown"]
    assert len(host.requests) == 1


@pytest.mark.parametrize("name", [b"+", b"#", b"a\x00", b"\xff"])
def test_a_topic_that_is_none_asks_nobody(name: bytes) -> None:
    """A wildcard in what we publish would end our connection."""
    host = Host()
    assert host.values(message(b"spBv1.0/g/NDATA/" + name, payload(temp(1.0)))) == ["topic_invalid"]
    assert host.requests == []


# What devices can do to the memory


def _objects(host: Host, numbers: range) -> int:
    """Return how many objects there are after births and data of so many invented nodes."""
    birth, data = Node().born(TEMP), Node().says("NDATA", temp(1.0))
    for number in numbers:
        kind, one = ("NBIRTH", birth) if number % 2 else ("NDATA", data)
        host.takes(one._replace(topic=b"spBv1.0/g/%b/n%d" % (kind.encode(), number)))
        host.clock += 0.001
    host.requests.clear()
    gc.collect()
    return len(gc.get_objects())


def test_a_hundred_thousand_invented_nodes_are_not_all_remembered() -> None:
    host = Host()
    few = _objects(host, range(5000))
    assert _objects(host, range(5000, 100_000)) < few + 500


def test_invented_nodes_make_us_send_a_bounded_number_of_requests() -> None:
    host = Host()
    for round_ in range(3):
        for number in range(3 * MAX_NODES):
            host.takes(Node(f"n{number}").says("NDATA"))
        assert len(host.requests) == (round_ + 1) * MAX_NODES
        host.clock += REBIRTH_INTERVAL


def test_the_node_least_recently_heard_of_is_forgotten_first() -> None:
    host, old, busy = Host(), Node("old"), Node("busy")
    host.takes(old.born(TEMP), busy.born(TEMP))
    for number in range(MAX_NODES):
        host.takes(Node(f"n{number}").born(TEMP), busy.says("NDATA", temp(1.0)))
    assert host.requests == []
    assert host.values(old.says("NDATA", temp(1.0))) == ["alias_unknown"]
    assert topics(host) == ["spBv1.0/g/NCMD/old"]
    assert metrics_of(host.values(busy.says("NDATA", temp(2.0)))[0]) == {"temp": 2.0}


@pytest.mark.parametrize("long", [False, True], ids=["many", "long"])
def test_metrics_are_remembered_up_to_a_number_and_a_size(long: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is made smaller, so that the test is quick; a node too large for it alone is forgotten too."""
    monkeypatch.setattr(sparkplug, "MAX_METRICS", 1000)
    assert MAX_METRICS == 200_000
    host, first = Host(), Node("first")
    host.takes(first.born(TEMP))
    if long:
        host.takes(*(Node(f"n{number}").born(birth_metric("x" * 80_000, DOUBLE, 5)) for number in range(2)))
    else:
        for number in range(10):
            many = [birth_metric(f"m{alias}", DOUBLE, alias) for alias in range(100)]
            host.takes(Node("n").says("DBIRTH", *many, device=f"d{number}"))
    assert host.values(first.says("NDATA", temp(1.0))) == ["alias_unknown"]
    huge = Node("huge")
    host.takes(huge.born(*(birth_metric(f"m{alias}", DOUBLE, alias) for alias in range(1000))))
    assert host.values(huge.says("NDATA", temp(1.0))) == ["alias_unknown"]
    host.takes(first.born(TEMP))
    assert metrics_of(host.values(first.says("NDATA", temp(1.0)))[0]) == {"temp": 1.0}


def test_a_forgotten_birth_gives_its_room_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparkplug, "MAX_METRICS", 1000)
    host, first, node = Host(), Node("first"), Node()
    host.takes(first.born(TEMP), node.born())
    many = [birth_metric(f"m{alias}", DOUBLE, alias) for alias in range(100, 500)]
    for number in range(50):
        host.takes(node.says("DBIRTH", *many, device="d"))
        host.takes(node.says("DDEATH", device="d") if number % 2 else node.born(*many))
    assert metrics_of(host.values(first.says("NDATA", temp(1.0)))[0]) == {"temp": 1.0}


def test_aliases_of_a_long_name_can_not_make_a_small_message_large() -> None:
    host, node = Host(), Node()
    host.takes(node.born(birth_metric("x" * 60_000, DOUBLE, 5)))
    assert len(host.takes(node.says("NDATA", *[temp(1.0)] * (MAX_ADDED // 60_000)))[0].payload) < MAX_ADDED + 1000
    assert host.values(node.says("NDATA", *[temp(1.0)] * 1000)) == ["payload_too_large"]


def test_a_message_of_too_many_metrics_is_not_worked_on() -> None:
    """The decoder refuses it as it came."""
    host, node = Host(), Node()
    metric = b"\x12\x02\x10\x05"  # a metric of two bytes: alias 5
    many = message("spBv1.0/g/NDATA/n", metric * (MAX_VALUES + 1))
    host.takes(node.born(TEMP))
    assert host.takes(many)[0] is many
    assert host.values(many) == ["decode_failed"]


def test_a_topic_over_the_bound_is_not_remembered() -> None:
    host, node = Host(), Node("n" * MAX_TOPIC)
    assert host.values(node.born(TEMP), node.says("NDATA", temp(1.0)))[1] == "alias_unknown"
    assert host.requests == []


# Any bytes


_KINDS = ["NBIRTH", "NDEATH", "DBIRTH", "DDEATH", "NDATA", "DDATA", "NCMD", "DCMD"]
_GOOD = [
    payload(bd_seq(1), TEMP, LEVEL, seq=0),
    payload(temp(1.0), level(-5), seq=1),
    payload(birth_metric("t", TEMPLATE, 7, template_value={"metrics": [TEMP]}), seq=2),
    payload({"alias": 7, "template_value": {"metrics": [temp(1.0)]}}, seq=3),
]


@st.composite
def _bytes(draw: st.DrawFn) -> bytes:
    """Return a good payload, one that is cut, one with a byte changed, or no payload at all."""
    good = draw(st.sampled_from(_GOOD))
    where = draw(st.integers(0, len(good) - 1))
    return draw(
        st.sampled_from([good, good[:where]])
        | st.integers(0, 255).map(lambda byte: good[:where] + bytes((byte,)) + good[where + 1 :])
        | st.binary(max_size=40)
    )


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(_KINDS), _bytes(), st.booleans()), max_size=12), st.booleans())
def test_whatever_comes_each_message_is_an_event_or_refused(sent: list[tuple[str, bytes, bool]], split: bool) -> None:
    host = Host()
    some = converter("metric" if split else "message", host.host)
    given_ones = [
        message(f"spBv1.0/g/{kind}/n{'/d' if kind[0] == 'D' else ''}", body, duplicate=duplicate)
        for kind, body, duplicate in sent
    ]
    _, events, rejected, filtered = some.convert(given_ones)
    assert filtered == 0
    done = {event.message.id for event in events} | {one.message.id for one in rejected}
    assert done == {one.id for one in given_ones}
    for event in events:
        json.loads(event.body)
    restored = through_the_spool(list({event.message.id: event.message for event in events}.values()))
    again = converter("metric" if split else "message").convert(restored)
    assert [event.body for event in again.events] == [event.body for event in events]
