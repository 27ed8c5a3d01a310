"""What a service manager is told of the gateway: sd_notify(3), datagrams to the socket that systemd names."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Mapping
from typing import Self

from tidegate.app.gateway import Gateway

log = logging.getLogger(__name__)

_LOOK_EVERY = 1.0
"""Seconds between two looks at the gateway. What it says of itself is made of many parts, none of which tells of a
change; a look costs some microseconds."""

_LONGEST_STATUS = 1000
"""Characters. systemd passes over a whole datagram of more than 4096 bytes."""


class Notifier:
    """Tells $NOTIFY_SOCKET what the gateway is at. Use as `async with`; without the variable it does nothing.

    Each datagram is the whole truth (`READY=1` and the status line), and is sent when that has changed; so nothing is
    queued, and one that could not be sent is made up for at the next look. The watchdog is fed while data can move.
    That NATS or the broker is away is no reason to starve it: a restart would not bring them back. A socket that does
    not take datagrams is logged once, and harms nothing.
    """

    def __init__(self, gateway: Gateway, environment: Mapping[str, str] = os.environ) -> None:
        self._gateway = gateway
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._feed_every = _watchdog(environment)
        self._fed = 0.0
        self._state = ""
        self._status: str | None = "starting"
        self._said = ""
        self._works = True
        self._socket: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._address is not None:
            try:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            except OSError as error:
                log.warning("notify: the service manager can't be told: %s", error.strerror)
                return self
            self._tell()
            self._task = asyncio.create_task(self._run(), name="notify")
            self._task.add_done_callback(self._on_end)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._task is not None and self._socket is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._socket.close()

    def ready(self) -> None:
        """Say that it runs, and from now on how."""
        self._set("READY=1\n", None)

    def reloading(self) -> None:
        """Say that the configuration is read again; `ready` ends that, however it went."""
        self._set(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}\n", "reading the configuration again")

    def stopping(self, in_flight: int) -> None:
        """Say that it ends. in_flight: the messages that this waits for."""
        self._set("STOPPING=1\n", f"stopping: {in_flight} messages in flight")

    def _set(self, state: str, status: str | None) -> None:
        self._state, self._status = state, status
        self._tell()

    async def _run(self) -> None:
        """Look until cancelled. Only a defect ends it."""
        period = min(_LOOK_EVERY, self._feed_every or _LOOK_EVERY)
        while True:
            self._tell()
            self._feed()
            await asyncio.sleep(period)

    def _tell(self) -> None:
        if self._socket is None:
            return
        status = status_of(self._gateway) if self._status is None else self._status
        text = f"{self._state}STATUS={status}"
        if text != self._said and self._send(text):
            self._said = text

    def _feed(self) -> None:
        now = time.monotonic()
        if self._feed_every is None or now - self._fed < self._feed_every:
            return
        if not self._gateway.failed.done() and self._gateway.stalled is None and self._send("WATCHDOG=1"):
            self._fed = now

    def _send(self, text: str) -> bool:
        assert self._socket is not None
        assert self._address is not None
        try:
            self._socket.sendto(text.encode(errors="replace"), self._address)
        except OSError as error:
            if self._works:
                log.warning("notify: the service manager can't be told: %s", error.strerror or error)
            self._works = False
        else:
            self._works = True
        return self._works

    def _on_end(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._gateway.failed.done():
            self._gateway.failed.set_exception(error)


def status_of(gateway: Gateway) -> str:
    """Return what a gateway does now, as one line."""
    if gateway.stalled is not None:
        status = f"stuck: {gateway.stalled}"
    elif problems := gateway.problems:
        status = f"stuck: {'; '.join(problems)}"
    elif (away := gateway.away) is not None:
        status = f"spooling: {away}"
    else:
        status = "delivering"
    if not gateway.last_reload_successful:
        status = f"the last reload failed; {status}"
    # A peer's words may be in it, and a line end would begin another assignment.
    return "".join(char if char.isprintable() else " " for char in status)[:_LONGEST_STATUS]


def _address(name: str) -> str | None:
    """Return a socket's address: a path, or `@` and a name in Linux's abstract namespace."""
    if name.startswith("@"):
        return f"\0{name[1:]}"
    if name and not name.startswith("/"):
        log.warning("notify: NOTIFY_SOCKET is neither a path nor an abstract name; nothing is told")
        return None
    return name or None


def _watchdog(environment: Mapping[str, str]) -> float | None:
    """Return the seconds between two signs of life, half of what the manager waits for; None if none are wanted."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    with contextlib.suppress(ValueError):
        if (wait := int(environment.get("WATCHDOG_USEC", ""))) > 0:
            return wait / 2_000_000
    return None
