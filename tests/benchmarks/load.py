"""The load: a device that sends packets encoded before the clock starts, as a process of its own.

    python -m tests.benchmarks.load PORT --count 100000 --qos 1

It uses a blocking socket, so that its own cost is little more than the kernel's, and prints one JSON object at the end:
when it began and ended (monotonic seconds) and the processor time that it took meanwhile.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import time
from collections.abc import Iterator

from tests.support.generator import packet, publish_packet, text

WINDOW = 2000
"""PUBLISH packets without a PUBACK at QoS 1: enough to keep any broker busy."""

_CHUNK = 100  # packets in one write
_ACK = 4  # bytes of a PUBACK in its short form


def topic(number: int, topics: int) -> bytes:
    """Return a message's topic: each device is one topic, and they take turns."""
    device = number % topics
    return f"sensors/site{device // 100}/d{device}/reading".encode()


def payload(number: int, size: int) -> bytes:
    """Return a numbered JSON reading of this size."""
    start = b'{"seq":%d,"sent":1%018d,"t":21.5,"pad":"' % (number, 0)
    return start + b"x" * (size - len(start) - 2) + b'"}'


def chunks(count: int, qos: int, protocol: str, size: int, topics: int) -> Iterator[bytes]:
    """Yield packets, encoded, a hundred at a time."""
    properties = b"" if protocol == "5" else None
    for first in range(0, count, _CHUNK):
        yield b"".join(
            publish_packet(topic(n, topics), payload(n, size), qos, n % 65_535 + 1, 0, properties)
            for n in range(first, min(first + _CHUNK, count))
        )


def connect(port: int, protocol: str, name: str) -> socket.socket:
    """Return a socket with a CONNACK behind it."""
    level, properties = (b"\x05", b"\x00") if protocol == "5" else (b"\x04", b"")
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(packet(0x10, text(b"MQTT") + level + b"\x02\x00\x78" + properties + text(name.encode())))
    head = sock.recv(2, socket.MSG_WAITALL)
    connack = sock.recv(head[1], socket.MSG_WAITALL)
    if head[0] != 0x20 or connack[1]:
        raise SystemExit(f"the broker refused the connection: {connack.hex()}")
    return sock


def send(sock: socket.socket, packets: list[bytes], count: int, qos: int) -> None:
    """Send everything, and return once it is acknowledged."""
    sent = acknowledged = 0
    for data in packets:
        sock.sendall(data)
        sent = min(sent + _CHUNK, count)
        while qos and sent - acknowledged // _ACK > WINDOW:
            acknowledged += len(sock.recv(65_536))
    while qos and acknowledged < count * _ACK:
        acknowledged += len(sock.recv(65_536))


def main() -> None:
    """Encode, wait for a line on standard input, send, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--qos", type=int, choices=(0, 1), default=1)
    parser.add_argument("--protocol", choices=("5", "3.1.1"), default="5")
    parser.add_argument("--size", type=int, default=100, help="bytes of a payload")
    parser.add_argument("--topics", type=int, default=100)
    options = parser.parse_args()
    packets = list(chunks(options.count, options.qos, options.protocol, options.size, options.topics))
    with connect(options.port, options.protocol, "load") as sock:
        print("ready", flush=True)
        sys.stdin.readline()
        start, cpu = time.monotonic(), time.process_time()
        send(sock, packets, options.count, options.qos)
        print(json.dumps({"start": start, "end": time.monotonic(), "cpu": time.process_time() - cpu}), flush=True)
        sock.sendall(b"\xe0\x00")


if __name__ == "__main__":
    main()
