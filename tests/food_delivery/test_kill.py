"""Services that die in the middle of what they do."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo import take_stock
from show.notes import Note, Notes
from show.show import Show
from show.stage import Stage

MOMENTS = (
    ("kitchen", "makes "),
    ("chef-2", "begins "),
    ("delivery", "sends "),
    ("notification", "tells "),
    ("kitchen", "has all dishes"),
    ("notification", "tells "),
)
"""Who is killed, and what it has just said that it would do."""


@pytest.mark.slow
async def test_a_service_that_is_killed_between_two_steps_neither_loses_nor_repeats_one(tmp_path: Path) -> None:
    notes = Notes()
    async with Stage(tmp_path, notes) as stage:
        show = Show(stage, notes)
        for name, what in MOMENTS:
            for _ in range(3):
                await show.order()

            def is_the_moment(note: Note, name: str = name, what: str = what) -> bool:
                return note.who == name and note.what.startswith(what)

            assert await notes.next(is_the_moment), f"{name} did not come to that"
            await stage.kill(name)
            await stage.start(name)
        assert await notes.orders_become("heard: delivered", show.orders) == set()
        found = await take_stock(show)
    assert found.problems == []
    assert len(show.orders) == 18
