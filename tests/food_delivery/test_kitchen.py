"""The join: an order is ready with its last dish, however its dishes come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import TaskCooked
from kitchen import Kitchen, is_last, tick
from tests.support.server import nats_server
from tidegate.client import Event, PublishError, connect

DELIVERIES = st.integers(1, 6).flatmap(
    lambda dishes: st.tuples(st.permutations(range(1, dishes + 1)), st.lists(st.integers(1, dishes), max_size=6))
)


def _task(number: int, dishes: int) -> TaskCooked:
    return TaskCooked(order="o1", customer="ann", number=number, dishes=dishes, dish="ramen")


@given(DELIVERIES)
def test_one_dish_makes_an_order_ready_and_does_so_again_when_it_comes_again(
    deliveries: tuple[list[int], list[int]],
) -> None:
    first, again = deliveries
    cooked: list[int] = []
    made_ready = []
    for number in [*first, *again]:
        cooked = tick(cooked, number)
        if is_last(cooked, _task(number, len(first))):
            made_ready.append(number)
    assert made_ready == [number for number in [first[-1], *again] if number == first[-1]]


@given(DELIVERIES)
def test_a_dish_that_comes_again_changes_no_ticket(deliveries: tuple[list[int], list[int]]) -> None:
    first, again = deliveries
    cooked: list[int] = []
    for number in first:
        cooked = tick(cooked, number)
    for number in again:
        assert tick(cooked, number) == cooked


class Published:
    """Stands in for `Client.publish`, and can be told to fail."""

    def __init__(self) -> None:
        self.subjects: list[str] = []
        self.fails = False

    async def __call__(self, subject: str, data: object) -> None:
        if self.fails:
            raise PublishError(subject, "as a process that dies here", data)
        self.subjects.append(subject)


@asynccontextmanager
async def _kitchen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Kitchen, Published]]:
    """A kitchen with real tickets."""
    async with (
        nats_server(folder) as server,
        connect(f"nats://127.0.0.1:{server.port}", source="urn:test") as client,
    ):
        published = Published()
        monkeypatch.setattr(client, "publish", published)
        yield Kitchen(client, await client.jetstream.create_key_value(bucket="tickets")), published


def _event(number: int, dishes: int) -> Event[Any]:
    data = _task(number, dishes)
    return Event[TaskCooked](id=str(number), source="urn:test", type=data.event_type, data=data)


async def test_an_order_gets_ready_although_the_kitchen_died_between_ticket_and_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _kitchen(tmp_path, monkeypatch) as (kitchen, published):
        published.fails = True
        with pytest.raises(PublishError):
            await kitchen.join(_event(1, dishes=1))
        published.fails = False
        await kitchen.join(_event(1, dishes=1))
    assert published.subjects == ["orders.ready"]


async def test_two_dishes_at_once_make_an_order_ready_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both read the ticket before either writes: one of the two finds that it has changed, and is tried again."""
    events = [_event(number, dishes=2) for number in (1, 2)]
    async with _kitchen(tmp_path, monkeypatch) as (kitchen, published):
        both_have_read = asyncio.Barrier(2)
        read = kitchen.tickets.get

        async def read_together(key: str) -> Any:
            try:
                return await read(key)
            finally:
                await both_have_read.wait()

        with monkeypatch.context() as at_first:
            at_first.setattr(kitchen.tickets, "get", read_together)
            ends = await asyncio.gather(*(kitchen.join(event) for event in events), return_exceptions=True)
        failed = [event for event, end in zip(events, ends, strict=True) if end]
        assert len(failed) == 1
        await kitchen.join(failed[0])
    assert published.subjects == ["orders.ready"]
