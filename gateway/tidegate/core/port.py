"""The two ends of a bridge. Any pair of them makes one; neither knows the other."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from tidegate.core.batch import Batch
from tidegate.core.encode import Encoded
from tidegate.core.error import DeliveryError


class Refused(NamedTuple):
    """An event that a sink will never take, and why."""

    event: Encoded
    error: DeliveryError


class Outcome(NamedTuple):
    """What became of the events of one `send`: delivered, except for these.

    spooled: kept on the disk instead, to be delivered from there. dropped: given up, as configured for a full disk.
    """

    refused: Sequence[Refused] = ()
    spooled: Sequence[Encoded] = ()
    dropped: Sequence[Encoded] = ()


class Source(Protocol):
    """Where messages come from."""

    async def receive(self) -> Batch:
        """Wait for the next batch.

        Called again as soon as the caller can take more, so not calling it is the back-pressure: a source reads no
        more than its window of unsettled messages. Reconnects inside; a lost connection never shows here, its
        unsettled messages come again. Batches may be settled in any order. Cancelling it loses no message.
        """
        ...


class Sink(Protocol):
    """Where events go."""

    async def send(self, events: Sequence[Encoded]) -> Future[Outcome]:
        """Take events, in order; wait while the window is full.

        Returns a future that is done once every event is durable or refused for good. What may pass with time (no
        connection, no stream, a full stream, no answer) is tried again inside, under the same id, until the sink is
        closed, which cancels the future. Cancelling `send` itself takes nothing.
        """
        ...
