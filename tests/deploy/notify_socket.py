"""The end of NOTIFY_SOCKET at which systemd listens."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.wait import eventually


class NotifySocket:
    """Collects what a service says. name: for NOTIFY_SOCKET. said: the datagrams so far, each as its lines."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._said: list[list[str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(f"\0{name[1:]}" if name.startswith("@") else name)

    @property
    def said(self) -> list[list[str]]:
        while True:
            try:
                self._said.append(self._socket.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return self._said

    @property
    def lines(self) -> list[str]:
        """Every assignment, in the order in which they came."""
        return [line for datagram in self.said for line in datagram]

    async def until(self, start: str, since: int = 0) -> int:
        """Wait for an assignment that begins so, after the first `since`; return how many there were with it."""

        def found() -> int:
            places = (place for place, line in enumerate(self.lines) if place >= since and line.startswith(start))
            return next(places, -1) + 1

        await eventually(found, f"it says {start}", 30)
        return found()

    def close(self) -> None:
        """Be gone, as after a restart of the manager."""
        self._socket.close()


@contextmanager
def notify_socket(name: str | Path) -> Iterator[NotifySocket]:
    """Listen on a path, or on an abstract name that begins with `@`."""
    listener = NotifySocket(str(name))
    try:
        yield listener
    finally:
        listener.close()
