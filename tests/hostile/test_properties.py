"""MQTT 5 properties that are odd, too many or not what they should be."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.hostile.rig import EVERYTHING, EVERYTHING_BINARY, Rig, scripted, text, through_a_broker, user_property

pytestmark = pytest.mark.asyncio(loop_scope="module")

CASES = {"fake": (scripted, EVERYTHING_BINARY), "real": (through_a_broker, EVERYTHING)}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=list(CASES))
async def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """In binary mode at a fake broker, in structured mode at a real one."""
    run, bridges = CASES[request.param]
    async with run(tmp_path_factory.mktemp(request.param), bridges) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fake(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """The gateway at a broker that lets everything through."""
    async with scripted(tmp_path_factory.mktemp("fake")) as running:
        yield running


@pytest.mark.parametrize(
    "properties",
    [
        user_property(b"Nats-Msg-Id", b"stolen") + user_property(b"Nats-Expected-Stream", b"OTHER"),
        user_property("schlüssel".encode(), "日本".encode()),
        user_property(b"k", b"v" * 60_000) + user_property(b"k" * 5000, b"v" * 5000),
        user_property(b"name", b"value") * 1000,
        user_property(b"", b""),
        user_property(b"x" * 10_000, b"y" * 10_000) * 20,
    ],
    ids=["header names of NATS", "not ASCII", "70 kB", "a thousand", "empty", "400 kB"],
)
async def test_b20_user_properties_reach_no_header_and_cost_one_message(rig: Rig, properties: bytes) -> None:
    event, message = await rig.event(b"user/props", b"x", properties)
    assert event.payload() == b"x"
    assert message.headers["Nats-Msg-Id"] == event.id
    assert [name for name in message.headers if name.startswith("Nats-")] == ["Nats-Msg-Id"]
    assert sum(len(name) + len(value) for name, value in message.headers.items()) < 16_384


async def test_b20_line_ends_in_a_property_start_no_header(fake: Rig) -> None:
    """Real brokers refuse these."""
    evil = b"x\r\nNats-Rollup: all\r\n\r\nPUB evil 1\r\nx\r\n"
    properties = user_property(evil, evil) + user_property(b"correlationid", evil) + b"\x03" + text(evil)
    event, message = await fake.event(b"user/crlf", b"x", properties)
    assert event.correlationid == evil.decode()
    assert "Nats-Rollup" not in message.headers
    assert not [seen for seen in fake.seen if seen.subject == "evil"]


@pytest.mark.parametrize("properties", [user_property(b"\xff", b"\xfe"), b"\x26\x00\x05ab", b"\x7f", b"\x09\xff\xff"])
async def test_b20_malformed_properties_cost_only_their_message(fake: Rig, properties: bytes) -> None:
    letter = await fake.rejected(b"user/bad", b"x", properties)
    assert letter["reason"] == "properties_invalid"


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        (b"order-7", "order-7"),
        (b"\x00\xff\r\n", "00ff0d0a"),
        (b"x" * 65_000, "x" * 256),
        (bytes(65_000), "00" * 128),
        (b"", None),
        (None, None),
    ],
    ids=["text", "binary", "65 kB", "65 kB of zeros", "empty", "absent"],
)
async def test_b21_correlation_data_becomes_text_capped_or_the_events_own_id(
    rig: Rig, data: bytes | None, kept: str | None
) -> None:
    event, _ = await rig.event(b"correlation", b"x", b"" if data is None else b"\x09" + text(data))
    assert event.correlationid == (event.id if kept is None else kept)


async def test_b21_a_dead_letter_has_the_devices_correlation_id_too(fake: Rig) -> None:
    letter = await fake.rejected(b"a/+", b"x", b"\x09" + text(b"order-7"))
    assert letter["correlationid"] == "order-7"
