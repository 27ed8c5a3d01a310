"""What a decoder takes, and that it refuses the rest in bounded time (B13, B14, B17)."""

from __future__ import annotations

import json
import time
from collections import Counter

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.bridge.messages import converted, document, refused
from tests.core.strategies import json_payloads
from tidegate.bridge import new_decoder
from tidegate.core import DeliveryError, Envelope

_BAD_JSON = {
    "NaN": b"NaN",
    "NaN inside": b'{"a":NaN}',
    "Infinity": b"Infinity",
    "negative infinity": b"[-Infinity]",
    "a number over the range of a double": b"1e400",
    "the same inside": b'{"a":-1e400}',
    "a lone surrogate": b'"\\ud800"',
    "a lone low surrogate in a key": b'{"\\udc00":1}',
    "a surrogate in UTF-8": b'"\xed\xa0\x80"',
    "not UTF-8": b'"\xff"',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "trailing text": b"{} x",
    "two documents": b"{}{}",
    "a trailing NUL": b"[]\x00",
    "white space alone": b" \r\n\t",
    "the same key twice": b'{"a":1,"a":2}',
    "the same key twice, spaced": b'{"a" : 1 ,\n"b\t":3, "a"\t:2}',
    "the same key twice, deep": b'[{"t":"12:00:00","x":[{"k":0},{"k":1,"l":{"m":1,"m":1}}]}]',
    "the same key twice, once escaped": b'{"a":1,"\\u0061":2}',
    "the same key twice beside an escaped colon": b'{"a":1,"a":"\\u003a"}',
    "an empty key twice": b'{"":1,"":2}',
    "single quotes": b"{'a':1}",
    "a trailing comma": b"[1,]",
    "a leading zero": b"01",
    "a plus sign": b"+1",
    "a comment": b"/* c */1",
    "a control character in a string": b'"\x01"',
    "torn": b'{"a":',
    "a C1 space": b"\xc2\xa01",
}


@pytest.mark.parametrize("mode", ["structured", "binary"])
@pytest.mark.parametrize("payload", _BAD_JSON.values(), ids=_BAD_JSON)
def test_b14_what_is_not_strict_json_is_refused_with_the_reason(payload: bytes, mode: str) -> None:
    rejected = refused("json", mode, payload=payload)
    assert (rejected.error.reason, rejected.stage) == ("decode_failed", "convert")
    assert "JSON" in rejected.error.detail
    assert rejected.message.payload == payload


@pytest.mark.parametrize("payload", _BAD_JSON.values(), ids=_BAD_JSON)
def test_b14_raw_passes_the_same_bytes_untouched(payload: bytes) -> None:
    assert converted("raw", "binary", payload=payload).body == payload
    assert Envelope.model_validate_json(converted("raw", payload=payload).body).payload() == payload


@pytest.mark.parametrize(
    "payload",
    [b"[" * 100_000 + b"]" * 100_000, b"[" * 100_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b'[{"a":' * 50_000],
    ids=["arrays", "torn arrays", "objects", "both, torn"],
)
def test_b13_json_of_depth_100_000_is_refused_and_raw_takes_it(payload: bytes) -> None:
    started = time.process_time()
    assert refused("json", payload=payload).error.reason == "decode_failed"
    assert converted("raw", "binary", payload=payload).body == payload
    assert time.process_time() - started < 1.0


def _value(decoder: str, payload: bytes) -> bytes:
    """Return the JSON that a payload is on its own."""
    data = new_decoder(decoder).data
    assert data is not None
    return data.value(payload)


def _takes(decoder: str, payload: bytes) -> bool:
    """Whether a decoder takes a payload; if not, it must say so in its own way."""
    try:
        json.loads(_value(decoder, payload))
    except DeliveryError as error:
        if error.reason != "decode_failed":
            raise
        return False
    return True


def _nested(depth: int, kind: str) -> bytes:
    if kind == "arrays":
        return b"[" * depth + b"]" * depth
    return b'{"a":' * depth + b"1" + b"}" * depth


@pytest.mark.parametrize("kind", ["arrays", "objects"])
def test_b13_no_depth_of_json_becomes_an_event_that_readers_can_not_read(kind: str) -> None:
    """Each is either refused, or read by the model, by orjson and by the standard library."""
    taken = []
    for depth in (*range(1, 8), 64, 100, *range(120, 260), *range(1000, 1050)):
        payload = _nested(depth, kind)
        if not _takes("json", payload):
            continue
        body = converted("json", payload=payload).body
        assert json.loads(Envelope.model_validate_json(body).to_json()) == json.loads(body)
        assert orjson.loads(body)["data"] == json.loads(payload)
        headers = converted("json", "binary", payload=payload).headers
        assert Envelope.from_nats(headers, payload).data == json.loads(payload)
        taken.append(depth)
    assert taken[-1] >= 128
    assert taken == [depth for depth in (*range(1, 8), 64, 100, *range(120, 260)) if depth <= taken[-1]]


@settings(deadline=None, max_examples=150)
@given(json_payloads())
@example(b'{"a":":","b":"\\":","c":"\\u003a"}')
@example(b'[{"a":1},{"a":2},{"a":{"a":"a:"}}]')
@example(b'{"t":"2024-05-01T12:00:00Z"}')
@example(b'{"a" :1,"b"\t:2}')
@example(b"-0.0")
@example(b"123456789012345678901234567890")
@example(b'  {"a":1}\r\n')
@example(b'[{"device":"d","seq":1}' + b',{"device":"d","seq":1}' * 500 + b"]")
def test_valid_json_is_taken_and_kept_byte_for_byte(payload: bytes) -> None:
    assert _value("json", payload) == payload


_keys = st.sampled_from(['"a"', '"b"', '"\\u0061"', '":"', '"\\u003a"', '"\\":"', '"é"'])
_spaces = st.sampled_from(["", " ", "\n", "\t", "\r"])


@st.composite
def _objects(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    pairs = draw(st.lists(st.tuples(_keys, _spaces, inner), max_size=3))
    return "{" + ",".join(f"{key}{space}:{value}" for key, space, value in pairs) + "}"


_json_text = st.recursive(
    st.sampled_from(["1", '"x"', '"a:b"', '"\\":"', '"\\u003A"', '" :"', "[]", "{}"]),
    lambda inner: _objects(inner) | st.lists(inner, max_size=3).map(lambda parts: "[" + ",".join(parts) + "]"),
    max_leaves=8,
)


@settings(deadline=None, max_examples=150)
@given(_json_text)
def test_b14_a_repeated_key_is_found_wherever_it_is_and_nothing_is_mistaken_for_one(text: str) -> None:
    repeats: Counter[str] = Counter()

    def look(pairs: list[tuple[str, object]]) -> None:
        repeats.update(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)

    json.loads(text, object_pairs_hook=look)
    if repeats:
        with pytest.raises(DeliveryError, match="same key twice"):
            _value("json", text.encode())
    else:
        assert _value("json", text.encode()) == text.encode()


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_taken_or_refused_by_every_decoder(payload: bytes) -> None:
    for name, kinds in {"json": object, "text": str, "number": int | float, "raw": str}.items():
        if _takes(name, payload):
            assert isinstance(json.loads(_value(name, payload)), kinds)
        else:
            assert name != "raw"


def test_b17_binary_arrives_as_the_same_bytes_and_keeps_its_content_type() -> None:
    payload = bytes(range(256)) * 4
    structured = converted("raw", payload=payload)
    assert Envelope.from_nats(structured.headers, structured.body).payload() == payload
    binary = converted("raw", "binary", payload=payload)
    assert binary.body == payload
    assert Envelope.from_nats(binary.headers, binary.body).payload() == payload
    assert binary.headers["Content-Type"] == document(structured)["datacontenttype"] == "application/octet-stream"


def test_text_that_is_not_utf_8_is_refused_and_where_is_said() -> None:
    rejected = refused("text", payload=b"abc\xff")
    assert rejected.error.reason == "decode_failed"
    assert "byte 3" in rejected.error.detail
