"""Events of a stream, handled by any number of processes: each event by one of them, until it succeeded."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Generic, TypeVar

import nats.js.errors
from nats.aio.msg import Msg
from nats.js.api import RetentionPolicy

from tidegate.client.connection import Client
from tidegate.client.consumer import ConsumerSpec
from tidegate.client.counter import WorkerCounters
from tidegate.client.dead_letter import Letter, Place, bury
from tidegate.client.delivery import HANDLING, NATS_ERRORS, Delivery, is_cancelled, settle, tell
from tidegate.client.ending import end
from tidegate.client.error import PoisonError, PublishError, RetryError
from tidegate.client.event import Event, read_event, story_of
from tidegate.client.pull import GivenUp, Pull
from tidegate.core import DeliveryError, fnv1a_32

log = logging.getLogger(__name__)

T = TypeVar("T")
Handler = Callable[[Event[T]], Awaitable[None]]

_PARTITION = "{partition}"


def partition(key: str, partitions: int) -> int:
    """Return the partition of a key, a number below `partitions`: where its work belongs, so that it is done in order.

    The same that `{partition(8, device)}` of a bridge's subject and nats-server's own subject mapping give.
    """
    return fnv1a_32(key.encode()) % partitions


class Worker(Generic[T]):
    """Handles the events of a stream's consumer. `run` it, in as many processes as there is work for.

    Each event is pulled by one of them, handed to the handler, and acknowledged once the handler has returned; the
    server confirms that (a *double ack*). While it is handled the server hears so, however long it takes: put an
    `asyncio.timeout` into the handler if that should end, and what blocks into `asyncio.to_thread`, for a blocked loop
    looks dead. Then:

    - The handler raises: the event comes again, to any of the processes, after a back-off with jitter; after
      `max_deliver` deliveries it becomes a dead letter with the error. `RetryError` says when it comes again, and
      counts as well; `PoisonError`, and data that are not what `data` says, become a dead letter at once.
    - The process dies: the event comes again after `ack_wait`. If that has happened `max_deliver` times, it becomes a
      dead letter without another try.
    - The worker is stopped: what is being handled is finished, within `shutdown_timeout`; what is not, another gets at
      once. That counts as a delivery.

    So a handler runs at least once for each event. What it publishes has the same ids when it is run again (see
    `Client.publish`), and `Once` keeps other effects from being repeated.

    stream, consumer: the stream, and the consumer whose work is shared. Worker processes with the same consumer share,
    those with another get a copy each. The stream is waited for; the consumer is created.
    data: the type of the events' data. subject: which of the stream's events; None means all.
    concurrency: events in the handler at once, in this process. It takes no more than it can handle.
    partitions: handle the events of one key in order, a retry before those behind it, over all processes; but for one
    that loses NATS for longer than `ack_wait`, and goes on with what another has by then. `subject` has `{partition}`
    as a token, for the number that `partition(key, partitions)` gives; with 1, and no such token, all are in order.
    Each partition is a consumer, `<consumer>-<number>`, with one event under way at a time.
    ack_wait: seconds until the server gives the event of a process that died to another.
    retry_delay, longest_retry_delay: seconds of the first back-off, which then doubles, and its bound.
    dead_letters: the subject of dead letters, which a stream must store; default `dead.<consumer>`. They hold as much
    of an event as fits into a message.
    from_now: a new consumer passes over what the stream already has.
    shutdown_timeout: seconds that a stop waits for handlers, before it cancels them.
    """

    def __init__(
        self,
        client: Client,
        stream: str | None,
        consumer: str,
        data: type[T],
        handler: Handler[T],
        *,
        subject: str | None = None,
        concurrency: int = 1,
        partitions: int | None = None,
        ack_wait: float = 30.0,
        max_deliver: int = 5,
        retry_delay: float = 1.0,
        longest_retry_delay: float = 60.0,
        dead_letters: str | None = None,
        from_now: bool = False,
        shutdown_timeout: float = 10.0,
    ) -> None:
        _check(stream, subject, concurrency, partitions, ack_wait, max_deliver)
        self.name = consumer
        self.counters = WorkerCounters()
        self._client = client
        self._data = data
        self._handler = handler
        self._concurrency = 1 if partitions else concurrency
        self._max_deliver = max_deliver
        self._retry_delay = retry_delay
        self._longest_retry_delay = longest_retry_delay
        self._dead_letters = dead_letters or f"dead.{consumer}"
        self._shutdown_timeout = shutdown_timeout
        self._stopping: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pulls = [
            Pull(
                client,
                ConsumerSpec(
                    name=name,
                    stream=stream,
                    subject=one,
                    ack_wait=ack_wait,
                    in_order=partitions is not None,
                    from_now=from_now,
                ),
                self._on_given_up,
            )
            for name, one in _parts(consumer, subject, partitions)
        ]

    @property
    def ready(self) -> bool:
        """Whether its consumers are there. What is published from then on is for it, whether it runs or not."""
        return all(pull.consumer is not None for pull in self._pulls)

    def stop(self) -> None:
        """Take no more. `run` returns once what is being handled is finished."""
        if not self._stopping.done():
            self._stopping.set_result(None)

    async def run(self) -> None:
        """Work until `stop`. Cancelling gives back what is in hand. Raises ConnectError if the connection has ended for
        good."""
        await self._look_for_dead_letters()
        async with AsyncExitStack() as stack:
            for pull in self._pulls:
                await stack.enter_async_context(pull)
            tasks = [
                asyncio.create_task(self._work(pull), name=f"worker {pull.spec.name}")
                for pull in self._pulls
                for _ in range(self._concurrency)
            ]
            ends: list[asyncio.Future[None]] = [self._client.closed, *tasks]
            ends += [task for pull in self._pulls for task in pull.tasks]
            try:
                await asyncio.wait([self._stopping, *ends], return_when=asyncio.FIRST_COMPLETED)
                if self._stopping.done():
                    await self._drain(tasks)
            finally:
                for pull in self._pulls:
                    pull.close()
                await end(tasks)
            for one in ends:
                if one.done() and not one.cancelled():
                    one.result()

    async def _look_for_dead_letters(self) -> None:
        try:
            await self._client.jetstream.find_stream_name_by_subject(self._dead_letters)
        except nats.js.errors.NotFoundError:
            log.warning("%s: no stream stores %s; what can't be handled will wait", self.name, self._dead_letters)
        except NATS_ERRORS:
            pass  # it is away, and said elsewhere

    async def _drain(self, tasks: list[asyncio.Task[None]]) -> None:
        await asyncio.gather(*(pull.stop() for pull in self._pulls))
        _, late = await asyncio.wait(tasks, timeout=self._shutdown_timeout)
        if late:
            log.warning("%s: %d handlers did not end within %g s", self.name, len(late), self._shutdown_timeout)

    async def _work(self, pull: Pull) -> None:
        """One of the `concurrency` hands."""
        while (message := await pull.next()) is not None:
            counters = self.counters
            counters.delivered += 1
            counters.in_flight += 1
            try:
                await self._process(message, pull)
            except BaseException:  # a cancellation, or what ends the process
                await self._give_back(message)
                raise
            finally:
                counters.in_flight -= 1
                pull.done(message)

    async def _give_back(self, message: Msg) -> None:
        try:
            await tell(self._client.connection, message.reply, b"-NAK")
        finally:
            self.counters.returned += 1

    async def _process(self, message: Msg, pull: Pull) -> None:
        """Handle one delivery, and settle it one way or another."""
        attempt = message.metadata.num_delivered
        self.counters.redelivered += attempt > 1
        limit = pull.max_deliver(self._max_deliver)
        if attempt > limit:
            lost = DeliveryError("max_deliver", f"delivered {attempt - 1} times, and no worker came to an end with it")
            await self._bury(message, pull, lost, attempt - 1)
            return
        try:
            event = read_event(self._data, message.headers, message.data)
        except Exception as error:  # noqa: BLE001 - the data's validators are the user's code
            text = str(error) if isinstance(error, ValueError) else _said(error)
            await self._bury(message, pull, DeliveryError("invalid", text), attempt)
            return
        failure = await self._handle(event, message, pull)
        if failure is None:
            if not await settle(self._client.connection, message.reply, b"+ACK"):
                self.counters.unconfirmed += 1
            self.counters.handled += 1
        elif isinstance(failure, PoisonError):
            await self._bury(message, pull, DeliveryError("poison", failure.detail), attempt, event)
        elif attempt >= limit:
            await self._bury(message, pull, DeliveryError("handler_failed", _said(failure)), attempt, event)
        else:
            delay = failure.after if isinstance(failure, RetryError) else self._delay(attempt)
            log.warning(
                "%s: %s%s, attempt %d of %d: %s; again in %.1f s",
                *(pull.spec.name, event.id, story_of(event), attempt, limit, _said(failure), delay),
            )
            await self._retry(message, delay)

    async def _handle(self, event: Event[T], message: Msg, pull: Pull) -> Exception | None:
        """Run the handler; return what it raised."""
        metadata = message.metadata
        delivery = Delivery(
            event, message.subject, metadata.stream, pull.spec.name, metadata.sequence.stream, metadata.num_delivered
        )
        token = HANDLING.set(delivery)
        start = time.monotonic()
        try:
            await self._handler(event)
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            return RuntimeError("something that the handler waited for was cancelled")
        except Exception as error:  # noqa: BLE001 - it is the user's code, and whatever it raises is a failed attempt
            return error
        finally:
            HANDLING.reset(token)
            self.counters.handling_duration.observe(time.monotonic() - start)
        return None

    def _delay(self, attempt: int) -> float:
        bound = min(self._retry_delay * 2.0 ** min(attempt - 1, 32), self._longest_retry_delay)
        return random.uniform(bound / 2, bound)

    async def _retry(self, message: Msg, delay: float) -> None:
        await tell(self._client.connection, message.reply, b"-NAK", delay=int(delay * 1e9))
        self.counters.retried += 1

    async def _bury(
        self, message: Msg, pull: Pull, error: DeliveryError, attempts: int, event: Event[T] | None = None
    ) -> None:
        """Set a message aside; then, and only then, it is settled. event: what it is, if it could be read."""
        name = pull.spec.name
        place = Place(message.metadata.stream, message.metadata.sequence.stream, name)
        letter = Letter(place, message.subject, message.headers or {}, message.data, error, attempts)
        try:
            await bury(self._client, self._dead_letters, letter)
        except PublishError as problem:
            log.error("%s: %s%s can't be set aside, and waits: %s", name, message.subject, story_of(event), problem)
            await self._retry(message, self._longest_retry_delay)
            return
        story = story_of(event)
        log.error("%s: dead letter after %d attempts: %s%s: %s", name, attempts, message.subject, story, error)
        if not await settle(self._client.connection, message.reply, b"+TERM"):
            self.counters.unconfirmed += 1
        self.counters.dead_lettered[error.reason] += 1

    async def _on_given_up(self, pull: Pull, advice: GivenUp) -> None:
        """Set a message aside that the server will not deliver again: a worker died with its last attempt."""
        error = DeliveryError(
            "max_deliver", f"delivered {advice.deliveries} times, and no worker came to an end with it"
        )
        jetstream = self._client.jetstream
        try:
            found = await jetstream.get_msg(advice.stream, advice.sequence)
            place = Place(advice.stream, advice.sequence, pull.spec.name)
            subject, body = found.subject or "", found.data or b""
            letter = Letter(place, subject, found.headers or {}, body, error, advice.deliveries)
            await bury(self._client, self._dead_letters, letter)
            if (await jetstream.stream_info(advice.stream)).config.retention == RetentionPolicy.WORK_QUEUE:
                await jetstream.delete_msg(advice.stream, advice.sequence)
        except nats.js.errors.NotFoundError:
            return  # somebody has dealt with it
        except (PublishError, *NATS_ERRORS) as problem:
            log.error("%s: message %d can't be set aside: %s", pull.spec.name, advice.sequence, problem)
            return
        log.error("%s: dead letter after %d attempts: %s: %s", pull.spec.name, advice.deliveries, letter.subject, error)
        self.counters.delivered += 1
        self.counters.dead_lettered[error.reason] += 1


def _check(
    stream: str | None,
    subject: str | None,
    concurrency: int,
    partitions: int | None,
    ack_wait: float,
    max_deliver: int,
) -> None:
    """Raise ValueError for options that make no sense."""
    if stream is None and subject is None:
        raise ValueError("a worker needs a stream, or a subject by which it is found")
    if partitions is not None and concurrency != 1:
        raise ValueError(f"concurrency={concurrency}: with partitions, each of them is one event at a time")
    numbers = {"concurrency": concurrency, "partitions": partitions, "max_deliver": max_deliver}
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ValueError(f"{name}={number}: should be 1 or more")
    if ack_wait <= 0:
        raise ValueError(f"ack_wait={ack_wait:g}: should be more than 0 s")


def _parts(consumer: str, subject: str | None, partitions: int | None) -> list[tuple[str, str | None]]:
    """Return the names and subjects of the consumers of a worker. Raises ValueError."""
    has_token = subject is not None and _PARTITION in subject.split(".")
    if partitions is None or (partitions == 1 and not has_token):
        if has_token:
            raise ValueError(f"subject {subject!r} has a {_PARTITION}; say how many there are, as partitions=8")
        return [(consumer, subject)]
    if subject is None or not has_token:
        raise ValueError(
            f"partitions={partitions} needs a subject with the token {_PARTITION}, as 'tasks.{_PARTITION}.>'"
        )
    return [(f"{consumer}-{number}", subject.replace(_PARTITION, str(number), 1)) for number in range(partitions)]


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
