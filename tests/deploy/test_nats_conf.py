"""deploy/nats/nats.conf: what each user needs it has, and nothing more; on a real server, with a real gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import nats.errors
import nats.js.errors
import pytest

from tests.app.helpers import tidegate
from tests.deploy.site import (
    deployed_gateway,
    deployed_mosquitto,
    deployed_nats,
    mqtt_user,
    nats_user,
    password,
    replaced,
)
from tests.support.checker import flushed
from tests.support.gateway import GatewayProcess
from tests.support.server import Server
from tests.support.wait import eventually
from tidegate.client import connect

pytestmark = pytest.mark.usefixtures("nats_passwords")

CONSUMER = "tidegate-plant-1-commands"
READING = "sensors/hall/s1/reading"


async def _delivered(running: GatewayProcess, bridge: str, count: int) -> bool:
    metrics = await running.metrics()
    return metrics["tidegate_messages_delivered_total", (("bridge", bridge),)] >= count


async def _dead(running: GatewayProcess, count: int) -> bool:
    return await running.total("tidegate_messages_dead_lettered_total") >= count


@asynccontextmanager
async def _stopped_at_the_end(running: GatewayProcess) -> AsyncIterator[GatewayProcess]:
    try:
        yield running
    finally:
        await running.stop()


def _refusals(server: Server) -> list[str]:
    return [line for line in server.log.read_text().splitlines() if "iolation" in line]


@pytest.mark.slow
async def test_the_gateway_can_do_all_that_it_has_to_and_is_refused_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It makes its streams, delivers, sets aside, keeps last values, and brings commands to a device; after a restart
    what was on its way down comes again."""
    async with deployed_mosquitto(tmp_path / "mqtt") as broker, deployed_nats(tmp_path / "nats") as server:
        running = deployed_gateway(tmp_path, broker.port, server.port, monkeypatch)
        async with (
            nats_user(server.port, "operator") as operator,
            mqtt_user(broker.port, "s1") as device,
            _stopped_at_the_end(running),
        ):
            running.config.write_text(running.config.read_text() + "consumers: [{stream: SENSORS, name: kitchen}]\n")
            await running.start()
            await eventually(lambda: "kitchen of stream SENSORS" in running.log_text(), "it asks how far behind one is")
            await device.publish(READING, b'{"temperature": 21.5}', qos=1)
            await device.publish(READING, b"no json", qos=1)
            await eventually(lambda: _delivered(running, "readings", 1), "it is delivered")
            await eventually(lambda: _dead(running, 1), "it is set aside")
            jetstream = operator.client.jetstream()
            for stream in ("SENSORS", "DEAD_LETTERS", "KV_LAST"):
                await eventually(lambda stream=stream: _holds(jetstream, stream, 1), f"{stream} has it")
            await device.subscribe("commands/hall/s1", qos=1)
            await operator.client.jetstream().publish("plant.commands.hall.s1", b"on")
            message = await asyncio.wait_for(anext(device.messages), 15)
            assert message.payload == b"on"
            await eventually(lambda: _delivered(running, "commands", 1), "the command is delivered")
            assert await running.stop() == 0
            await jetstream.publish("plant.commands.hall.s1", b"off")
            await _take_without_acknowledging(operator.client)
            await running.start()
            message = await asyncio.wait_for(anext(device.messages), 15)
            assert message.payload == b"off"
            assert await running.stop() == 0
        assert _refusals(server) == []


async def _holds(jetstream: Any, stream: str, count: int) -> bool:
    return bool((await jetstream.stream_info(stream)).state.messages >= count)


async def _take_without_acknowledging(client: Any) -> None:
    """Leave a message where a kill would have left it: delivered to the gateway's consumer, and without +ACK."""
    subscription = await client.jetstream().pull_subscribe_bind(CONSUMER, "COMMANDS")
    (message,) = await subscription.fetch(1, timeout=10)
    assert message.data == b"off"


@pytest.mark.slow
async def test_once_the_streams_are_there_it_need_not_be_able_to_make_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = {f'"$JS.API.STREAM.CREATE.{name}"': "" for name in STREAMS}
    async with deployed_mosquitto(tmp_path / "mqtt") as broker:
        async with deployed_nats(tmp_path / "nats") as server:
            running = deployed_gateway(tmp_path, broker.port, server.port, monkeypatch)
            await running.start()
            await running.stop()
            port = server.port
        async with deployed_nats(tmp_path / "nats", without) as server:
            running.config.write_text(running.config.read_text().replace(str(port), str(server.port)))
            async with _stopped_at_the_end(running), mqtt_user(broker.port, "s1") as device:
                await running.start()
                await device.publish(READING, b'{"temperature": 21.5}', qos=1)
                await eventually(lambda: _delivered(running, "readings", 1), "it is delivered")
            assert _refusals(server) == []


@pytest.mark.slow
async def test_a_change_of_a_stream_waits_for_update_to_be_let_in_while_messages_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_in = {f'# "$JS.API.STREAM.UPDATE.{name}"': f'"$JS.API.STREAM.UPDATE.{name}"' for name in STREAMS}
    async with deployed_mosquitto(tmp_path / "mqtt") as broker, deployed_nats(tmp_path / "nats") as server:
        running = deployed_gateway(tmp_path, broker.port, server.port, monkeypatch)
        async with (
            nats_user(server.port, "operator") as operator,
            mqtt_user(broker.port, "s1") as device,
            _stopped_at_the_end(running),
        ):
            await running.start()
            await eventually(lambda: "bucket LAST" in running.log_text(), "the streams are there")
            await running.stop()
            running.config.write_text(replaced(running.config, {"max_age: 7d": "max_age: 6d"}))
            await running.start(ready=False)
            await eventually(lambda: "stream SENSORS could not be looked at" in running.log_text(), "it says so", 30)
            await device.publish(READING, b'{"temperature": 21.5}', qos=1)
            await eventually(lambda: _delivered(running, "readings", 1), "it is delivered")
            assert (await operator.client.jetstream().stream_info("SENSORS")).config.max_age == 7 * DAY
            config = tmp_path / "nats" / "nats.conf"
            config.write_text(replaced(config, let_in))
            server.reload()
            await eventually(lambda: _keeps(operator.client.jetstream(), 6 * DAY), "it is changed", 60)


DAY = 86400


async def _keeps(jetstream: Any, age: float) -> bool:
    with suppress(nats.js.errors.ServiceUnavailableError):  # for a moment of a reload JetStream answers nobody
        return bool((await jetstream.stream_info("SENSORS")).config.max_age == age)
    return False


@pytest.mark.slow
async def test_dead_letters_are_for_the_operator_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same file, with another login."""
    async with deployed_mosquitto(tmp_path / "mqtt") as broker, deployed_nats(tmp_path / "nats") as server:
        running = deployed_gateway(tmp_path, broker.port, server.port, monkeypatch)
        async with mqtt_user(broker.port, "s1") as device, _stopped_at_the_end(running):
            await running.start()
            await device.publish(READING, b"no json", qos=1)
            await eventually(lambda: _dead(running, 1), "it is set aside")
        secrets = tmp_path / "operator"
        secrets.mkdir()
        (secrets / "nats").write_text(password("operator"))
        (secrets / "mqtt").write_text("")
        operator = {"TIDEGATE_NATS_USER": "operator", "TIDEGATE_SECRETS": str(secrets)}
        seen, refused = await asyncio.gather(
            tidegate("dlq", "ls", "-c", running.config, **operator), tidegate("dlq", "ls", "-c", running.config)
        )
        assert (seen.status, refused.status) == (0, 1)
        assert "decode_failed" in seen.out
        assert "decode_failed" not in refused.out


STREAMS = ("SENSORS", "COMMANDS", "DEAD_LETTERS", "KV_LAST")


@asynccontextmanager
async def _site_with_streams(folder: Path) -> AsyncIterator[Server]:
    """Run the server, with a reading and a command stored."""
    async with deployed_nats(folder) as server, nats_user(server.port, "operator") as operator:
        jetstream = operator.client.jetstream()
        await jetstream.add_stream(name="SENSORS", subjects=["plant.sensors.>"])
        await jetstream.add_stream(name="COMMANDS", subjects=["plant.commands.>"])
        await jetstream.add_stream(name="OTHERS", subjects=["others.>"])
        await jetstream.add_stream(name="DEAD_LETTERS", subjects=["dead.*"])
        await jetstream.create_key_value(bucket="LAST", direct=True)
        await jetstream.publish("plant.sensors.hall.s1", b"{}")
        yield server


CONSUME = json.dumps({"stream_name": "SENSORS", "config": {"durable_name": "spy", "ack_policy": "none"}}).encode()

FORBIDDEN = {
    "delete a stream": ("$JS.API.STREAM.DELETE.SENSORS", b""),
    "purge a stream": ("$JS.API.STREAM.PURGE.SENSORS", b""),
    "read a stored message": ("$JS.API.STREAM.MSG.GET.SENSORS", b'{"seq": 1}'),
    "read a stored message directly": ("$JS.API.DIRECT.GET.SENSORS", b'{"seq": 1}'),
    "read a last value": ("$JS.API.DIRECT.GET.KV_LAST.$KV.LAST.x", b""),
    "delete a message": ("$JS.API.STREAM.MSG.DELETE.SENSORS", b'{"seq": 1}'),
    "consume readings": ("$JS.API.CONSUMER.CREATE.SENSORS.spy", CONSUME),
    "consume readings the old way": ("$JS.API.CONSUMER.DURABLE.CREATE.SENSORS.spy", CONSUME),
    "take from another's consumer": ("$JS.API.CONSUMER.MSG.NEXT.SENSORS.kitchen", b""),
    "delete a consumer": (f"$JS.API.CONSUMER.DELETE.COMMANDS.{CONSUMER}", b""),
    "change a stream": ("$JS.API.STREAM.UPDATE.SENSORS", b'{"name": "SENSORS", "max_msgs": 1}'),
    "change a bucket": ("$JS.API.STREAM.UPDATE.KV_LAST", b'{"name": "KV_LAST"}'),
    "make another stream": ("$JS.API.STREAM.CREATE.SPY", b'{"name": "SPY", "subjects": [">"]}'),
    "list the streams": ("$JS.API.STREAM.LIST", b""),
    "give itself a command": ("plant.commands.hall.s1", b"x"),
    "publish elsewhere": ("others.x", b"x"),
    "forge a last value": ("$KV.LAST.x", b"x"),
    "acknowledge for another": ("$JS.ACK.SENSORS.kitchen.1.1.1.1.0", b"+ACK"),
    "ask the system": ("$SYS.REQ.SERVER.PING", b""),
}


@pytest.fixture
async def stocked(tmp_path: Path, nats_passwords: None) -> AsyncIterator[Server]:
    async with _site_with_streams(tmp_path / "nats") as server:
        yield server


async def test_the_gateway_can_do_nothing_else(stocked: Server) -> None:
    """Each attempt is answered by the server's permissions error, and by nothing else."""
    async with nats_user(stocked.port, "gateway") as user, nats_user(stocked.port, "operator") as operator:
        answers = await user.client.subscribe("_INBOX.spy.>")
        for number, (subject, body) in enumerate(FORBIDDEN.values()):
            await user.client.publish(subject, body, reply=f"_INBOX.spy.{number}")
        for subject, _ in FORBIDDEN.values():
            await user.refusal(subject)
        assert answers.pending_msgs == 0
        jetstream = operator.client.jetstream()
        assert await _holds(jetstream, "SENSORS", 1)
        assert not await _holds(jetstream, "OTHERS", 1)


@pytest.mark.parametrize("stream", ["SENSORS", "COMMANDS", "DEAD_LETTERS", "KV_LAST"])
async def test_to_create_a_stream_that_is_there_does_nothing_to_it(stocked: Server, stream: str) -> None:
    other = {"name": stream, "sources": [{"name": "OTHERS"}], "republish": {"src": ">", "dest": "_INBOX.mine.>"}}
    async with nats_user(stocked.port, "gateway") as user, nats_user(stocked.port, "operator") as operator:
        before = (await operator.client.jetstream().stream_info(stream)).config
        answer = await user.client.request(f"$JS.API.STREAM.CREATE.{stream}", json.dumps(other).encode(), timeout=10)
        assert json.loads(answer.data)["error"]["err_code"] == _NAME_IN_USE
        assert (await operator.client.jetstream().stream_info(stream)).config == before


_NAME_IN_USE = 10058
"""The err_code for a stream that is there with another configuration."""


async def test_an_answer_goes_wherever_who_asks_says(stocked: Server) -> None:
    """What nats.conf owns up to: no permission bounds a reply subject, so no alarm may rest on that."""
    async with (
        nats_user(stocked.port, "gateway") as gateway,
        nats_user(stocked.port, "service", "_SERVICE") as service,
        nats_user(stocked.port, "operator") as operator,
    ):
        jetstream = operator.client.jetstream()
        await gateway.client.publish("$JS.API.STREAM.INFO.SENSORS", reply="plant.commands.hall.s1")
        await eventually(lambda: _holds(jetstream, "COMMANDS", 1), "a command that nobody sent")
        await service.client.jetstream().pull_subscribe("", durable="kitchen", stream="SENSORS")
        await service.client.publish("$JS.API.CONSUMER.MSG.NEXT.SENSORS.kitchen", b"1", reply="dead.readings")
        await eventually(lambda: _holds(jetstream, "DEAD_LETTERS", 1), "a dead letter that is none")
        assert gateway.refused == service.refused == []


async def test_the_gateway_can_hear_what_the_operator_is_answered(stocked: Server) -> None:
    """As nats.conf says."""
    async with nats_user(stocked.port, "gateway") as user, nats_user(stocked.port, "operator") as operator:
        heard = await user.client.subscribe("_INBOX.>")
        await flushed(user.client)
        await operator.client.jetstream().get_msg("SENSORS", 1)
        assert b"plant.sensors.hall.s1" in (await heard.next_msg(10)).data


@pytest.mark.parametrize("subject", ["plant.sensors.>", ">", "$SYS.>", "$JS.EVENT.>", "_SERVICE.>", "$KV.LAST.>"])
async def test_the_gateway_hears_nothing_but_answers(stocked: Server, subject: str) -> None:
    async with nats_user(stocked.port, "gateway") as user:
        await user.client.subscribe(subject)
        await user.refusal(subject, "subscription")


async def test_a_service_reads_events_and_last_values_and_sends_commands(stocked: Server) -> None:
    async with nats_user(stocked.port, "service", "_SERVICE") as user, nats_user(stocked.port, "operator") as operator:
        await operator.client.publish("$KV.LAST.hall", b"21.5")
        jetstream = user.client.jetstream()
        subscription = await jetstream.pull_subscribe("", durable="kitchen", stream="SENSORS")
        (message,) = await subscription.fetch(1, timeout=10)
        await message.ack_sync(timeout=10)
        assert (await (await jetstream.key_value("LAST")).get("hall")).value == b"21.5"
        await jetstream.publish("plant.commands.hall.s1", b"on")
        await flushed(user.client)
        assert user.refused == []
        for subject in ("plant.sensors.hall.s1", "$JS.API.STREAM.PURGE.SENSORS", "$JS.API.STREAM.DELETE.SENSORS"):
            await user.client.publish(subject, b"")
            await user.refusal(subject)
        await user.client.subscribe("_INBOX.>")
        await user.refusal("_INBOX.>", "subscription")
        assert await _holds(operator.client.jetstream(), "SENSORS", 1)


async def test_a_service_with_our_client_works_with_an_inbox_of_its_own(stocked: Server) -> None:
    async with connect(
        f"nats://127.0.0.1:{stocked.port}",
        source="urn:example:kitchen",
        user="service",
        password=password("service"),
        inbox_prefix=b"_SERVICE",
    ) as client:
        event = await client.publish("plant.commands.hall.s1", {"on": True}, type="com.example.switch.v1")
        assert event.id


async def test_who_watches_the_server_sees_no_message(stocked: Server) -> None:
    async with nats_user(stocked.port, "monitor") as watcher:
        assert (await watcher.client.request("$SYS.REQ.SERVER.PING", b"", timeout=10)).data
        with pytest.raises(nats.js.errors.ServiceUnavailableError):
            await watcher.client.jetstream().stream_info("SENSORS")


async def test_who_owns_the_messages_does_not_see_the_server(stocked: Server) -> None:
    async with nats_user(stocked.port, "operator") as operator:
        with pytest.raises(nats.errors.NoRespondersError):
            await operator.client.request("$SYS.REQ.SERVER.PING", b"", timeout=10)


@pytest.mark.parametrize(
    "login",
    [{}, {"user": "gateway", "pass": "x"}, {"user": "gateway", "pass": "$NATS_GATEWAY_PASSWORD"}],
    ids=["none", "a wrong password", "the name of the variable"],
)
async def test_nobody_comes_in_without_a_password(stocked: Server, login: dict[str, str]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", stocked.port)
    writer.write(f"CONNECT {json.dumps(login)}\r\nPING\r\n".encode())
    try:
        assert b"-ERR 'Authorization Violation'" in await asyncio.wait_for(reader.read(), 15)
    finally:
        writer.close()
