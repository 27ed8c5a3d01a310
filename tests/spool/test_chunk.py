"""How messages lie in the spool."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core import IdSource, Message, Properties
from tidegate.spool.chunk import DamagedChunkError, decode_chunk, encode_chunk, encode_records

_text = st.text(max_size=40)
_properties = st.builds(
    Properties,
    content_type=st.none() | _text,
    correlation_data=st.none() | st.binary(max_size=40),
    response_topic=st.none() | _text,
    user=st.lists(st.tuples(_text, _text), max_size=4).map(tuple),
)
_messages = st.builds(
    Message,
    topic=st.binary(max_size=80),
    payload=st.binary(max_size=200),
    id=st.integers(0, 2**60).map(lambda _: IdSource().take(1)[0]),
    qos=st.integers(0, 2),
    retained=st.booleans(),
    duplicate=st.booleans(),
    properties=st.none() | _properties,
    size=st.integers(0, 2**32 - 1),
    defect=st.none() | st.sampled_from(["payload_too_large", "properties_invalid"]),
    received=st.floats(0, 1e11),
)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.lists(_messages, max_size=4), max_size=4))
def test_every_field_of_every_message_comes_back_as_it_was(appended: list[list[Message]]) -> None:
    """Records of several appends make one chunk."""
    chunk = encode_chunk(b"".join(map(encode_records, appended)))
    wanted = [message for messages in appended for message in messages]
    assert decode_chunk(chunk) == wanted


@settings(deadline=None, max_examples=100)
@given(st.lists(_messages, min_size=1, max_size=3), st.data())
def test_a_chunk_with_any_bit_turned_is_known_as_damaged(messages: list[Message], data: st.DataObject) -> None:
    chunk = bytearray(encode_chunk(encode_records(messages)))
    position = data.draw(st.integers(0, len(chunk) * 8 - 1))
    chunk[position // 8] ^= 1 << position % 8
    with pytest.raises(DamagedChunkError):
        decode_chunk(bytes(chunk))


@settings(deadline=None, max_examples=100)
@given(st.lists(_messages, min_size=1, max_size=3), st.data())
def test_a_chunk_cut_short_anywhere_is_known_as_damaged(messages: list[Message], data: st.DataObject) -> None:
    chunk = encode_chunk(encode_records(messages))
    with pytest.raises(DamagedChunkError):
        decode_chunk(chunk[: data.draw(st.integers(0, len(chunk) - 1))])


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300))
def test_any_bytes_under_a_right_checksum_are_messages_or_known_as_damaged(records: bytes) -> None:
    try:
        decode_chunk(encode_chunk(records))
    except DamagedChunkError:
        pass
    else:
        assert not records or len(records) >= 50
