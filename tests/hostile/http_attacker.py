"""Bad clients of an HTTP port, as a process of its own: python -m tests.hostile.http_attacker PORT BEHAVIOUR CLIENTS.

It says "at it" once every client has been there, and goes on until it is killed. Each behaviour is what one client does
with one connection until that is cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sys
from collections.abc import Awaitable, Callable

GET = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def slow_headers(streams: Streams) -> None:
    streams[1].write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
    while True:
        streams[1].write(b"x")
        await streams[1].drain()
        await asyncio.sleep(0.5)


async def silence(streams: Streams) -> None:
    await streams[0].read()


async def half_open(streams: Streams) -> None:
    """Its end is closed for writing, in the middle of a request."""
    streams[1].write(GET[:30])
    streams[1].write_eof()
    await streams[0].read()


async def idle_after_an_answer(streams: Streams) -> None:
    streams[1].write(GET)
    await streams[0].read()


async def never_reading(streams: Streams) -> None:
    """It asks as often as it can, and reads no answer."""
    streams[1].transport.pause_reading()  # type: ignore[attr-defined]
    while True:
        streams[1].write(GET * 100)
        await streams[1].drain()


async def pipelining(streams: Streams) -> None:
    """It asks as often as it can, and reads every answer."""
    reading = asyncio.create_task(_drain(streams[0]))
    try:
        while not reading.done():
            streams[1].write(GET * 100)
            await streams[1].drain()
            await asyncio.sleep(0)
    finally:
        reading.cancel()


async def asking_again(streams: Streams) -> None:
    """It asks, reads the answer, and asks again, on one connection."""
    while True:
        await asking_anew(streams)


async def asking_anew(streams: Streams) -> None:
    """It asks, reads the answer, and is back at once with another connection."""
    streams[1].write(GET)
    head = await streams[0].readuntil(b"\r\n\r\n")
    await streams[0].readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))


async def endless_body(streams: Streams) -> None:
    streams[1].write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        streams[1].write(b"1000\r\n" + bytes(4096) + b"\r\n")
        await streams[1].drain()
        await asyncio.sleep(0)


async def reconnecting(streams: Streams) -> None:
    """It is cut, and back at once: the connecting is the attack."""
    await streams[0].read(1)


async def _drain(reader: asyncio.StreamReader) -> None:
    while await reader.read(65536):
        pass


BEHAVIOURS: dict[str, Callable[[Streams], Awaitable[None]]] = {
    behaviour.__name__: behaviour
    for behaviour in (
        slow_headers, silence, half_open, idle_after_an_answer, never_reading, pipelining, asking_again, asking_anew,
        endless_body, reconnecting,
    )
}  # fmt: skip


async def attack(port: int, behaviour: Callable[[Streams], Awaitable[None]], clients: int) -> None:
    """Run the clients; each comes again a second after it was cut, or at once where that is the attack."""
    at_once = behaviour in (reconnecting, asking_anew)
    been_there = 0

    async def client() -> None:
        nonlocal been_there
        first = True
        while True:
            with contextlib.suppress(OSError):
                streams = await asyncio.open_connection("127.0.0.1", port)
                been_there, first = been_there + first, False
                if been_there == clients:
                    print("at it", flush=True)
                    been_there += 1
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    await behaviour(streams)
                streams[1].transport.abort()
            await asyncio.sleep(0 if at_once else 1)

    await asyncio.gather(*(client() for _ in range(clients)))


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(attack(int(sys.argv[1]), BEHAVIOURS[sys.argv[2]], int(sys.argv[3])))
