"""NATS without JetStream as a sink: fire and forget, to whoever listens now."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import nats.errors

from tidegate.core import DeliveryError, Encoded, Outcome, Refused
from tidegate.nats.connection import Connection, heed_cancellation
from tidegate.nats.fit import UNFIT, misfit, unfit


class CorePublisher:
    """A `Sink` that holds events back while there is no connection, and counts them as delivered once written.

    No server confirms anything here: what is on its way when a connection dies is lost. That is core NATS.
    """

    def __init__(self, connection: Connection) -> None:
        self.blocked: str | None = None
        self.duplicates = 0
        self._connection = connection
        self._turn = asyncio.Lock()

    async def send(self, events: Sequence[Encoded]) -> asyncio.Future[Outcome]:
        """See `Sink.send`."""
        refused: list[Refused] = []
        async with self._turn:
            for event in events:
                if error := await self._publish(event):
                    refused.append(Refused(event, error))
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        done.set_result(Outcome(refused))
        return done

    async def _publish(self, event: Encoded) -> DeliveryError | None:
        while True:
            client = await self._connection.ready()
            try:
                if problem := misfit(event, client.max_payload):
                    return problem
                await client.publish(event.subject, event.body, headers=event.headers)
                heed_cancellation()
            except UNFIT as error:
                return unfit(error)
            except (nats.errors.Error, OSError):
                self._connection.suspect()
                await self._connection.gone()
            else:
                return None
