"""A bridge that stands still without a reason is told from one that has nothing to do, or has a reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from tidegate.app.history import STEP, History
from tidegate.app.sampler import PATIENCE, Sampler
from tidegate.core import Histogram, Trouble


@dataclass(eq=False)
class Running:
    """What the sampler reads of a running bridge."""

    waits: tuple[bool, bool] = (True, False)
    settled: tuple[int, int] = (0, 0)
    problem: str | None = None
    blocked: str | None = None
    trouble: Trouble | None = None
    received: int = 0
    delivered: int = 0
    history: History = field(default_factory=History)

    @property
    def totals(self) -> Running:
        return self

    def durations(self) -> list[Histogram]:
        return [Histogram()]

    def lags(self) -> list[Histogram]:
        return [Histogram()]


def _look(running: Running, seconds: float, change: Any = lambda _: None) -> str | None:
    """Return what is stalled after so long, with a change before each look."""
    sampler = Sampler(lambda: {"readings": running})  # type: ignore[dict-item,return-value]
    now = 0.0
    while now <= seconds:
        change(running)
        sampler.look(now)
        now += STEP
    return sampler.stalled


@pytest.mark.parametrize("waits", [(True, False), (False, True), (True, True)])
def test_a_bridge_that_settles_nothing_is_stalled_after_a_while_and_not_before(waits: tuple[bool, bool]) -> None:
    assert _look(Running(waits), PATIENCE - STEP) is None
    stalled = _look(Running(waits), PATIENCE)
    assert stalled is not None
    assert stalled.startswith("readings: ")


@pytest.mark.parametrize("running", [Running((False, False)), Running(problem="no broker"), Running(blocked="no NATS")])
def test_nothing_to_do_and_a_known_reason_are_no_stall(running: Running) -> None:
    assert _look(running, 5 * PATIENCE) is None


def test_a_slow_bridge_is_no_stall() -> None:
    def settle(running: Running) -> None:
        running.settled = (running.settled[0] + 1, 0)

    assert _look(Running(), 5 * PATIENCE, settle) is None


def test_a_bridge_whose_connection_fails_again_and_again_has_a_reason() -> None:
    """Also where it is up again whenever somebody looks."""

    def fail(running: Running) -> None:
        running.trouble = Trouble("mqtt: no answer", running.trouble.time + STEP if running.trouble else 0.0)

    assert _look(Running(), 5 * PATIENCE, fail) is None


def test_live_messages_that_go_to_the_disk_do_not_hide_that_nothing_leaves_it() -> None:
    def spool(running: Running) -> None:
        running.settled = (running.settled[0] + 1, 0)

    assert _look(Running((True, True)), PATIENCE, spool) is not None


def test_the_wait_begins_anew_when_the_reason_is_gone_or_the_bridge_was_made_again() -> None:
    bridges = {"readings": Running(problem="no broker")}
    sampler = Sampler(lambda: bridges)  # type: ignore[arg-type,return-value]
    sampler.look(PATIENCE)
    bridges["readings"].problem = None
    sampler.look(2 * PATIENCE - STEP)
    assert sampler.stalled is None
    bridges["readings"] = Running()
    sampler.look(2 * PATIENCE)
    sampler.look(3 * PATIENCE - STEP)
    assert sampler.stalled is None
    sampler.look(3 * PATIENCE)
    assert sampler.stalled is not None
    bridges["readings"].settled = (1, 0)
    sampler.look(4 * PATIENCE)
    assert sampler.stalled is None
