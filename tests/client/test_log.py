"""A log line says which story it belongs to."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.client.rig import Task, rig, running, worker
from tests.support.wait import eventually
from tidegate.client import CorrelationFilter, Delivery, Event, PoisonError
from tidegate.client.delivery import HANDLING

log = logging.getLogger("a library")


def _handler(lines: list[str]) -> logging.Handler:
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(handler.format(record))  # type: ignore[method-assign]
    handler.setFormatter(logging.Formatter("%(correlation_id)s %(message)s"))
    handler.addFilter(CorrelationFilter())
    return handler


async def test_what_is_logged_while_an_event_is_handled_has_its_correlation_id(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines: list[str] = []
    log.addHandler(handler := _handler(lines))

    async def handle(_event: Event[Task]) -> None:
        log.warning("in the oven")
        raise PoisonError("burnt")

    try:
        async with rig(tmp_path) as r, running(worker(r, handle)):
            log.warning("before")
            sent = await r.client.publish("work.a", Task(number=1))
            await eventually(lambda: "dead letter" in caplog.text, "it is set aside")
    finally:
        log.removeHandler(handler)
    assert lines == ["- before", f"{sent.correlationid} in the oven"]
    assert f"(correlation {sent.correlationid}): poison" in caplog.text


def test_a_record_keeps_its_own_and_a_device_can_not_write_a_line_by_one() -> None:
    mine, other = logging.makeLogRecord({"correlation_id": "mine"}), logging.makeLogRecord({})
    event = Event[Task](id="1", source="s", type="t", correlationid="a\nb", data=Task(number=1))
    token = HANDLING.set(Delivery(event, "work.a"))
    try:
        assert CorrelationFilter().filter(mine)
        assert CorrelationFilter().filter(other)
    finally:
        HANDLING.reset(token)
    assert mine.__dict__["correlation_id"] == "mine"
    assert other.__dict__["correlation_id"] == r"'a\nb'"
