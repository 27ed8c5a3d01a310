"""MessagePack: what becomes JSON, what is refused, and that no payload takes long."""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime
from typing import Any

import ormsgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.decode.rig import (
    DEEP,
    REFUSED,
    check_cheap,
    check_cut_short,
    converter_of,
    data_of,
    outcome,
    pairs_of_one_hash,
    refusal,
)
from tidegate.bridge.decode.json_value import json_value

SOME = converter_of("msgpack")
GOOD = bytes.fromhex("81a16101")

# By hand from the specification, "Formats": each format, and the ends of its range.
_FORMATS: dict[str, Any] = {
    "00": 0, "7f": 127, "e0": -32, "ff": -1,
    "cc00": 0, "ccff": 255, "cdffff": 65535, "ceffffffff": 2**32 - 1, "cfffffffffffffffff": 2**64 - 1,
    "d080": -128, "d07f": 127, "d18000": -(2**15), "d280000000": -(2**31), "d38000000000000000": -(2**63),
    "d3ffffffffffffffff": -1, "d37fffffffffffffff": 2**63 - 1,
    "c0": None, "c2": False, "c3": True,
    "ca3fc00000": 1.5, "cabf800000": -1.0, "cb3ff199999999999a": 1.1, "cb8000000000000000": -0.0,
    "a0": "", "a3666f6f": "foo", "bf" + "61" * 31: "a" * 31, "d903c3bc61": "üa", "da000161": "a", "db0000000161": "a",
    "c400": "", "c403000102": "AAEC", "c50001ff": "/w==", "c600000001ff": "/w==",
    "90": [], "9301a162c0": [1, "b", None], "9f" + "01" * 15: [1] * 15, "dc00020102": [1, 2], "dd0000000101": [1],
    "80": {}, "82a16101a16280": {"a": 1, "b": {}}, "de0001a16101": {"a": 1}, "df00000001a16190": {"a": []},
    "d6ff00000000": "1970-01-01T00:00:00.000000Z", "d6ffffffffff": "2106-02-07T06:28:15.000000Z",
    "d7ff0000000000000001": "1970-01-01T00:00:01.000000Z",
    "d7ffee6b27fc00000000": "1970-01-01T00:00:00.999999Z",
    "d7ff00000003ffffffff": "2514-05-30T01:53:03.000000Z",
    "c70cff00000000ffffffffffffffff": "1969-12-31T23:59:59.000000Z",
    "c70cff3b9ac9ff0000003afff4417f": "9999-12-31T23:59:59.999999Z",
    "c704ff00000001": "1970-01-01T00:00:01.000000Z",
}  # fmt: skip

_REFUSED = {
    "the byte that is never used": ("c1", "0xc1"),
    "a double that is no number": ("cb7ff8000000000000", "nan"),
    "a float without an end": ("ca7f800000", "inf"),
    "an extension of one byte": ("d40500", "type 5"),
    "an extension of two": ("d5800000", "type -128"),
    "an extension of sixteen": ("d87f" + "00" * 16, "type 127"),
    "an extension of any length": ("c7020a0000", "type 10"),
    "an empty extension": ("c70001", "type 1"),
    "a long extension": ("c900000001010a", "type 1"),
    "a timestamp of one byte": ("d4ff00", "1 bytes"),
    "a timestamp of no byte": ("c700ff", "0 bytes"),
    "a timestamp of 16 bytes": ("d8ff" + "00" * 16, "16 bytes"),
    "a timestamp with too many nanoseconds": ("d7ffee6b280000000000", "nanoseconds"),
    "a long timestamp with too many nanoseconds": ("c70cffffffffff0000000000000000", "nanoseconds"),
    "a timestamp of no year": ("c70cff000000007fffffffffffffff", "years"),
    "a timestamp before any year": ("c70cff000000008000000000000000", "years"),
    "the same key twice": ("82a16101a16102", "same key twice"),
    "the same key twice, in two forms": ("82a16101d9016102", "same key twice"),
    "two keys that are the same as text": ("820101a13102", "same key twice"),
    "a null key": ("81c001", "no text"),
    "an array as a key": ("81910101", "no text"),
    "a map as a key": ("818001", "no text"),
    "a key that is no number": ("81cb7ff800000000000001", "nan"),
    "text that is not UTF-8": ("a1ff", "codec"),
    "a key that is not UTF-8": ("81a1ff01", "codec"),
    "a surrogate": ("a3eda080", "codec"),
}


@pytest.mark.parametrize(("payload", "value"), _FORMATS.items())
def test_every_format_of_the_specification_has_its_value(payload: str, value: Any) -> None:
    found = data_of(SOME, bytes.fromhex(payload))
    assert found == value
    assert type(found) is type(value)
    if type(value) is float:
        assert math.copysign(1, found) == math.copysign(1, value)
    assert data_of(SOME, b"\x92" + bytes.fromhex(payload) + b"\x05") == [value, 5]


@pytest.mark.parametrize(("payload", "problem"), _REFUSED.values(), ids=_REFUSED)
def test_what_json_can_not_hold_is_refused_with_a_sentence(payload: str, problem: str) -> None:
    assert problem in refusal(SOME, bytes.fromhex(payload), GOOD)
    assert problem in refusal(SOME, b"\x92\x01" + bytes.fromhex(payload), GOOD)


@pytest.mark.parametrize("payload", [payload for payload in _FORMATS if len(payload) > 2])
def test_a_payload_that_is_cut_short_or_goes_on_is_never_taken(payload: str) -> None:
    check_cut_short(SOME, bytes.fromhex(payload), GOOD)


def test_keys_that_are_no_text_become_text() -> None:
    payload = bytes.fromhex("86 0101 ff02 c303 cb3ff800000000000004 c401ff05 d6ff0000000006")
    assert data_of(SOME, payload) == {
        "1": 1, "-1": 2, "true": 3, "1.5": 4, "/w==": 5, "1970-01-01T00:00:00.000000Z": 6,
    }  # fmt: skip


_DEEP = {
    "arrays": b"\x91", "maps": b"\x81\xa0", "maps in keys": b"\x81", "long arrays": b"\xdd\xff\xff\xff\xff",
    "long maps": b"\xdf\xff\xff\xff\xff\xa0", "arrays and maps": b"\x91\x81\xa0",
}  # fmt: skip


@pytest.mark.parametrize("opening", _DEEP.values(), ids=_DEEP)
@pytest.mark.parametrize("end", [b"", b"\x00"])
def test_depth_100_000_is_refused_at_once(opening: bytes, end: bytes) -> None:
    check_cheap(lambda: refusal(SOME, opening * DEEP + end, GOOD))


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa0"])
def test_every_depth_is_read_by_all_readers_or_refused(opening: bytes) -> None:
    taken = [depth for depth in range(1, 260) if outcome(SOME, opening * depth + b"\x00") != REFUSED]
    assert taken == [*range(1, 191)]


@pytest.mark.parametrize("kind", ["c6", "c9", "db", "dd", "df"])
@pytest.mark.parametrize("length", [2**16, 2**31 - 1, 2**31, 2**32 - 1])
def test_a_length_that_is_not_there_costs_nothing(kind: str, length: int) -> None:
    head = bytes.fromhex(kind) + struct.pack(">I", length)
    for payload in (head, head + b"\x01" * 50, b"\x92" + head * 20, b"\x91" * 100 + head):
        check_cheap(lambda payload=payload: refusal(SOME, payload, GOOD), mib=1)


def test_a_map_with_keys_of_one_hash_is_refused_at_once() -> None:
    """Which is what a library needs minutes for, that makes tuples of them."""
    keys = [b"\x92\xce" + struct.pack(">I", one) + b"\xcf" + struct.pack(">Q", two) for one, two in pairs_of_one_hash()]
    payload = b"\xdf" + struct.pack(">I", len(keys)) + b"\0".join(keys) + b"\0"
    check_cheap(lambda: refusal(SOME, payload, GOOD))


def test_a_payload_of_1_mib_is_taken() -> None:
    numbers = b"\xdd\x00\x10\x00\x00" + b"\x01" * (1 << 20)
    check_cheap(lambda: data_of(SOME, numbers), seconds=4, mib=None)
    assert data_of(SOME, b"\xdb\x00\x10\x00\x00" + b"a" * (1 << 20)) == "a" * (1 << 20)


# The library writes no fraction where it is 0.536871 s or more.
_times = st.datetimes(datetime(1, 1, 2), timezones=st.just(UTC)).map(
    lambda t: t.replace(microsecond=t.microsecond // 2)
)
_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_keys = _text | st.integers(-(2**63), 2**64 - 1) | st.booleans()
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | _text | st.binary(max_size=300) | _times,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(_keys, inner, max_size=20),
    max_leaves=30,
)  # fmt: skip


@settings(deadline=None, max_examples=100)
@given(_json)
def test_what_a_library_writes_is_read_as_it_was(value: Any) -> None:
    options = ormsgpack.OPT_NON_STR_KEYS | ormsgpack.OPT_DATETIME_AS_TIMESTAMP_EXT
    try:
        expected = json_value(value)
    except ValueError:
        expected = REFUSED
    assert outcome(SOME, ormsgpack.packb(value, option=options)) == expected


@settings(deadline=None, max_examples=100)
@given(st.lists(st.binary(min_size=1, max_size=1) | st.binary(max_size=4), max_size=16).map(b"".join).filter(bool))
@example(bytes.fromhex("820101ff02"))
def test_any_bytes_are_refused_or_read_as_a_library_reads_them(payload: bytes) -> None:
    found = outcome(SOME, payload)
    if found != REFUSED and b"\xff" not in payload:  # which begins timestamps, that the library leaves as they are
        assert json_value(ormsgpack.unpackb(payload, option=ormsgpack.OPT_NON_STR_KEYS)) == found
