"""The parts of `tidegate top` that stand alone: figures, keys, addresses, and the question to the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.app.helpers import BRIDGES
from tests.app.top_status import STATES, bridge, status
from tidegate.app.embedded import free_port
from tidegate.app.http import HttpServer, Response
from tidegate.app.top.figure import count, duration, graph, rate, sparkline
from tidegate.app.top.key import KeyReader
from tidegate.app.top.line import fit, wrap
from tidegate.app.top.source import MAX_BYTES, Address, StatusError, fetch

HOSTILE = status(bridge(dead_lettered={"\x1b[2J": "many"}))


@given(st.integers(0, 10**18 - 1), st.floats(0, 1e15))
def test_figures_have_five_characters(number: int, speed: float) -> None:
    assert len(count(number)) <= 5
    assert len(rate(speed)) <= 5


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (0.04, "0.0"), (0.4, "0.4"), (9.94, "9.9"), (9.96, "10"), (12_345, "12.3k"), (5e6, "5.0M")],
)  # fmt: skip
def test_rates_are_short(number: float, text: str) -> None:
    assert rate(number) == text


def test_a_clock_that_is_ahead_makes_a_negative_lag() -> None:
    assert [duration(seconds) for seconds in (None, 0.004, 252.0, -1.5)] == ["-", "4ms", "4.2m", "-1.5s"]


@given(st.lists(st.floats(-1, 1e12), max_size=70), st.integers(0, 80), st.integers(1, 5), st.booleans())
def test_a_graph_has_its_size_and_a_greater_number_never_a_lower_bar(
    history: list[float], width: int, height: int, ascii_only: bool
) -> None:
    lines = graph(history, width, height, ascii_only=ascii_only)
    assert [len(one) for one in lines] == [width] * height
    newest = history[-width:] if width else []
    order = " _.:-=+*#" if ascii_only else " ▁▂▃▄▅▆▇█"
    bars = [sum(order.index(one[at - len(newest)]) for one in lines) for at in range(len(newest))]
    levels = [level for _, level in sorted(zip(newest, bars, strict=True))]
    assert levels == sorted(levels)
    assert all((bar > 1) == (number > 0) for number, bar in zip(newest, bars, strict=True))


def test_nothing_is_another_bar_than_little_and_the_newest_is_at_the_right() -> None:
    assert sparkline([0, 1, 100], 5, ascii_only=False) == "  ▁▂█"


@given(st.text(), st.integers(0, 30))
def test_cells_and_wrapped_lines_keep_their_width(text: str, width: int) -> None:
    assert cell_len(fit(text, width)) == width
    assert all(cell_len(one) <= max(2, width) for one in wrap(text, width))


def test_wrapped_text_is_whole() -> None:
    assert wrap("a bb cccccccc d", 4) == ["a bb", "cccc", "cccc", "d"]


@pytest.mark.parametrize(
    ("sent", "keys"),
    [
        (b"qj", ["q", "down"]),
        (b"\x1b[A\x1bOB\x1b[5~\x1b[6~", ["up", "down", "page up", "page down"]),
        (b"\r\n\x7f", ["enter", "enter", "escape"]),
        (b"\x1b[1;5A\x1b[200~\xff\x00x", ["x"]),
    ],
)
def test_keys_have_names_in_whatever_parts_they_come(sent: bytes, keys: list[str]) -> None:
    assert KeyReader().feed(sent) == keys
    reader = KeyReader()
    assert [key for byte in sent for key in reader.feed(bytes((byte,)))] == keys


def test_escape_is_a_key_once_nothing_follows_it() -> None:
    reader = KeyReader()
    assert (reader.feed(b"\x1b"), reader.waits) == ([], True)
    assert (reader.rest(), reader.waits) == (["escape"], False)
    assert (reader.feed(b"\x1b"), reader.feed(b"[A")) == ([], ["up"])
    assert (reader.feed(b"\x1b["), reader.rest(), reader.feed(b"q")) == ([], [], ["q"])


def test_a_sequence_that_never_ends_is_not_kept() -> None:
    reader = KeyReader()
    for _ in range(1000):
        reader.feed(b"\x1b[" + b"1;" * 100)
    reader.rest()
    assert reader.feed(b"q") == ["q"]


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:9883", Address("127.0.0.1", 9883)),
        ("http://edge.example/", Address("edge.example", 80)),
        ("http://[::1]:9883/plant-1/", Address("::1", 9883, "/plant-1")),
    ],
)
def test_a_url_says_where_the_gateway_is(url: str, address: Address) -> None:
    assert Address.of_url(url) == address
    assert Address.of_url(address.url) == address


@pytest.mark.parametrize(
    "url", ["", "a:9883", "https://a", "http://", "http://a:99999", "http://u:p@a", "http://a/?x", "http://a/\r\nX: y"]
)
def test_what_is_no_url_of_a_gateway_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        Address.of_url(url)


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:1", Address("127.0.0.1", 1)),
        ("0.0.0.0:2", Address("127.0.0.1", 2)),
        ("[::]:3", Address("::1", 3)),
        ("edge:4", Address("edge", 4)),
    ],
)
def test_a_configuration_says_where_its_gateway_is(tmp_path: Path, listen: str, address: Address) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f'gateway: a\nhttp: {{listen: "{listen}"}}\n{BRIDGES}')
    assert Address.of_config(config) == address


@asynccontextmanager
async def answering(response: Response) -> AsyncIterator[Address]:
    """Serve this as /status.json."""
    async with HttpServer(("127.0.0.1", 0), {"/status.json": lambda _accept: response}) as server:
        yield Address("127.0.0.1", server.address[1])


@asynccontextmanager
async def writing(data: bytes, *, then_close: bool = True) -> AsyncIterator[Address]:
    """Serve these bytes, whatever is asked."""

    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        with contextlib.suppress(OSError):
            if not then_close:
                await reader.read()
            writer.close()
            await writer.wait_closed()
        ended.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1])
        await ended.wait()


async def test_a_status_is_read() -> None:
    async with answering(Response(200, "application/json", orjson.dumps(STATES["delivering"]))) as address:
        found = await fetch(address)
    assert (found.gateway, [one.name for one in found.bridges]) == (
        "plant-1",
        ["readings", "alarms", "commands"],
    )


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (Response(200, "application/json", b"{}"), "no gateway's status: gateway: Field required"),
        (Response(200, "application/json", b"[1, \x1b"), "no gateway's status"),
        (Response(200, "application/json", orjson.dumps(HOSTILE)), "\\x1b[2J: Input should be a valid integer"),
        (Response(500, "text/plain", b""), "status 500"),
        (Response(200, "application/json", b"[" + b" " * MAX_BYTES + b"]"), f"more than {MAX_BYTES} bytes"),
    ],
)
async def test_an_answer_that_is_no_status_is_an_error_with_its_reason(response: Response, words: str) -> None:
    async with answering(response) as address:
        with pytest.raises(StatusError) as caught:
            await fetch(address)
    assert words in caught.value.reason
    assert caught.value.reason.isprintable()


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-1" + "0" * 40, "1e300", "1e999", "NaN"], ids=lambda n: n[:6])
@pytest.mark.parametrize("field", ["received", "delivered_bytes", "step", "oldest_unsettled", "decode_failed", "now"])
async def test_a_number_that_no_gateway_has_is_an_error_with_its_reason(field: str, number: str) -> None:
    document = orjson.dumps(status(bridge(dead_lettered={"decode_failed": 2}))).decode()
    body = re.sub(f'"{field}":[0-9.]+', f'"{field}":{number}', document)
    assert body != document
    async with answering(Response(200, "application/json", body.encode())) as address:
        with pytest.raises(StatusError, match=f"no gateway's status: .*{field}: "):
            await fetch(address)


async def test_a_server_that_has_no_such_page_is_told_from_one_that_is_away() -> None:
    async with HttpServer(("127.0.0.1", 0), {}) as server:
        with pytest.raises(StatusError, match=r"there is no /status\.json"):
            await fetch(Address("127.0.0.1", server.address[1]))
    with pytest.raises(StatusError, match="Connection refused"):
        await fetch(Address("127.0.0.1", free_port()))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"SSH-2.0-x\x1b[2J\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "not HTTP"),
        (b"", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000, "not HTTP"),
    ],
    ids=["other", "torn", "nothing", "endless"],
)
async def test_what_is_not_http_is_an_error_with_its_reason(data: bytes, words: str) -> None:
    async with writing(data) as address:
        with pytest.raises(StatusError) as caught:
            await fetch(address)
    assert words in caught.value.reason
    assert caught.value.reason.isprintable()


async def test_a_gateway_that_hangs_is_given_up() -> None:
    async with writing(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", then_close=False) as address:
        with pytest.raises(StatusError, match=r"nothing came within 0\.2 s"):
            await fetch(address, timeout=0.2)
