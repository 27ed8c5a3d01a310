"""The paced load: a device that sends on an absolute schedule and writes the time of sending into each message.

    python -m tests.benchmarks.sender PORT --pace 1000 --count 10000

It waits for a line on standard input, and prints one JSON object at the end: by how much it was late (milliseconds).
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import time

from tests.benchmarks.load import connect, payload, topic
from tests.benchmarks.statistic import percentile
from tests.support.generator import publish_packet

_KEY = b'"sent":1'
_DIGITS = 18  # of a send time, after the leading 1 of its key


def encode(number: int) -> tuple[bytearray, int]:
    """Return a packet of the base job, and where its send time is."""
    packet = bytearray(publish_packet(topic(number, 100), payload(number, 100), 1, number % 65_535 + 1, 0, b""))
    return packet, packet.index(_KEY) + len(_KEY)


def send(sock: socket.socket, packets: list[tuple[bytearray, int]], pace: int) -> list[float]:
    """Send each packet when it is due, and everything that is due at once; return the delays in milliseconds."""
    start = time.monotonic()
    late: list[float] = []
    sent = 0
    while sent < len(packets):
        time.sleep(max(0.0, start + sent / pace - time.monotonic()))
        due = min(len(packets), int((time.monotonic() - start) * pace) + 1)
        late.append((time.monotonic() - start - sent / pace) * 1000)
        stamp = b"%018d" % time.monotonic_ns()
        for packet, place in packets[sent:due]:
            packet[place : place + _DIGITS] = stamp
        sock.sendall(b"".join(packet for packet, _ in packets[sent:due]))
        sent = due
        _discard_acknowledgements(sock)
    return late


def _discard_acknowledgements(sock: socket.socket) -> None:
    try:
        while sock.recv(65_536, socket.MSG_DONTWAIT):
            pass
    except BlockingIOError:
        return


def main() -> None:
    """Encode, wait for a line on standard input, send, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("--pace", type=int, required=True, help="messages a second")
    parser.add_argument("--count", type=int, required=True)
    options = parser.parse_args()
    packets = [encode(number) for number in range(options.count)]
    with connect(options.port, "5", "sender") as sock:
        print("ready", flush=True)
        sys.stdin.readline()
        late = sorted(send(sock, packets, options.pace))
        print(json.dumps({"late": percentile(late, 99)}), flush=True)
        sock.sendall(b"\xe0\x00")


if __name__ == "__main__":
    main()
