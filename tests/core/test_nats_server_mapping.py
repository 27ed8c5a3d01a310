"""nats-server's own MQTT listener as the oracle: a topic has the same subject there and here."""

from __future__ import annotations

import random
from pathlib import Path

from nats.aio.msg import Msg

from tests.support.checker import flushed, nats_client
from tests.support.generator import device, publish_packet
from tests.support.server import nats_server
from tests.support.wait import eventually
from tidegate.app.embedded import free_port
from tidegate.core import topic_to_subject

_KNOWN = [
    "a/b", "/a", "a/", "a//b", "/", "//", "///", "a//", "//a", "a.b/c", ".", "..", "a.", ".a", "a..b", "a/.", "./a",
    "a/./b", "a/.b", "a./b", "/.", "./", ".//.", "$x/y", "50%", "a%b", "%2a", "%2f/x", "é/ß", "\U0001f600/x", "\ufeffa",
    "a\u00a0b", "a\u0085b", "a\u2003b", "a\u2028b", "\u3000", "{x}", "a\\b", '"', "'", "a:b@c", "a" * 2000,
]  # fmt: skip
_CHARACTERS = "ab./$%é\u00a0{,"


async def test_nats_servers_own_mqtt_chooses_the_same_subject(tmp_path: Path) -> None:
    """For every topic that it accepts and that has nothing that we escape: space, controls, wildcards, `%XX`."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    topics = _KNOWN + ["".join(rng.choices(_CHARACTERS, k=rng.randint(1, 9))) for _ in range(400)]
    chosen: dict[str, str] = {}

    async def record(msg: Msg) -> None:
        number, _, topic = msg.data.decode(errors="replace").partition(" ")
        if number.isdigit() and topic:
            chosen[topic] = msg.subject

    port = free_port()
    async with (
        nats_server(tmp_path, f'mqtt {{listen: "127.0.0.1:{port}"}}') as server,
        nats_client(server.port) as client,
        device(port) as sensor,
    ):
        await client.subscribe(">", cb=record)
        await flushed(client)
        for number, topic in enumerate(topics):
            await sensor.send_raw(publish_packet(topic.encode(), f"{number} {topic}".encode()))
        await eventually(lambda: len(chosen) == len(set(topics)), "every topic came out as a subject")
    assert chosen == {topic: topic_to_subject(topic) for topic in topics}
