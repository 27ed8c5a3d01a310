"""The stream of dead letters, for a person who looks at them: read without consuming, publish again, delete."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext

from tidegate.core import ConnectError, DeliveryError, Encoded, TidegateError
from tidegate.nats.connection import Connection, NatsOptions
from tidegate.nats.fit import UNFIT, misfit, unfit

_ANSWER_TIMEOUT = 10.0
_GLANCE = 0.02


class StreamAccessError(TidegateError):
    """The stream of dead letters can't be read or changed now."""

    def __init__(self, stream: str, problem: str) -> None:
        self.stream = stream
        self.problem = problem
        super().__init__(f"stream {stream}: {problem}")


class Stored(NamedTuple):
    """A message of the stream. time: when it was stored, in seconds since 1970."""

    sequence: int
    time: float
    subject: str
    body: bytes


@asynccontextmanager
async def dead_letter_stream(options: NatsOptions, stream: str) -> AsyncIterator[DeadLetterStream]:
    """Connect for a short while. Raises ConnectError at the first failure, and StreamAccessError."""
    async with Connection(options) as connection:
        while not connection.up:
            if connection.last_error is not None:
                endpoint, _, reason = connection.last_error.partition(": ")
                raise ConnectError(endpoint, reason)
            await asyncio.sleep(_GLANCE)
        yield DeadLetterStream(await connection.ready(), stream)


class DeadLetterStream:
    """One stream. It is read message by message, as any consumer would delete from a stream that is a work queue."""

    def __init__(self, client: Client, stream: str) -> None:
        self._client = client
        self._jetstream: JetStreamContext = client.jetstream(timeout=_ANSWER_TIMEOUT)
        self._stream = stream

    async def read(self, subject: str) -> AsyncIterator[Stored]:
        """Yield what the stream holds now on a subject, which may have wildcards, oldest first."""
        with self._errors():
            last = (await self._jetstream.stream_info(self._stream)).state.last_seq
        sequence = 1
        while sequence <= last:
            found = await self._get(sequence, subject)
            if found is None or found.sequence > last:
                return
            yield found
            sequence = found.sequence + 1

    async def get(self, sequence: int) -> Stored | None:
        """Return one message, or None if it is not there."""
        return await self._get(sequence, None)

    async def _get(self, sequence: int, subject: str | None) -> Stored | None:
        with self._errors():
            try:
                if subject is None:
                    found = await self._jetstream.get_msg(self._stream, seq=sequence)
                else:
                    found = await self._jetstream.get_msg(self._stream, seq=sequence, subject=subject, next=True)
            except nats.js.errors.NotFoundError as error:
                if error.err_code == _NO_MESSAGE:
                    return None
                raise
        assert found.seq is not None
        assert found.time is not None
        return Stored(found.seq, found.time.timestamp(), found.subject or "", found.data or b"")

    async def delete(self, sequence: int) -> None:
        """Delete one message. That it is gone already is no error."""
        with self._errors():
            try:
                await self._jetstream.delete_msg(self._stream, sequence)
            except nats.js.errors.APIError as error:
                if error.err_code not in (_NO_MESSAGE, _NO_SEQUENCE):
                    raise

    async def publish(self, event: Encoded) -> None:
        """Return once a stream has the event. Raises DeliveryError if none takes it."""
        self._check_fit(event)
        try:
            ack = await self._jetstream.publish(
                event.subject, event.body, timeout=_ANSWER_TIMEOUT, headers=event.headers
            )
        except UNFIT as error:
            raise unfit(error) from error
        except nats.js.errors.NoStreamResponseError:
            raise DeliveryError("no_stream", f"no stream listens to {event.subject}") from None
        except nats.js.errors.APIError as error:
            raise DeliveryError("refused", f"JetStream refused it: {error.description or error}") from error
        except nats.errors.TimeoutError:
            raise DeliveryError("no_answer", f"no PubAck within {_ANSWER_TIMEOUT:g} s") from None
        except nats.errors.Error as error:
            raise StreamAccessError(self._stream, _text(error)) from error
        if ack.duplicate and ack.stream == self._stream:
            # The id that the stream knows is the dead letter's own, so the event was not stored.
            raise DeliveryError("duplicate", f"stream {ack.stream} still knows its id; try after the duplicate window")

    async def publish_to_core(self, event: Encoded) -> None:
        """Return once the server has the event, whoever listens. Raises DeliveryError if it can't be carried."""
        self._check_fit(event)
        with self._errors():
            try:
                await self._client.publish(event.subject, event.body, headers=event.headers)
            except UNFIT as error:
                raise unfit(error) from error
            await self._client.flush(int(_ANSWER_TIMEOUT))

    def _check_fit(self, event: Encoded) -> None:
        if (problem := misfit(event, self._client.max_payload)) is not None:
            raise problem

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (nats.errors.Error, OSError) as error:
            raise StreamAccessError(self._stream, _text(error)) from error


_NO_MESSAGE = 10037
_NO_SEQUENCE = 10043
"""JetStream's err_codes for a message that is not in the stream."""


def _text(error: Exception) -> str:
    if isinstance(error, nats.js.errors.ServiceUnavailableError):
        return "JetStream does not answer; is it on?"
    if isinstance(error, nats.js.errors.APIError) and error.description:
        return str(error.description)
    return (str(error) or type(error).__name__).removeprefix("nats: ")
