"""Avro (https://avro.apache.org/docs/1.11.1/specification/)."""

from __future__ import annotations

import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
from fastavro.schema import fingerprint, to_parsing_canonical_form

from tidegate.bridge.decode.avro_datum import VALUE, AvroSchema, Source
from tidegate.bridge.decode.decoder import Decoder
from tidegate.bridge.decode.json_value import MAX_SIZE, Room

_SINGLE_OBJECT = b"\xc3\x01"
_CONTAINER = b"Obj\x01"
_SYNC = 16
_CHECKSUM = 4
"""Bytes of zlib's checksum, which raw deflate does not have; some writers leave them there, or a part of them."""

_MAX_SCHEMA = 64 * 1024
"""Bytes of a schema that a device sends along."""


def new(schema: Path | None = None) -> Decoder:
    """Return the decoder.

    schema: a file with the schema of the data (.avsc). A payload is a datum in the binary encoding, alone or behind the
    marker and the schema's fingerprint ("Single object encoding"). Without it a payload is a whole object container
    file, with the schema in it, of at most 64 KiB, the codec null or deflate, and at most 16 MiB of data; its value is
    the list of its records.

    Bytes and fixed become base64, decimals text, times and dates RFC 3339, to the microsecond; local times have no
    offset. Refused are what JSON can't hold (NaN), a map with the same key twice, more than 190 levels, and bytes after
    the end. Raises ValueError for a schema that can't be read, or with arrays whose items have no bytes.
    """
    if schema is None:
        return Decoder(lambda payload, _topic: _container(payload))
    if not isinstance(schema, str | Path):
        raise ValueError("schema should be the path of a file with an Avro schema, as reading.avsc")
    return _of_schema(_load(Path(schema)))


def _load(path: Path) -> AvroSchema:
    try:
        return AvroSchema(orjson.loads(path.read_bytes()))
    except OSError as error:
        raise ValueError(f"the file {path} can't be read: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        raise ValueError(f"the file {path} is not JSON: {error}") from None
    except ValueError as error:
        raise ValueError(f"the file {path}: {error}") from None


def _of_schema(schema: AvroSchema) -> Decoder:
    header = _SINGLE_OBJECT + bytes.fromhex(fingerprint(to_parsing_canonical_form(schema.parsed), "CRC-64-AVRO"))

    def decode(payload: bytes, _topic: str) -> Any:
        if payload.startswith(header):
            return _datum(schema, payload[len(header) :])
        try:
            return _datum(schema, payload)
        except ValueError:
            # A datum may begin like this too: it is two bytes of a number.
            if payload.startswith(_SINGLE_OBJECT):
                raise ValueError("Avro with the fingerprint of another schema") from None
            raise

    return Decoder(decode)


def _datum(schema: AvroSchema, payload: bytes) -> Any:
    source = Source(payload)
    value = schema.read(source)
    source.check_end()
    return value


def _container(payload: bytes) -> list[Any]:
    """Return the records of an object container file ("Object Container Files")."""
    if not payload.startswith(_CONTAINER):
        raise ValueError("not an Avro object container file; for data without their schema the decoder needs `schema`")
    source = Source(payload)
    source.take(len(_CONTAINER))
    try:
        return _records(source)
    except IndexError:
        raise ValueError("Avro that is cut short") from None


def _records(source: Source) -> list[Any]:
    metadata = _metadata(source)
    codec = metadata.get(b"avro.codec", b"null")
    if codec not in (b"null", b"deflate"):
        raise ValueError(f"an Avro file with the codec {codec[:40]!r}; null and deflate are read")
    schema = _schema(metadata.get(b"avro.schema", b""))
    sync = source.take(_SYNC)
    records: list[Any] = []
    left, room = MAX_SIZE, Room()
    while source.at < len(source.data):
        count, data = source.long(), source.take(source.long())
        if source.take(_SYNC) != sync:
            raise ValueError("an Avro file with a block that does not end in its marker")
        if codec == b"deflate":
            data = _inflate(data, left)
        left -= len(data)
        block = Source(data, room)
        for _ in range(count):
            room.take(VALUE)
            records.append(schema.read(block))
        block.check_end()
    return records


def _metadata(source: Source) -> dict[bytes, bytes]:
    """Return the file's metadata, a map of bytes."""
    found: dict[bytes, bytes] = {}
    while count := source.long():
        if count < 0:
            count, _ = -count, source.long()
        for _ in range(count):
            key = source.take(source.long())
            if key in found:
                raise ValueError(f"an Avro file with {key[:40]!r} twice")
            found[key] = source.take(source.long())
    return found


def _schema(text: bytes) -> AvroSchema:
    if len(text) > _MAX_SCHEMA:
        raise ValueError(f"an Avro file with a schema of {len(text)} bytes; {_MAX_SCHEMA} are allowed")
    return _parsed(text)


@lru_cache(maxsize=8)
def _parsed(text: bytes) -> AvroSchema:
    """A device sends the same one each time."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise ValueError("an Avro file whose schema is not JSON") from None
    schema = AvroSchema(document)
    if schema.least == 0:
        raise ValueError("an Avro file of records without bytes: a few bytes could claim any number")
    return schema


def _inflate(data: bytes, limit: int) -> bytes:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        found = stream.decompress(data, limit + 1)
    except zlib.error as error:
        raise ValueError(f"an Avro file with a block that is not deflate: {error}") from None
    if len(found) > limit:
        raise ValueError(f"an Avro file of more than {MAX_SIZE} bytes")
    if not stream.eof or len(stream.unused_data) > _CHECKSUM:
        raise ValueError("an Avro file with a block whose deflate data do not end where it does")
    return found
