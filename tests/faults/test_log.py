"""The log has a line for a change of state, and none for a message."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.app.helpers import log_lines
from tests.faults.observe import books, gateway, until_link
from tests.support.fake_broker import fake_broker
from tests.support.gateway import write_config
from tests.support.generator import publish_packet, reading
from tests.support.proxy import proxy
from tests.support.server import any_broker, nats_server
from tests.support.wait import eventually

COUNT = 10_000

BAD = [
    (b"sensors/hall/d1/reading", b"not JSON"),
    (b"sensors/hall/d1/reading", b"\xff\xfe"),
    (b"sensors/hall/d1/reading", b""),
    (b"sensors/hall/\xff/reading", b"1"),
    (b"sensors/hall/reading", b"1"),
    (b"sensors/hall/d1/reading", b"[" * 5000),
    (b"sensors/hall/d1/reading", b'{"a": "' + b"x" * 2_000_000 + b'"}'),
    (b"sensors/hall/" + b"d" * 5000 + b"/reading", b"1"),
]


@pytest.mark.slow
async def test_ten_thousand_messages_good_and_bad_are_no_line_of_the_log(tmp_path: Path) -> None:
    async with fake_broker() as broker, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, broker.port, server.port, more="log: {format: json}\n")
        async with gateway(config, http, ready=False) as running:
            connection = await broker.connection()
            await connection.accept()
            await eventually(running.delivering, "it delivers")
            await eventually(lambda: "guarantee" in running.log_text(), "the start is told")
            before = len(log_lines(running.log_text()))
            for first in range(0, COUNT, 100):
                packets = [_odd(number) if number % 10 == 0 else _good(number) for number in range(first, first + 100)]
                await connection.send(b"".join(packets))
                for _ in packets:
                    await connection.read_packet()
            assert await running.total("tidegate_messages_dead_lettered_total") >= COUNT // 20
            assert (await books(running)).received == COUNT
            lines = log_lines(running.log_text())
            assert lines[before:] == []
            assert {line["bridge"] for line in lines if "bridge" in line} == {"readings"}


def _good(number: int) -> bytes:
    return publish_packet(b"sensors/hall/d1/reading", reading("d1", number), 1, number % 100 + 1, 0, b"")


def _odd(number: int) -> bytes:
    kind = number // 10 % len(BAD)
    if kind == 6 and number > 500:
        kind = 0  # some large ones are enough
    return publish_packet(*BAD[kind], 1, number % 100 + 1, 0, b"")


@pytest.mark.slow
async def test_links_that_flap_are_told_some_times_and_then_as_a_number(tmp_path: Path) -> None:
    async with (
        any_broker(tmp_path / "mqtt") as broker,
        nats_server(tmp_path / "nats") as server,
        proxy(server.port) as nats_link,
        proxy(broker) as mqtt_link,
    ):
        config, http = write_config(tmp_path, mqtt_link.port, nats_link.port, more="log: {format: json}\n")
        async with gateway(config, http) as running:
            for number in range(15):
                for endpoint, link in (("nats", nats_link), ("mqtt", mqtt_link)):
                    link.cut()
                    wanted = number + 1

                    async def again(endpoint: str = endpoint, wanted: int = wanted) -> bool:
                        samples = await running.metrics()
                        return any(
                            name == "tidegate_reconnects_total"
                            and dict(labels)["endpoint"] == endpoint
                            and count >= wanted
                            for (name, labels), count in samples.items()
                        )

                    await eventually(again, f"{endpoint} is connected again", 30)
            await until_link(running, "nats", up=True)
        lines = [line["message"] for line in log_lines(running.log_text())]
    for text in ("nats: connected to", "nats: not connected", "readings: connected to", "readings: not connected"):
        told = [line for line in lines if line.startswith(text)]
        assert len(told) <= 12, told
        assert "more in the last" in told[-1]
