"""Publishing into JetStream while the server, the link or the stream fails: nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from nats.js.api import DiscardPolicy, StreamConfig

from tests.nats.helpers import (
    connection,
    error_of,
    event,
    events,
    ids,
    make_stream,
    only_these_tasks,
    refused,
    send_all,
    stored_ids,
    stored_on,
    stuck,
)
from tests.support.checker import nats_client
from tests.support.proxy import proxy
from tests.support.server import nats_server
from tests.support.wait import eventually
from tidegate.nats import Login, Publisher


@pytest.mark.slow
async def test_a_server_killed_again_and_again_in_mid_publish_loses_doubles_and_reorders_nothing(
    tmp_path: Path,
) -> None:
    """F7."""
    sent = events(30_000)
    async with nats_server(tmp_path) as server, connection(server.port) as link:
        await make_stream(server.port)
        async with Publisher(link, "up", window=1000) as publisher:
            sending = asyncio.create_task(send_all(publisher, sent))
            for kill in range(4):
                target = (kill + 1) * 3000
                await eventually(lambda: _stored(server.port, target), "some are stored", 30)  # noqa: B023
                await eventually(lambda: link.up and publisher.in_flight >= 500, "it is in mid publish")
                await server.kill()
                await server.start()
            assert await refused(await sending, 60) == []
            assert await stored_on(server.port) == ids(sent)
            assert link.reconnects >= 3


async def _stored(port: int, least: int) -> bool:
    async with nats_client(port) as client:
        return (await client.jetstream().stream_info("SENSORS")).state.messages >= least


async def test_events_are_held_while_the_server_is_away_and_stored_in_order_once_it_is_back(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server, connection(server.port) as link, Publisher(link, "up") as publisher:
        await make_stream(server.port)
        futures = await send_all(publisher, events(100))
        await refused(futures)
        await server.stop()
        await eventually(lambda: not link.up, "the connection is gone")
        futures = await send_all(publisher, events(300, 100))
        assert publisher.in_flight == 300
        await server.start()
        assert await refused(futures) == []
        assert await stored_on(server.port) == ids(events(400))


async def test_events_whose_pubacks_are_lost_are_stored_once(tmp_path: Path) -> None:
    """F23."""
    async with nats_server(tmp_path) as server, proxy(server.port) as faulty, connection(faulty.port) as link:
        await make_stream(server.port)
        async with Publisher(link, "up", ack_timeout=0.5) as publisher, nats_client(server.port) as client:
            await refused([await publisher.send(events(10))])
            faulty.down = False
            futures = await send_all(publisher, events(500, 10))
            await eventually(lambda: _has(client, 510), "the stream has them")
            await eventually(lambda: publisher.blocked, "the publisher says that no PubAck comes")
            assert "PubAck" in str(publisher.blocked)
            assert publisher.in_flight == 500
            faulty.restore()
            assert await refused(futures) == []
            assert publisher.duplicates >= 400
            assert publisher.blocked is None
            assert await stored_ids(client) == ids(events(510))


async def _has(client, count: int) -> bool:
    return (await client.jetstream().stream_info("SENSORS")).state.messages >= count


@pytest.mark.slow
async def test_a_half_open_link_is_noticed_in_under_30_s_and_nothing_hangs(tmp_path: Path) -> None:
    """F9."""
    async with nats_server(tmp_path) as server, proxy(server.port) as faulty, connection(faulty.port) as link:
        await make_stream(server.port)
        async with Publisher(link, "up") as publisher:
            await refused([await publisher.send(events(10))])
            faulty.black_hole()
            since = time.monotonic()
            futures = await send_all(publisher, events(2000, 10))
            assert "no sign of life" in await error_of(link, 30)
            assert time.monotonic() - since < 30
            faulty.restore()
            assert await refused(futures, 30) == []
            assert await stored_on(server.port) == ids(events(2010))


@pytest.mark.slow
async def test_a_server_that_hangs_with_full_buffers_is_noticed_and_leaves_no_task(tmp_path: Path) -> None:
    """Unlike with a black hole, bytes wait in every buffer on the way, and closing waits for them too."""
    async with nats_server(tmp_path) as server:
        await make_stream(server.port)
        before = asyncio.all_tasks()
        async with connection(server.port) as link, Publisher(link, "up", window_bytes=10**9) as publisher:
            await refused([await publisher.send(events(1, 5000))])
            healthy = len(asyncio.all_tasks())
            server.pause()
            futures = await send_all(publisher, events(2000, size=20_000))
            await eventually(lambda: not link.up, "the hanging server is noticed", 30)
            server.resume()
            assert await refused(futures, 60) == []
            assert await stored_on(server.port) == ids([event(5000), *events(2000)])
            await eventually(lambda: len(asyncio.all_tasks()) == healthy, "as many tasks as before")
        await only_these_tasks(before)


async def test_a_publisher_that_waits_for_a_hanging_server_closes_at_once(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server, connection(server.port) as link:
        await make_stream(server.port)
        async with AsyncExitStack() as stack:
            publisher = await stack.enter_async_context(Publisher(link, "up", window_bytes=10**9))
            to = await link.ready()
            server.pause()
            futures = await send_all(publisher, events(2000, size=20_000))
            await asyncio.wait_for(stuck(to), 15)
            async with asyncio.timeout(5):
                await stack.aclose()
            assert all(future.cancelled() for future in futures)
        server.resume()


async def test_without_a_stream_nothing_is_lost_and_it_goes_on_once_there_is_one(tmp_path: Path) -> None:
    """F21, also with a stream that is deleted while running."""
    async with nats_server(tmp_path) as server, connection(server.port) as link, Publisher(link, "up") as publisher:
        futures = await send_all(publisher, events(200))
        await eventually(lambda: publisher.blocked, "the publisher says why")
        assert "no stream" in str(publisher.blocked)
        assert not any(future.done() for future in futures)
        await make_stream(server.port)
        assert await refused(futures) == []
        assert await stored_on(server.port) == ids(events(200))
        assert publisher.blocked is None
        async with nats_client(server.port) as client:
            await client.jetstream().delete_stream("SENSORS")
        futures = await send_all(publisher, events(200, 200))
        await eventually(lambda: publisher.blocked, "the publisher says why again")
        await make_stream(server.port)
        assert await refused(futures) == []
        assert await stored_on(server.port) == ids(events(200, 200))


async def test_a_stream_deleted_and_created_under_load_ends_with_every_later_event(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server, connection(server.port) as link, nats_client(server.port) as client:
        await make_stream(server.port)
        async with Publisher(link, "up", window=500) as publisher:
            sending = asyncio.create_task(send_all(publisher, events(5000), 50))
            await eventually(lambda: _has(client, 500), "it flows")
            await client.jetstream().delete_stream("SENSORS")
            await eventually(lambda: publisher.blocked or sending.done(), "it is blocked")
            held = publisher.in_flight
            await make_stream(server.port)
            assert await refused(await sending) == []
            stored = await stored_ids(client)
            assert held > 0
            assert len(stored) == len(set(stored))
            assert stored[-1] == "id-004999"
            assert set(ids(events(5000))[-held:]) <= set(stored)


@pytest.mark.slow
async def test_a_full_stream_blocks_without_a_busy_loop_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """F20."""
    async with nats_server(tmp_path) as server, connection(server.port) as link, nats_client(server.port) as client:
        config = StreamConfig(name="SENSORS", subjects=["plant.>"], max_msgs=100, discard=DiscardPolicy.NEW)
        await client.jetstream().add_stream(config)
        async with Publisher(link, "up", window=1000) as publisher:
            futures = await send_all(publisher, events(1000))
            await eventually(lambda: publisher.blocked, "the publisher says why")
            assert "maximum messages" in str(publisher.blocked)
            await eventually(lambda: publisher.in_flight == 900, "what fits is stored")
            assert await _cpu_share(5.0) < 0.05
            stored = []
            while len(stored) < 1000:
                found = await stored_ids(client)
                stored += found
                await client.jetstream().purge_stream("SENSORS")
                await eventually(lambda: _full_or_done(client, publisher), "it is full again", 30)
            assert await refused(futures) == []
            assert sorted(stored) == ids(events(1000))
            await eventually(lambda: publisher.blocked is None)


async def _full_or_done(client, publisher: Publisher) -> bool:
    return publisher.in_flight == 0 or await _has(client, 100)


async def _cpu_share(seconds: float) -> float:
    """Return the share of one CPU that this process takes. The sleep is the measurement."""
    started, cpu = time.monotonic(), time.process_time()
    await asyncio.sleep(seconds)
    return (time.process_time() - cpu) / (time.monotonic() - started)


async def test_a_user_who_can_not_hear_pubacks_blocks_and_does_not_store_copies(tmp_path: Path) -> None:
    extra = """
    authorization {
      users: [
        {user: all, password: all}
        {user: deaf, password: deaf, permissions: {subscribe: {deny: "_INBOX.>"}}}
      ]
    }
    no_auth_user: all
    """
    login = Login(username="deaf", password=lambda: "deaf")
    async with nats_server(tmp_path, extra) as server, connection(server.port, login=login) as link:
        await make_stream(server.port, duplicate_window=0.1)
        async with Publisher(link, "up", ack_timeout=0.1) as publisher:
            await publisher.send(events(10))
            await eventually(lambda: "may not subscribe" in str(publisher.blocked), "it says why")
            await asyncio.sleep(1.0)  # long enough for copies, if it made any
            assert await stored_on(server.port) in ([], ids(events(10)))
            assert publisher.in_flight == 10


async def test_a_full_account_is_waited_for_and_refuses_no_event(tmp_path: Path) -> None:
    """JetStream answers it as a bad request, but no event is at fault."""
    extra = "accounts {PLANT {jetstream: {max_file: 60KB}, users: [{user: u, password: p}]}}\nno_auth_user: u"
    async with nats_server(tmp_path, extra) as server, connection(server.port) as link:
        await make_stream(server.port)
        async with Publisher(link, "up") as publisher, nats_client(server.port) as client:
            futures = await send_all(publisher, events(100, size=1000))
            await eventually(lambda: publisher.blocked, "the publisher says why")
            stored = await stored_ids(client)
            await client.jetstream().purge_stream("SENSORS")
            assert await refused(futures) == []
            stored += await stored_ids(client)
            assert sorted(stored) == ids(events(100))


async def test_a_sealed_stream_is_waited_for_and_refuses_no_event(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server, connection(server.port) as link, nats_client(server.port) as client:
        await make_stream(server.port)
        info = await client.jetstream().stream_info("SENSORS")
        await client.jetstream().update_stream(info.config.evolve(sealed=True))
        async with Publisher(link, "up") as publisher:
            futures = await send_all(publisher, events(10))
            await eventually(lambda: publisher.blocked, "the publisher says why")
            assert "sealed" in str(publisher.blocked)
            await client.jetstream().delete_stream("SENSORS")
            await make_stream(server.port)
            assert await refused(futures) == []
            assert await stored_ids(client) == ids(events(10))


@pytest.mark.slow
async def test_a_slow_uplink_causes_no_storm_of_resends(tmp_path: Path) -> None:
    """F12: PubAcks come late here, and one send takes longer than the time after which an event counts as overdue."""
    async with nats_server(tmp_path) as server, proxy(server.port) as faulty, connection(faulty.port) as link:
        await make_stream(server.port)
        faulty.rate = 100_000
        async with Publisher(link, "up", ack_timeout=2.0) as publisher:
            sent = events(2000, size=1000)
            futures = await send_all(publisher, sent, 2000)
            assert await refused(futures, 90) == []
            assert publisher.resends < 200
            assert (link.up, link.reconnects) == (True, 0)
            faulty.rate = None
            assert await refused([await publisher.send(events(10, 5000))]) == []
            assert await stored_on(server.port) == ids(sent + events(10, 5000))


async def test_a_blocked_publisher_does_not_hold_up_another_on_the_same_connection(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server, connection(server.port) as link:
        await make_stream(server.port, "OPEN", ("open.>",))
        async with Publisher(link, "stuck") as stuck, Publisher(link, "open") as flowing:
            held = await send_all(stuck, [event(number, "closed.x") for number in range(100)])
            await eventually(lambda: stuck.blocked, "one is blocked")
            sent = [event(number, "open.x") for number in range(5000)]
            assert await refused(await send_all(flowing, sent)) == []
            assert await stored_on(server.port, "OPEN") == ids(sent)
            assert flowing.blocked is None
            assert stuck.in_flight == 100
            await make_stream(server.port, "CLOSED", ("closed.>",))
            assert await refused(held) == []
            assert link.reconnects == 0
