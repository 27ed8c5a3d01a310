"""Compressed payloads: read whole or refused, and never larger than they may be."""

from __future__ import annotations

import gzip
import time
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bridge.messages import convert_all, message, shaped
from tests.decode.rig import MIB
from tidegate.bridge import new_inflate
from tidegate.core import DeliveryError

LIMIT = MIB
GIB = 1024 * MIB


def zstd(data: bytes) -> bytes:
    """Return a frame whose header says how much it holds."""
    return zstandard.ZstdCompressor().compress(data)


def zstd_stream(data: bytes, window_log: int | None = None) -> bytes:
    """Return a frame whose header does not say how much it holds."""
    parameters = zstandard.ZstdCompressionParameters(window_log=window_log) if window_log else None
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return stream.compress(data) + stream.flush()


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "zlib": zlib.compress, "zstd": zstd, "zstd, as a stream": zstd_stream,
}  # fmt: skip
KINDS = pytest.mark.parametrize("kind", COMPRESSORS)


def inflated(kind: str, payload: bytes, limit: int = LIMIT) -> bytes:
    return new_inflate(kind.partition(",")[0], limit)(payload)


def refusal(kind: str, payload: bytes, limit: int = LIMIT) -> tuple[str, str]:
    with pytest.raises(DeliveryError) as caught:
        inflated(kind, payload, limit)
    assert len(caught.value.detail) < 200
    return caught.value.reason, caught.value.detail


def attempt(kind: str, payload: bytes) -> bytes | None:
    """Return what a payload becomes, None if it is refused. There is no third way."""
    try:
        return inflated(kind, payload)
    except DeliveryError as error:
        reason = error.reason
    assert reason in ("decompress_failed", "payload_too_large")
    return None


_BY_HAND = {
    # RFC 1952 §2.2 and §2.3: no name, time or comment; a stored block of RFC 1951 §3.2.4; CRC-32 and size.
    "gzip": "1f8b08000000000000ff010300fcff616263c241243503000000",
    # RFC 1950 §2.2: 32 KiB of window; the same block; Adler-32, most significant byte first.
    "zlib": "7801010300fcff616263024d0127",
    # RFC 8878 §3.1.1: the magic number; a single segment of 3 bytes; the last block, raw, of 3 bytes.
    "zstd": "28b52ffd2003190000616263",
}


@pytest.mark.parametrize(("kind", "payload"), _BY_HAND.items())
def test_bytes_written_by_hand_are_read(kind: str, payload: str) -> None:
    assert inflated(kind, bytes.fromhex(payload)) == b"abc"


@KINDS
@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=300), st.integers(1, 300))
def test_what_was_compressed_comes_back(kind: str, data: bytes, times: int) -> None:
    assert inflated(kind, COMPRESSORS[kind](data * times)) == data * times


@KINDS
def test_exactly_the_limit_is_taken_and_a_byte_more_is_not(kind: str) -> None:
    for limit in (1, 63, 64, 65, 65_536, 131_072, LIMIT):
        for fill in (b"x", bytes(range(256))):
            data = (fill * limit)[:limit]
            assert inflated(kind, COMPRESSORS[kind](data), limit) == data
            reason, detail = refusal(kind, COMPRESSORS[kind](data + b"x"), limit)
            assert (reason, detail) == ("payload_too_large", f"it inflates to more than {limit} bytes")


@KINDS
def test_nothing_is_inflated_to_nothing(kind: str) -> None:
    assert inflated(kind, COMPRESSORS[kind](b"")) == b""


@KINDS
def test_what_is_cut_short_anywhere_is_refused(kind: str) -> None:
    whole = COMPRESSORS[kind](b"".join(b"%d" % number for number in range(500)))
    assert inflated(kind, whole)
    for end in range(len(whole)):
        assert refusal(kind, whole[:end])[0] == "decompress_failed", end


@KINDS
@pytest.mark.parametrize("more", [b"\x00", b"x", b"\x00" * 1000, b"\x1f\x8b", b"\x28\xb5\x2f\xfd"])
def test_what_follows_is_refused(kind: str, more: bytes) -> None:
    for size in range(200):
        whole = COMPRESSORS[kind](bytes(range(size)))
        assert refusal(kind, whole + more) == (
            "decompress_failed",
            f"not {kind.partition(',')[0]}: something follows it",
        )


@KINDS
def test_a_second_member_or_frame_is_refused_and_not_left_out(kind: str) -> None:
    one, other = COMPRESSORS[kind](b"one"), COMPRESSORS[kind](b"other")
    assert "something follows" in refusal(kind, one + other)[1]
    assert "something follows" in refusal(kind, one * 10_000)[1]


@KINDS
@pytest.mark.parametrize("payload", [b"", b"\x00", b"{}", b"abc" * 100, b"\xff" * 40, b"\x1f\x8b\x08\xff" + b"x" * 30])
def test_garbage_is_refused(kind: str, payload: bytes) -> None:
    assert refusal(kind, payload)[0] == "decompress_failed"


@KINDS
def test_another_format_is_refused(kind: str) -> None:
    for other, compress in COMPRESSORS.items():
        if other.partition(",")[0] != kind.partition(",")[0]:
            assert refusal(kind, compress(b"abc"))[0] == "decompress_failed"


@KINDS
@settings(deadline=None, max_examples=50)
@given(st.data())
def test_a_changed_byte_is_found_or_changes_nothing_but_the_header(kind: str, data: st.DataObject) -> None:
    original = b"some text, some text" * 3
    whole = COMPRESSORS[kind](original)
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:place] + bytes([data.draw(st.integers(0, 255))]) + whole[place + 1 :]
    found = attempt(kind, changed)
    assert found in (original, None) or kind.startswith("zstd")  # which has a checksum only if the device asks for one


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=60), st.sampled_from([*COMPRESSORS]))
def test_any_bytes_are_refused_or_inflated(payload: bytes, kind: str) -> None:
    heads = {"gzip": b"\x1f\x8b\x08\x00", "zlib": b"\x78\x9c", "zstd": b"\x28\xb5\x2f\xfd"}
    for given_bytes in (payload, heads[kind.partition(",")[0]] + payload):
        assert len(attempt(kind, given_bytes) or b"") <= LIMIT


def _bomb(kind: str) -> bytes:
    """Return 1 GiB of zeros, compressed; of deflate the same 16 MiB again and again, without an end."""
    piece = bytes(16 * MIB)
    if kind.startswith("zstd"):
        stream = zstandard.ZstdCompressor().compressobj(size=GIB if kind == "zstd" else -1)
        return b"".join(stream.compress(piece) for _ in range(64)) + stream.flush()
    deflate = zlib.compressobj(wbits=-15)
    head = b"\x78\x9c" if kind == "zlib" else gzip.compress(b"", mtime=0)[:10]
    return head + (deflate.compress(piece) + deflate.flush(zlib.Z_FULL_FLUSH)) * 64


@KINDS
def test_a_gigabyte_of_zeros_is_refused_at_once_and_never_in_memory(kind: str) -> None:
    bomb = _bomb(kind)
    assert len(bomb) < 5 * MIB
    tracemalloc.start()
    try:
        started = time.process_time()
        assert refusal(kind, bomb)[0] == "payload_too_large"
        assert time.process_time() - started < 2
        assert tracemalloc.get_traced_memory()[1] < len(bomb) + 10 * MIB
    finally:
        tracemalloc.stop()


def test_zstd_blocks_of_one_byte_repeated_are_bounded_too() -> None:
    """RFC 8878 §3.1.1.2.2: 4 bytes that say "the same byte 131072 times", which is the best that a bomb can do."""
    block = ((1 << 17) << 3 | 1 << 1).to_bytes(3, "little") + b"x"
    header = bytes.fromhex("28b52ffd00") + bytes([(17 - 10) << 3])
    tracemalloc.start()
    try:
        assert refusal("zstd", header + block * 250_000)[0] == "payload_too_large"
        assert tracemalloc.get_traced_memory()[1] < 10 * MIB
    finally:
        tracemalloc.stop()
    last = ((1 << 17) << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"x"
    assert inflated("zstd", header + block * 7 + last) == b"x" * (1 << 20)


@pytest.mark.parametrize("window_log", [24, 27, 30])
def test_a_zstd_frame_that_asks_for_a_huge_window_is_refused(window_log: int) -> None:
    reason, detail = refusal("zstd", zstd_stream(b"abc", window_log))
    assert reason == "decompress_failed"
    assert "memory" in detail


@pytest.mark.parametrize("size", [0, 100, LIMIT, LIMIT + 1, 1 << 40, (1 << 64) - 2, (1 << 64) - 1])
def test_a_zstd_frame_that_only_claims_a_size_costs_nothing(size: int) -> None:
    frame = bytes.fromhex("28b52ffde0") + size.to_bytes(8, "little") + b"\x01\x00\x00"
    tracemalloc.start()
    try:
        assert not attempt("zstd", frame)
        assert tracemalloc.get_traced_memory()[1] < 10 * MIB
    finally:
        tracemalloc.stop()


def test_a_window_that_every_reader_has_to_have_is_taken() -> None:
    assert inflated("zstd", zstd_stream(b"abc", 23)) == b"abc"


@KINDS
def test_after_a_bad_payload_the_next_one_is_read(kind: str) -> None:
    inflate = new_inflate(kind.partition(",")[0], LIMIT)
    good = COMPRESSORS[kind](b"good")
    for bad in (good[:-1], b"garbage", COMPRESSORS[kind](bytes(2 * LIMIT)), good + good):
        with pytest.raises(DeliveryError):
            inflate(bad)
        assert inflate(good) == b"good"


@KINDS
def test_a_payload_of_the_limit_is_quick(kind: str) -> None:
    payload = COMPRESSORS[kind](bytes(LIMIT // 2) + b"".join(b"%d" % (number * 7919) for number in range(40_000)))
    started = time.process_time()
    inflated(kind, payload)
    assert time.process_time() - started < 2


@KINDS
def test_one_bad_message_becomes_a_dead_letter_and_its_neighbours_events(kind: str) -> None:
    some = shaped(inflate=new_inflate(kind.partition(",")[0], LIMIT), select="a")
    good, bomb, torn = COMPRESSORS[kind](b'{"a":1}'), COMPRESSORS[kind](bytes(LIMIT + 1)), COMPRESSORS[kind](b"{}")[:-1]
    events, rejected = convert_all(some, *(message(payload=payload) for payload in (good, bomb, good, torn, good)))
    assert [one.error.reason for one in rejected] == ["payload_too_large", "decompress_failed"]
    assert len(events) == 3
