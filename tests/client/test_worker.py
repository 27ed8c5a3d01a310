"""A worker: every event is handled, retried or set aside, and never lost."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from itertools import pairwise
from pathlib import Path

import pytest
from nats.js.api import ConsumerConfig
from pydantic import field_validator

from tests.client.rig import Log, Rig, Task, rig, running, worker
from tests.support.wait import eventually
from tidegate.client import Event, PoisonError, RetryError, Worker, connect, current_delivery, partition


async def emptied(rig: Rig) -> bool:
    return await rig.left() == 0


async def test_every_event_is_handled_once_and_leaves_the_queue(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        await r.put(50)
        log = Log()
        some = worker(r, log, concurrency=8)
        async with running(some):
            await eventually(lambda: emptied(r), "the queue is empty")
        assert sorted(log.numbers) == list(range(50))
        assert (some.counters.delivered, some.counters.handled) == (50, 50)
        assert some.counters.balanced


async def test_no_more_events_are_handled_at_once_than_the_concurrency_and_none_is_held_back_for_later(
    tmp_path: Path,
) -> None:
    """A message that waits in one process while another is idle would be late for nothing."""
    async with rig(tmp_path) as r:
        await r.put(10)
        release, busy = asyncio.Event(), 0

        async def hold(_event: Event[Task]) -> None:
            nonlocal busy
            busy += 1
            await release.wait()
            busy -= 1

        async with running(worker(r, hold, concurrency=3)):
            await eventually(lambda: busy == 3, "three are being handled")
            info = await r.client.jetstream.consumer_info("WORK", "workers")
            assert (info.num_ack_pending, info.num_pending) == (3, 7)
            release.set()
            await eventually(lambda: emptied(r), "the queue is empty")


async def test_a_failed_event_comes_again_after_a_back_off_that_grows(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        await r.put(1)
        times: list[float] = []
        attempts: list[int] = []

        async def fail_twice(_event: Event[Task]) -> None:
            times.append(asyncio.get_running_loop().time())
            delivery = current_delivery()
            assert delivery is not None
            attempts.append(delivery.attempt)
            if len(times) < 4:
                raise OSError("not now")

        some = worker(r, fail_twice, retry_delay=0.1, longest_retry_delay=10)
        async with running(some):
            await eventually(lambda: emptied(r), "the queue is empty")
        gaps = [after - before for before, after in pairwise(times)]
        assert attempts == [1, 2, 3, 4]
        assert gaps[0] >= 0.05
        assert gaps[1] >= 0.1
        assert gaps[2] >= 0.2
        assert (some.counters.retried, some.counters.handled, some.counters.redelivered) == (3, 1, 3)
        assert some.counters.balanced


async def test_an_event_that_fails_every_time_becomes_a_dead_letter_with_its_error_and_attempts(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        sent = await r.client.publish("work.a", Task(number=7, name="bad"))
        some = worker(r, Log(lambda *_: KeyError("flour")), max_deliver=3)
        async with running(some):
            await eventually(lambda: emptied(r), "the queue is empty")
        (letter,) = await r.dead_letters()
        assert letter["reason"] == "handler_failed"
        assert letter["detail"] == "KeyError: 'flour'"
        assert letter["attempts"] == 3
        assert (letter["stream"], letter["consumer"], letter["subject"]) == ("WORK", "workers", "work.a")
        assert letter["correlationid"] == sent.correlationid
        assert letter["causationid"] == sent.id
        assert b64decode(letter["data_base64"]) == sent.to_json()
        assert json.loads(letter["headers"])["Nats-Msg-Id"] == sent.id
        assert some.counters.dead_lettered == {"handler_failed": 1}
        assert some.counters.balanced


@pytest.mark.parametrize("kind", ["poison", "no event", "other data", "other type"])
async def test_what_can_never_be_handled_is_a_dead_letter_at_once_and_the_next_flows(tmp_path: Path, kind: str) -> None:
    class Other(Task):
        event_type = "com.example.other.v1"

    def fail(number: int, _attempt: int) -> Exception | None:
        return PoisonError("no such dish") if number == 0 else None

    async with rig(tmp_path) as r:
        if kind == "poison":
            await r.client.publish("work.a", Task(number=0))
        elif kind == "no event":
            await r.client.jetstream.publish("work.a", b"\xff not an event")
        elif kind == "other data":
            event = await r.client.publish("events.a", Task(number=0))
            body = event.to_json().replace(b'"number":0', b'"number":"many"')
            headers = {"Content-Type": "application/cloudevents+json"}
            await r.client.jetstream.publish("work.a", body, headers=headers)
        else:
            await r.client.publish("work.a", Other(number=0))
        await r.client.publish("work.a", Task(number=1))
        log = Log(fail)
        async with running(worker(r, log)):
            await eventually(lambda: emptied(r), "the queue is empty")
        (letter,) = await r.dead_letters()
        assert letter["attempts"] == 1
        assert letter["reason"] == ("poison" if kind == "poison" else "invalid")
        said = {
            "poison": "no such dish",
            "no event": "not a CloudEvent: neither a cloudevents content type nor a ce-id header",
            "other data": "data.number: Input should be a valid integer, unable to parse string as an integer",
            "other type": "its type is 'com.example.other.v1', and this consumer handles 'com.example.task.v1'",
        }
        assert letter["detail"] == said[kind]
        assert log.numbers == ([0, 1] if kind == "poison" else [1])


async def test_a_handler_says_when_an_event_comes_again(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        await r.put(1)
        log = Log(lambda _number, attempt: RetryError(0.05, "busy") if attempt < 3 else None)
        async with running(worker(r, log, retry_delay=60, longest_retry_delay=60)):
            await eventually(lambda: emptied(r), "the queue is empty")
        assert log.numbers == [0, 0, 0]


async def test_an_event_that_takes_longer_than_ack_wait_is_not_given_to_another(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        await r.put(1)
        handled: list[int] = []

        async def slow(event: Event[Task]) -> None:
            handled.append(event.data.number)
            await asyncio.sleep(2.5)

        one, other = worker(r, slow, ack_wait=1.0), worker(r, slow, ack_wait=1.0)
        async with running(one, other):
            await eventually(lambda: emptied(r), "the queue is empty")
        assert handled == [0]


async def test_a_stopped_worker_finishes_what_it_has_and_another_gets_the_rest_at_once(tmp_path: Path) -> None:
    """With the default `ack_wait` of 30 s the deadline here is what fails if something were kept."""
    async with rig(tmp_path) as r:
        await r.put(6)
        started, finished = asyncio.Event(), []

        async def slow(event: Event[Task]) -> None:
            started.set()
            await asyncio.sleep(0.3)
            finished.append(event.data.number)

        first, log = worker(r, slow, concurrency=2), Log()
        run = asyncio.create_task(first.run())
        await started.wait()
        first.stop()
        await run
        assert len(finished) == 2
        assert first.counters.balanced
        assert first.counters.in_flight == 0
        async with running(worker(r, log)):
            await eventually(lambda: emptied(r), "the queue is empty")
        assert sorted(finished + log.numbers) == list(range(6))


async def test_a_handler_that_does_not_end_is_cancelled_after_the_shutdown_timeout_and_its_event_comes_again(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path) as r:
        await r.put(1)
        started = asyncio.Event()

        async def hang(_event: Event[Task]) -> None:
            started.set()
            await asyncio.Event().wait()

        first, log = worker(r, hang, shutdown_timeout=0.1), Log()
        run = asyncio.create_task(first.run())
        await started.wait()
        first.stop()
        await run
        assert (first.counters.returned, first.counters.in_flight) == (1, 0)
        assert first.counters.balanced
        async with running(worker(r, log)):
            await eventually(lambda: emptied(r), "the queue is empty")
        assert log.numbers == [0]


async def test_an_event_whose_worker_died_every_time_is_a_dead_letter_and_not_tried_again(tmp_path: Path) -> None:
    """A death is a delivery without a word, as this test makes them."""
    async with rig(tmp_path) as r:
        await r.put(1)
        log = Log()
        config = ConsumerConfig(name="workers", durable_name="workers", ack_policy="explicit", ack_wait=0.5)  # type: ignore[arg-type]
        await r.client.jetstream.add_consumer("WORK", config)
        for _ in range(3):
            subscription = await r.client.jetstream.pull_subscribe_bind("workers", "WORK")
            await subscription.fetch(1, timeout=5)
            await subscription.unsubscribe()
        some = worker(r, log, max_deliver=3, ack_wait=0.5)
        async with running(some):
            await eventually(lambda: emptied(r), "the queue is empty")
        (letter,) = await r.dead_letters()
        assert log.numbers == []
        assert (letter["reason"], letter["attempts"]) == ("max_deliver", 3)
        assert some.counters.balanced


async def test_what_the_server_gives_up_by_a_limit_of_its_own_is_a_dead_letter_too(tmp_path: Path) -> None:
    """Then only the MAX_DELIVERIES advisory tells; the message itself stays in the stream for ever."""
    async with rig(tmp_path) as r:
        limited = ConsumerConfig(
            name="workers",
            durable_name="workers",
            ack_policy="explicit",
            ack_wait=0.5,
            max_deliver=1,  # type: ignore[arg-type]
        )
        await r.client.jetstream.add_consumer("WORK", limited)
        sent = await r.client.publish("work.a", Task(number=0))
        subscription = await r.client.jetstream.pull_subscribe_bind("workers", "WORK")
        await subscription.fetch(1, timeout=5)
        await subscription.unsubscribe()
        log = Log()
        some = worker(r, log, ack_wait=0.5)
        async with running(some):
            await eventually(lambda: emptied(r), "the queue is empty")
        (letter,) = await r.dead_letters()
        assert log.numbers == []
        assert (letter["reason"], letter["attempts"]) == ("max_deliver", 1)
        assert b64decode(letter["data_base64"]) == sent.to_json()
        assert some.counters.balanced
        assert (await r.client.jetstream.consumer_info("WORK", "workers")).config.max_deliver == 1


async def test_while_dead_letters_can_not_be_stored_the_event_stays_in_the_queue(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        await r.client.jetstream.delete_stream("DEAD")
        await r.put(1)
        log = Log(lambda *_: PoisonError("never"))
        some = worker(r, log, max_deliver=2)
        async with running(some):
            await eventually(lambda: some.counters.retried, "the dead letter was refused", timeout=30)
            assert await r.left() == 1
            await r.client.jetstream.add_stream(name="DEAD", subjects=["dead.>"])
            await eventually(lambda: emptied(r), "the queue is empty")
        (letter,) = await r.dead_letters()
        assert letter["reason"] in ("poison", "max_deliver")
        assert some.counters.balanced


async def test_a_worker_waits_for_its_stream(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        log = Log()
        async with running(Worker(r.client, "LATER", "workers", Task, log)):
            await r.client.jetstream.add_stream(name="LATER", subjects=["later.>"])
            await r.put(3, "later.a")
            await eventually(lambda: sorted(log.numbers) == [0, 1, 2], "all are handled")


async def test_a_consumer_that_is_deleted_is_made_again(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        log = Log()
        async with running(worker(r, log, concurrency=4)):
            await r.put(1)
            await eventually(lambda: log.numbers == [0], "it works")
            await r.client.jetstream.delete_consumer("WORK", "workers")
            await r.client.publish("work.a", Task(number=1))
            # A request that meets the consumer's end may go without an answer; silence is noticed within 17.5 s.
            await eventually(lambda: log.numbers == [0, 1], "it works again", 30)


async def test_a_consumer_that_is_deleted_while_nothing_is_asked_of_it_is_made_again(tmp_path: Path) -> None:
    """The server tells nobody then, but who asks it later."""
    gate = asyncio.Event()
    seen: list[int] = []

    async def handle(event: Event[Task]) -> None:
        seen.append(event.data.number)
        await gate.wait()

    async with rig(tmp_path) as r, running(worker(r, handle, concurrency=1)):
        await r.put(2)
        await eventually(lambda: seen == [0], "the only hand is busy")
        await r.client.jetstream.delete_consumer("WORK", "workers")
        gate.set()
        await eventually(lambda: 1 in seen, "it works again", 40)


async def test_a_worker_goes_on_after_nats_was_away(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        log = Log()
        some = worker(r, log, concurrency=4)
        async with running(some):
            await r.put(20)
            await eventually(lambda: emptied(r), "the queue is empty")
            await r.server.kill()
            await r.server.start()
            for number in range(20, 40):
                await r.client.publish("work.a", Task(number=number))
            await eventually(lambda: emptied(r), "the queue is empty again", timeout=30)
        assert sorted(set(log.numbers)) == list(range(40))
        assert some.counters.balanced


async def test_partitions_keep_the_order_of_each_key_through_retries_and_over_workers(tmp_path: Path) -> None:
    """Three keys in two partitions, two workers; every third attempt fails."""
    async with rig(tmp_path) as r:
        seen: dict[str, list[int]] = {key: [] for key in ("a", "b", "c")}
        attempts = 0

        async def handle(event: Event[Task]) -> None:
            nonlocal attempts
            attempts += 1
            if attempts % 3 == 0:
                raise OSError("not now")
            seen[event.data.name].append(event.data.number)

        for number in range(12):
            for key in seen:
                await r.client.publish(f"work.{partition(key, 2)}.{key}", Task(number=number, name=key))
        workers = [worker(r, handle, subject="work.{partition}.>", partitions=2, max_deliver=100) for _ in range(2)]
        async with running(*workers):
            await eventually(lambda: emptied(r), "the queue is empty")
        assert attempts > 36
        assert all(numbers == list(range(12)) for numbers in seen.values())


@pytest.mark.parametrize(
    ("subject", "partitions", "said"),
    [
        ("work.{partition}.>", None, "say how many there are"),
        ("work.>", 4, "needs a subject with the token"),
        (None, 4, "needs a subject with the token"),
    ],
)
async def test_partitions_without_their_token_are_refused(
    tmp_path: Path, subject: str | None, partitions: int | None, said: str
) -> None:
    async with rig(tmp_path) as r:
        with pytest.raises(ValueError, match=said):
            worker(r, Log(), subject=subject, partitions=partitions)


async def test_cancelling_a_worker_gives_back_what_it_has(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        await r.put(4)
        started = asyncio.Event()

        async def hang(_event: Event[Task]) -> None:
            started.set()
            await asyncio.Event().wait()

        first, log = worker(r, hang, concurrency=2), Log()
        run = asyncio.create_task(first.run())
        await started.wait()
        run.cancel()
        await asyncio.wait([run])
        assert run.cancelled()
        assert first.counters.balanced
        async with running(worker(r, log)):
            await eventually(lambda: emptied(r), "the queue is empty")
        assert sorted(log.numbers) == list(range(4))


async def test_a_handler_whose_own_work_was_cancelled_has_failed_and_the_worker_goes_on(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        await r.put(1)
        log = Log(lambda _number, attempt: asyncio.CancelledError() if attempt == 1 else None)  # type: ignore[arg-type, return-value]
        some = worker(r, log)
        async with running(some):
            await eventually(lambda: emptied(r), "the queue is empty")
        assert log.numbers == [0, 0]
        assert some.counters.retried == 1
        assert some.counters.balanced


async def test_a_worker_says_at_once_that_its_dead_letters_have_no_stream(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with rig(tmp_path) as r, running(worker(r, Log(), dead_letters="nowhere.workers")):
        await eventually(lambda: "no stream stores nowhere.workers" in caplog.text)


async def test_an_event_whose_publisher_used_odd_headers_is_handled(tmp_path: Path) -> None:
    """`Status` is what a server's word about a request has, too."""
    async with rig(tmp_path) as r:
        event = await r.client.publish("events.a", Task(number=5))
        headers = {"Content-Type": "application/cloudevents+json", "Status": "100"}
        await r.client.jetstream.publish("work.a", event.to_json(), headers=headers)
        log = Log()
        async with running(worker(r, log)):
            await eventually(lambda: emptied(r), "the queue is empty")
        assert log.numbers == [5]


async def test_data_whose_validator_fails_in_its_own_way_are_a_dead_letter(tmp_path: Path) -> None:
    class Picky(Task):
        @field_validator("name")
        @classmethod
        def _look_up(cls, name: str) -> str:
            return {"known": name}[name]

    async with rig(tmp_path) as r:
        await r.client.publish("work.a", Task(number=0, name="odd"))
        await r.client.publish("work.a", Task(number=1, name="known"))
        log = Log()
        async with running(Worker(r.client, "WORK", "workers", Picky, log)):
            await eventually(lambda: emptied(r), "the queue is empty")
        (letter,) = await r.dead_letters()
        assert (letter["reason"], letter["detail"]) == ("invalid", "KeyError: 'odd'")
        assert log.numbers == [1]


async def test_events_of_bytes_are_handled_and_published(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        got: list[bytes] = []

        async def handle(event: Event[bytes]) -> None:
            got.append(event.data)

        await r.client.publish("work.a", b"\x00\xff", type="com.example.picture.v1")
        await r.client.publish("work.a", Task(number=0))
        async with running(Worker(r.client, "WORK", "workers", bytes, handle)):
            await eventually(lambda: emptied(r), "the queue is empty")
        (letter,) = await r.dead_letters()
        assert got == [b"\x00\xff"]
        assert letter["detail"] == "its data are no bytes"


async def test_a_large_event_becomes_a_dead_letter_with_what_fits(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        event = await r.client.publish("work.a", Task(number=0, name="x" * 900_000))
        headers = {"Content-Type": "application/cloudevents+json", "Quoted": '"' * 60_000}
        await r.client.jetstream.publish("work.a", event.to_json(), headers=headers)
        async with running(worker(r, Log(lambda *_: PoisonError("never")))):
            await eventually(lambda: emptied(r), "the queue is empty")
        letters = await r.dead_letters()
        assert [letter["size"] for letter in letters] == 2 * [len(event.to_json())]
        for letter in letters:
            assert letter["truncated"]
            assert event.to_json().startswith(b64decode(letter["data_base64"]))


async def test_a_consumer_that_began_with_what_came_next_loses_nothing_when_it_is_deleted(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        await r.put(3, "events.before")
        log = Log()
        some = Worker(r.client, "EVENTS", "late", Task, log, from_now=True)
        async with running(some):
            await eventually(lambda: some.ready)
            await r.client.publish("events.a", Task(number=10))
            await eventually(lambda: log.numbers == [10])
            await r.client.jetstream.delete_consumer("EVENTS", "late")
            await r.client.publish("events.a", Task(number=11))
            await eventually(lambda: log.numbers == [10, 11])


@pytest.mark.slow
async def test_after_a_silence_of_the_server_no_more_is_handled_at_once_than_the_concurrency(tmp_path: Path) -> None:
    """The server hangs for longer than it may be silent; then it has the old requests and gets new ones."""
    async with rig(tmp_path) as r, connect(r.url, source="urn:example:other", ping_interval=60) as client:
        release, busy = asyncio.Event(), 0

        async def hold(_event: Event[Task]) -> None:
            nonlocal busy
            busy += 1
            await release.wait()
            busy -= 1

        some = Worker(client, "WORK", "workers", Task, hold, concurrency=3)
        async with running(some):
            await eventually(lambda: some.ready)
            r.server.pause()
            await asyncio.sleep(16)
            r.server.resume()
            for number in range(12):
                await r.client.publish("work.a", Task(number=number))
            await eventually(lambda: busy == 3)
            assert some.counters.delivered == 3
            release.set()
            await eventually(lambda: emptied(r), "the queue is empty", timeout=60)
        assert some.counters.balanced


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"concurrency": 0}, "concurrency=0: should be 1 or more"),
        ({"max_deliver": 0}, "max_deliver=0: should be 1 or more"),
        ({"ack_wait": 0.0}, "ack_wait=0: should be more than 0 s"),
        ({"concurrency": 2, "partitions": 1}, "concurrency=2: with partitions, each of them is one event at a time"),
    ],
)
async def test_options_that_make_no_sense_are_refused(tmp_path: Path, options: dict[str, float], said: str) -> None:
    async with rig(tmp_path) as r:
        with pytest.raises(ValueError, match=said):
            worker(r, Log(), **options)
        with pytest.raises(ValueError, match="needs a stream, or a subject"):
            Worker(r.client, None, "workers", Task, Log())
