"""One connection, kept up for ever."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tests.nats.helpers import connection, error_of, events, make_stream, only_these_tasks, open_files, refused
from tests.support.proxy import proxy
from tests.support.server import nats_server
from tests.support.wait import eventually
from tidegate.app.embedded import free_port
from tidegate.nats import Publisher


async def test_it_connects_once_a_server_that_was_not_there_comes(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server:
        await server.stop()
        async with connection(server.port) as link:
            assert str(server.port) in await error_of(link)
            assert (link.up, link.connects, link.reconnects) == (False, 0, 0)
            await server.start()
            assert not (await asyncio.wait_for(link.ready(), 15)).ended.done()
            assert (link.up, link.last_error, link.connects, link.reconnects) == (True, None, 1, 0)


async def test_it_comes_back_after_a_restart_and_says_why_it_was_gone(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server, connection(server.port) as link:
        first = await link.ready()
        await server.kill()
        await asyncio.wait_for(link.gone(), 15)
        assert await error_of(link)
        await server.start()
        assert await asyncio.wait_for(link.ready(), 15) is not first
        assert (link.up, link.last_error, link.connects, link.reconnects) == (True, None, 2, 1)


async def test_where_nothing_answers_it_tries_less_and_less_often() -> None:
    async with _listener() as (port, attempts), connection(port) as link:
        await eventually(lambda: len(attempts) >= 5, "it tries again and again", 30)
        assert link.connects == 0
        pauses = [later - earlier for earlier, later in pairwise(attempts)]
        assert max(pauses[2:]) > 2 * pauses[0]
        assert link.last_error


@asynccontextmanager
async def _listener() -> AsyncIterator[tuple[int, list[float]]]:
    """Accept connections, note when, and close them at once."""
    attempts: list[float] = []

    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        attempts.append(time.monotonic())
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], attempts
    finally:
        server.close()


async def test_a_server_that_accepts_and_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with connection(silent.getsockname()[1], connect_timeout=0.2) as link:
            assert await error_of(link)


async def test_a_line_that_the_server_can_not_read_costs_a_connection_and_no_more(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server, connection(server.port) as link:
        first = await link.ready()
        first.write(b"PUB " + b"x" * 5000 + b" 0\r\n\r\n")
        await eventually(lambda: link.connects == 2 and link.up, "there is a new connection")
        assert first.ended.done()
        await (await link.ready()).flushed(5)


async def test_with_several_servers_the_first_that_is_there_is_used(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server, connection(free_port(), free_port(), server.port) as link:
        assert (await asyncio.wait_for(link.ready(), 15)).url.endswith(f":{server.port}")


async def test_an_error_of_the_server_reaches_every_listener(tmp_path: Path) -> None:
    extra = "authorization {users: [{user: u, password: p, permissions: {publish: {deny: x}}}]}\nno_auth_user: u"
    async with nats_server(tmp_path, extra) as server, connection(server.port) as link:
        seen: list[str] = []
        link.on_error.append(seen.append)
        (await link.ready()).write(b"PUB x 0\r\n\r\n")
        await eventually(lambda: seen)
        assert "permissions violation for publish" in seen[0].lower()
        assert "permissions violation for publish" in str(link.last_error).lower()
        assert link.up


async def test_closing_leaves_no_task_and_no_file_wherever_it_is(tmp_path: Path) -> None:
    """Connected, connecting, refused, and in the pause between two tries."""
    async with nats_server(tmp_path) as server:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            before, files = asyncio.all_tasks(), open_files()
            for port in (server.port, silent.getsockname()[1], free_port()):
                for steps in range(0, 12, 3):
                    async with connection(port, connect_timeout=1.0):
                        for _ in range(steps):
                            await asyncio.sleep(0)
                async with asyncio.timeout(10):
                    async with connection(port, connect_timeout=0.1) as link:
                        await eventually(lambda: link.up or link.last_error)
            await only_these_tasks(before)
            await eventually(lambda: open_files() <= files, "no file is left")


@pytest.mark.slow
async def test_tasks_and_files_do_not_grow_over_30_cuts(tmp_path: Path) -> None:
    """F11, in short: it flaps while publishing."""
    async with nats_server(tmp_path) as server, proxy(server.port) as faulty:
        await make_stream(server.port)
        async with connection(faulty.port) as link, Publisher(link, "up") as publisher:
            await refused([await publisher.send(events(10))])
            tasks, files = len(asyncio.all_tasks()), open_files()
            futures = []
            for cut in range(30):
                futures.append(await publisher.send(events(100, 10 + cut * 100)))
                faulty.cut()
                await eventually(lambda: link.connects == cut + 2 and link.up, "it is back")  # noqa: B023
            assert await refused(futures) == []
            await eventually(lambda: len(asyncio.all_tasks()) <= tasks, "no more tasks than before")
            await eventually(lambda: open_files() <= files, "no more files than before")
            assert link.reconnects == 30
