"""What tests of decoders share: a converter with options, what it makes of a payload, and ways to be hostile."""

from __future__ import annotations

import json
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

from tests.bridge.messages import convert_all, message
from tidegate.bridge import Converter, Shape, new_decoder
from tidegate.core import Envelope, Mapping

DEEP = 100_000
MIB = 1024 * 1024
LENGTHS = [2**16, 2**31 - 1, 2**32 - 1, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
"""Lengths that a payload of a few bytes may claim."""


def converter_of(decoder: str, **options: Any) -> Converter:
    """Return a converter for any topic."""
    shape = Shape(bridge="b", mapping=Mapping("{all...}", "plant.{all...}"), source="urn:tidegate:test:b", type="t.v1")
    return Converter(shape, new_decoder(decoder, options))


def data_of(some: Converter, payload: bytes) -> Any:
    """Return the data of the event that a payload becomes. Every reader must read it."""
    found = some.convert([message(payload=payload)])
    assert not found.rejected, found.rejected[0].error
    (event,) = found.events
    data = json.loads(event.body)["data"]
    assert Envelope.from_nats(event.headers, event.body).data == data
    return data


def refusal(some: Converter, payload: bytes, good: bytes) -> str:
    """Return why a payload is refused. The good one beside it must become an event (law 8)."""
    bad, neighbour = message(payload=payload), message(payload=good)
    events, (rejected,) = convert_all(some, neighbour, bad, neighbour)
    assert [event.message for event in events] == [neighbour, neighbour]
    assert rejected.message is bad
    assert (rejected.error.reason, rejected.stage) == ("decode_failed", "convert")
    assert 0 < len(rejected.error.detail) <= 300
    return rejected.error.detail


REFUSED = "refused: this text is in no payload"


def outcome(some: Converter, payload: bytes) -> Any:
    """Return the data of the event that a payload becomes, or REFUSED. There is no third way."""
    found = some.convert([message(payload=payload)])
    if found.rejected:
        assert found.rejected[0].error.reason == "decode_failed"
        assert not found.events
        return REFUSED
    (event,) = found.events
    return Envelope.from_nats(event.headers, event.body).data


def check_cut_short(some: Converter, payload: bytes, good: bytes, *, as_such: bool = True) -> None:
    """Check that no beginning of a payload is taken for the whole, and nothing that follows it for a part of it.

    as_such: that is what the sentence says.
    """
    data_of(some, payload)
    for end in range(1, len(payload)):
        detail = refusal(some, payload[:end], good)
        assert "cut short" in detail or not as_such
    for more in (b"\x00", b"\xff", b" ", payload):
        detail = refusal(some, payload + more, good)
        assert f"ends at byte {len(payload)} of " in detail or not as_such


def check_cheap(what: Callable[[], object], seconds: float = 2.0, mib: float | None = 16) -> None:
    """Check that something takes little time, and little memory at any moment (None: not looked at, it takes long)."""
    started = time.process_time()
    what()
    assert time.process_time() - started < seconds
    if mib is None:
        return
    tracemalloc.start()
    try:
        what()
        assert tracemalloc.get_traced_memory()[1] < mib * MIB
    finally:
        tracemalloc.stop()


def pairs_of_one_hash(count: int = 20_000) -> list[tuple[int, int]]:
    """Return pairs of integers that Python can't tell apart by their hashes; worked backwards through its function."""
    bits = (1 << 64) - 1
    first, second, start = 11400714785074694791, 14029467366897019727, 2870177450012600261
    undo_first, undo_second = pow(first, -1, 1 << 64), pow(second, -1, 1 << 64)
    goal = 12345 * undo_first & bits
    goal = (goal >> 31 | goal << 33) & bits
    found: list[tuple[int, int]] = []
    one = 0
    while len(found) < count:
        lane = (start + one * second) & bits
        lane = ((lane << 31 | lane >> 33) & bits) * first & bits
        other = (goal - lane) * undo_second & bits
        if other < sys.hash_info.modulus:
            found.append((one, other))
        one += 1
    assert len({hash(pair) for pair in found}) == 1
    return found
