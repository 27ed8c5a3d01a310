"""The laws of a queue on the disk."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.spool.rig import message, messages, nothing_comes, numbers, put, size_on_disk, spool, take
from tests.support.wait import eventually
from tidegate.spool import SpoolError, SpoolQueue


async def test_messages_come_out_in_the_order_in_which_they_went_in(tmp_path: Path) -> None:
    async with spool(tmp_path) as opened:
        queue = opened.queue("q")
        waiting = [await queue.append(messages(range(start, start + 10), 3000)) for start in range(0, 500, 10)]
        assert [await one for one in waiting] == [10] * 50
        assert numbers(await take(queue, 500)) == list(range(500))
        assert await nothing_comes(queue)


async def test_the_queues_of_two_bridges_do_not_mix(tmp_path: Path) -> None:
    async with spool(tmp_path) as opened:
        one, other = opened.queue("one"), opened.queue("other")
        for number in range(20):
            await put(one if number % 2 else other, [number])
        assert numbers(await take(one, 10)) == list(range(1, 20, 2))
        assert numbers(await take(other, 10)) == list(range(0, 20, 2))


async def test_a_reopened_spool_has_what_was_not_settled_and_only_that(tmp_path: Path) -> None:
    async with spool(tmp_path) as opened:
        queue = opened.queue("q")
        for number in range(6):
            await put(queue, [number])
            (batch,) = await take(queue, 1)
            if number in (0, 1, 4):
                batch.settle()
    async with spool(tmp_path) as opened:
        queue = opened.queue("q")
        assert (queue.messages, queue.found) == (3, 3)
        assert numbers(await take(queue, 3)) == [2, 3, 5]


async def test_a_message_keeps_its_id_across_a_reopening(tmp_path: Path) -> None:
    sent = message(7)
    async with spool(tmp_path) as opened:
        await (await opened.queue("q").append([sent]))
    async with spool(tmp_path) as opened:
        (batch,) = await take(opened.queue("q"), 1)
    assert [one.id for one in batch.messages] == [sent.id]


async def test_after_a_rewind_what_was_not_settled_comes_again_in_order(tmp_path: Path) -> None:
    async with spool(tmp_path) as opened:
        queue = opened.queue("q")
        batches = []
        for number in range(4):
            await put(queue, [number])
            batches += await take(queue, 1)
        batches[1].settle()
        again = opened.queue("q")
        assert numbers(await take(again, 3)) == [0, 2, 3]


async def test_settled_messages_are_deleted_and_the_disk_gets_their_space_back(tmp_path: Path) -> None:
    async with spool(tmp_path) as opened:
        queue = opened.queue("q")
        await put(queue, range(1000), size=8000)
        full = size_on_disk(tmp_path)
        assert full > 8_000_000
        for batch in await take(queue, 1000):
            batch.settle()
        assert (queue.messages, queue.bytes, opened.bytes, queue.oldest) == (0, 0, 0, None)
        await eventually(lambda: size_on_disk(tmp_path) < 200_000, "the files are small again")


async def test_a_spool_that_goes_to_and_fro_does_not_grow(tmp_path: Path) -> None:
    async with spool(tmp_path) as opened:
        queue = opened.queue("q")
        for number in range(100):
            await put(queue, [number], size=100_000)
            for batch in await take(queue, 1):
                batch.settle()
        await put(queue, [100])
        assert size_on_disk(tmp_path) < 6_000_000


async def test_what_append_reported_is_on_the_disk_for_another_reader(tmp_path: Path) -> None:
    async with spool(tmp_path) as opened:
        queue = opened.queue("q")
        for number in range(1, 6):
            await put(queue, [number])
            reader = sqlite3.connect(f"file:{tmp_path}/spool.db?mode=ro", uri=True)
            assert reader.execute("SELECT sum(messages) FROM chunk").fetchone() == (number,)
            reader.close()


async def test_a_full_spool_blocks_until_something_is_settled(tmp_path: Path) -> None:
    async with spool(tmp_path, max_bytes=10_000) as opened:
        queue = opened.queue("q")
        await put(queue, [0], 6000)
        waiting = asyncio.create_task(put(queue, [1], 6000))
        await eventually(lambda: queue.problem is not None, "the queue says that it is full")
        assert not waiting.done()
        (batch,) = await take(queue, 1)
        assert not waiting.done()
        batch.settle()
        assert await waiting == 1
        assert queue.problem is None
        assert numbers(await take(queue, 1)) == [1]
        assert not queue.dropped


async def test_a_full_spool_with_drop_newest_turns_away_what_comes(tmp_path: Path) -> None:
    async with spool(tmp_path, max_bytes=10_000, when_full="drop_newest") as opened:
        queue = opened.queue("q")
        assert [await put(queue, [number], 3000) for number in range(5)] == [1, 1, 1, 0, 0]
        assert (queue.messages, queue.problem) == (3, None)
        assert numbers(await take(queue, 3)) == [0, 1, 2]


async def test_a_full_spool_with_drop_newest_keeps_nothing_newer_however_small_until_there_is_room(
    tmp_path: Path,
) -> None:
    async with spool(tmp_path, max_bytes=10_000, when_full="drop_newest") as opened:
        queue = opened.queue("q")
        assert [await put(queue, [number], 3000) for number in range(4)] == [1, 1, 1, 0]
        assert await put(queue, [4], 10) == 0
        (first, *_) = await take(queue, 3)
        first.settle()
        assert await put(queue, [5], 10) == 1


async def test_a_full_spool_with_drop_oldest_gives_up_the_oldest_and_counts_it(tmp_path: Path) -> None:
    async with spool(tmp_path, max_bytes=10_000, when_full="drop_oldest") as opened:
        queue = opened.queue("q")
        assert [await put(queue, [number], 3000) for number in range(5)] == [1] * 5
        assert (queue.messages, dict(queue.dropped)) == (3, {"spool_full": 2})
        assert numbers(await take(queue, 3)) == [2, 3, 4]


async def test_drop_oldest_leaves_alone_what_is_on_its_way(tmp_path: Path) -> None:
    async with spool(tmp_path, max_bytes=10_000, when_full="drop_oldest") as opened:
        queue = opened.queue("q")
        await put(queue, [0, 1, 2], 3000)
        (batch,) = await take(queue, 3)
        assert await put(queue, [3], 3000) == 0
        batch.settle()
        assert await put(queue, [4], 3000) == 1
        assert numbers(await take(queue, 1)) == [4]
        assert (queue.messages, sum(queue.dropped.values())) == (1, 0)


async def test_what_is_older_than_max_age_is_given_up_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with spool(tmp_path, max_age=100.0) as opened:
        queue = opened.queue("q")
        await put(queue, [0, 1])
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 90)
        await put(queue, [2])
        monkeypatch.setattr(time, "monotonic", lambda: now + 110)
        assert numbers(await take(queue, 1)) == [2]
        assert (queue.messages, dict(queue.dropped)) == (1, {"spool_expired": 2})


@pytest.mark.parametrize("years", [-30, 30])
async def test_a_jump_of_the_wall_clock_expires_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, years: int
) -> None:
    async with spool(tmp_path, max_age=100.0) as opened:
        await put(opened.queue("q"), [0])
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + years * 31_536_000)
    async with spool(tmp_path, max_age=100.0) as opened:
        await put(opened.queue("q"), [1])
        assert numbers(await take(opened.queue("q"), 2)) == [0, 1]


async def test_a_second_process_can_not_open_the_spool(tmp_path: Path) -> None:
    path = str(tmp_path / "spool.db")
    code = f"from pathlib import Path; from tidegate.spool.file import SpoolFile; SpoolFile(Path({path!r}))"
    async with spool(tmp_path) as opened:
        await put(opened.queue("q"), [0])
        result = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False
        )
        assert result.returncode == 1
        assert "another gateway uses this state_dir" in result.stderr
        assert numbers(await take(opened.queue("q"), 1)) == [0]


async def test_a_second_spool_in_the_same_process_can_not_open_it_either(tmp_path: Path) -> None:
    async with spool(tmp_path):
        with pytest.raises(SpoolError, match="another gateway"):
            async with spool(tmp_path):
                pass


async def test_receive_cancelled_after_any_turn_of_the_loop_loses_nothing(tmp_path: Path) -> None:
    async with spool(tmp_path) as opened:
        queue = opened.queue("q")
        for turn in range(40):
            receiving = asyncio.create_task(queue.receive())
            putting = asyncio.create_task(put(queue, [turn]))
            outcome = await _cancelled_after(receiving, turn % 12)
            await putting
            batches = await take(queue, 1) if outcome is None else [outcome]
            assert numbers(batches) == [turn]
            batches[0].settle()
        assert queue.messages == 0


async def test_receive_cancelled_while_it_reads_leaves_the_messages_to_the_next(tmp_path: Path) -> None:
    """Nothing is put in afterwards that could wake it."""
    async with spool(tmp_path) as opened:
        queue = opened.queue("q")
        await put(queue, [0])
        for turn in range(8):
            outcome = await _cancelled_after(asyncio.create_task(queue.receive()), turn)
            queue = opened.queue("q") if outcome is not None else queue
        assert numbers(await take(queue, 1)) == [0]


async def _cancelled_after(task, turns: int):
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    return None if task.cancelled() else task.result()


async def test_append_cancelled_while_it_waits_for_room_has_put_nothing_in(tmp_path: Path) -> None:
    async with spool(tmp_path, max_bytes=5000) as opened:
        queue = opened.queue("q")
        await put(queue, [0], 4000)
        waiting = asyncio.create_task(queue.append([message(1, 4000)]))
        await eventually(lambda: queue.problem is not None, "it waits")
        waiting.cancel()
        await asyncio.wait([waiting])
        assert (queue.messages, queue.problem) == (1, None)
        (batch,) = await take(queue, 1)
        batch.settle()
        assert await put(queue, [2], 4000) == 1
        assert numbers(await take(queue, 1)) == [2]


async def test_settling_a_batch_twice_deletes_it_once(tmp_path: Path) -> None:
    async with spool(tmp_path) as opened:
        queue: SpoolQueue = opened.queue("q")
        await put(queue, [0])
        (batch,) = await take(queue, 1)
        batch.settle()
        batch.settle()
        assert (queue.messages, queue.bytes, opened.bytes) == (0, 0, 0)


async def test_messages_of_a_bridge_that_is_gone_stay_and_are_told(tmp_path: Path) -> None:
    async with spool(tmp_path) as opened:
        await put(opened.queue("old"), [0, 1])
    async with spool(tmp_path) as opened:
        assert opened.orphans() == {"old": 2}
        assert await put(opened.queue("new"), [2]) == 1
    async with spool(tmp_path) as opened:
        assert numbers(await take(opened.queue("old"), 2)) == [0, 1]
