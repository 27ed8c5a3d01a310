"""NATS without JetStream as a sink: fire and forget, to whoever listens now."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import repeat

from tidegate.core import Encoded, Outcome, Refused
from tidegate.nats.connection import Connection
from tidegate.nats.fit import all_fit, misfit
from tidegate.nats.wire import encode_events


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
            while True:
                link = await self._connection.ready()
                await link.writable()
                if not link.ended.done():
                    break
            max_payload = link.max_payload
            if not all_fit(events, max_payload):
                problems = [(event, misfit(event, max_payload)) for event in events]
                refused = [Refused(event, problem) for event, problem in problems if problem is not None]
                events = [event for event, problem in problems if problem is None]
            link.write(encode_events(events, repeat("", len(events))))
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        done.set_result(Outcome(refused))
        return done
