"""The example of a sink of one's own, between a real broker and a real redis-server."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.redis_bonus.rig import Kitchen, kitchen, number_of
from tests.support.proxy import proxy
from tests.support.server import needs_redis
from tests.support.wait import eventually

pytestmark = needs_redis

ORDERS = 2000


def _each_once(numbers: list[int], count: int) -> None:
    copies = Counter(numbers)
    lost, doubled = set(range(count)) - copies.keys(), {n for n, times in copies.items() if times > 1}
    assert (lost, doubled) == (set(), set())


async def _under_load(food: Kitchen, round_: int) -> asyncio.Task[None]:
    """Begin to place orders, and return in the middle of the bridge's work on them."""
    first = round_ * ORDERS
    placing = asyncio.create_task(food.place(range(first, first + ORDERS)))
    await eventually(lambda: _has_more_than(food, first), "the bridge is at work", 30)
    return placing


async def _has_more_than(food: Kitchen, count: int) -> bool:
    return await food.count() > count


async def test_every_order_is_in_the_stream_once_and_each_subscriber_has_its_copy(tmp_path: Path) -> None:
    """In order, with the tablet's correlation id; SIGTERM ends the bridge with nothing left in flight."""
    async with kitchen(tmp_path) as food, food.bridge() as bridge:
        screens = [food.reader("subscriber.py", name=f"screen {number}") for number in range(2)]
        async with screens[0], screens[1]:
            for screen in screens:
                await screen.says("listening")
            await bridge.says("subscribed")
            await food.place(range(500))
            await eventually(lambda: _has_more_than(food, 499), "every order is there")
            events = await food.stored()
            assert [number_of(event) for event in events] == list(range(500))
            assert [event.correlationid for event in events] == [f"tablet-{number}" for number in range(500)]
            assert {event.type for event in events} == {"com.example.food.order_placed.v1"}
            for screen in screens:
                await screen.says("tablet-499")
                wanted = [f"placed: o-{n} ['soup', 'noodles'] for tablet-{n}" for n in range(500)]
                assert screen.lines() == ["listening", *wanted]
        assert await bridge.end() == 0
        assert "INFO delivered 500, set aside 0, left 0" in bridge.lines()


@pytest.mark.parametrize("dies", ["bridge", "redis"])
async def test_a_death_between_the_write_and_its_answer_doubles_no_order(tmp_path: Path, dies: str) -> None:
    """The worst moment: Redis has the orders, and nobody was told. They are all written again under the same ids."""
    async with kitchen(tmp_path) as food, proxy(food.redis.port) as link, food.bridge(link.port) as bridge:
        await bridge.says("subscribed")
        await food.place(range(10))
        await eventually(lambda: _has_more_than(food, 9), "the first orders are there")
        link.down = False
        await food.place(range(10, 200))
        await eventually(lambda: _has_more_than(food, 10), "some are written, and the answers lost")
        if dies == "bridge":
            await bridge.end(signal.SIGKILL)
            link.restore()
            await bridge.start()
        else:
            await food.redis.kill()
            link.restore()
            await food.redis.start()
        await eventually(lambda: _has_more_than(food, 199), "every order is there")
        assert await bridge.end() == 0
        _each_once(await food.numbers(), 200)


@pytest.mark.slow
async def test_a_bridge_killed_under_load_loses_and_doubles_no_order(tmp_path: Path) -> None:
    async with kitchen(tmp_path) as food, food.bridge() as bridge:
        await bridge.says("subscribed")
        for round_ in range(3):
            placing = await _under_load(food, round_)
            await bridge.end(signal.SIGKILL)
            await bridge.start()
            await placing
            count = (round_ + 1) * ORDERS
            await eventually(lambda n=count: _has_more_than(food, n - 1), "every order is there", 30)
        assert await bridge.end() == 0
        _each_once(await food.numbers(), 3 * ORDERS)


@pytest.mark.slow
async def test_redis_killed_under_load_loses_and_doubles_no_order(tmp_path: Path) -> None:
    """It comes back with its append-only file, which has the marks of the events with them."""
    async with kitchen(tmp_path) as food, food.bridge() as bridge:
        await bridge.says("subscribed")
        for round_ in range(3):
            placing = await _under_load(food, round_)
            await food.redis.kill()
            await food.redis.start()
            await placing
            count = (round_ + 1) * ORDERS
            await eventually(lambda n=count: _has_more_than(food, n - 1), "every order is there", 30)
        assert await bridge.end() == 0
        assert f"INFO delivered {3 * ORDERS}, set aside 0, left 0" in bridge.lines()
        _each_once(await food.numbers(), 3 * ORDERS)


@pytest.mark.slow
async def test_stopped_while_redis_is_away_it_leaves_the_orders_to_the_broker(tmp_path: Path) -> None:
    async with kitchen(tmp_path) as food, food.bridge() as bridge:
        await bridge.says("subscribed")
        await food.redis.kill()
        await food.place(range(10))
        await bridge.says("events are not taken now")
        assert await bridge.end() == 0
        assert "INFO delivered 0, set aside 0, left 10" in bridge.lines()
        await food.redis.start()
        await bridge.start()
        await eventually(lambda: _has_more_than(food, 9), "every order is there")
        assert await food.numbers() == list(range(10))


async def test_a_redis_without_memory_is_waited_for(tmp_path: Path) -> None:
    async with kitchen(tmp_path) as food, food.bridge() as bridge:
        await food.client.config_set("maxmemory", 1)
        await bridge.says("subscribed")
        await food.place(range(10))
        await bridge.says("events are not taken now")
        await food.client.config_set("maxmemory", 0)
        await eventually(lambda: _has_more_than(food, 9), "every order is there")
        assert await bridge.end() == 0
        assert "INFO delivered 10, set aside 0, left 0" in bridge.lines()
        assert await food.numbers() == list(range(10))


async def test_what_redis_will_never_take_becomes_a_dead_letter(tmp_path: Path) -> None:
    async with kitchen(tmp_path) as food, food.bridge() as bridge:
        await food.client.set("orders", "a text, not a stream")
        await bridge.says("subscribed")
        await food.place(range(2))
        await eventually(lambda: food.client.xlen("orders.dead"), "dead letters are there")
        assert await bridge.end() == 0
        letters = await food.stored("orders.dead")
        assert [(letter.correlationid, letter.model_extra["reason"]) for letter in letters] == [
            ("tablet-0", "refused"),
            ("tablet-1", "refused"),
        ]


async def test_an_order_in_the_hand_of_a_dead_cook_is_anothers(tmp_path: Path) -> None:
    async with kitchen(tmp_path) as food, food.bridge() as bridge:
        await bridge.says("subscribed")
        async with food.reader("consumer.py", "--name", "cook-1", "--cook", 600, name="cook-1") as first:
            await first.says("waiting")
            await food.place([7])
            await eventually(lambda: _in_hand(food, "cook-1"), "it has the order in hand")
            await first.end(signal.SIGKILL)
        async with food.reader("consumer.py", "--name", "cook-2", "--idle", 0.1, name="cook-2") as second:
            await second.says("cook-2: o-7 ['soup', 'noodles'] for tablet-7")
            await eventually(lambda: _nothing_in_hand(food), "it is acknowledged")


async def _in_hand(food: Kitchen, name: str) -> bool:
    pending = await food.client.xpending_range("orders", "kitchen", "-", "+", 10)
    return [one["consumer"].decode() for one in pending] == [name]


async def _nothing_in_hand(food: Kitchen) -> bool:
    return (await food.client.xpending("orders", "kitchen"))["pending"] == 0


async def test_two_cooks_of_a_group_share_the_orders(tmp_path: Path) -> None:
    async with kitchen(tmp_path) as food, food.bridge() as bridge:
        names = ["cook-1", "cook-2"]
        cooks = [food.reader("consumer.py", "--name", name, "--cook", 0.01, name=name) for name in names]
        async with cooks[0], cooks[1]:
            for cook in cooks:
                await cook.says("waiting")
            await bridge.says("subscribed")
            await food.place(range(100))
            await eventually(lambda: sum(len(cook.lines()) for cook in cooks) >= 102, "every order is cooked", 30)
            shares = [[line.split()[1] for line in cook.lines()[1:]] for cook in cooks]
        assert all(shares)
        assert sorted(shares[0] + shares[1]) == sorted(f"o-{number}" for number in range(100))


async def test_a_late_subscriber_misses_what_a_late_group_still_gets(tmp_path: Path) -> None:
    """The difference between a channel and a stream, in one test."""
    async with kitchen(tmp_path) as food, food.bridge() as bridge:
        await bridge.says("subscribed")
        await food.place([1])
        await eventually(lambda: _has_more_than(food, 0), "it is placed before anybody looks")
        async with food.reader("subscriber.py") as screen, food.reader("consumer.py") as cook:
            await screen.says("listening")
            await cook.says("waiting")
            await food.place([2])
            await screen.says("o-2")
            await cook.says("o-2")
            assert [line.split()[1] for line in screen.lines()[1:]] == ["o-2"]
            assert [line.split()[1] for line in cook.lines()[1:]] == ["o-1", "o-2"]
