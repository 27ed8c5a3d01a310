"""Messages of a consumer, pulled as there is room for them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NamedTuple, Self

import nats.js.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import Header

from tidegate.client.connection import Client
from tidegate.client.consumer import Consumer, ConsumerSpec, ensure_consumer
from tidegate.client.delivery import NATS_ERRORS, tell
from tidegate.client.ending import end
from tidegate.core import Backoff

log = logging.getLogger(__name__)

_EXPIRES = 30.0
_HEARTBEAT = 5.0
_SILENCE = 2.5 * _HEARTBEAT
"""Seconds after which a server that should have sent heartbeats is believed to have forgotten the request."""

_ALIVE, _EXPIRED = "100", "408"

_DRAIN_TIMEOUT = 2.0
_NANOSECONDS = 10**9


class GivenUp(NamedTuple):
    """What a MAX_DELIVERIES advisory says."""

    stream: str
    sequence: int
    deliveries: int


class Pull:
    """Use as `async with`. Whoever calls `next` has room for one message, and only as many are asked for: none waits
    here while another process could work on it.

    consumer: once it is known to be there. hands: messages that were delivered and are not `done` yet, the sequence of
    each by its reply subject; every third of `ack_wait` the server is told that they are worked on. on_given_up: called
    with what the server will not deliver again, where the consumer was given a limit of its own; one process hears of
    each.
    """

    def __init__(
        self, client: Client, spec: ConsumerSpec, on_given_up: Callable[[Pull, GivenUp], Awaitable[None]]
    ) -> None:
        self.spec = spec
        self.consumer: Consumer | None = None
        self.hands: dict[str, int] = {}
        self._client = client
        self._on_given_up = on_given_up
        self._arrived: asyncio.Queue[Msg | None] = asyncio.Queue()  # bounded by what is asked for
        self._waiting = 0
        self._requested = 0
        self._wake = asyncio.Event()
        self._heard = 0.0
        self._stopped = False
        self._newest: int | None = None
        self._backoff = Backoff(first=0.01, longest=10.0)
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._advisories: Subscription | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._turn_to_new_inbox()
        self._client.on_reconnect.append(self._forget)
        keeping, asking = self._keep_hands(), self._ask()
        self._tasks = [asyncio.create_task(work, name=f"{self.spec.name} pull") for work in (keeping, asking)]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._client.on_reconnect.remove(self._forget)
        await end(self._tasks)
        self.close()
        await self._leave_inbox()
        for reply in self.hands:  # what nobody took up after a cancellation
            await tell(self._client.connection, reply, b"-NAK")
        if self._advisories is not None:
            with suppress(*NATS_ERRORS):
                await self._advisories.unsubscribe()

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The tasks that keep this running. Before the context is left only a defect ends them."""
        return self._tasks

    def max_deliver(self, wanted: int) -> int:
        """Return how often a message is delivered, if the server does not give it up sooner."""
        found = self.consumer.max_deliver if self.consumer else None
        return wanted if found is None else min(wanted, found)

    async def next(self) -> Msg | None:
        """Wait for a message; None after `stop`. Call `done` once it is settled. Cancelling it takes none."""
        if self._stopped:
            return None
        self._waiting += 1
        self._wake.set()
        try:
            return await self._arrived.get()
        finally:
            self._waiting -= 1

    def done(self, message: Msg) -> None:
        """Take a message out of hand."""
        self.hands.pop(message.reply, None)

    def close(self) -> None:
        """Have each `next` from now on return None."""
        self._stopped = True

    async def stop(self) -> None:
        """Take no more: what still comes goes back at once, for others. Each `next` returns None."""
        self.close()
        await self._leave_inbox()
        while not self._arrived.empty():
            if (message := self._arrived.get_nowait()) is not None:
                await self._give_back(message)
        for _ in range(self._waiting):
            self._arrived.put_nowait(None)

    async def _on_message(self, message: Msg) -> None:
        self._heard = asyncio.get_running_loop().time()
        if not message.reply:  # what is not a message; any header may be a publisher's
            self._on_status(message.headers or {})
            return
        self._requested = max(0, self._requested - 1)
        self._backoff.reset()
        self.hands[message.reply] = self._newest = message.metadata.sequence.stream
        if self._stopped or self._arrived.qsize() >= self._waiting:
            await self._give_back(message)  # nobody has room for it, as after a request that was forgotten
        else:
            self._arrived.put_nowait(message)

    def _on_status(self, headers: dict[str, str]) -> None:
        """The end of a request, or a sign of life (ADR-37 of NATS's architecture)."""
        status = headers.get("Status")
        if status == _ALIVE:
            return
        left = headers.get("Nats-Pending-Messages")
        self._requested = max(0, self._requested - int(left)) if left and left.isdecimal() else 0
        if status != _EXPIRED:  # deleted, moved to another server, or JetStream is away
            log.warning("%s: %s %s; asking again", self.spec.name, status, headers.get(Header.DESCRIPTION, ""))
            self.consumer = None
        self._wake.set()

    async def _turn_to_new_inbox(self) -> None:
        """Have the server forget what was asked: it drops requests to which nobody listens."""
        await self._leave_inbox()
        self._inbox = self._client.connection.new_inbox()
        self._subscription = await self._client.connection.subscribe(self._inbox, cb=self._on_message)
        self._requested = 0

    async def _leave_inbox(self) -> None:
        """Unsubscribe; what the server has sent until it knows still arrives."""
        if self._subscription is not None:
            subscription, self._subscription = self._subscription, None
            with suppress(*NATS_ERRORS):
                async with asyncio.timeout(_DRAIN_TIMEOUT):
                    await subscription.drain()  # type: ignore[no-untyped-call]

    def _forget(self) -> None:
        """A new connection: the server knows nothing of what was asked over the old one."""
        self._requested = 0
        self._wake.set()

    async def _give_back(self, message: Msg) -> None:
        await tell(self._client.connection, message.reply, b"-NAK")
        self.done(message)

    async def _ask(self) -> None:
        """Keep as many messages requested as there is room for."""
        loop = asyncio.get_running_loop()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_HEARTBEAT):
                    await self._wake.wait()
            self._wake.clear()
            if self._stopped or not self._client.connection.is_connected:
                continue
            if self._requested and loop.time() - self._heard > _SILENCE:
                log.warning("%s: no heartbeat from the server; asking again", self.spec.name)
                await self._turn_to_new_inbox()
                self.consumer = None
            room = self._waiting - self._arrived.qsize() - self._requested
            if room > 0:
                if self.consumer is None:
                    await asyncio.sleep(self._backoff.next())
                    self.consumer = await self._find()
                    self._newest = self.consumer.position if self._newest is None else self._newest
                    await self._listen(self.consumer)
                await self._request(self.consumer, room)

    async def _find(self) -> Consumer:
        """Wait until the consumer is there."""
        said = ""
        while True:
            try:
                return await ensure_consumer(self._client, self.spec, self._first_wanted)
            except nats.js.errors.NotFoundError:
                problem = f"there is no stream {self.spec.stream or f'for {self.spec.subject}'} yet"
            except NATS_ERRORS as error:
                problem = str(error) or type(error).__name__
            if problem != said:
                log.warning("consumer %s: %s; waiting", self.spec.name, problem)
                said = problem
            await asyncio.sleep(self._backoff.next())

    @property
    def _first_wanted(self) -> int | None:
        """The sequence with which a consumer that somebody deleted has to begin, or None if it never was there."""
        return min(self.hands.values(), default=None if self._newest is None else self._newest + 1)

    async def _listen(self, consumer: Consumer) -> None:
        """Hear of messages that the server gives up."""
        if consumer.max_deliver is None or self._advisories is not None:
            return

        async def on_advisory(message: Msg) -> None:
            fields = json.loads(message.data)
            advice = GivenUp(consumer.stream, int(fields["stream_seq"]), int(fields["deliveries"]))
            await self._on_given_up(self, advice)

        subject = f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{consumer.stream}.{consumer.name}"
        self._advisories = await self._client.connection.subscribe(subject, queue=consumer.name, cb=on_advisory)

    async def _request(self, consumer: Consumer, count: int) -> None:
        request: dict[str, Any] = {
            "batch": count,
            "expires": int(_EXPIRES * _NANOSECONDS),
            "idle_heartbeat": int(_HEARTBEAT * _NANOSECONDS),
        }
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{consumer.stream}.{consumer.name}"
        self._requested += count
        self._heard = asyncio.get_running_loop().time()
        with suppress(*NATS_ERRORS):  # then heartbeats will be missed
            await self._client.connection.publish(subject, json.dumps(request).encode(), reply=self._inbox)

    async def _keep_hands(self) -> None:
        while True:
            await asyncio.sleep(self.spec.ack_wait / 3)
            for reply in list(self.hands):
                await tell(self._client.connection, reply, b"+WPI")
