"""Looks at every bridge at a steady pace: for its history, and for one that has stopped without a reason."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from tidegate.app.history import STEP, Sample, merged
from tidegate.app.running import RunningBridge
from tidegate.app.running_down import RunningDownBridge
from tidegate.core import Trouble

log = logging.getLogger(__name__)

PATIENCE = 120.0
"""Seconds without any progress, and without a reason, after which a bridge counts as stalled: longer than each of our
time-outs, after which there is a reason."""


class _Progress(NamedTuple):
    """What was settled at one moment (monotonic seconds), by the bridge and by the one that empties its spool; and the
    last trouble known by then."""

    settled: tuple[int, int]
    since: tuple[float, float]
    trouble: Trouble | None


class Sampler:
    """stalled: which bridges hold messages that nothing is known to hold up, or None."""

    def __init__(self, bridges: Callable[[], Mapping[str, RunningBridge | RunningDownBridge]]) -> None:
        self.stalled: str | None = None
        self._bridges = bridges
        self._progress: dict[RunningBridge | RunningDownBridge, _Progress] = {}

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            self.look(time.monotonic())
            await asyncio.sleep(STEP)

    def look(self, now: float) -> None:
        """Take a sample of each bridge, and see whether it goes on. now: monotonic seconds."""
        bridges = self._bridges()
        progress: dict[RunningBridge | RunningDownBridge, _Progress] = {}
        for running in bridges.values():
            totals = running.totals
            durations, lags = merged(running.durations()), merged(running.lags())
            running.history.add(Sample(now, totals.received, totals.delivered, durations, lags))
            progress[running] = _next_progress(running, self._progress.get(running), now)
        self._progress = progress
        names = [name for name, running in bridges.items() if now - min(progress[running].since) >= PATIENCE]
        stalled = f"{', '.join(names)}: no progress for {PATIENCE:g} s, and nothing known to be wrong"
        if names and self.stalled is None:
            log.error("stalled: %s", stalled)
        self.stalled = stalled if names else None


def _next_progress(running: RunningBridge | RunningDownBridge, last: _Progress | None, now: float) -> _Progress:
    """A way that has nothing to do, has or had a reason to wait, or has settled something begins to be waited for
    now."""
    settled, trouble = running.settled, running.trouble
    if last is None or running.problem or running.blocked or trouble != last.trouble:
        return _Progress(settled, (now, now), trouble)
    goes_on = [
        not waits or after != before for waits, before, after in zip(running.waits, last.settled, settled, strict=True)
    ]
    live, drain = (now if goes else since for goes, since in zip(goes_on, last.since, strict=True))
    return _Progress(settled, (live, drain), trouble)
