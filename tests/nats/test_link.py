"""One connection to a server that a test scripts byte by byte, and to a real one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.nats.helpers import connection, events, ids, make_stream, only_these_tasks, refused
from tests.support.checker import nats_client
from tests.support.server import nats_server
from tests.support.wait import eventually
from tidegate.core import ConnectError
from tidegate.nats import Publisher, wire
from tidegate.nats.jetstream import ApiError, call, read_answer
from tidegate.nats.link import WRITE_AHEAD, Link, open_link

INFO = {"server_id": "fake", "headers": True, "max_payload": 1024 * 1024}
MANY = bytes(32 * 1024 * 1024)
"""More than the buffers of two sockets hold."""


class Command(NamedTuple):
    """A line of the client, as words, and the payload after it."""

    words: list[str]
    payload: bytes = b""


class Peer:
    """The server's side of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def write(self, data: bytes) -> None:
        """Write bytes as they are."""
        self._writer.write(data)

    def greet(self, **fields: object) -> None:
        """Send INFO."""
        self.write(b"INFO %b\r\n" % json.dumps({**INFO, **fields}).encode())

    async def accept(self, **fields: object) -> dict:
        """Greet, and take the login; return CONNECT's fields."""
        self.greet(**fields)
        connect = (await self._line()).removeprefix(b"CONNECT ")
        assert await self.command() == Command(["PING"])
        self.write(b"PONG\r\n")
        fields_of_connect: dict = json.loads(connect)
        return fields_of_connect

    async def command(self) -> Command:
        """Return the client's next command."""
        words = (await self._line()).decode().split()
        if words[0] not in ("PUB", "HPUB"):
            return Command(words)
        payload = await self.read(int(words[-1]) + 2)
        assert payload.endswith(b"\r\n")
        return Command(words, payload[:-2])

    async def request(self) -> Command:
        """Return the next command that publishes; SUB is passed over."""
        while (command := await self.command()).words[0] == "SUB":
            pass
        assert command.words[0] == "PUB"
        return command

    def answer(self, request: Command, payload: bytes, sid: int = 1) -> None:
        """Answer a request."""
        self.write(b"MSG %b %d %d\r\n%b\r\n" % (request.words[2].encode(), sid, len(payload), payload))

    async def read(self, size: int) -> bytes:
        """Return so many bytes."""
        async with asyncio.timeout(10):
            return await self._reader.readexactly(size)

    async def rest(self) -> bytes:
        """Return what the client still sends before it ends the connection."""
        received = b""
        async with asyncio.timeout(10):
            with suppress(ConnectionError):
                while data := await self._reader.read(65536):
                    received += data
        return received

    def cut(self) -> None:
        """Reset the connection."""
        self._writer.transport.abort()

    async def _line(self) -> bytes:
        async with asyncio.timeout(10):
            return (await self._reader.readuntil(b"\r\n"))[:-2]


class FakeServer:
    """Waits for connections, one after the other."""

    def __init__(self) -> None:
        self.port = 0
        self._waiting: asyncio.Queue[Peer] = asyncio.Queue()
        self._peers: list[Peer] = []

    def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle a connection."""
        self._peers.append(Peer(reader, writer))
        self._waiting.put_nowait(self._peers[-1])

    async def peer(self) -> Peer:
        """Return the next connection."""
        async with asyncio.timeout(10):
            return await self._waiting.get()

    async def connect(self, timeout: float = 10.0) -> Link:
        """Open a link to it."""
        return await open_link(f"nats://127.0.0.1:{self.port}", "test", lambda _nonce: {}, None, timeout)

    def close(self) -> None:
        """End every connection."""
        for peer in self._peers:
            peer.cut()


@asynccontextmanager
async def fake_server() -> AsyncIterator[FakeServer]:
    """Listen on a free port."""
    fake = FakeServer()
    server = await asyncio.start_server(fake.take, "127.0.0.1", 0)
    fake.port = server.sockets[0].getsockname()[1]
    try:
        yield fake
    finally:
        server.close()
        fake.close()


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[Link, Peer]]:
    """A link that is logged in, and the server's side of it."""
    async with fake_server() as server:
        connecting = asyncio.create_task(server.connect())
        peer = await server.peer()
        await peer.accept()
        link = await connecting
        try:
            yield link, peer
        finally:
            link.fail("the test is over")
            await ended(link)


async def ended(link: Link) -> str:
    """Wait until a link has ended, and return why."""
    async with asyncio.timeout(10):
        return await asyncio.shield(link.ended)


async def refusal(greeting: bytes, *, timeout: float = 10.0, then_cut: bool = False) -> tuple[str, bytes]:
    """Greet a client with bytes; return why it does not want this server, and what it sent."""
    async with fake_server() as server:
        connecting = asyncio.create_task(server.connect(timeout))
        peer = await server.peer()
        peer.write(greeting)
        if then_cut:
            peer.cut()
        with pytest.raises(ConnectError) as caught:
            await connecting
        assert caught.value.endpoint == f"nats://127.0.0.1:{server.port}"
        return caught.value.reason, await peer.rest()


def info(**fields: object) -> bytes:
    """Return an INFO."""
    return b"INFO %b\r\n" % json.dumps({**INFO, **fields}).encode()


def ask(link: Link, text: str = "?", timeout: float = 10.0) -> asyncio.Task[wire.Answer]:
    """Start a request."""
    return asyncio.create_task(link.request(lambda to: wire.encode_request("a", to, text.encode()), timeout))


async def still_works(link: Link, peer: Peer) -> None:
    """See that a request is answered."""
    asking = ask(link, "and now?")
    request = await peer.request()
    assert request.payload == b"and now?"
    peer.answer(request, b"yes")
    assert (await asking).payload == b"yes"


# Requests


async def test_a_request_gets_its_answer() -> None:
    async with linked() as (link, peer):
        asking = ask(link, "a\r\nb")
        subscription, request = await peer.command(), await peer.request()
        assert request.payload == b"a\r\nb"
        assert subscription.words[0] == "SUB"
        assert request.words[2].startswith(subscription.words[1].removesuffix("*"))
        peer.answer(request, b"c\r\nd", int(subscription.words[2]))
        answer = await asking
        assert (answer.status, answer.payload) == (0, b"c\r\nd")
        await still_works(link, peer)


async def test_requests_at_the_same_time_get_each_its_own_answer_in_whatever_order_they_come() -> None:
    async with linked() as (link, peer):
        asking = [ask(link, str(number)) for number in range(50)]
        requests = [await peer.request() for _ in asking]
        for request in sorted(requests, key=lambda request: request.payload[::-1], reverse=True):
            peer.answer(request, b"answer to " + request.payload)
        answers = await asyncio.gather(*asking)
        assert [answer.payload for answer in answers] == [b"answer to %d" % number for number in range(50)]
        assert not link._requests


async def test_a_second_answer_is_passed_over() -> None:
    async with linked() as (link, peer):
        asking = ask(link)
        request = await peer.request()
        peer.answer(request, b"first")
        peer.answer(request, b"second")
        assert (await asking).payload == b"first"
        await still_works(link, peer)


async def test_a_request_whose_connection_ends_fails_and_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()
    async with linked() as (link, peer):
        asking = [ask(link) for _ in range(3)]
        for _ in asking:
            await peer.request()
        peer.cut()
        for one in asking:
            with pytest.raises(ConnectError) as caught:
                await one
            assert caught.value.reason == "closed by the server"
        assert not link._requests
    await only_these_tasks(before)


async def test_a_request_on_a_connection_that_has_ended_fails_at_once() -> None:
    async with linked() as (link, peer):
        peer.cut()
        await ended(link)
        with pytest.raises(ConnectError, match="closed by the server"):
            await asyncio.wait_for(ask(link, timeout=60), 5)
        assert not link._requests


async def test_a_request_that_nobody_answers_fails_leaves_nothing_behind_and_its_late_answer_is_passed_over() -> None:
    async with linked() as (link, peer):
        asking = ask(link, timeout=0.05)
        late = await peer.request()
        with pytest.raises(ConnectError) as caught:
            await asking
        assert caught.value.reason == "no answer within 0.05 s"
        assert not link._requests
        peer.answer(late, b"late")
        await still_works(link, peer)


async def test_a_request_that_is_cancelled_leaves_nothing_behind() -> None:
    async with linked() as (link, peer):
        asking = ask(link)
        await peer.request()
        asking.cancel()
        await asyncio.wait([asking])
        assert not link._requests
        await still_works(link, peer)


async def test_no_responders_is_an_answer_with_its_status(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server, connection(server.port) as to:
        link = await to.ready()
        answer = await link.request(lambda reply: wire.encode_request("nobody.there", reply, b""), 10)
        assert (answer.status, answer.payload) == (wire.NO_RESPONDERS, b"")
        assert (await call(link, "INFO"))["type"] == "io.nats.jetstream.api.v1.account_info_response"


@pytest.mark.parametrize("payload", [b"", b"ok", b"[]", b"1", b"\xff", b"{", b"[" * 100_000], ids=lambda p: repr(p[:5]))
def test_an_answer_that_is_not_jetstreams_is_an_api_error(payload: bytes) -> None:
    with pytest.raises(ApiError, match="not JetStream's"):
        read_answer(wire.Answer(1, b"1", 0, payload))


# Inboxes


async def test_pubacks_come_in_runs_where_they_are_wanted_and_one_by_one_where_not() -> None:
    async with linked() as (link, peer):
        tokens: list[bytes] = []
        answers: list[wire.Answer] = []
        fast = link.open_inbox(answers.append, tokens.extend)
        slow = link.open_inbox(answers.append)
        plain = b'{"stream":"S","seq":1}'
        for inbox in (fast, slow):
            for token in ("1", "2"):
                peer.answer(Command(["", "", inbox.prefix + token]), plain, inbox.sid)
            peer.answer(Command(["", "", inbox.prefix + "3"]), b"else", inbox.sid)
        await eventually(lambda: len(answers) == 4)
        assert tokens == [b"1", b"2"]
        assert [(answer.sid, answer.token) for answer in answers] == [
            (fast.sid, b"3"),
            (slow.sid, b"1"),
            (slow.sid, b"2"),
            (slow.sid, b"3"),
        ]


async def test_answers_to_an_inbox_that_was_closed_are_passed_over() -> None:
    async with linked() as (link, peer):
        heard: list[object] = []
        inbox = link.open_inbox(heard.append, heard.append)
        assert (await peer.command()).words == ["SUB", f"{inbox.prefix}*", str(inbox.sid)]
        link.close_inbox(inbox)
        assert (await peer.command()).words == ["UNSUB", str(inbox.sid)]
        for payload in (b'{"stream":"S","seq":1}', b"late"):
            peer.answer(Command(["", "", f"{inbox.prefix}1"]), payload, inbox.sid)
        flushing = asyncio.create_task(link.flushed(10))
        assert await peer.command() == Command(["PING"])
        peer.write(b"PONG\r\n")
        await flushing
        assert heard == []


async def test_an_answer_that_is_not_jetstreams_never_ends_the_connection_and_settles_nothing() -> None:
    """Whoever may subscribe to a subject sees the reply subjects, and may answer with anything."""
    answers = [
        b"",
        b"null",
        b"[" * 100_000,
        b'{"error":{"code":[1]}}',
        b'{"error":{"code":400,"err_code":{}}}',
        b'{"error":"no"}',
        b'{"stream":"S\r\nPING\r\n","seq":1',
    ]
    plain = b'{"stream":"S","seq":1}'
    async with fake_server() as server, connection(server.port) as to, Publisher(to, "up") as publisher:
        peer = await server.peer()
        await peer.accept()
        outcome = await publisher.send(events(1))
        sid = 0
        while (command := await peer.command()).words[0] != "HPUB":
            sid = int(command.words[2]) if command.words[0] == "SUB" else sid
        for answer in answers:
            peer.answer(command, answer, sid)
        heard: list[str] = []
        to.on_error.append(heard.append)
        peer.write(b"-ERR 'all of them are read'\r\n")
        await eventually(lambda: heard)
        assert not outcome.done()
        peer.answer(command, plain, sid)
        assert await refused([outcome], 10) == []
        assert (to.connects, to.up) == (1, True)
        peer.cut()


# Logging in


async def test_it_says_who_it_is_and_that_it_wants_headers() -> None:
    async with fake_server() as server:
        connecting = asyncio.create_task(server.connect())
        connect = await (await server.peer()).accept()
        assert {name: connect[name] for name in ("name", "headers", "no_responders", "verbose", "echo")} == {
            "name": "test",
            "headers": True,
            "no_responders": True,
            "verbose": False,
            "echo": False,
        }
        await (await connecting).close(0)


async def test_a_server_without_headers_is_refused_and_nothing_is_sent_to_it() -> None:
    for greeting in (info(headers=False), b"INFO {}\r\n"):
        reason, sent = await refusal(greeting)
        assert "does not support headers" in reason
        assert sent == b""


async def test_a_server_that_requires_tls_where_none_is_configured_is_refused_by_name() -> None:
    reason, sent = await refusal(info(tls_required=True))
    assert "wants TLS" in reason
    assert "nats.tls" in reason
    assert sent == b""


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is this a NATS server?"),
        (b"\x00\xff\r\n", "is this a NATS server?"),
        (b"INFO nothing\r\n", "not JSON"),
        (b"INFO []\r\n", "not an object"),
        (b'INFO {"max_payload": "x"}\r\n', "makes no sense"),
        (b'INFO {"nonce": 7}\r\n', "makes no sense"),
        (b"x" * 200_000, "without an end"),
        (b"MSG a 1 -1\r\n", "malformed"),
        (info() + b"220 smtp.example.com ESMTP\r\n", "is this a NATS server?"),
        (info() + b"-ERR 'Authorization Violation'\r\n-ERR 'Stale'\r\nx\r\n", "Authorization Violation"),
    ],
    ids=["http", "binary", "INFO", "INFO list", "payload", "nonce", "no end", "malformed", "garbage", "an error"],
)
async def test_a_server_that_sends_garbage_is_refused_with_a_clear_text(greeting: bytes, words: str) -> None:
    reason, _ = await refusal(greeting)
    assert words in reason
    assert len(reason) < 300


async def test_a_server_that_ends_the_connection_or_says_nothing_is_refused() -> None:
    assert (await refusal(b"", then_cut=True))[0] == "closed by the server"
    assert (await refusal(b"", timeout=0.1))[0] == "no connection within 0.1 s"
    assert (await refusal(info(), timeout=0.1))[0] == "no connection within 0.1 s"


async def test_a_login_while_another_error_is_handled_stands() -> None:
    async with fake_server() as server:
        connecting = asyncio.create_task(_after_an_error(server))
        peer = await server.peer()
        await peer.accept()
        link = await connecting
        await still_works(link, peer)
        link.fail("the test is over")
        await ended(link)


async def _after_an_error(server: FakeServer) -> Link:
    try:
        raise ConnectError("the first server", "it is away")
    except ConnectError:
        return await server.connect()


# While it lasts


async def test_garbage_after_the_login_ends_the_connection_and_says_so() -> None:
    async with linked() as (link, peer):
        asking = ask(link)
        await peer.request()
        peer.write(b"MSG a 1 99999999999\r\n")
        with pytest.raises(ConnectError, match="malformed message line"):
            await asking
        assert "malformed message line" in await ended(link)


async def test_a_ping_of_the_server_is_answered() -> None:
    async with linked() as (_, peer):
        for piece in (b"PI", b"NG\r", b"\nPING\r\n"):
            peer.write(piece)
        assert [await peer.command(), await peer.command()] == [Command(["PONG"])] * 2


async def test_each_pong_is_for_the_oldest_ping_and_one_too_many_is_passed_over() -> None:
    async with linked() as (link, peer):
        first, second = link.ping(), link.ping()
        peer.write(b"PONG\r\n")
        await asyncio.wait_for(first, 10)
        assert not second.done()
        peer.write(b"PONG\r\nPONG\r\n")
        await asyncio.wait_for(second, 10)
        assert [(await peer.command()).words for _ in range(2)] == [["PING"]] * 2
        await still_works(link, peer)


async def test_flushing_a_server_that_does_not_answer_fails() -> None:
    async with linked() as (link, peer):
        with pytest.raises(ConnectError, match=r"no answer within 0\.05 s"):
            await link.flushed(0.05)
        flushing = asyncio.create_task(link.flushed(10))
        peer.write(b"PONG\r\n")
        assert [(await peer.command()).words for _ in range(2)] == [["PING"]] * 2
        assert not flushing.done()
        peer.cut()
        with pytest.raises(ConnectError, match="closed by the server"):
            await flushing


async def test_errors_and_news_of_the_server_are_heard() -> None:
    async with linked() as (link, peer):
        heard: list[str] = []
        link.on_error = heard.append
        assert link.max_payload == 1024 * 1024
        peer.write(b"-ERR 'Permissions Violation for Publish to \"a\"'\r\n" + info(max_payload=2048))
        await eventually(lambda: link.max_payload == 2048)
        assert heard == ['Permissions Violation for Publish to "a"']
        await still_works(link, peer)


async def test_writable_waits_while_the_server_does_not_read() -> None:
    async with linked() as (link, peer):
        await link.writable()
        link.write(MANY)
        waiting = asyncio.create_task(link.writable())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not waiting.done()
        assert link.unsent > WRITE_AHEAD
        assert await peer.read(len(MANY)) == MANY
        await asyncio.wait_for(waiting, 10)
        assert link.unsent <= WRITE_AHEAD


@pytest.mark.parametrize("by_server", [True, False], ids=["by the server", "by us"])
async def test_writable_returns_when_the_connection_ends(by_server: bool) -> None:
    async with linked() as (link, peer):
        link.write(MANY)
        waiting = asyncio.create_task(link.writable())
        peer.cut() if by_server else link.fail("enough")
        await asyncio.wait_for(waiting, 10)
        assert await ended(link) == ("closed by the server" if by_server else "enough")
        link.write(b"into nothing")
        await asyncio.wait_for(link.writable(), 10)
        assert link.unsent == 0


# Closing


async def test_closing_waits_until_the_server_has_read_what_was_written() -> None:
    async with linked() as (link, peer):
        link.write(MANY)
        closing = asyncio.create_task(link.close(10))
        assert await peer.read(len(MANY)) == MANY
        assert await peer.command() == Command(["PING"])
        assert not closing.done()
        assert not link.ended.done()
        peer.write(b"PONG\r\n")
        await closing
        assert (await ended(link), await peer.rest()) == ("closed", b"")


async def test_closing_does_not_wait_long_for_a_server_that_reads_nothing() -> None:
    async with linked() as (link, _):
        link.write(MANY)
        await asyncio.wait_for(link.close(0.05), 10)
        assert await ended(link) == "closed"


async def test_closing_what_has_ended_is_done_at_once_and_keeps_the_reason() -> None:
    async with linked() as (link, peer):
        peer.cut()
        await ended(link)
        await asyncio.wait_for(link.close(60), 5)
        assert await ended(link) == "closed by the server"


async def test_everything_written_before_closing_is_stored(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server, nats_client(server.port) as client:
        await make_stream(server.port)
        link = await open_link(f"nats://127.0.0.1:{server.port}", "test", lambda _nonce: {}, None, 10)
        sent = events(2000)
        link.write(wire.encode_events(sent, [""] * len(sent)))
        await link.close(10)
        info_of = client.jetstream().stream_info

        async def complete() -> bool:
            return (await info_of("SENSORS")).state.messages == len(set(ids(sent)))

        await eventually(complete)
