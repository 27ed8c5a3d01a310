"""Consumers whose backlog is shown: how far behind are those who read what the gateway stores."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple

from tidegate.core import ConnectError
from tidegate.nats import ApiError, Backlog, Connection, consumer_backlog

log = logging.getLogger(__name__)

EVERY = 5.0
"""Seconds between two questions to the server."""


class ConsumerName(NamedTuple):
    """A durable consumer."""

    stream: str
    name: str


class ConsumerState(NamedTuple):
    """backlog: as of the last answer, or None while there is none; problem: why there is none, and whether the log has
    it."""

    backlog: Backlog | None
    problem: str | None
    is_told: bool = False


class BacklogWatch:
    """Knows how far behind consumers are.

    watched: returns the consumers to ask for. `states`: what is known of each.
    """

    def __init__(self, connection: Connection, watched: Callable[[], list[ConsumerName]]) -> None:
        self._connection = connection
        self._watched = watched
        self._states: dict[ConsumerName, ConsumerState] = {}

    @property
    def states(self) -> dict[ConsumerName, ConsumerState]:
        """Return what is known; an old number is not, once NATS is away."""
        if self._connection.up:
            return {name: self._states.get(name, _NOT_YET) for name in self._watched()}
        return dict.fromkeys(self._watched(), _AWAY)

    async def run(self) -> None:
        """Ask the server again and again, until cancelled."""
        while True:
            names = self._watched()
            self._states = {name: state for name, state in self._states.items() if name in names}
            for name in names:
                self._states[name] = await self._ask(name)
            await asyncio.sleep(EVERY)

    async def _ask(self, name: ConsumerName) -> ConsumerState:
        link = await self._connection.ready()
        try:
            return ConsumerState(await consumer_backlog(link, name.stream, name.name), None)
        except ConnectError as error:  # which the connection tells
            return ConsumerState(None, str(error))
        except ApiError as error:
            problem = str(error)
        seen = self._states.get(name, _NOT_YET)
        is_told = seen.is_told and problem == seen.problem
        if problem == seen.problem and not is_told:  # at the second look: at a start streams are just being made
            log.warning("consumers: %s of stream %s: %s", name.name, name.stream, problem)
            is_told = True
        return ConsumerState(None, problem, is_told)


_NOT_YET = ConsumerState(None, None)
_AWAY = ConsumerState(None, "NATS is away")
