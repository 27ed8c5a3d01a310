"""NATS without JetStream: held while there is no connection, then written."""

from __future__ import annotations

import asyncio
from pathlib import Path

from nats.aio.client import Client

from tests.nats.helpers import connection, event, events, ids, refused, stuck
from tests.support.checker import flushed, nats_client
from tests.support.server import nats_server
from tests.support.wait import eventually
from tidegate.nats import CorePublisher


async def _listen(client: Client) -> list[tuple[str, bytes]]:
    """Return a list that fills with the ids and bodies of what is published."""
    heard: list[tuple[str, bytes]] = []

    async def note(msg) -> None:
        heard.append((msg.headers["Nats-Msg-Id"], msg.data))

    await client.subscribe("plant.>", cb=note)
    await flushed(client)
    return heard


async def test_events_reach_a_subscriber_in_order_with_their_headers(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server, connection(server.port) as link, nats_client(server.port) as client:
        heard = await _listen(client)
        publisher = CorePublisher(link)
        sent = events(2000)
        assert await refused([await publisher.send(sent)]) == []
        await eventually(lambda: len(heard) == 2000)
        assert heard == [(one.id, one.body) for one in sent]


async def test_events_are_held_while_there_is_no_server_and_delivered_after(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server:
        await server.stop()
        async with connection(server.port) as link:
            publisher = CorePublisher(link)
            sending = [asyncio.create_task(publisher.send(events(10, first))) for first in (0, 10, 20)]
            await eventually(lambda: link.last_error, "it tried")
            assert not any(task.done() for task in sending)
            await server.start()
            async with nats_client(server.port) as client:
                heard = await _listen(client)
                for task in sending:
                    assert await refused([await asyncio.wait_for(task, 15)]) == []
                await eventually(lambda: heard and heard[-1][0] == "id-000029", "the last arrives")
                assert [name for name, _ in heard] == ids(events(30))[-len(heard) :]


async def test_what_nats_can_not_carry_is_refused_and_the_rest_flows(tmp_path: Path) -> None:
    """Law 8, also where only the headers push an event over the limit."""
    limit = 10_000
    async with (
        nats_server(tmp_path, f"max_payload: {limit}") as server,
        connection(server.port) as link,
        nats_client(server.port) as client,
    ):
        heard = await _listen(client)
        batch = [
            event(0),
            event(1, body=b"x" * (limit + 1)),
            event(2, body=b"x" * (limit - 50)),
            event(3, "plant." + "x" * 5000),
            event(4, "plant.with space"),
            event(5, "plant.\ud800"),
            event(6, ""),
            event(7),
        ]
        found = await refused([await asyncio.wait_for(CorePublisher(link).send(batch), 10)])
        assert [(one.event.id, one.error.reason) for one in found] == [
            ("id-000001", "too_large"),
            ("id-000002", "too_large"),
            ("id-000003", "refused"),
            ("id-000004", "refused"),
            ("id-000005", "refused"),
            ("id-000006", "refused"),
        ]
        await eventually(lambda: len(heard) == 2)
        assert [name for name, _ in heard] == ["id-000000", "id-000007"]
        assert (link.up, link.reconnects) == (True, 0)


async def test_a_send_that_waits_for_a_server_can_be_cancelled(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server, connection(server.port) as link:
        to = await link.ready()
        publisher = CorePublisher(link)
        server.pause()
        await publisher.send(events(2000, size=20_000))
        sending = asyncio.create_task(publisher.send(events(1)))
        await asyncio.wait_for(stuck(to), 15)
        sending.cancel()
        await asyncio.wait([sending], timeout=5)
        assert sending.cancelled()
        server.resume()
