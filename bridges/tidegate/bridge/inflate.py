"""Compressed payloads, never larger than they may be."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Literal

from tidegate.core import DeliveryError

Compression = Literal["gzip", "zlib", "zstd"]


def new_inflate(compression: Compression, limit: int) -> Callable[[bytes], bytes]:
    """Return what decompresses a payload to at most `limit` bytes.

    It raises DeliveryError: `payload_too_large`, as soon as that is known, or `decompress_failed`. Raises ValueError
    where a library is missing.
    """
    if compression != "zstd":
        window = zlib.MAX_WBITS | (16 if compression == "gzip" else 0)
        return lambda payload: _inflate(zlib.decompressobj(window), zlib.error, payload, compression, limit)
    try:
        import zstandard
    except ModuleNotFoundError:
        raise ValueError("zstd needs the extra 'zstd': pip install 'tidegate[zstd]'") from None
    return lambda payload: _inflate_zstd(zstandard, payload, limit)


def _inflate(stream: Any, error_type: type[Exception], payload: bytes, name: str, limit: int) -> bytes:
    try:
        found: bytes = stream.decompress(payload, limit + 1)
    except error_type as error:
        raise DeliveryError("decompress_failed", f"not {name}: {error}") from None
    _check_size(found, limit)
    if not stream.eof or stream.unused_data:
        problem = "something follows it" if stream.eof else "it is cut short"
        raise DeliveryError("decompress_failed", f"not {name}: {problem}")
    return found


def _inflate_zstd(zstandard: Any, payload: bytes, limit: int) -> bytes:
    """One frame. The window that a frame asks for is bounded too: it is memory, whatever comes out."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 23)
    try:
        with decompressor.stream_reader(payload, read_across_frames=False) as reader:
            found = bytes(reader.read(limit + 1))
        _check_size(found, limit)
        rest = decompressor.decompressobj()
        rest.decompress(payload)
    except zstandard.ZstdError as error:
        raise DeliveryError("decompress_failed", f"not zstd: {error}") from None
    if not rest.eof or rest.unused_data:
        problem = "something follows it" if rest.eof else "it is cut short"
        raise DeliveryError("decompress_failed", f"not zstd: {problem}")
    return found


def _check_size(found: bytes, limit: int) -> None:
    if len(found) > limit:
        raise DeliveryError("payload_too_large", f"it inflates to more than {limit} bytes")
