"""`tidegate tap`: what comes is shown beside what the gateway would make of it, and nobody else is disturbed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.app.helpers import command
from tests.sparkplug.payloads import Node
from tests.support.checker import envelopes, nats_client
from tests.support.fake_broker import FakeConnection, fake_broker
from tests.support.gateway import gateway, write_config
from tests.support.generator import device, packet, publish_packet
from tests.support.server import any_broker, nats_server
from tests.support.wait import eventually
from tidegate.app.cli import main
from tidegate.app.embedded import free_port

CONFIG = """\
gateway: test
mqtt: {{url: "mqtt://127.0.0.1:{port}", max_payload: 1KiB, receive_maximum: 2}}
bridges:
  - name: readings
    mqtt: sensors/{{site}}/{{device}}
    nats: plant.{{site}}.{{device}}
    type: com.example.reading.v1
    filter: "value != 'nothing'"
  - {{name: shared, mqtt: "$share/g/sensors/hall/#", nats: hall, decode: raw}}
"""
SUMMARY = "messages {}, events {}, filtered {}, dead letters {}, taken by no bridge {}"


class Tap:
    """A running `tidegate tap`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.err = ""

    async def says(self, words: str) -> None:
        """Wait for a line on standard error with these words."""
        assert self.process.stderr is not None
        async with asyncio.timeout(30):
            while words not in self.err:
                line = await self.process.stderr.readline()
                assert line, f"it ended: {self.err}"
                self.err += line.decode()

    async def line(self) -> str:
        """Return the next line of output."""
        assert self.process.stdout is not None
        async with asyncio.timeout(30):
            return (await self.process.stdout.readline()).decode().rstrip("\n")

    async def end(self, number: signal.Signals | None = None) -> tuple[int, list[str], str]:
        """End it, or wait for its end; return the exit status, the rest of its output, and its last words."""
        if number is not None:
            self.process.send_signal(number)
        async with asyncio.timeout(30):
            out, err = await self.process.communicate()
        self.err += err.decode()
        assert "Traceback" not in self.err
        text = out.decode()
        assert all(char == "\n" or char.isprintable() for char in text + self.err), ascii(text)
        assert self.process.returncode is not None
        return self.process.returncode, text.splitlines(), self.err.splitlines()[-1]


@asynccontextmanager
async def tapping(folder: Path, port: int, *arguments: str, more: str = "") -> AsyncIterator[Tap]:
    """Run a tap on a broker. more: bridges."""
    config = folder / "tap.yaml"
    config.write_text(CONFIG.format(port=port) + more)
    process = await asyncio.create_subprocess_exec(
        *command("tap", "-c", config, *arguments), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield Tap(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert not (folder / "state").exists()  # that is the gateway's


MESSAGES = [
    (b"sensors/hall/s1", b'{"value": "\\u001b[2J\xc3\xa9"}'),
    (b"sensors/yard/s1", b'{"value": "nothing"}'),
    ("sensors/yard/é\u202e".encode(), b"{torn \x1b[2J"),
    (b"else/where", b"\xff\x1b"),
    (b"sensors/yard/s2", b"x" * 5000),
]


async def test_each_message_is_shown_with_what_every_bridge_would_make_of_it(tmp_path: Path) -> None:
    async with any_broker(tmp_path) as port, tapping(tmp_path, port, "#") as tap, device(port) as some:
        await tap.says("subscribed to '#'")
        for topic, payload in MESSAGES:
            await some.send_raw(publish_packet(topic, payload))
        lines = []
        while not lines or not lines[-1].startswith("    payload: xxx"):
            lines.append(await tap.line())
        status, rest, last = await tap.end(signal.SIGINT)
    assert (status, rest, last) == (0, [], SUMMARY.format(5, 2, 1, 2, 1))
    constant = [
        line for line in lines if not line.startswith(("    id:", "    correlationid:", "    time:", "    recorded"))
    ]
    assert constant[:-1] == [
        "sensors/hall/s1  24 bytes",
        "  readings -> plant.hall.s1",
        "    source: urn:tidegate:test:readings",
        "    type: com.example.reading.v1",
        "    datacontenttype: application/json",
        '    data: {"value": "\\u001b[2Jé"}',
        "  shared -> hall",
        "    source: urn:tidegate:test:shared",
        "    type: io.tidegate.message.v1",
        "    datacontenttype: application/octet-stream",
        "    data_base64: eyJ2YWx1ZSI6ICJcdTAwMWJbMkrDqSJ9",
        "sensors/yard/s1  20 bytes",
        "  readings: filtered",
        '    payload: {"value": "nothing"}',
        "sensors/yard/é\\u202e  10 bytes",
        "  readings: dead letter: decode_failed: not JSON: unexpected character, expected a string key: line 1 column "
        "2 (char 1)",
        "    payload: {torn \\x1b[2J",
        "else/where  2 bytes",
        "  no bridge takes it",
        "    payload: (hex) ff 1b",
        "sensors/yard/s2  5000 bytes",
        "  readings: dead letter: payload_too_large: the payload is over the configured limit; its first part is kept",
    ]
    assert constant[-1] == "    payload: " + "x" * 1024


async def test_json_is_an_object_a_line_in_ascii_and_count_ends_it(tmp_path: Path) -> None:
    async with (
        any_broker(tmp_path) as port,
        tapping(tmp_path, port, "sensors/#", "--json", "--count", "3") as tap,
        device(port) as some,
    ):
        await tap.says("subscribed to 'sensors/#'")
        for topic, payload in (*MESSAGES, *MESSAGES):
            await some.send_raw(publish_packet(topic, payload))
        status, lines, last = await tap.end()
    assert (status, last) == (0, SUMMARY.format(3, 2, 1, 1, 0))
    assert all(line.isascii() and line.isprintable() for line in lines)
    first, second, third = [json.loads(line) for line in lines]
    assert (first["topic"], first["size"], first["retained"]) == ("sensors/hall/s1", 24, False)
    assert [one["bridge"] for one in first["bridges"]] == ["readings", "shared"]
    ((event,), _) = [one["events"] for one in first["bridges"]]
    assert (event["nats"], event["event"]["data"]) == ("plant.hall.s1", {"value": "\x1b[2Jé"})
    assert second["bridges"] == [{"bridge": "readings", "events": []}]
    assert third["topic"] == "sensors/yard/é\u202e"
    assert third["bridges"][0]["dead_letter"]["reason"] == "decode_failed"


async def _accept(connection: FakeConnection) -> tuple[bytes, bytes]:
    """Take CONNECT and SUBSCRIBE; return their bodies."""
    _, connect = await connection.read_packet()
    await connection.send(packet(0x20, b"\0\0\0"))
    _, subscribe = await connection.read_packet()
    await connection.send(packet(0x90, subscribe[:2] + b"\0\0"))
    return connect, subscribe


async def test_its_session_is_a_new_one_that_the_broker_forgets_and_topics_that_are_no_text_are_shown(
    tmp_path: Path,
) -> None:
    arguments = ("+/#", "--count", "1")
    client_ids = set()
    async with (
        fake_broker() as broker,
        tapping(tmp_path, broker.port, *arguments) as one,
        tapping(tmp_path, broker.port, *arguments) as other,
    ):
        for _ in (one, other):
            connection = await broker.connection(30)
            connect, subscribe = await _accept(connection)
            await connection.send(publish_packet(b"sensors/\xff\xfe/x\x1b", b"1", properties=b""))
            assert connect[7] & 0x02  # clean start
            assert b"\x11" not in connect[10:16]  # no session expiry interval: it ends with the connection
            client_ids.add(connect[connect.index(b"tidegate-test-tap-") :])
            assert subscribe.endswith(b"\0\x03+/#" + subscribe[-1:])
            assert subscribe[-1] & 0x03 == 0  # QoS 0
        for tap in (one, other):
            status, lines, _ = await tap.end()
            assert status == 0
            assert lines == [
                "sensors/\\xff\\xfe/x\\x1b  1 bytes",
                "  readings: dead letter: topic_invalid: the topic is not UTF-8 at byte 8",
                "    payload: 1",
            ]
    assert len(client_ids) == 2


async def test_what_a_bridge_has_to_say_to_a_device_is_shown_and_not_sent(tmp_path: Path) -> None:
    """A Sparkplug bridge asks for a rebirth where it has seen no birth."""
    more = '  - {name: sparkplug, mqtt: "spBv1.0/{rest...}", nats: "sp.{rest...}", decode: sparkplug_b}\n'
    news = Node().says("NDATA", {"alias": 7, "int_value": 21})
    async with fake_broker() as broker, tapping(tmp_path, broker.port, "#", "--count", "1", more=more) as tap:
        connection = await broker.connection(30)
        await _accept(connection)
        await connection.send(publish_packet(news.topic, news.payload, properties=b""))
        sent = await connection.until_closed(30)
        status, lines, _ = await tap.end()
    assert status == 0
    assert lines[1].startswith("  sparkplug: dead letter: ")
    assert "  sparkplug would send to spBv1.0/g/NCMD/n, unless it knows more than this tap has seen" in lines
    assert b"NCMD" not in sent
    assert "asked the node" not in tap.err


async def test_a_broker_that_is_away_is_said_and_tried_again(tmp_path: Path) -> None:
    async with fake_broker() as broker, tapping(tmp_path, broker.port, "#", "--count", "1") as tap:
        (await broker.connection(30)).cut()
        await tap.says("not connected")
        busy = await broker.connection(30)
        await busy.read_packet()
        await busy.send(packet(0x20, b"\0\x89\0"))  # server busy, which passes
        connection = await broker.connection(30)
        await _accept(connection)
        await connection.send(publish_packet(b"a", b"1", properties=b""))
        status, lines, _ = await tap.end()
    assert (status, lines[0]) == (0, "a  1 bytes")


async def test_without_a_broker_in_all_its_time_it_ends_with_1(tmp_path: Path) -> None:
    port = free_port()
    async with tapping(tmp_path, port, "#", "--for", "500ms") as tap:
        status, lines, last = await tap.end()
    assert (status, lines, last) == (1, [], SUMMARY.format(0, 0, 0, 0, 0))
    assert f"tap: not connected: mqtt://127.0.0.1:{port}: " in tap.err


@pytest.mark.parametrize(
    ("connack", "suback", "words"),
    [
        (b"\0\x86\0", b"", "the broker refused the connection: bad user name or password (0x86)"),
        (b"\0\x87\0", b"", "the broker refused the connection: not authorized (0x87)"),
        (b"\0\0\0", b"\0\x87", "subscription to '#' refused: not authorized (0x87)"),
    ],
)
async def test_a_refused_login_or_subscription_ends_it_with_1_and_the_reason(
    tmp_path: Path, connack: bytes, suback: bytes, words: str
) -> None:
    async with fake_broker() as broker, tapping(tmp_path, broker.port, "#") as tap:
        connection = await broker.connection(30)
        await connection.read_packet()
        await connection.send(packet(0x20, connack))
        if suback:
            _, subscribe = await connection.read_packet()
            await connection.send(packet(0x90, subscribe[:2] + suback))
        status, lines, last = await tap.end()
    assert (status, lines) == (1, [])
    assert last.startswith("tidegate: ")
    assert last.endswith(words)


async def test_a_running_gateway_still_gets_every_message(tmp_path: Path) -> None:
    """The tap has the same configuration, and sees all of them too."""
    async with any_broker(tmp_path / "mqtt") as port, nats_server(tmp_path / "nats") as server:
        config, http = write_config(tmp_path, port, server.port)
        async with gateway(config, http) as running, nats_client(server.port) as client:
            process = await asyncio.create_subprocess_exec(
                *command("tap", "-c", config, "sensors/#", "--json", "--count", "300"),
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            tap = Tap(process)
            await tap.says("subscribed to")
            async with device(port) as some:
                await some.send(range(300))
            status, lines, _ = await tap.end()
            assert (status, len(lines)) == (0, 300)

            async def all_stored() -> bool:
                return await running.total("tidegate_messages_delivered_total") == 300

            await eventually(all_stored, "the gateway has delivered all")
            assert {event.data["seq"] for event in await envelopes(client)} == set(range(300))
            assert await running.total("tidegate_reconnects_total") == 0
            assert await running.total("tidegate_sessions_lost_total") == 0


async def test_a_pipe_that_is_closed_ends_it_without_a_traceback(tmp_path: Path) -> None:
    """As with `tidegate tap ... | head -1`."""
    async with fake_broker() as broker, tapping(tmp_path, broker.port, "#") as tap:
        connection = await broker.connection(30)
        await _accept(connection)
        assert tap.process.stdout is not None
        tap.process.stdout._transport.close()  # type: ignore[attr-defined]
        assert tap.process.stderr is not None
        reading = asyncio.create_task(tap.process.stderr.read())

        async def ended() -> bool:
            with contextlib.suppress(OSError):
                await connection.send(publish_packet(b"a", b"1", properties=b""))
            return reading.done()

        await eventually(ended, "it notices that nobody reads", timeout=30)
        err = (await reading).decode()
        await tap.process.wait()
    assert "Traceback" not in err
    assert "Exception" not in err


@pytest.mark.parametrize(
    ("topic_filter", "words"),
    [
        ("", "a topic filter can't be empty"),
        ("a/#/b", "'#' must be the whole last level"),
        ("a/b+", "'+' must be a whole level, not part of 'b+'"),
        ("a\x00b", "a topic filter can't hold a NUL character"),
        (os.fsdecode(b"a/\xff"), "a topic filter is UTF-8 text"),
        ("$share/g/a", "a shared subscription would take messages away from those that share it"),
        ("$queue/a", "a shared subscription would take messages away from those that share it"),
    ],
)
def test_a_filter_that_is_none_or_would_take_messages_from_others_ends_with_2(
    capsys: pytest.CaptureFixture[str], topic_filter: str, words: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["tap", "-c", "x", topic_filter])
    assert ended.value.code == 2
    assert f"argument FILTER: {words}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["map"], ["map", "-c", "x"], ["map", "a"],
        ["test", "-c", "x"], ["test", "cases"], ["test", "-c", "x", "a", "b"],
        ["tap", "-c", "x"], ["tap", "a"], ["tap", "-c", "x", "a", "b"], ["tap", "-c", "x", "a", "--count", "0"],
        ["tap", "-c", "x", "a", "--for", "10"],
    ],
)  # fmt: skip
def test_bad_usage_of_the_previews_ends_with_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: tidegate")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("map", ["-c FILE", "TOPIC", "without connecting"]),
        ("test", ["-c FILE", "CASES", "expect:", "expect_dead_letter:", "without connecting"]),
        ("tap", ["-c FILE", "FILTER", "--count N", "--for TIME", "--json", "Ctrl-C"]),
    ],
)
def test_help_of_the_previews_tells_of_every_option(
    capsys: pytest.CaptureFixture[str], name: str, wanted: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in wanted:
        assert words.lower() in text.lower()
