"""The HTTP endpoint: right answers to right requests, and an early end for everything else."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tidegate.app.http as http_module
from tests.app.helpers import other_tasks
from tests.support.gateway import get
from tests.support.wait import eventually
from tidegate.app.http import HttpServer, ListenError, Response, plain

GET = b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n"


def _broken(_accept: str) -> Response:
    raise RuntimeError("a defect")


PAGES = {
    "/page": lambda accept: plain(200, f"accept {accept}"),
    "/long": lambda _accept: plain(200, "x" * 50_000_000),
    "/broken": _broken,
}


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with HttpServer(("127.0.0.1", 0), PAGES) as server:
        yield server.address[1]


async def _exchange(port: int, data: bytes) -> bytes:
    """Send bytes and return everything up to the server's close."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        async with asyncio.timeout(20):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def _read_answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return the head and the body of one answer on a connection that stays."""
    async with asyncio.timeout(20):
        head = await reader.readuntil(b"\r\n\r\n")
        lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        return head, await reader.readexactly(int(lines[b"content-length"]))


async def test_a_page_is_served_with_its_accept_header(port: int) -> None:
    assert await get(port, "/page?a=b", "Accept: text/plain\r\n") == (200, b"accept text/plain\n")


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/page/", "/page/../page", "/../../etc/passwd", "/..%2f..%2fetc/passwd", "//page", "*"]
)
async def test_any_other_path_is_not_found(port: int, path: str) -> None:
    status, body = await get(port, path)
    assert status == 404
    assert b"root:" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PURGE"])
async def test_any_other_method_is_not_allowed(port: int, method: str) -> None:
    answer = await _exchange(
        port,
        f"{method} /page HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc".encode(),
    )
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nAllow: GET, HEAD\r\n" in answer


async def test_head_has_the_head_of_get_and_no_body(port: int) -> None:
    end = b"/page HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    head, _, body = (await _exchange(port, b"HEAD " + end)).partition(b"\r\n\r\n")
    got, _, text = (await _exchange(port, b"GET " + end)).partition(b"\r\n\r\n")
    assert body == b""
    assert head == got
    assert b"Content-Length: %d" % len(text) in head


async def test_one_connection_serves_one_request_after_the_other(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(3):
        writer.write(GET)
        head, body = await _read_answer(reader)
        assert head.startswith(b"HTTP/1.1 200 ")
        assert body == b"accept \n"
    writer.close()


async def test_pipelined_requests_are_answered_in_order(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET + GET.replace(b"/page", b"/none") + b"HEAD" + GET[3:] + GET)
    statuses = [(await _read_answer(reader))[0].split()[1] for _ in range(2)]
    async with asyncio.timeout(20):
        statuses.append((await reader.readuntil(b"\r\n\r\n")).split()[1])
    statuses.append((await _read_answer(reader))[0].split()[1])
    assert statuses == [b"200", b"404", b"200", b"200"]
    writer.close()


async def test_a_request_in_single_bytes_is_answered(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for byte in GET:
        writer.write(bytes((byte,)))
        await writer.drain()
        await asyncio.sleep(0)
    assert (await _read_answer(reader))[0].startswith(b"HTTP/1.1 200 ")
    writer.close()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"hello\r\n\r\n", b"400"),
        (b"GET /page HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /page HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"GET /page HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
        (b"GET /page HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n", b"400"),
        (b"GET /page HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", b"431"),
        (b"GET /" + b"y" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"431"),
        (b"GET /page HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 4000, b"431"),
    ],
)
async def test_a_malformed_or_oversized_request_is_refused_and_the_connection_closed(
    port: int, data: bytes, status: bytes
) -> None:
    answer = await _exchange(port, data)
    assert answer.split(b" ")[1] == status
    assert b"connection: close" in answer.lower()
    assert (await get(port, "/page"))[0] == 200


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=1, max_size=200), st.booleans())
def test_garbage_gets_an_error_or_an_end_and_never_a_page(data: bytes, after_a_line: bool) -> None:
    async def run() -> None:
        async with HttpServer(("127.0.0.1", 0), PAGES) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.address[1])
            writer.write((b"GET /none HTTP/1.1\r\n" if after_a_line else b"") + data)
            writer.write_eof()
            async with asyncio.timeout(20):
                answer = await reader.read()
            writer.close()
            assert not answer or answer.startswith(b"HTTP/1.1 4")
            assert (await get(server.address[1], "/page"))[0] == 200

    asyncio.run(run())


async def test_a_page_with_a_defect_is_an_error_and_the_next_page_is_served(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await get(port, "/broken"))[0] == 500
    assert "RuntimeError: a defect" in caplog.text
    assert (await get(port, "/page"))[0] == 200


async def test_one_connection_too_many_takes_the_place_of_the_one_that_waited_longest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_module, "MAX_CONNECTIONS", 8)
    async with HttpServer(("127.0.0.1", 0), PAGES) as server:
        kept = [await asyncio.open_connection("127.0.0.1", server.address[1]) for _ in range(8)]
        for reader, writer in [*kept, kept[0]]:  # so the second has waited longest
            writer.write(GET)
            await _read_answer(reader)
        assert b" 200 " in (
            await _exchange(server.address[1], GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        )
        reader, writer = kept.pop(1)
        assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()
        for reader, writer in kept:
            writer.write(GET)
            assert (await _read_answer(reader))[0].startswith(b"HTTP/1.1 200 ")
            writer.close()


@pytest.mark.parametrize("requests", [1, 20, None], ids=["one a connection", "pipelined", "one after the other"])
async def test_busy_clients_that_have_every_place_leave_one_and_an_early_turn_to_a_newcomer(
    monkeypatch: pytest.MonkeyPatch, requests: int | None
) -> None:
    monkeypatch.setattr(http_module, "MAX_CONNECTIONS", 8)
    answers = 0

    def page(_accept: str) -> Response:
        nonlocal answers
        answers += 1
        time.sleep(0.001)
        return plain(200, "page")

    async def busy_client(port: int) -> None:
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    for _ in range(1 if requests == 1 else 1000):
                        writer.write(GET * (requests or 1))
                        for _ in range(requests or 1):
                            await _read_answer(reader)
            finally:
                writer.transport.abort()
            await asyncio.sleep(0)

    async with HttpServer(("127.0.0.1", 0), {"/page": page}) as server:
        port = server.address[1]
        clients = [asyncio.create_task(busy_client(port)) for _ in range(12)]
        try:
            await eventually(lambda: answers > 50, "they are at it")
            for _ in range(20):
                before = answers
                assert (await asyncio.wait_for(get(port, "/page"), 20))[0] == 200
                assert answers - before <= 40  # two rounds of all who are there
        finally:
            for client in clients:
                client.cancel()
            await asyncio.wait(clients)


async def test_who_waits_for_a_place_is_cut_when_there_are_as_many_already_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_module, "MAX_CONNECTIONS", 1)
    monkeypatch.setattr(http_module, "_REST", 1e6)
    made = asyncio.Event()

    def page(_accept: str) -> Response:
        made.set()
        time.sleep(0.001)
        return plain(200, "page")

    before = other_tasks()
    async with HttpServer(("127.0.0.1", 0), {"/page": page}) as server:
        clients = [await asyncio.open_connection("127.0.0.1", server.address[1])]
        clients[0][1].write(GET)
        await asyncio.wait_for(made.wait(), 20)
        clients += [await asyncio.open_connection("127.0.0.1", server.address[1]) for _ in range(2)]
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(clients[2][0].read(), 20) == b""
        assert not clients[1][0].at_eof()
    for reader, writer in clients:
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()
    assert other_tasks() == before


@pytest.mark.parametrize(
    "start", [b"", b"GET /page HTTP/1.1\r\nHost: localhost\r\n", GET], ids=["silent", "half", "idle"]
)
async def test_a_client_that_says_nothing_more_is_cut(monkeypatch: pytest.MonkeyPatch, start: bytes) -> None:
    monkeypatch.setattr(http_module, "REQUEST_TIMEOUT", 0.1)
    async with HttpServer(("127.0.0.1", 0), PAGES) as server:
        answer = await _exchange(server.address[1], start)
        assert answer.count(b"HTTP/1.1") == (start == GET)


async def test_a_client_that_drips_its_request_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is for the whole request: a byte now and then does not buy more."""
    monkeypatch.setattr(http_module, "REQUEST_TIMEOUT", 0.2)
    async with HttpServer(("127.0.0.1", 0), PAGES) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.address[1])
        writer.write(b"GET /page HTTP/1.1\r\nX: ")

        reading = asyncio.create_task(reader.read())

        async def drip() -> bool:
            if not reading.done():
                writer.write(b"y")
            return reading.done()

        await eventually(drip, "the connection is cut")
        assert reading.exception() is not None or reading.result() == b""
        writer.close()


async def test_a_client_that_does_not_read_its_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "REQUEST_TIMEOUT", 0.2)
    before = other_tasks()
    async with HttpServer(("127.0.0.1", 0), PAGES) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.address[1], limit=1024)
        writer.transport.pause_reading()
        writer.write(GET.replace(b"/page", b"/long"))
        await eventually(lambda: "http connection" in other_tasks(), "it is served")
        await eventually(lambda: other_tasks() == before, "it is cut")
        writer.transport.abort()


async def test_closing_the_server_with_open_connections_leaves_no_task() -> None:
    before = other_tasks()
    async with HttpServer(("127.0.0.1", 0), PAGES) as server:
        port = server.address[1]
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
        opened[0][1].write(GET)
        await _read_answer(opened[0][0])
        opened[1][1].write(GET[:20])
        await eventually(lambda: other_tasks().count("http connection") == 5, "all are served")
    assert other_tasks() == before
    for reader, writer in opened:
        with contextlib.suppress(ConnectionResetError):  # what it sent had not been read
            async with asyncio.timeout(20):
                assert await reader.read() == b""
        writer.close()
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1", "no-such-host.invalid"])
async def test_an_address_that_can_t_be_listened_on_is_told(host: str) -> None:
    async with HttpServer(("127.0.0.1", 0), PAGES) as server:
        port = server.address[1]
        with pytest.raises(ListenError, match=rf"http\.listen {host}:{port}: \S"):
            async with HttpServer((host, port), PAGES):
                pass
