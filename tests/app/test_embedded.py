"""`tidegate run --embedded`: a broker and a nats-server of our own, which live and die with the gateway."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.app.helpers import READINGS, gateway_config, running_with, tidegate
from tests.support.checker import envelopes, nats_client
from tests.support.gateway import GatewayProcess, gateway
from tests.support.generator import device
from tests.support.wait import eventually, port_open
from tidegate.app.child import EmbeddedError
from tidegate.app.config_file import load_config
from tidegate.app.embedded import embedded_broker, embedded_nats, free_port
from tidegate.app.run import run


def _write(folder: Path, mqtt: int, nats: int) -> tuple[Path, int]:
    http = free_port()
    path = folder / "tidegate.yaml"
    path.write_text(
        gateway_config(
            mqtt, nats, READINGS, mqtt_more='protocol: "3.1.1"', more=f"http: {{listen: 127.0.0.1:{http}}}\n"
        )
    )
    return path, http


async def _through(running: GatewayProcess, mqtt: int, nats: int, numbers: range) -> None:
    """Send readings and wait until the stream has them and all that came before."""
    async with device(mqtt) as sensor, nats_client(nats) as client:
        await sensor.send(numbers)
        await eventually(lambda: _delivered(running, len(numbers)), "they are delivered")
        assert [event.data["seq"] for event in await envelopes(client)] == list(range(numbers.stop))


async def _delivered(running: GatewayProcess, count: int) -> bool:
    return await running.total("tidegate_messages_delivered_total") >= count


async def _gone(folder: Path, *ports: int) -> bool:
    return not running_with(str(folder)) and not any([await port_open(port) for port in ports])


@pytest.mark.slow
async def test_both_servers_run_where_the_configuration_says_and_end_with_the_gateway(tmp_path: Path) -> None:
    """After SIGTERM and after SIGKILL; what is stored is there in the next life."""
    mqtt, nats = free_port(), free_port()
    path, http = _write(tmp_path, mqtt, nats)
    async with gateway(path, http, "--embedded") as running:
        await _through(running, mqtt, nats, range(10))
        assert list((tmp_path / "state" / "nats").iterdir())
        assert any("nats-server" in line for line in running_with(str(tmp_path)).values())
        assert await running.stop(signal.SIGTERM) == 0
        assert await _gone(tmp_path, mqtt, nats)

        await running.start()
        await _through(running, mqtt, nats, range(10, 20))
        await running.kill()
        await eventually(lambda: _gone(tmp_path, mqtt, nats), "the servers are gone too")

        await running.start()
        await _through(running, mqtt, nats, range(20, 30))
        assert await running.stop(signal.SIGINT) == 0
    assert await _gone(tmp_path, mqtt, nats)


async def test_servers_that_can_t_be_brought_along_are_refused_with_1_and_the_reason(tmp_path: Path) -> None:
    texts = {
        "no TLS": 'mqtt: {url: "mqtts://127.0.0.1:8883"}\n',
        "speak no TLS": 'nats: {servers: ["tls://127.0.0.1:4222"]}\n',
        "no TLS: use": "nats: {tls: {}}\n",
        "mqtt.url names broker.example": 'mqtt: {url: "mqtt://broker.example:1883"}\n',
        "nats.servers names 192.0.2.1": 'nats: {servers: ["nats://192.0.2.1:4222"]}\n',
    }
    path = tmp_path / "c.yaml"
    for words, text in texts.items():
        path.write_text(f"gateway: a\nhttp: null\n{text}bridges: [{{name: b, mqtt: a, nats: p}}]\n")
        with pytest.raises(EmbeddedError, match=f"^--embedded servers .*{words}"):
            await run(path, load_config(path), embedded=True)
    finished = await tidegate("run", "--embedded", "-c", path)
    assert finished.status == 1
    (line,) = finished.err.splitlines()
    assert line.startswith("tidegate: --embedded servers listen on 127.0.0.1, but nats.servers names 192.0.2.1")
    assert not (tmp_path / "state").exists()


async def test_a_port_in_use_is_told_at_once(tmp_path: Path) -> None:
    """And not by a time-out: the nats-server itself says why."""
    taken = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with taken, asyncio.timeout(15):
        port = taken.sockets[0].getsockname()[1]
        with pytest.raises(EmbeddedError, match=r"nats-server did not start: .*address already in use"):
            async with embedded_nats(port, tmp_path / "nats"):
                pass
        with pytest.raises(EmbeddedError, match=rf"the broker can't listen on port {port}: .*in use"):
            async with embedded_broker(port, "5", tmp_path / "mqtt"):
                pass
    assert not running_with(str(tmp_path))


async def test_a_state_folder_that_can_t_be_made_ends_with_1_and_one_line(tmp_path: Path) -> None:
    path, _ = _write(tmp_path, free_port(), free_port())
    (tmp_path / "state").write_text("a file")
    finished = await tidegate("run", "--embedded", "-c", path)
    assert finished.status == 1
    assert "Traceback" not in finished.err
    assert str(tmp_path / "state") in finished.err.splitlines()[-1]
