"""How messages lie in the spool: a chunk holds some that arrived together, with a checksum over all of it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from struct import Struct
from zlib import crc32

import orjson

from tidegate.core import Message, Properties

_CHECK = Struct("<I")
CHECK_SIZE = _CHECK.size
_RECORD = Struct("<36sBdQHIIB")  # id, flags, received, size; lengths of topic, payload, properties and defect

MESSAGE_OVERHEAD = _RECORD.size + 64
"""Bytes that a message takes besides its payload: its record, and a topic of usual length."""


class DamagedChunkError(Exception):
    """A chunk is not what was written."""


def encode_records(messages: Sequence[Message]) -> bytes:
    """Return the messages as bytes; the records of several calls may be joined into one chunk."""
    parts: list[bytes] = []
    for message in messages:
        properties = _encode_properties(message.properties)
        defect = (message.defect or "").encode()
        header = _RECORD.pack(
            message.id.encode(),
            message.qos | message.retained << 2 | message.duplicate << 3,
            message.received,
            message.size,
            len(message.topic),
            len(message.payload),
            len(properties),
            len(defect),
        )
        parts += (header, message.topic, message.payload, properties, defect)
    return b"".join(parts)


def encode_chunk(records: bytes) -> bytes:
    """Return the chunk that holds these records."""
    return _CHECK.pack(crc32(records)) + records


def decode_chunk(chunk: bytes) -> list[Message]:
    """Return the messages of a chunk. Raises DamagedChunkError."""
    if len(chunk) < _CHECK.size or _CHECK.unpack_from(chunk)[0] != crc32(memoryview(chunk)[_CHECK.size :]):
        raise DamagedChunkError("the checksum does not match")
    messages = []
    position = _CHECK.size
    try:
        while position < len(chunk):
            message, position = _decode_record(chunk, position)
            messages.append(message)
    except (struct.error, ValueError) as error:
        raise DamagedChunkError(str(error)) from error
    return messages


def _decode_record(chunk: bytes, position: int) -> tuple[Message, int]:
    event_id, flags, received, size, topic, payload, properties, defect = _RECORD.unpack_from(chunk, position)
    start = position + _RECORD.size
    ends = []
    for length in (topic, payload, properties, defect):
        start += length
        ends.append(start)
    start = position + _RECORD.size
    message = Message(
        topic=chunk[start : ends[0]],
        payload=chunk[ends[0] : ends[1]],
        id=event_id.decode(),
        qos=flags & 3,
        retained=bool(flags & 4),
        duplicate=bool(flags & 8),
        properties=_decode_properties(chunk[ends[1] : ends[2]]),
        size=size,
        defect=chunk[ends[2] : ends[3]].decode() or None,
        received=received,
    )
    return message, ends[3]


def _encode_properties(properties: Properties | None) -> bytes:
    if properties is None:
        return b""
    data = properties.correlation_data
    encoded = None if data is None else data.hex()
    return orjson.dumps((properties.content_type, encoded, properties.response_topic, properties.user))


def _decode_properties(encoded: bytes) -> Properties | None:
    if not encoded:
        return None
    content_type, data, response_topic, user = orjson.loads(encoded)
    pairs = tuple((name, value) for name, value in user)
    return Properties(content_type, None if data is None else bytes.fromhex(data), response_topic, pairs)
