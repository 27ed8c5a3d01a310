"""Compressed payloads, never larger than they may be."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Literal

from tidegate.core import DeliveryError

_MAX_WINDOW = 1 << 23
"""Bytes that zstd may look back, which every reader has to have (RFC 8878 §3.1.1.1.2)."""

_PART = 64
"""Bytes of zstd that can become 2 MiB: a block of 128 KiB takes 4 (RFC 8878 §3.1.1.2)."""

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
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    return lambda payload: _inflate_zstd(decompressor, zstandard.ZstdError, payload, limit)


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


def _inflate_zstd(decompressor: Any, error_type: type[Exception], payload: bytes, limit: int) -> bytes:
    """The library has no bound on what one call returns, so it gets parts of the payload that can't become much. The
    window that a frame asks for is bounded too: it is memory, whatever comes out."""
    stream = decompressor.decompressobj()
    found = bytearray()
    at = 0
    try:
        while at < len(payload) and not stream.eof:
            found += stream.decompress(payload[at : at + _PART])
            at += _PART
            _check_size(found, limit)
    except error_type as error:
        raise DeliveryError("decompress_failed", f"not zstd: {error}") from None
    if not stream.eof or stream.unused_data or at < len(payload):
        problem = "something follows it" if stream.eof else "it is cut short"
        raise DeliveryError("decompress_failed", f"not zstd: {problem}")
    return bytes(found)


def _check_size(found: bytes | bytearray, limit: int) -> None:
    if len(found) > limit:
        raise DeliveryError("payload_too_large", f"it inflates to more than {limit} bytes")
