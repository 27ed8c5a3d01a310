"""Payloads that are not what the bridge expects, that are too much, and that only look harmless; by a real broker."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from tests.hostile.rig import Rig, text, through_a_broker
from tests.support.server import needs_mosquitto
from tidegate.core import Envelope

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1024 * 1024
BRIDGES = """\
  - {name: json, mqtt: "json/{all...}", nats: "plant.json.{all...}"}
  - {name: raw, mqtt: "raw/{all...}", nats: "plant.raw.{all...}", decode: raw}
  - {name: bin, mqtt: "bin/{all...}", nats: "plant.bin.{all...}", decode: raw, mode: binary}
  - {name: timed, mqtt: "timed/{all...}", nats: "plant.timed.{all...}", time: ts}
  - {name: gz, mqtt: "gz/{all...}", nats: "plant.gz.{all...}", decompress: gzip, each: "@", mode: binary}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """The gateway with a bridge for each kind of reading."""
    async with through_a_broker(tmp_path_factory.mktemp("payloads"), BRIDGES) as running:
        yield running


@pytest.mark.parametrize("bridge", ["json", "raw", "bin"])
async def test_b11_an_empty_payload_is_forwarded_and_flagged(rig: Rig, bridge: str) -> None:
    event, message = await rig.event(f"{bridge}/empty".encode(), b"", prefix=bridge)
    assert event.payload() is None
    flag = message.headers["ce-emptypayload"] if bridge == "bin" else json.loads(message.data)["emptypayload"]
    assert flag in (True, "true")


@pytest.mark.parametrize("character", [b"[", b'{"a":'], ids=["arrays", "objects"])
async def test_b13_json_of_depth_100_000_becomes_a_dead_letter(rig: Rig, character: bytes) -> None:
    depth = 100_000
    closed = character * depth + b"1" + (b"]" if character == b"[" else b"}") * depth
    for payload in (closed, character * depth):
        letter = await rig.rejected(b"json/deep", payload, prefix="json", bridge="json")
        assert letter["reason"] == "decode_failed"
    assert "Recursion" not in rig.running.log_text()


async def test_b13_raw_does_not_mind_depth(rig: Rig) -> None:
    payload = b"[" * 100_000
    event, _ = await rig.event(b"raw/deep", payload, prefix="raw")
    assert event.payload() == payload


ODD_JSON = [
    b"NaN", b'{"a": NaN}', b"[Infinity]", b"-Infinity", b"1e400", b'"\\ud800"', b'"\xed\xa0\x80"', b"\xef\xbb\xbf{}",
    b"{} x", b'{"a":1,"a":2}', b" ", b"{", b"01", b"'a'", b"\x00", b'"\x01"', b"[1,]", b"\xff\xfe{\x00}\x00",
]  # fmt: skip


@pytest.mark.parametrize("payload", ODD_JSON, ids=repr)
async def test_b14_what_is_almost_json_becomes_a_dead_letter(rig: Rig, payload: bytes) -> None:
    letter = await rig.rejected(b"json/odd", payload, prefix="json", bridge="json")
    assert letter["reason"] == "decode_failed"
    assert letter["detail"]


async def test_b14_raw_leaves_its_bytes_untouched(rig: Rig) -> None:
    for payload in ODD_JSON:
        for bridge in ("raw", "bin"):
            event, _ = await rig.event(f"{bridge}/odd".encode(), payload, prefix=bridge)
            assert event.payload() == payload


@pytest.mark.parametrize("bridge", ["raw", "bin"])
async def test_b17_binary_arrives_byte_for_byte_with_its_content_type(rig: Rig, bridge: str) -> None:
    payload = bytes(range(256)) * 4
    event, message = await rig.event(f"{bridge}/binary".encode(), payload, b"\x03" + text(b"image/png"), prefix=bridge)
    assert event.payload() == payload
    assert event.datacontenttype == "image/png"
    if bridge == "bin":
        assert message.data == payload


@pytest.mark.parametrize("bridge", ["raw", "bin", "json"])
async def test_b18_a_gzip_bomb_is_not_inflated(rig: Rig, bridge: str) -> None:
    bomb = gzip.compress(bytes(100 * MIB), mtime=0)
    before = rig.memory()
    properties = b"\x03" + text(b"application/gzip")
    if bridge == "json":
        await rig.rejected(b"json/bomb", bomb, properties, prefix=bridge, bridge=bridge)
    else:
        event, _ = await rig.event(f"{bridge}/bomb".encode(), bomb, properties, prefix=bridge)
        assert event.payload() == bomb
    assert rig.memory() - before < 20 * MIB


async def test_b18_where_it_is_asked_for_a_gzip_bomb_is_inflated_to_the_limit_and_no_further(rig: Rig) -> None:
    before = rig.memory()
    bomb = gzip.compress(bytes(100 * MIB), mtime=0)
    for payload, reason in (
        (bomb, "payload_too_large"),
        (bomb[:-1], "payload_too_large"),
        (b"[1]", "decompress_failed"),
    ):
        letter = await rig.rejected(b"gz/bomb", payload, prefix="raw", bridge="gz")
        assert letter["reason"] == reason
    assert rig.memory() - before < 20 * MIB


async def test_an_array_of_a_million_elements_becomes_a_dead_letter(rig: Rig) -> None:
    """Each would be an event of its own; gzip makes a kilobyte of them."""
    before = rig.memory()
    letter = await rig.rejected(
        b"gz/many", gzip.compress(b"[" + b"1," * 999_999 + b"1]", mtime=0), prefix="raw", bridge="gz"
    )
    assert (letter["reason"], "1000000 elements" in letter["detail"]) == ("normalise_failed", True)
    assert rig.memory() - before < 64 * MIB


@pytest.mark.parametrize("bridge", ["raw", "bin"])
async def test_b12_what_nats_can_not_carry_becomes_a_dead_letter(rig: Rig, bridge: str) -> None:
    """Around nats-server's limit of 1 MiB, every message arrives on one side of it, and none ends a connection."""
    for size in (700_000, 786_000, MIB - 2000, MIB - 400, MIB - 1, MIB, MIB + 1, 2 * MIB, 2 * MIB + 1):
        payload = bytes(size)
        (message,) = await rig.case(f"{bridge}/large".encode(), payload, prefix=bridge)
        if message.subject.startswith("dead."):
            letter = json.loads(message.data)
            assert letter["reason"] == ("payload_too_large" if size > 2 * MIB else "too_large")
            assert (letter["size"], letter["truncated"]) == (
                size,
                True,
            )
            assert size > 700_000
        else:
            assert size < MIB
            assert len(message.data) >= size


@needs_mosquitto
async def test_b12_64_mb_become_a_dead_letter_and_memory_stays_bounded(rig: Rig) -> None:
    before = rig.memory()
    payload = bytes(64 * MIB)
    (message,) = await rig.case(b"raw/huge", payload, prefix="raw")
    letter = json.loads(message.data)
    assert (message.subject, letter["reason"], letter["truncated"]) == ("dead.raw", "payload_too_large", True)
    assert (letter["size"], letter["subject"]) == (64 * MIB, "raw/huge")
    assert rig.memory() - before < 24 * MIB


@pytest.mark.parametrize(
    "stamp", ["0", "4294967295000", '"1970-01-01T00:00:00Z"', '"2106-02-07T06:28:16Z"', '"yesterday"', "null"]
)
async def test_b27_the_time_of_receipt_is_used_flagged_and_the_devices_value_stays(rig: Rig, stamp: str) -> None:
    before = time.time()
    event, _ = await rig.event(b"timed/device", f'{{"ts": {stamp}}}'.encode(), prefix="json")
    assert event.time is not None
    assert before - 5 <= event.time.timestamp() <= time.time() + 5
    assert event.model_dump()["timefallback"] is True
    assert event.data == {"ts": json.loads(stamp)}


async def test_a_good_time_of_a_device_is_the_events(rig: Rig) -> None:
    event, _ = await rig.event(b"timed/device", b'{"ts": "2026-01-02T03:04:05Z"}', prefix="json")
    assert event.time == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert "timefallback" not in event.model_dump()


async def test_no_attribute_of_a_devices_own_event_becomes_a_header_of_natss(rig: Rig) -> None:
    """An event may choose its id; it can't choose what the stream does with it."""
    wild = "x\r\nNats-Rollup: all\r\nNats-TTL: 1s"
    document = {"specversion": "1.0", "id": wild, "source": wild, "type": "t", "natsrollup": "all", "data": 1}
    (message,) = await rig.case(b"json/event", json.dumps(document).encode(), prefix="json")
    assert Envelope.from_nats(message.headers, message.data).id == wild
    assert set(message.headers) == {"Nats-Msg-Id", "Content-Type"}
    bad = {**document, "Nats-Rollup": "all"}
    (message,) = await rig.case(b"json/event", json.dumps(bad).encode(), prefix="json")
    assert Envelope.from_nats(message.headers, message.data).data == bad
