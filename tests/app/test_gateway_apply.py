"""Law 9: what runs is what the configuration says, and one function makes it so. In process, with real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.app.helpers import ALARMS, READINGS, gateway_config, load, other_tasks
from tests.support.checker import envelopes, nats_client
from tests.support.gateway import get
from tests.support.generator import device
from tests.support.receiver import receiver
from tests.support.server import Server, any_broker, nats_server
from tests.support.wait import eventually, port_open
from tidegate.app.config import Config
from tidegate.app.embedded import free_port
from tidegate.app.gateway import Gateway
from tidegate.app.http import HttpServer, ListenError
from tidegate.app.pages import gateway_pages


class Servers(NamedTuple):
    """A broker, a nats-server, and the folder for a configuration."""

    broker: int
    nats: Server
    folder: Path

    def config(self, bridges: str = READINGS, **more: str) -> Config:
        """Return a configuration for these servers."""
        return load(self.folder, gateway_config(self.broker, self.nats.port, bridges, **more))


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[Servers]:
    async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        yield Servers(broker, server, tmp_path)


async def _ready(gateway: Gateway) -> None:
    await eventually(lambda: not gateway.problems and gateway.away is None, "the gateway delivers")


def _connects(gateway: Gateway) -> dict[str, int]:
    return {name: running.session.connects for name, running in gateway.bridges.items()}


async def test_apply_starts_reloads_and_stops_by_the_difference(servers: Servers) -> None:
    """One after the other: start, the same again, one bridge changed, added, removed, nats changed, stopped."""
    before = other_tasks()
    async with Gateway() as gateway:
        both = READINGS + ALARMS
        await gateway.apply(servers.config(both))
        assert gateway.problems
        await _ready(gateway)
        readings, alarms, connection = gateway.bridges["readings"], gateway.bridges["alarms"], gateway.connection
        tasks = other_tasks()

        await gateway.apply(servers.config(both))
        await _ready(gateway)
        assert gateway.bridges == {"readings": readings, "alarms": alarms}
        assert gateway.connection is connection
        assert _connects(gateway) == {"readings": 1, "alarms": 1}
        await eventually(lambda: other_tasks() == tasks, "the same tasks as before")

        await gateway.apply(servers.config(READINGS + ALARMS.replace("alarms/{", "alerts/{")))
        await _ready(gateway)
        assert gateway.bridges["readings"] is readings
        assert gateway.bridges["alarms"] is not alarms
        assert gateway.bridges["alarms"].session.options.topic_filter == "alerts/+"
        assert _connects(gateway) == {"readings": 1, "alarms": 1}

        await gateway.apply(servers.config(both + READINGS.replace("readings", "more")))
        await _ready(gateway)
        assert list(gateway.bridges) == ["readings", "alarms", "more"]
        assert gateway.bridges["readings"] is readings

        await gateway.apply(servers.config())
        await _ready(gateway)
        assert gateway.bridges == {"readings": readings}
        assert readings.session.connects == 1
        assert gateway.connection is connection

        await gateway.apply(servers.config(mqtt_more="keep_alive: 7s"))
        await _ready(gateway)
        assert gateway.bridges["readings"] is not readings
        assert gateway.connection is connection

        await gateway.apply(None)
        assert gateway.bridges == {}
        assert gateway.connection is None
        assert other_tasks() == before
        await gateway.apply(None)
    assert other_tasks() == before


async def test_a_changed_nats_section_starts_everything_again(servers: Servers) -> None:
    """On another NATS server the streams are made too, and messages arrive there."""
    async with nats_server(servers.folder / "other") as other, Gateway() as gateway:
        await gateway.apply(servers.config())
        await _ready(gateway)
        readings, connection = gateway.bridges["readings"], gateway.connection
        await gateway.apply(servers._replace(nats=other).config())
        await _ready(gateway)
        assert gateway.bridges["readings"] is not readings
        assert gateway.connection is not connection
        async with device(servers.broker) as sensor, nats_client(other.port) as client:
            await sensor.send(range(3))
            await eventually(lambda: gateway.bridges["readings"].totals.delivered == 3)
            assert [event.data["seq"] for event in await envelopes(client)] == [0, 1, 2]


async def test_a_bridge_that_did_not_change_goes_on_under_load(servers: Servers) -> None:
    """While its neighbour is restarted again and again, everything it gets is stored once and in order."""
    async with Gateway() as gateway, device(servers.broker) as sensor, nats_client(servers.nats.port) as client:
        await gateway.apply(servers.config(READINGS + ALARMS))
        await _ready(gateway)
        readings = gateway.bridges["readings"]
        for step in range(8):
            await sensor.send(range(step * 100, step * 100 + 100))
            await gateway.apply(servers.config(READINGS + ALARMS.replace("alarms/{", f"alarms{step}/{{")))
        await eventually(lambda: readings.totals.delivered == 800)
        assert gateway.bridges["readings"] is readings
        assert [event.data["seq"] for event in await envelopes(client)] == list(range(800))


async def test_the_endpoint_moves_where_the_configuration_says(servers: Servers) -> None:
    first, second = free_port(), free_port()
    async with Gateway() as gateway:
        gateway.pages = gateway_pages(gateway)
        await gateway.apply(servers.config(more=f"http: {{listen: 127.0.0.1:{first}}}\n"))
        assert (await get(first, "/-/healthy"))[0] == 200
        readings = gateway.bridges["readings"]
        await gateway.apply(servers.config(more=f"http: {{listen: 127.0.0.1:{second}}}\n"))
        assert (await get(second, "/-/healthy"))[0] == 200
        assert not await port_open(first)
        await gateway.apply(servers.config(more="http: null\n"))
        assert not await port_open(second)
        assert gateway.bridges["readings"] is readings


async def test_an_endpoint_in_use_is_told_and_had_again_once_it_is_free(servers: Servers) -> None:
    """The bridges run without it meanwhile, and the same configuration is enough to try again."""
    async with Gateway() as gateway:
        gateway.pages = gateway_pages(gateway)
        async with HttpServer(("127.0.0.1", 0), {}) as other:
            port = other.address[1]
            config = servers.config(more=f"http: {{listen: 127.0.0.1:{port}}}\n")
            with pytest.raises(ListenError):
                await gateway.apply(config)
            await _ready(gateway)
        await gateway.apply(config)
        assert (await get(port, "/-/ready"))[0] == 200
        assert _connects(gateway) == {"readings": 1}


async def test_a_stream_that_does_not_fit_ends_a_start_and_not_a_reload(servers: Servers) -> None:
    """However often such a configuration is applied, what ran goes on, and says what is wrong."""
    async with Gateway() as gateway:
        await gateway.apply(servers.config())
        await _ready(gateway)
        readings = gateway.bridges["readings"]
        for key, value in (("storage", "memory"), ("retention", "workqueue"), ("storage", "memory")):
            await gateway.apply(servers.config(stream_more=f"{key}: {value}"))
            words = f"{key} "
            await eventually(lambda words=words: any(words in problem for problem in gateway.problems))
            assert not gateway.failed.done()
        assert gateway.bridges["readings"] is readings
        await gateway.apply(servers.config())
        await _ready(gateway)
    async with Gateway() as gateway:
        await gateway.apply(servers.config(stream_more="storage: memory"))
        await eventually(gateway.failed.done)
        with pytest.raises(Exception, match=r"stream SENSORS: it exists with storage file, the configuration says mem"):
            gateway.failed.result()


async def test_a_password_file_that_is_no_text_is_a_problem_until_it_is_one(servers: Servers) -> None:
    (servers.folder / "pw").write_bytes(b"\xff\xfe")
    async with Gateway() as gateway:
        await gateway.apply(servers.config(mqtt_more="username: u, password_file: pw"))
        await eventually(lambda: any("not UTF-8" in problem for problem in gateway.problems))
        (servers.folder / "pw").write_text("secret\n")
        await _ready(gateway)


NOTICES = """\
  - {name: notices, direction: down, nats: "plant.sensors.notices.{customer}", mqtt: "customers/{customer}/notice"}
"""


async def test_a_down_bridge_is_added_changed_and_removed_like_any_other(servers: Servers) -> None:
    """What is published while it is not there comes once it is there again: its consumer stays."""
    before = other_tasks()
    async with receiver(servers.broker) as device, nats_client(servers.nats.port) as client, Gateway() as gateway:
        stream = client.jetstream()
        await gateway.apply(servers.config(READINGS))
        await _ready(gateway)
        readings = gateway.bridges["readings"]

        await gateway.apply(servers.config(READINGS + NOTICES))
        await _ready(gateway)
        await stream.publish("plant.sensors.notices.c1", b"1")
        await eventually(lambda: device.payloads == [b"1"], "it arrives")

        await gateway.apply(servers.config(READINGS))
        assert list(gateway.bridges) == ["readings"]
        await stream.publish("plant.sensors.notices.c1", b"2")

        await gateway.apply(servers.config(READINGS + NOTICES.replace("/notice", "/note")))
        await eventually(lambda: device.payloads == [b"1", b"2"], "what waited arrives")
        assert [str(message.topic) for message in device.messages] == ["customers/c1/notice", "customers/c1/note"]
        assert gateway.bridges["readings"] is readings
        assert readings.session.connects == 1
        await eventually(lambda: gateway.bridges["notices"].totals.in_flight == 0, "it is settled")
        totals = gateway.bridges["notices"].totals
        assert (totals.received, totals.delivered) == (1, 1)
    await eventually(lambda: other_tasks() <= before, "no task is left")
