"""Messages that are looked into, from a real client through a real broker and the real gateway into a real stream."""

from __future__ import annotations

import json
from pathlib import Path

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.checker import envelopes, nats_client, stored
from tests.support.gateway import GatewayProcess, gateway
from tests.support.server import any_broker, nats_server
from tests.support.wait import eventually
from tidegate.app.embedded import free_port

CONFIG = """\
gateway: test
state_dir: state
mqtt: {{url: "mqtt://127.0.0.1:{mqtt}"}}
nats: {{servers: ["nats://127.0.0.1:{nats}"]}}
streams:
  - {{name: EVENTS, subjects: ["plant.>"]}}
bridges:
  - name: readings
    mqtt: loggers/{{device}}
    nats: plant.{{partition(4, device)}}.{{device}}
    each: readings
    filter: "quality != 'bad'"
    time: at
    correlation: root().batch
    select: "{{device: capture('device'), celsius: round(multiply(raw, `0.01`), `2`)}}"
    schema: reading.json
    type: com.example.reading.v1
  - name: events
    mqtt: events/{{name}}
    nats: plant.events.{{name}}
    mode: binary
http: {{listen: 127.0.0.1:{http}}}
"""
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": "https://example.com/reading.json",
    "type": "object",
    "properties": {"device": {"type": "string"}, "celsius": {"type": "number", "minimum": -50, "maximum": 90}},
}
NOW = 1_780_000_000


def write_config(folder: Path, mqtt: int, nats: int) -> tuple[Path, int]:
    http = free_port()
    (folder / "reading.json").write_text(json.dumps(SCHEMA))
    path = folder / "tidegate.yaml"
    path.write_text(CONFIG.format(mqtt=mqtt, nats=nats, http=http))
    return path, http


def logger_says(number: int, *raw: int) -> str:
    readings = [{"raw": one, "at": NOW + number, "quality": "bad" if one == 666 else "good"} for one in raw]
    return json.dumps({"batch": f"batch-{number}", "readings": readings})


async def counts(running: GatewayProcess) -> dict[str, float]:
    """Return the terms of law 6."""
    names = ("received_total", "delivered_total", "dead_lettered_total", "filtered_total", "in_flight", "spooled")
    return {name.removesuffix("_total"): await running.total(f"tidegate_messages_{name}") for name in names}


async def test_readings_of_a_logger_become_events_each_once_through_an_outage_of_nats(tmp_path: Path) -> None:
    async with any_broker(tmp_path / "mqtt") as port, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, port, server.port)
        async with gateway(config, http) as running, aiomqtt.Client("127.0.0.1", port) as client:

            async def send(numbers: range) -> None:
                for number in numbers:
                    await client.publish(f"loggers/d{number % 7}", logger_says(number, 2000, 666, 2100 + number), qos=1)

            await send(range(20))
            await client.publish("loggers/d1", logger_says(0, 666), qos=1)  # all of it filtered
            await client.publish("loggers/d1", logger_says(0, 2000, 99_999), qos=1)  # too hot to be true
            await server.stop()
            await send(range(20, 40))
            await eventually(lambda: _is(running, "in_flight", 0), "everything is settled to MQTT")
            await server.start()
            await eventually(lambda: _is(running, "delivered", 40), "everything is delivered", 30)
            expected = {
                "received": 42,
                "delivered": 40,
                "dead_lettered": 1,
                "filtered": 1,
                "in_flight": 0,
                "spooled": 0,
            }
            assert await counts(running) == expected
        async with nats_client(server.port) as nats:
            events = await envelopes(nats, "EVENTS")
            subjects = {message.subject for message in await stored(nats, "EVENTS")}
            (letter,) = await envelopes(nats, "DEAD_LETTERS")
    assert [event.data["celsius"] for event in events] == [value for n in range(40) for value in (20.0, 21 + n / 100)]
    assert len({event.id for event in events}) == 80
    assert [event.id.rpartition(".")[2] for event in events] == ["0", "2"] * 40
    assert [event.correlationid for event in events] == [f"batch-{n}" for n in range(40) for _ in range(2)]
    assert {event.time.timestamp() - NOW for event in events if event.time} == set(range(40))
    assert {event.dataschema for event in events} == {"https://example.com/reading.json"}
    assert {subject.count(".") for subject in subjects} == {2}
    assert len(subjects) == 7
    assert (letter.model_dump()["reason"], letter.correlationid) == ("schema_failed", "batch-0")
    assert "[1] $.celsius: " in letter.model_dump()["detail"]


async def test_an_event_in_mqtt_5s_binary_mode_arrives_in_natss(tmp_path: Path) -> None:
    async with any_broker(tmp_path / "mqtt") as port, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, port, server.port)
        attributes = {
            "specversion": "1.0", "id": "o-1", "source": "/shop/7", "type": "com.example.order.placed.v1",
            "time": "2026-05-28T20:26:40Z", "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        }  # fmt: skip
        properties = Properties(PacketTypes.PUBLISH)
        properties.ContentType = "application/json"
        properties.UserProperty = list(attributes.items())
        async with (
            gateway(config, http) as running,
            aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5) as client,
        ):
            await client.publish("events/placed", '{"dish": "soup"}', qos=1, properties=properties)
            await eventually(lambda: _is(running, "delivered", 1), "the event is delivered")
        async with nats_client(server.port) as nats:
            (message,) = await stored(nats, "EVENTS")
    assert message.data == b'{"dish": "soup"}'
    headers = dict(message.headers or {})
    assert {name: headers.get(f"ce-{name}") for name in attributes} == attributes
    assert headers["Content-Type"] == "application/json"
    assert headers["Nats-Msg-Id"] not in ("o-1", "")  # it is unique with its source alone
    assert headers["ce-correlationid"] == "o-1"


async def _is(running: GatewayProcess, name: str, count: int) -> bool:
    return (await counts(running))[name] == count
