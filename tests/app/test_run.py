"""`tidegate run` as a process: start, stop, reload, and servers that are not there."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest
from nats.aio.client import Client

from tests.app.helpers import ALARMS, READINGS, gateway_config, log_lines, tidegate
from tests.support.checker import balance, envelopes, nats_client
from tests.support.gateway import GatewayProcess, gateway, get
from tests.support.generator import Device, device
from tests.support.server import any_broker, nats_server
from tests.support.wait import eventually, port_open
from tidegate.app.embedded import free_port

COUNT = 5000
DEADLINE = 10.0
"""Seconds that a stop may take over its shutdown_timeout: to close connections, on a busy machine."""


def _write(folder: Path, text: str) -> tuple[Path, int]:
    """Write a configuration with an endpoint on a free port."""
    http = free_port()
    path = folder / "tidegate.yaml"
    path.write_text(f"http: {{listen: 127.0.0.1:{http}}}\n{text}")
    return path, http


def _config(mqtt: int, nats: int, bridges: str = READINGS, **more: str) -> str:
    return gateway_config(mqtt, nats, bridges, more="", **more)


def _messages(running: GatewayProcess) -> str:
    return "\n".join(line["message"] for line in log_lines(running.log_text()))


async def _delivered(running: GatewayProcess, count: int) -> bool:
    return await running.total("tidegate_messages_delivered_total") >= count


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_under_load_ends_in_order_and_loses_and_doubles_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        path, http = _write(tmp_path, _config(broker, server.port))
        stops = asyncio.Event()
        async with (
            gateway(path, http) as running,
            device(broker) as sensor,
            nats_client(server.port) as client,
            asyncio.TaskGroup() as group,
        ):
            sending = group.create_task(_send_until(sensor, stops))
            for part in (1, 2, 3):
                await eventually(lambda part=part: len(sensor.acknowledged) >= COUNT * part // 5, "it sends")
                assert await running.stop(number) == 0
                await running.start()
            assert not sending.done()
            stops.set()
            await sending
            count = len(sensor.acknowledged)
            await eventually(lambda: _stored(client, count), "everything is stored", 60)
            result = balance(await envelopes(client), sensor.name, sensor.acknowledged)
            assert (result.stored, result.lost, result.doubled) == (count, set(), {})
        assert "stopped with" not in _messages(running)


async def _send_until(sensor: Device, enough: asyncio.Event) -> None:
    """Send until there is enough, at least COUNT; at a rate that leaves the machine to others."""
    number = 0
    while number < COUNT or not enough.is_set():
        await sensor.send(range(number, number + 20))
        number += 20
        await asyncio.sleep(0.005)


async def _stored(client: Client, count: int) -> bool:
    return (await client.jetstream().stream_info("SENSORS")).state.messages >= count


async def test_a_stop_while_nats_is_down_is_in_time_and_the_next_start_delivers(tmp_path: Path) -> None:
    """What was not settled in time the broker still has, the rest is in the spool."""
    async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        path, http = _write(tmp_path, _config(broker, server.port).replace("timeout: 5s", "timeout: 500ms"))
        async with gateway(path, http) as running, device(broker) as sensor:
            await server.stop()
            await sensor.send(range(20))
            start = time.monotonic()
            assert await running.stop() == 0
            assert time.monotonic() - start < 0.5 + DEADLINE
            await server.start()
            await running.start()
            await eventually(lambda: _delivered(running, 20), "they come again")
            async with nats_client(server.port) as client:
                result = balance(await envelopes(client), sensor.name, sensor.acknowledged)
            assert (result.lost, result.doubled) == (set(), {})


async def test_without_nats_at_the_start_messages_are_spooled_and_delivered_once_it_is_there(tmp_path: Path) -> None:
    async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        await server.stop()
        path, http = _write(tmp_path, _config(broker, server.port))
        async with gateway(path, http, ready=False) as running, device(broker) as sensor:
            await eventually(lambda: _refused(running), "/-/ready says why")
            assert (await get(http, "/-/healthy"))[0] == 200
            await eventually(lambda: _mqtt_up(running), "it listens to the broker")
            assert await running.ready()
            await sensor.send(range(10))
            await eventually(lambda: _spooled(running, 10), "they are on the disk")
            assert await running.total("tidegate_messages_delivered_total") == 0
            await server.start()
            await eventually(lambda: _delivered(running, 10), "they are delivered")
            await eventually(running.ready, "it is ready")
            async with nats_client(server.port) as client:
                assert [event.data["seq"] for event in await envelopes(client)] == list(range(10))


async def _refused(running: GatewayProcess) -> bool:
    return "refused" in (await running.nats_away() or "")


async def _spooled(running: GatewayProcess, count: int) -> bool:
    return await running.total("tidegate_messages_spooled") == count


async def _mqtt_up(running: GatewayProcess) -> bool:
    metrics = await running.metrics()
    return metrics["tidegate_connection_up", (("bridge", "readings"), ("endpoint", "mqtt"))] == 1


async def test_without_a_broker_the_gateway_runs_and_says_so(tmp_path: Path) -> None:
    async with nats_server(tmp_path / "nats") as server:
        mqtt = free_port()
        path, http = _write(tmp_path, _config(mqtt, server.port))
        async with gateway(path, http, ready=False) as running:
            await eventually(lambda: _names(running, f"readings: mqtt: mqtt://127.0.0.1:{mqtt}: "), "it says why")
            assert (await get(http, "/-/ready"))[0] == 503


async def _names(running: GatewayProcess, start: str) -> bool:
    return any(problem.startswith(start) for problem in await running.problems())


async def test_a_stream_that_does_not_fit_ends_the_start_with_1_and_a_clear_sentence(tmp_path: Path) -> None:
    async with nats_server(tmp_path / "nats") as server, nats_client(server.port) as client:
        await client.jetstream().add_stream(name="SENSORS", subjects=["plant.sensors.>"], max_bytes=1_000_000)
        path, _ = _write(tmp_path, _config(free_port(), server.port, stream_more="retention: workqueue"))
        path.write_text(path.read_text() + "log: {level: error, format: text}\n")
        finished = await tidegate("run", "-c", path)
        assert finished.status == 1
        assert finished.err.splitlines()[-1] == (
            "tidegate: stream SENSORS: it exists with retention limits, the configuration says workqueue; "
            "NATS can't change that"
        )
        assert "Traceback" not in finished.err
        assert (await client.jetstream().stream_info("SENSORS")).config.max_bytes == 1_000_000


async def test_sighup_reads_the_file_again_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    """The metric goes 1, 0, 1; all the while the old bridge's connection stands and its messages flow."""
    async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        path, http = _write(tmp_path, _config(broker, server.port))
        good = path.read_text()
        async with gateway(path, http) as running, device(broker) as sensor:
            assert await running.total("tidegate_config_last_reload_successful") == 1
            path.write_text(good + "foo: 1\n")
            await _reload(running, 0)
            await sensor.send(range(5))
            await eventually(lambda: _delivered(running, 5), "the old bridge goes on")
            assert await running.ready()
            path.unlink()
            await _reload(running, 0)
            path.write_text(good.replace(READINGS, READINGS + ALARMS))
            await _reload(running, 1)
            await eventually(running.ready, "the new bridge is up too")
            metrics = await running.metrics()
            up = {labels: value for (name, labels), value in metrics.items() if name == "tidegate_connection_up"}
            assert len(up) == 3
            assert set(up.values()) == {1}
            assert await running.total("tidegate_reconnects_total") == 0
            assert metrics["tidegate_messages_delivered_total", (("bridge", "readings"),)] == 5
        messages = _messages(running)
        assert f"reload: {path}: line {len(good.splitlines()) + 1}, foo: unknown key" in messages
        assert "can't be read: No such file" in messages


async def _reload(running: GatewayProcess, successful: int) -> None:
    """Ask for a reload and wait for its outcome."""
    assert running.process is not None
    before = _messages(running).count("reload: ")
    running.process.send_signal(signal.SIGHUP)
    await eventually(lambda: _messages(running).count("reload: ") > before, "it is read again")
    await eventually(lambda: port_open(running.http), "it listens, again where the address was another meanwhile")
    assert await running.total("tidegate_config_last_reload_successful") == successful


@pytest.mark.parametrize("wrong", ["state_dir: /proc/nope", "http: {{listen: 127.0.0.1:{taken}}}"])
async def test_a_reload_of_what_can_not_be_had_changes_nothing(tmp_path: Path, wrong: str) -> None:
    """Whatever else the file says: the bridge has another name there."""
    async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        path, http = _write(tmp_path, _config(broker, server.port))
        good = path.read_text()
        async with gateway(path, http) as running, device(broker) as sensor:
            line = wrong.format(taken=server.port)
            rest = [one for one in good.splitlines() if not one.startswith(line.split(":")[0])]
            path.write_text("\n".join([*rest, line]).replace("name: readings", "name: others"))
            await _reload(running, 0)
            await eventually(running.delivering, "it delivers again")
            await sensor.send(range(5))
            await eventually(lambda: _has_delivered(running, "readings", 5), "the bridge of before delivers")
            path.write_text(good)
            await _reload(running, 1)


async def _has_delivered(running: GatewayProcess, bridge: str, count: int) -> bool:
    metrics = await running.metrics()
    return metrics.get(("tidegate_messages_delivered_total", (("bridge", bridge),))) == count


async def test_a_reload_changes_the_log_level_and_format(tmp_path: Path) -> None:
    path, http = _write(tmp_path, _config(free_port(), free_port()))
    good = path.read_text()
    async with gateway(path, http, ready=False) as running:
        path.write_text(good + "log: {level: debug, format: text}\n")
        assert running.process is not None
        running.process.send_signal(signal.SIGHUP)
        await eventually(lambda: " INFO    reload: " in running.log_text(), "it logs as text")


async def test_the_log_of_a_life_is_json_lines(tmp_path: Path) -> None:
    async with any_broker(tmp_path / "mqtt") as broker, nats_server(tmp_path / "nats") as server:
        path, http = _write(tmp_path, _config(broker, server.port))
        async with gateway(path, http) as running:  # the last that it says before it is told to stop
            await eventually(lambda: "weaker: SENSORS has one replica" in running.log_text())
        lines = log_lines(running.log_text())
        assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
        assert {line["level"] for line in lines} == {"info"}
        messages = [line["message"] for line in lines]
        assert "nats: stream SENSORS created for plant.sensors.>" in messages
        assert messages[-2:] == ["stopping: 0 messages in flight", "stopped"]
