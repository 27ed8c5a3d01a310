"""The stream of dead letters, for a person who looks at them: read without consuming, publish again, delete."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any, NamedTuple

from tidegate.core import ConnectError, DeliveryError, Encoded, TidegateError
from tidegate.nats import wire
from tidegate.nats.connection import NatsOptions, connect
from tidegate.nats.fit import misfit
from tidegate.nats.jetstream import NO_MESSAGE, NO_SEQUENCE, ApiError, call, read_answer
from tidegate.nats.link import Link

_ANSWER_TIMEOUT = 10.0
_CLOSE_TIMEOUT = 2.0


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
    """Connect for a short while. Raises ConnectError."""
    link = await connect(options)
    try:
        yield DeadLetterStream(link, stream)
    finally:
        await link.close(_CLOSE_TIMEOUT)


class DeadLetterStream:
    """One stream. It is read message by message, as any consumer would delete from a stream that is a work queue."""

    def __init__(self, link: Link, stream: str) -> None:
        self._link = link
        self._stream = stream

    async def read(self, subject: str) -> AsyncIterator[Stored]:
        """Yield what the stream holds now on a subject, which may have wildcards, oldest first."""
        with self._errors():
            last = (await call(self._link, f"STREAM.INFO.{self._stream}"))["state"]["last_seq"]
        sequence = 1
        while sequence <= last:
            found = await self._get({"seq": sequence, "next_by_subj": subject})
            if found is None or found.sequence > last:
                return
            yield found
            sequence = found.sequence + 1

    async def get(self, sequence: int) -> Stored | None:
        """Return one message, or None if it is not there."""
        return await self._get({"seq": sequence})

    async def _get(self, which: dict[str, Any]) -> Stored | None:
        with self._errors():
            try:
                answer = await call(self._link, f"STREAM.MSG.GET.{self._stream}", which)
            except ApiError as error:
                if error.kind == NO_MESSAGE:
                    return None
                raise
        found = answer["message"]
        time = datetime.fromisoformat(found["time"]).timestamp()
        return Stored(found["seq"], time, found["subject"], base64.b64decode(found.get("data", "")))

    async def delete(self, sequence: int) -> None:
        """Delete one message. That it is gone already is no error."""
        with self._errors():
            try:
                await call(self._link, f"STREAM.MSG.DELETE.{self._stream}", {"seq": sequence, "no_erase": True})
            except ApiError as error:
                if error.kind not in (NO_MESSAGE, NO_SEQUENCE):
                    raise

    async def publish(self, event: Encoded) -> None:
        """Return once a stream has the event. Raises DeliveryError if none takes it."""
        self._check_fit(event)
        with self._errors():
            answer = await self._link.request(lambda reply: wire.encode_events([event], [reply]), _ANSWER_TIMEOUT)
        if answer.status == wire.NO_RESPONDERS:
            raise DeliveryError("no_stream", f"no stream listens to {event.subject}")
        try:
            ack = read_answer(answer)
        except ApiError as error:
            raise DeliveryError("refused", f"JetStream refused it: {error}") from error
        if ack.get("duplicate") and ack.get("stream") == self._stream:
            # The id that the stream knows is the dead letter's own, so the event was not stored.
            raise DeliveryError(
                "duplicate", f"stream {self._stream} still knows its id; try after the duplicate window"
            )

    async def publish_to_core(self, event: Encoded) -> None:
        """Return once the server has the event, whoever listens. Raises DeliveryError if it can't be carried."""
        self._check_fit(event)
        self._link.write(wire.encode_events([event], [""]))
        with self._errors():
            await self._link.flushed(_ANSWER_TIMEOUT)

    def _check_fit(self, event: Encoded) -> None:
        if (problem := misfit(event, self._link.max_payload)) is not None:
            raise problem

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (ApiError, ConnectError) as error:
            raise StreamAccessError(self._stream, str(error)) from error
