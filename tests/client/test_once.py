"""`Once`: an effect is not repeated, and not lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.client.rig import Rig, Task, rig, running, worker
from tests.support.proxy import proxy
from tests.support.wait import eventually
from tidegate.client import Event, Once, connect


async def some_event(r: Rig) -> Event[Task]:
    return await r.client.publish("events.a", Task(number=1))


async def test_an_effect_that_was_run_is_not_run_again_in_any_process(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        event = await some_event(r)
        async with Once(r.client, "EFFECTS")(event) as first:
            assert first
        for once in (Once(r.client, "EFFECTS"), Once(r.client, "EFFECTS")):
            async with once(event) as first:
                assert not first
        async with Once(r.client, "OTHER_EFFECTS")(event) as first:
            assert first


async def test_an_effect_that_failed_is_run_again(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        event, once = await some_event(r), Once(r.client, "EFFECTS")

        async def fail() -> None:
            async with once(event) as first:
                assert first
                raise OSError("the oven is cold")

        for _ in range(2):
            with pytest.raises(OSError, match="oven"):
                await fail()
        async with once(event) as first:
            assert first
        async with once(event) as first:
            assert not first


async def test_of_many_that_have_one_event_at_once_one_runs_and_the_others_wait_for_its_end(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        event = await some_event(r)
        running, ran = 0, 0

        async def run() -> bool:
            nonlocal running, ran
            async with Once(r.client, "EFFECTS")(event) as first:
                running += first
                assert running <= 1
                await asyncio.sleep(0.3 if first else 0)
                ran += first
                assert ran == 1
                running -= first
                return first

        assert sorted(await asyncio.gather(*(run() for _ in range(20)))) == 19 * [False] + [True]


async def test_the_lease_of_a_process_that_died_ends_and_that_of_a_slow_one_does_not(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        event = await some_event(r)
        once = Once(r.client, "EFFECTS", lease=1)

        async def take() -> bool:
            async with once(event) as first:
                return first

        slow = once(event)
        await slow.__aenter__()
        waiting = asyncio.create_task(take())
        await asyncio.wait([waiting], timeout=2.5)  # longer than the lease, which is renewed meanwhile
        assert not waiting.done()
        for task in asyncio.all_tasks():
            if task.get_name() == "once EFFECTS":
                task.cancel()  # as a kill does
        assert await waiting
        await slow.__aexit__(None, None, None)


async def test_a_key_makes_different_events_the_same(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        one, other, once = await some_event(r), await some_event(r), Once(r.client, "ORDERS")
        async with once(one, key="order 7") as first:
            assert first
        async with once(other, key="order 7") as first:
            assert not first
        async with once(other, key="order 8") as first:
            assert first


@pytest.mark.parametrize("what", ["nats", "bucket"])
async def test_while_nats_or_the_bucket_is_away_it_waits(tmp_path: Path, what: str) -> None:
    async with rig(tmp_path) as r:
        event, once = await some_event(r), Once(r.client, "EFFECTS")
        async with once(event, key="opened"):
            pass
        if what == "bucket":
            await r.client.jetstream.delete_key_value("EFFECTS")
        else:
            await r.server.kill()

        async def take() -> bool:
            async with once(event) as first:
                return first

        waiting = asyncio.create_task(take())
        if what == "nats":
            await asyncio.wait([waiting], timeout=0.5)
            assert not waiting.done()
            await r.server.start()
        assert await waiting


@pytest.mark.parametrize("lease", [0, 0.5, 1.9])
async def test_a_lease_that_the_server_can_not_count_is_refused(tmp_path: Path, lease: float) -> None:
    async with rig(tmp_path) as r:
        with pytest.raises(ValueError, match="whole seconds"):
            Once(r.client, "EFFECTS", lease=lease)  # type: ignore[arg-type]


async def test_a_redelivered_event_runs_its_effect_once(tmp_path: Path) -> None:
    """As after a process that died when the effect was run, and the event was not acknowledged yet."""
    async with rig(tmp_path) as r:
        once, effects, deliveries = Once(r.client, "EFFECTS"), 0, 0

        async def handle(event: Event[Task]) -> None:
            nonlocal effects, deliveries
            deliveries += 1
            async with once(event) as first:
                effects += first
            if deliveries < 3:
                raise OSError("no acknowledgement")

        await r.put(1)
        async with running(worker(r, handle)):
            await eventually(lambda: deliveries == 3)
        assert effects == 1


async def test_the_memory_ends_after_its_time_to_live(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        event, once = await some_event(r), Once(r.client, "SHORT", ttl=1.0)

        async def is_first() -> bool:
            async with once(event) as first:
                return first

        assert await is_first()
        assert not await is_first()
        await eventually(is_first, "it was forgotten")


async def test_a_lost_answer_to_a_renewal_does_not_end_the_lease(tmp_path: Path) -> None:
    """The renewal is stored, and the one who renews does not know its revision."""
    async with (
        rig(tmp_path) as r,
        proxy(r.server.port) as link,
        connect(f"nats://127.0.0.1:{link.port}", source="urn:example:other") as client,
    ):
        event, once = await some_event(r), Once(client, "EFFECTS", lease=3)
        slow = once(event)
        assert await slow.__aenter__()
        first = (await r.client.jetstream.stream_info("KV_EFFECTS")).state.last_seq
        link.down = False
        await eventually(lambda: _later(r, first))
        link.down = True

        async def take() -> bool:
            async with Once(r.client, "EFFECTS", lease=3)(event) as first:
                return first

        waiting = asyncio.create_task(take())
        await asyncio.wait([waiting], timeout=5)
        assert not waiting.done()
        await slow.__aexit__(None, None, None)
        assert not await waiting


async def _later(r: Rig, sequence: int) -> bool:
    return (await r.client.jetstream.stream_info("KV_EFFECTS")).state.last_seq > sequence
