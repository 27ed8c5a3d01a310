"""Publishing into JetStream while everything is well, and what a server refuses for good."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from nats.js.api import StreamConfig

from tests.nats.helpers import (
    answer_with,
    connection,
    event,
    events,
    ids,
    make_stream,
    only_these_tasks,
    refused,
    send_all,
    stored_ids,
    stored_on,
)
from tests.support.checker import nats_client
from tests.support.server import nats_server
from tests.support.wait import eventually
from tidegate.nats import Publisher


async def test_10_000_events_are_stored_once_each_in_order_under_their_ids(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server, connection(server.port) as link, Publisher(link, "up") as publisher:
        await make_stream(server.port)
        sent = events(10_000)
        assert await refused(await send_all(publisher, sent)) == []
        assert await stored_on(server.port) == ids(sent)
        assert (publisher.in_flight, publisher.duplicates, publisher.blocked) == (0, 0, None)


async def test_an_event_arrives_with_its_body_and_headers_untouched(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server, connection(server.port) as link, Publisher(link, "up") as publisher:
        await make_stream(server.port)
        body = bytes(range(256)) + b'"error":"duplicate":\r\n'
        await refused([await publisher.send([event(1, "plant.a", body, **{"ce-type": "a: b%0D"})])])
        async with nats_client(server.port) as client:
            msg = await client.jetstream().get_msg("SENSORS", 1)
        assert (msg.subject, msg.data) == ("plant.a", body)
        assert msg.headers["ce-type"] == "a: b%0D"


async def test_nothing_sent_is_finished_at_once(tmp_path: Path) -> None:
    async with connection(1) as link, Publisher(link, "up") as publisher:
        assert await refused([await publisher.send([])], timeout=5) == []
        assert publisher.in_flight == 0


async def test_an_event_that_the_stream_has_already_is_finished_and_counted_as_a_duplicate(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server, connection(server.port) as link, Publisher(link, "up") as publisher:
        await make_stream(server.port)
        await refused([await publisher.send(events(10))])
        assert await refused([await publisher.send(events(15))]) == []
        assert publisher.duplicates == 10
        assert await stored_on(server.port) == ids(events(15))


async def test_an_answer_that_is_no_puback_settles_nothing(tmp_path: Path) -> None:
    """Law 1: anyone may answer on a subject, only JetStream can say that an event is durable."""
    async with nats_server(tmp_path) as server, connection(server.port) as link, nats_client(server.port) as other:
        for answer in (b"thanks", b"", b"{}", b'"error":', b"[]"):
            await answer_with(other, "plant.sensors.*", answer)
        async with Publisher(link, "up", ack_timeout=0.3) as publisher:
            future = await publisher.send(events(5))
            await eventually(lambda: publisher.blocked, "the publisher says that nothing is delivered")
            assert not future.done()
            await make_stream(server.port)
            assert await refused([future]) == []
            assert await stored_on(server.port) == ids(events(5))


async def test_the_window_is_never_exceeded_in_events_or_in_bytes(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server, connection(server.port) as link:
        await make_stream(server.port)
        async with Publisher(link, "up", window=50, window_bytes=20_000) as publisher:
            highest = {10: 0, 1000: 0}
            for size, count in ((10, 25), (1000, 10)):
                futures = []
                for start in range(0, 1000, count):
                    futures.append(await publisher.send(events(count, size * 1000 + start, size=size)))
                    highest[size] = max(highest[size], publisher.in_flight)
                assert await refused(futures) == []
            assert highest[10] == 50
            assert highest[1000] <= 20
            assert len(await stored_on(server.port)) == 2000


async def test_send_waits_while_the_window_is_full_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    async with (
        nats_server(tmp_path) as server,
        connection(server.port) as link,
        Publisher(link, "up", window=10) as publisher,
    ):
        await publisher.send(events(10))
        waiting = asyncio.create_task(publisher.send(events(5, 10)))
        await eventually(lambda: publisher.blocked, "there is no stream")
        assert not waiting.done()
        assert publisher.in_flight == 10
        await make_stream(server.port)
        assert await refused([await asyncio.wait_for(waiting, 30)]) == []
        assert await stored_on(server.port) == ids(events(15))


async def test_waiting_for_bytes_is_waiting_too(tmp_path: Path) -> None:
    async with (
        nats_server(tmp_path) as server,
        connection(server.port) as link,
        Publisher(link, "up", window_bytes=1000) as publisher,
    ):
        await publisher.send(events(1, size=900))
        waiting = asyncio.create_task(publisher.send(events(1, 1, size=200)))
        await eventually(lambda: publisher.blocked, "there is no stream")
        assert (waiting.done(), publisher.in_flight) == (False, 1)
        await make_stream(server.port)
        assert await refused([await asyncio.wait_for(waiting, 30)]) == []


async def test_more_than_the_window_is_taken_when_nothing_else_is_in_flight(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server, connection(server.port) as link:
        await make_stream(server.port)
        async with Publisher(link, "up", window=10, window_bytes=100) as publisher:
            futures = [await publisher.send(events(30)), await publisher.send(events(30, 30))]
            assert await refused(futures) == []
            assert await stored_on(server.port) == ids(events(60))


async def test_cancelling_a_waiting_send_takes_nothing(tmp_path: Path) -> None:
    async with (
        nats_server(tmp_path) as server,
        connection(server.port) as link,
        Publisher(link, "up", window=10) as publisher,
    ):
        first = await publisher.send(events(10))
        given_up = [asyncio.create_task(publisher.send(events(5, 100 + number))) for number in range(3)]
        kept = asyncio.create_task(publisher.send(events(5, 10)))
        await eventually(lambda: publisher.blocked, "there is no stream")
        for task in given_up:
            task.cancel()
        await asyncio.gather(*given_up, return_exceptions=True)
        assert all(task.cancelled() for task in given_up)
        await make_stream(server.port)
        assert await refused([first, await asyncio.wait_for(kept, 30)]) == []
        assert await stored_on(server.port) == ids(events(15))


async def test_closing_cancels_what_is_unfinished_and_leaves_no_task(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server:
        before = asyncio.all_tasks()
        async with connection(server.port) as link:
            async with Publisher(link, "up") as publisher:
                futures = await send_all(publisher, events(500))
                await eventually(lambda: publisher.blocked, "there is no stream")
            assert all(future.cancelled() for future in futures)
        await only_these_tasks(before)


async def test_a_message_over_max_payload_is_refused_and_the_connection_stays(tmp_path: Path) -> None:
    """Law 8, on both sides of the limit: the body alone, and the body with its headers."""
    limit = 400_000
    async with nats_server(tmp_path, f"max_payload: {limit}") as server, connection(server.port) as link:
        await make_stream(server.port)
        async with Publisher(link, "up") as publisher:
            header_bytes = len("NATS/1.0\r\n\r\n") + sum(len(f"{k}: {v}\r\n") for k, v in event(0).headers.items())
            batch = [
                event(0),
                event(1, body=b"x" * (limit + 1)),
                event(2, body=b"x" * (limit - header_bytes + 1)),
                event(3, body=b"x" * (limit - header_bytes)),
                event(4, body=b"x" * 250_000, **{"ce-big": "y" * 200_000}),
                event(5),
            ]
            found = await refused([await publisher.send(batch)])
            assert [(one.event.id, one.error.reason) for one in found] == [
                ("id-000001", "too_large"),
                ("id-000002", "too_large"),
                ("id-000004", "too_large"),
            ]
            assert await stored_on(server.port) == ["id-000000", "id-000003", "id-000005"]
            assert (link.up, link.reconnects, publisher.blocked) == (True, 0, None)


async def test_a_refused_event_does_not_leave_the_publisher_blocked(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server, connection(server.port) as link, Publisher(link, "up") as publisher:
        future = await publisher.send([event(0), event(1, body=b"x" * 2_000_000)])
        await eventually(lambda: publisher.blocked, "there is no stream")
        await make_stream(server.port)
        assert [one.event.id for one in await refused([future])] == ["id-000001"]
        assert publisher.blocked is None


async def test_a_message_over_the_size_limit_of_the_stream_is_refused(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server, connection(server.port) as link, nats_client(server.port) as client:
        await client.jetstream().add_stream(StreamConfig(name="SENSORS", subjects=["plant.>"], max_msg_size=500))
        async with Publisher(link, "up") as publisher:
            found = await refused([await publisher.send([event(0), event(1, body=b"x" * 600), event(2)])])
            assert [(one.event.id, one.error.reason) for one in found] == [("id-000001", "too_large")]
            assert "size" in found[0].error.detail
            assert await stored_ids(client) == ["id-000000", "id-000002"]
            assert publisher.blocked is None


PERMISSIONS = """
accounts {
  PLANT {
    jetstream: enabled
    users: [
      {user: all, password: all}
      {user: edge, password: edge, permissions: {publish: {allow: ["plant.>", "$JS.API.>"], deny: ["plant.Secret.>"]}}}
    ]
  }
}
no_auth_user: edge
"""


async def test_what_may_not_be_published_is_refused_and_the_rest_flows(tmp_path: Path) -> None:
    async with nats_server(tmp_path, PERMISSIONS) as server, connection(server.port) as link:
        await make_stream(server.port)
        async with Publisher(link, "up") as publisher:
            batch = [event(number, "plant.Secret.x" if number % 10 == 3 else "plant.ok") for number in range(100)]
            found = await refused([await publisher.send(batch)])
            assert sorted(one.event.id for one in found) == ids(batch[3::10])
            assert {one.error.reason for one in found} == {"refused"}
            assert "plant.Secret.x" in found[0].error.detail
            assert await stored_on(server.port) == [one.id for one in batch if one.subject == "plant.ok"]
            assert (link.up, link.reconnects) == (True, 0)


@pytest.mark.parametrize(
    "bad",
    [
        event(1, "plant." + "x" * 5000),
        event(1, "plant.with space"),
        event(1, "plant.cr\r\nPUB evil 0\r\n\r\n"),
        event(1, ""),
        event(1, "plant.\ud800"),
        event(1)._replace(lines="ce-bad: \u00e9\r\n"),
        event(1, **{"ce-long": "x" * 70_000}),
    ],
    ids=["5 KB subject", "space", "cr lf", "empty", "surrogate", "header", "70 KB header"],
)
async def test_an_event_that_nats_can_not_carry_is_refused_and_stops_no_other(tmp_path: Path, bad) -> None:
    """Law 8. Bridges make no such event; still, one must not stop the others for ever."""
    async with nats_server(tmp_path) as server, connection(server.port) as link, Publisher(link, "up") as publisher:
        await make_stream(server.port)
        found = await refused([await publisher.send([event(0), bad, event(2)])])
        assert [(one.event, one.error.reason) for one in found] == [(bad, "refused")]
        assert await stored_on(server.port) == ["id-000000", "id-000002"]
        assert (link.up, link.reconnects) == (True, 0)
