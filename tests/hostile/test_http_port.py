"""The HTTP port under attack: the intake must not notice."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.hostile.rig import Rig, scripted
from tests.support.gateway import get

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLIENTS = 2000
MIB = 1024 * 1024


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """A running gateway."""
    async with scripted(tmp_path_factory.mktemp("http")) as running:
        yield running


async def test_b29_thousands_of_slow_clients_leave_the_intake_and_memory_alone(rig: Rig) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * CLIENTS)), hard))
    before = rig.memory()
    opened = await asyncio.gather(*(_slow_client(rig.running.http) for _ in range(CLIENTS)), return_exceptions=True)
    writers = [writer for writer in opened if isinstance(writer, asyncio.StreamWriter)]
    try:
        assert len(writers) > CLIENTS // 2
        for number in range(200):
            await rig.send(b"under/%d" % number)
        await rig.good()
        assert len([message for message in rig.seen if message.subject.startswith("plant.under.")]) == 200
        assert rig.memory() - before < 32 * MIB
    finally:
        for writer in writers:
            writer.transport.abort()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def _slow_client(port: int) -> asyncio.StreamWriter:
    """Connect, and send a request that never ends."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(OSError):
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    return writer


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "//etc/passwd",
        "/metrics/../../etc/passwd",
        "/" + "a" * 8000,
    ],
    ids=lambda path: path[:30],
)
async def test_b29_no_path_leads_to_a_file(rig: Rig, path: str) -> None:
    status, body = await _get(rig.running.http, path)
    assert status == 404
    assert b"root:" not in body
    await rig.good()


async def test_b29_huge_headers_are_refused_and_cost_no_memory(rig: Rig) -> None:
    before = rig.memory()
    for _ in range(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.running.http)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")
        with contextlib.suppress(OSError):
            for _ in range(50):
                writer.write(b"X-Pad: " + b"x" * 20_000 + b"\r\n")
                await writer.drain()
            answer = await reader.read()
            assert b" 200 " not in answer[:20]
        writer.transport.abort()
    await rig.good()
    assert rig.memory() - before < 16 * MIB
    assert (await _get(rig.running.http, "/metrics"))[0] == 200


@pytest.mark.parametrize(
    "request_bytes",
    [b"\x16\x03\x01\x00\xff\x01", b"GET\r\n\r\n", b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
     b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", bytes(5000),
     b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    ids=repr,
)  # fmt: skip
async def test_b29_what_is_no_request_ends_only_its_connection(rig: Rig, request_bytes: bytes) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", rig.running.http)
    writer.write(request_bytes)
    await rig.good()
    assert (await _get(rig.running.http, "/-/healthy"))[0] == 200
    writer.transport.abort()
    assert "Traceback" not in rig.running.log_text()


async def _get(port: int, path: str) -> tuple[int, bytes]:
    """Ask again where all places are still taken by clients that just left."""
    async with asyncio.timeout(15):
        while True:
            try:
                return await get(port, path)
            except (OSError, IndexError):
                await asyncio.sleep(0.05)
