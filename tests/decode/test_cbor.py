"""CBOR (RFC 8949): what becomes JSON, what is refused, and that no payload takes long."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import cbor2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.decode.rig import (
    DEEP,
    LENGTHS,
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

SOME = converter_of("cbor")
GOOD = bytes.fromhex("a1616101")

_APPENDIX_A: dict[str, Any] = {
    "00": 0, "01": 1, "0a": 10, "17": 23, "1818": 24, "1819": 25, "1864": 100, "1903e8": 1000, "1a000f4240": 1000000,
    "1b000000e8d4a51000": 1000000000000, "1bffffffffffffffff": 18446744073709551615, "20": -1, "29": -10, "3863": -100,
    "3903e7": -1000, "f90000": 0.0, "f98000": -0.0, "f93c00": 1.0, "fb3ff199999999999a": 1.1, "f93e00": 1.5,
    "f97bff": 65504.0, "fa47c35000": 100000.0, "fa7f7fffff": 3.4028234663852886e38, "fb7e37e43c8800759c": 1.0e300,
    "f90001": 5.960464477539063e-8, "f90400": 0.00006103515625, "f9c400": -4.0, "fbc010666666666666": -4.1,
    "f4": False, "f5": True, "f6": None, "f7": None,
    "c074323031332d30332d32315432303a30343a30305a": "2013-03-21T20:04:00Z",
    "c11a514b67b0": "2013-03-21T20:04:00.000000Z", "c1fb41d452d9ec200000": "2013-03-21T20:04:00.500000Z",
    "d74401020304": "AQIDBA==", "d818456449455446": "ZElFVEY=",
    "d82076687474703a2f2f7777772e6578616d706c652e636f6d": "http://www.example.com",
    "40": "", "4401020304": "AQIDBA==", "60": "", "6161": "a", "6449455446": "IETF", "62225c": '"\\', "62c3bc": "ü",
    "63e6b0b4": "水", "64f0908591": "𐅑", "80": [], "83010203": [1, 2, 3], "8301820203820405": [1, [2, 3], [4, 5]],
    "98190102030405060708090a0b0c0d0e0f101112131415161718181819": [*range(1, 26)],
    "a0": {}, "a201020304": {"1": 2, "3": 4}, "a26161016162820203": {"a": 1, "b": [2, 3]},
    "826161a161626163": ["a", {"b": "c"}],
    "a56161614161626142616361436164614461656145": {"a": "A", "b": "B", "c": "C", "d": "D", "e": "E"},
    "5f42010243030405ff": "AQIDBAU=", "7f657374726561646d696e67ff": "streaming", "9fff": [],
    "9f018202039f0405ffff": [1, [2, 3], [4, 5]], "9f01820203820405ff": [1, [2, 3], [4, 5]],
    "83018202039f0405ff": [1, [2, 3], [4, 5]], "83019f0203ff820405": [1, [2, 3], [4, 5]],
    "9f0102030405060708090a0b0c0d0e0f101112131415161718181819ff": [*range(1, 26)],
    "bf61610161629f0203ffff": {"a": 1, "b": [2, 3]}, "826161bf61626163ff": ["a", {"b": "c"}],
    "bf6346756ef563416d7421ff": {"Fun": True, "Amt": -2},
}  # fmt: skip

_APPENDIX_A_WITHOUT_JSON = {
    "c249010000000000000000": "64 bits", "3bffffffffffffffff": "64 bits", "c349010000000000000000": "64 bits",
    "f97c00": "inf", "f97e00": "nan", "f9fc00": "-inf", "fa7f800000": "inf", "fb7ff8000000000000": "nan",
    "f0": "simple value 16", "f8ff": "simple value 255",
}  # fmt: skip

_APPENDIX_F = re.findall(
    r"\w+",
    """
18 19 1a 1b 1901 1a0102 1b01020304050607 38 58 78 98 9a01ff00 b8 d8 f8 f900 fa0000 fb000000
41 61 5affffffff00 5bffffffffffffffff010203 7affffffff00 7b7fffffffffffffff010203
81 818181818181818181 8200 a1 a20102 a100 a2000000
c0
5f4100 7f6100
9f 9f0102 bf bf01020102 819f 9f8000 9f9f9f9f9fffffffff 9f819f819f9fffffff
1c 1d 1e 3c 3d 3e 5c 5d 5e 7c 7d 7e 9c 9d 9e bc bd be dc dd de fc fd fe
f800 f801 f818 f81f
5f00ff 5f21ff 5f6100ff 5f80ff 5fa0ff 5fc000ff 5fe0ff 7f4100ff
5f5f4100ffff 7f7f6100ffff
ff
81ff 8200ff a1ff a1ff00 a100ff a20000ff 9f81ff 9f829f819f9fffffffff
bf00ff bf000000ff
1f 3f df
""",
)


@pytest.mark.parametrize(("payload", "value"), _APPENDIX_A.items())
def test_the_examples_of_rfc_8949_appendix_a_have_their_values(payload: str, value: Any) -> None:
    found = data_of(SOME, bytes.fromhex(payload))
    assert found == value
    assert math.copysign(1, found) == math.copysign(1, value) if type(value) is float else type(found) is type(value)


@pytest.mark.parametrize(("payload", "problem"), _APPENDIX_A_WITHOUT_JSON.items())
def test_the_examples_that_json_can_not_hold_are_refused_and_the_problem_is_said(payload: str, problem: str) -> None:
    assert problem in refusal(SOME, bytes.fromhex(payload), GOOD)
    assert problem in refusal(SOME, b"\xa1\x61a" + bytes.fromhex(payload), GOOD)


@pytest.mark.parametrize("payload", _APPENDIX_F)
def test_what_rfc_8949_appendix_f_calls_not_well_formed_is_refused(payload: str) -> None:
    assert refusal(SOME, bytes.fromhex(payload), GOOD)


@pytest.mark.parametrize(
    "payload",
    [
        bytes.fromhex("a3 6474656d70 fb4035800000000000 63736571 1901c8 6474616773 82 6161 6162"),
        bytes.fromhex("bf 6161 9f 01 7f 6162 6163 ff ff 6162 5f 4101 ff ff"),
        bytes.fromhex("c4 82 20 19 0111"),
        bytes.fromhex("d825 50 000102030405060708090a0b0c0d0e0f"),
    ],
    ids=["a reading", "of indefinite lengths", "a decimal", "a UUID"],
)
def test_a_payload_that_is_cut_short_or_goes_on_is_never_taken(payload: bytes) -> None:
    check_cut_short(SOME, payload, GOOD)


_TAGGED = {
    "a decimal": ("c48220190111", "27.3"),
    "a decimal without a fraction": ("c4820205", "5E+2"),
    "a negative decimal": ("c4822138 63", "-1.00"),
    "a decimal of a bignum": ("c48220c2420111", "27.3"),
    "a decimal of 20 digits": ("c482291bffffffffffffffff", "1844674407.3709551615"),
    "a bignum of few bytes": ("c24100", 0),
    "a bignum with zeros before it": ("c2490000000000000001ff", 511),
    "the largest bignum": ("c248ffffffffffffffff", 2**64 - 1),
    "a negative bignum": ("c3420100", -257),
    "the smallest bignum": ("c3487fffffffffffffff", -(2**63)),
    "a UUID": ("d82550000102030405060708090a0b0c0d0e0f", "00010203-0405-0607-0809-0a0b0c0d0e0f"),
    "seconds before 1970": ("c120", "1969-12-31T23:59:59.000000Z"),
    "seconds of the year 9999": ("c11b0000003afff4417f", "9999-12-31T23:59:59.000000Z"),
    "a time with an offset": ("c07819" + b"2024-02-29T23:59:60+02:00".hex(), "2024-02-29T23:59:60+02:00"),
    "self-described": ("d9d9f7a1616101", {"a": 1}),
    "a set": ("d90102820101", [1, 1]),
    "a regular expression": ("d823" + "6e" + b"((((((a+)+)+)+".hex(), "((((((a+)+)+)+"),
    "a rational": ("d81e820103", [1, 3]),
    "a rational of nothing": ("d81e820100", [1, 0]),
    "a bigfloat": ("c5821b7fffffffffffffff03", [2**63 - 1, 3]),
    "a value that others may refer to": ("d81c8101", [1]),
    "a namespace of strings": ("d90100826161 6161", ["a", "a"]),
    "MIME": ("d824" + "63" + b"a:b".hex(), "a:b"),
    "unknown": ("db7fffffffffffffff01", 1),
    "several, one in the other": ("d9d9f7d9d9f7d81c01", 1),
}


@pytest.mark.parametrize(("payload", "value"), _TAGGED.values(), ids=_TAGGED)
def test_a_tag_gives_its_value_meaning_or_none(payload: str, value: Any) -> None:
    assert data_of(SOME, bytes.fromhex(payload)) == value
    assert data_of(SOME, b"\x82" + bytes.fromhex(payload) + b"\x01") == [value, 1]


_TAGGED_BADLY = {
    "a reference": ("d81c81d81d00", "tag 29"),
    "a reference to nothing": ("d81d1901ff", "tag 29"),
    "a reference to a string": ("d9010082636161 61d81900", "tag 25"),
    "a time that is none": ("c0" + "6a" + b"2024-05-01".hex(), "RFC 3339"),
    "a time in other letters": ("c074" + b"2013-03-21t20:04:00z".hex(), "RFC 3339"),
    "a time in other digits": ("c075" + "٢013-03-21T20:04:00Z".encode().hex(), "RFC 3339"),
    "a time with a line after it": ("c075" + b"2013-03-21T20:04:00Z\n".hex(), "RFC 3339"),
    "a number as RFC 3339": ("c001", "RFC 3339"),
    "seconds as text": ("c16131", "no number"),
    "seconds that are true": ("c1f5", "no number"),
    "seconds of no year": ("c11bffffffffffffffff", "years"),
    "seconds of no year as a float": ("c1fb7e37e43c8800759c", "years"),
    "seconds before any year": ("c13b7fffffffffffffff", "years"),
    "seconds that are no number": ("c1f97e00", "nan"),
    "a bignum of text": ("c26131", "no bytes"),
    "a bignum of a number": ("c201", "no bytes"),
    "a bignum of nine bytes": ("c249010000000000000000", "64 bits"),
    "a UUID of 15 bytes": ("d8254f" + "00" * 15, "15 bytes"),
    "a decimal of one number": ("c48101", "two integers"),
    "a decimal of three": ("c483010101", "two integers"),
    "a decimal of floats": ("c48220f93c00", "two integers"),
    "a decimal of a truth value": ("c48220f5", "two integers"),
    "a decimal of a number": ("c401", "two integers"),
    "a decimal with a large exponent": ("c4821903e901", "exponent"),
    "a decimal with a huge exponent": ("c4821b7fffffffffffffff01", "exponent"),
    "a decimal with a tiny exponent": ("c4823b7fffffffffffffff01", "exponent"),
}


@pytest.mark.parametrize(("payload", "problem"), _TAGGED_BADLY.values(), ids=_TAGGED_BADLY)
def test_a_tag_that_does_not_fit_its_value_is_refused_with_a_sentence(payload: str, problem: str) -> None:
    assert problem in refusal(SOME, bytes.fromhex(payload), GOOD)


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        ("a2616101616102", "same key twice"),
        ("bf616101616102ff", "same key twice"),
        ("a2616101 7f6161ff 02", "same key twice"),
        ("a2 01 01 6131 02", "same key twice"),
        ("a2 01 01 1801 02", "same key twice"),
        ("a2 f5 01 6474727565 02", "same key twice"),
        ("a1 f6 01", "no text"),
        ("a1 80 01", "no text"),
        ("a1 a0 01", "no text"),
        ("a1 f97e00 01", "nan"),
        ("a1 61ff 01", "codec"),
        ("61ff", "codec"),
        ("63eda080", "codec"),
        ("7f61c361bcff", "codec"),
    ],
)
def test_keys_and_text_that_json_can_not_hold_are_refused(payload: str, problem: str) -> None:
    assert problem in refusal(SOME, bytes.fromhex(payload), GOOD)


def test_keys_that_are_no_text_become_text() -> None:
    assert data_of(SOME, bytes.fromhex("a5 01 01 20 02 f5 03 f93e00 04 41ff 05")) == {
        "1": 1, "-1": 2, "true": 3, "1.5": 4, "/w==": 5,
    }  # fmt: skip


_DEEP = {
    "arrays": b"\x81", "open arrays": b"\x9f", "maps": b"\xa1\x60", "maps in keys": b"\xa1", "open maps": b"\xbf\x60",
    "tags": b"\xc6", "long tags": b"\xd9\xd9\xf7", "marks": b"\xd8\x1c", "arrays and maps": b"\x81\xa1\x60",
    "text in text": b"\x7f", "decimals": b"\xc4\x82\x01",
}  # fmt: skip


@pytest.mark.parametrize("opening", _DEEP.values(), ids=_DEEP)
@pytest.mark.parametrize("end", [b"", b"\x00"])
def test_depth_100_000_is_refused_at_once(opening: bytes, end: bytes) -> None:
    check_cheap(lambda: refusal(SOME, opening * DEEP + end, GOOD))


@pytest.mark.parametrize("opening", [b"\x81", b"\xa1\x60", b"\xc6\x81", b"\x9f"])
def test_every_depth_is_read_by_all_readers_or_refused(opening: bytes) -> None:
    closing = b"\xff" if opening == b"\x9f" else b""
    taken = [depth for depth in range(1, 260) if outcome(SOME, opening * depth + b"\x00" + closing * depth) != REFUSED]
    assert taken == [*range(1, len(taken) + 1)]
    assert len(taken) in (190, 95)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("major", range(2, 6))
def test_a_length_that_is_not_there_costs_nothing(major: int, length: int) -> None:
    head = bytes([major << 5 | 27]) + struct.pack(">Q", length)
    for payload in (head, head + b"\x01" * 50, b"\x82" + head * 20, b"\x81" * 100 + head):
        check_cheap(lambda payload=payload: refusal(SOME, payload, GOOD), mib=1)


def _bytes(size: int, fill: bytes = b"\xff") -> bytes:
    return b"\x5a" + struct.pack(">I", size) + fill * size


_COSTLY = {
    "a decimal with a mantissa of 1 MB": b"\xc4\x82\x20\xc2" + _bytes(1 << 20),
    "a rational of bignums": b"\xd8\x1e\x82" + 2 * (b"\xc2" + _bytes(1 << 19, b"\xfd")),
    "a bignum of 1 MB": b"\xc2" + _bytes(1 << 20),
    "bignums as keys": b"\xb9\xff\xff" + b"\xc2\x49" + b"\x01" * 9,
    "a bigfloat with a huge exponent": bytes.fromhex("c5821a7fffffff01"),
    "lists that double by references": b"\xd8\x1c\x82" * 60 + b"\xd8\x1d\x00" * 60,
    "a list that contains itself": bytes.fromhex("d81c81d81d00"),
    "a regular expression of 60,000 groups": b"\xd8\x23\x79\xea\x60" + b"(" * 60_000,
    "a long string that is referred to": b"\xd9\x01\x00\x9a\x00\x01\x00\x00\x79\xff\xff" + b"a" * 65_535
    + b"\xd8\x19\x00" * 65_535,
    "strings in parts of nothing": b"\x7f" + b"\x60" * 100_000 + b"\xff",
    "bytes in parts of nothing": b"\x5f" + b"\x40" * 100_000 + b"\xff",
    "tags without an end": b"\xdb\xff\xff\xff\xff\xff\xff\xff\xff" * 100_000,
}  # fmt: skip


@pytest.mark.parametrize("payload", _COSTLY.values(), ids=_COSTLY)
def test_no_payload_fills_the_time_or_the_memory(payload: bytes) -> None:
    check_cheap(lambda: outcome(SOME, payload))


def test_a_map_with_keys_of_one_hash_is_refused_at_once() -> None:
    """Which is what a library needs minutes for, that makes tuples of them."""
    keys = [b"\x82\x1a" + struct.pack(">I", one) + b"\x1b" + struct.pack(">Q", two) for one, two in pairs_of_one_hash()]
    payload = b"\xb9" + struct.pack(">H", len(keys)) + b"\0".join(keys) + b"\0"
    check_cheap(lambda: refusal(SOME, payload, GOOD))


def test_a_payload_of_1_mib_is_taken() -> None:
    numbers = b"\x9a\x00\x10\x00\x00" + b"\x01" * (1 << 20)
    check_cheap(lambda: data_of(SOME, numbers), seconds=4, mib=None)
    assert data_of(SOME, b"\x7a\x00\x10\x00\x00" + b"a" * (1 << 20)) == "a" * (1 << 20)


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_keys = _text | st.integers(-(2**63), 2**64 - 1) | st.booleans() | st.binary(max_size=4)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | _text | st.binary(max_size=40) | st.uuids(version=4)
    | st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # a double has more than 1 us
    | st.decimals(allow_nan=False, allow_infinity=False, min_value=Decimal(-(10**9)), max_value=10**9, places=4),
    lambda inner: st.lists(inner, max_size=5)
    | st.dictionaries(_keys, inner, max_size=5),
    max_leaves=25,
)  # fmt: skip


def _expected(value: Any) -> Any:
    try:
        return json_value(value)
    except ValueError:
        return REFUSED


@settings(deadline=None, max_examples=100)
@given(_json, st.booleans(), st.booleans())
def test_what_a_library_writes_is_read_as_it_was(value: Any, canonical: bool, indefinite: bool) -> None:
    options = {"canonical": canonical, "datetime_as_timestamp": True}
    if not canonical:
        options["indefinite_containers"] = indefinite
    expected = _expected(value)
    assert outcome(SOME, cbor2.dumps(value, **options)) == expected


_bytes_of_cbor = st.lists(
    st.sampled_from([bytes([byte]) for byte in range(256) if byte >> 5 != 6]) | st.binary(max_size=4), max_size=16
).map(b"".join)


@settings(deadline=None, max_examples=100)
@given(_bytes_of_cbor)
@example(bytes.fromhex("a200010002"))
@example(bytes.fromhex("f818"))
def test_any_bytes_are_refused_or_read_as_a_library_reads_them(payload: bytes) -> None:
    found = outcome(SOME, payload) if payload else REFUSED
    if found != REFUSED and not any(byte >> 5 == 6 for byte in payload):
        assert json_value(_without_undefined(cbor2.loads(payload))) == found


def _without_undefined(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_undefined(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_undefined(item) for item in value]
    return None if value is cbor2.undefined else value


@settings(deadline=None, max_examples=100)
@given(st.binary(min_size=1, max_size=64))
def test_any_bytes_at_all_become_an_event_or_a_dead_letter(payload: bytes) -> None:
    outcome(SOME, payload)


@pytest.mark.parametrize(
    "make", [lambda: UUID(int=5), lambda: datetime(2024, 5, 1, tzinfo=UTC), lambda: Decimal("1.50")]
)
def test_what_a_library_tags_is_read_by_its_meaning(make: Callable[[], object]) -> None:
    value = make()
    found = data_of(SOME, cbor2.dumps({"v": value, "l": [value]}))
    if isinstance(value, datetime):
        assert found["l"] == [found["v"]] == ["2024-05-01T00:00:00Z"]
    else:
        assert found == {"v": str(value), "l": [str(value)]}
