"""A NATS subscriber that reads numbers and send times straight from the socket's bytes.

    python -m tests.benchmarks.subscriber PORT --count 10000

It is as cheap as a Python process can be, so that it is never what limits a contender: one clock reading and one
regular expression for each read, whatever format the payload is wrapped in.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator

from tests.benchmarks.statistic import percentile

SUBJECT = "plant.sensors.>"

# Quotes may be escaped, where a contender puts the payload into a string. The comma shows that the number is whole.
_MARK = re.compile(rb'seq\\*":(\d+),\\*"sent\\*":(\d{19})')
_LONGEST = 64  # bytes of a mark, at most
_DIGITS = 19  # of a send time
_EPOCH = 10 ** (_DIGITS - 1)  # the leading digit that gives a send time its fixed width

Read = tuple[int, list[tuple[bytes, bytes]]]


def subscribe(port: int, subject: str) -> socket.socket:
    """Return a socket on which the server sends what comes on this subject, from now on."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(b'CONNECT {"verbose":false,"headers":true}\r\nSUB %s 1\r\nPING\r\n' % subject.encode())
    answer = b""
    while b"PONG\r\n" not in answer:
        answer += sock.recv(65_536)
        if b"-ERR" in answer:
            raise ConnectionError(answer.decode())
    return sock


def marks(sock: socket.socket, idle: float) -> Iterator[Read]:
    """Yield each read's time (monotonic nanoseconds) and its messages' numbers and send times; end when idle.

    The server's PINGs stay unanswered: it gives up after six minutes, which no run lasts.
    """
    sock.settimeout(idle)
    rest = b""
    while True:
        try:
            data = sock.recv(1 << 18)
        except TimeoutError:
            return
        now = time.monotonic_ns()
        if not data:
            raise ConnectionError("nats-server closed the connection: the subscriber was too slow")
        data = rest + data
        found = _MARK.findall(data)
        # What follows the last mark may be the start of another; a mark itself must not be seen twice.
        done = data.rfind(found[-1][1]) + _DIGITS if found else 0
        rest = data[max(done, len(data) - _LONGEST) :]
        yield now, found


def collect(sock: socket.socket, count: int, idle: float) -> list[Read]:
    """Return the reads until so many messages came, or none came for `idle` seconds."""
    reads: list[Read] = []
    seen = 0
    for now, found in marks(sock, idle):
        if found:
            reads.append((now, found))
            seen += len(found)
        if seen >= count:
            break
    return reads


def tally(reads: list[Read], count: int) -> tuple[int, int]:
    """Return how many of the numbers 0 to count - 1 are missing, and how many copies are too many."""
    copies = Counter(int(number) for _, found in reads for number, _ in found)
    return len(set(range(count)) - copies.keys()), copies.total() - len(copies)


def summary(reads: list[Read], count: int) -> dict[str, float]:
    """Return times (seconds), losses, and the delays' percentiles (milliseconds)."""
    lost, doubled = tally(reads, count)
    delays = sorted((now - (int(sent) - _EPOCH)) / 1e6 for now, found in reads for _, sent in found)
    times = {"first": reads[0][0] / 1e9, "last": reads[-1][0] / 1e9} if reads else {"first": 0.0, "last": 0.0}
    points = {"p50": percentile(delays, 50), "p99": percentile(delays, 99), "p999": percentile(delays, 99.9)}
    return {**times, **points, "lost": lost, "doubled": doubled}


def main() -> None:
    """Subscribe, say so, collect, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--idle", type=float, default=10.0, help="seconds without a message that end it")
    options = parser.parse_args()
    with subscribe(options.port, SUBJECT) as sock:
        print("ready", flush=True)
        print(json.dumps(summary(collect(sock, options.count, options.idle), options.count)), flush=True)


if __name__ == "__main__":
    main()
