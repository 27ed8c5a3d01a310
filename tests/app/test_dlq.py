"""Dead letters in a person's hands: listed, shown, sent again, deleted. Against a real nats-server."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.js.api import StreamConfig

from tests.app.helpers import Finished, tidegate
from tests.support.checker import envelopes, nats_client, stored
from tests.support.server import nats_server
from tidegate.app.cli import main
from tidegate.app.embedded import free_port
from tidegate.bridge import DeadLetters, message_of
from tidegate.bridge.correlation import correlation_id
from tidegate.bridge.dead_letter import Rejected
from tidegate.core import DeliveryError, IdSource, Message, Properties
from tidegate.memory import MemorySink

CONFIG = """\
gateway: test
nats: {{servers: ["nats://127.0.0.1:{port}"]}}
streams:
  - {{name: SENSORS, subjects: ["plant.>"]}}
bridges:
  - {{name: readings, mqtt: "sensors/{{device}}", nats: "plant.sensors.{{device}}", decode: {decode}}}
  - {{name: binary, mqtt: "sensors/{{device}}", nats: "plant.binary.{{device}}", decode: raw, mode: binary}}
  - {{name: nowhere, mqtt: "a/{{device}}", nats: "nowhere.{{device}}", decode: raw}}
  - {{name: notices, direction: down, nats: "plant.notices.{{customer}}", mqtt: "customers/{{customer}}"}}
"""
_IDS = IdSource()


class Rig:
    """A stream of dead letters and the command line."""

    def __init__(self, folder: Path, port: int, client: Client) -> None:
        self.config = folder / "tidegate.yaml"
        self.client = client
        self.port = port
        self.configure("json")

    def configure(self, decode: str) -> None:
        """Write the configuration with another decoder."""
        self.config.write_text(CONFIG.format(port=self.port, decode=decode))

    async def bury(self, message: Message, reason: str = "decode_failed", bridge: str = "readings") -> Message:
        """Put a dead letter into the stream, as a bridge would."""
        for event in (
            await letters(Rejected(message, DeliveryError(reason, f"for {reason}"), "convert"), bridge)
        ).values():
            await self.client.jetstream().publish(event.subject, event.body, headers=event.headers)
        return message

    async def __call__(self, *arguments: str) -> Finished:
        """Run `tidegate dlq`; none of its output may hold a control character, and no error a traceback."""
        command, *rest = arguments
        finished = await asyncio.to_thread(run_main, "dlq", command, "-c", str(self.config), *rest)
        assert all(char == "\n" or char.isprintable() for char in finished.out), ascii(finished.out)
        assert "Traceback" not in finished.err
        return finished

    async def listed(self, *arguments: str) -> list[dict[str, object]]:
        """Return what `ls --json` prints."""
        finished = await self("ls", "--json", *arguments)
        assert (finished.status, finished.err) == (0, "")
        return [json.loads(line) for line in finished.out.splitlines()]


def run_main(*arguments: str) -> Finished:
    """Run the command line here, which spares a process; its logging does not stay."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    logger, root = logging.getLogger("tidegate"), logging.getLogger()
    before = (root.handlers[:], root.level, logger.level)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(arguments)
            out.flush()
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        logger.setLevel(before[2])
    return Finished(status, out.buffer.getvalue().decode(errors="surrogateescape"), err.getvalue())


async def letters(rejected: Rejected, bridge: str = "readings") -> dict:
    """Return the event of a dead letter."""
    sink = MemorySink()
    await DeadLetters(
        sink, bridge, f"urn:tidegate:test:{bridge}", f"dead.{bridge}", lambda one: correlation_id(one.properties)
    ).store([rejected])
    return sink.stored


def message(payload: bytes = b"{torn", topic: bytes = b"sensors/d1", **more: object) -> Message:
    """Return a message with a new id."""
    return Message(topic, payload, _IDS.take(1)[0], 1, received=1_700_000_000.125, **more)


@asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    """Run a server with both streams."""
    async with nats_server(folder / "nats") as server, nats_client(server.port) as client:
        jetstream = client.jetstream()
        await jetstream.add_stream(StreamConfig(name="SENSORS", subjects=["plant.>"]))
        await jetstream.add_stream(StreamConfig(name="DEAD_LETTERS", subjects=["dead.*"]))
        yield Rig(folder, server.port, client)


async def test_ls_lists_newest_last_by_filter_and_limit_as_a_table_and_as_json(tmp_path: Path) -> None:
    async with rig(tmp_path) as dlq:
        await dlq.bury(message(b"{torn"))
        await dlq.bury(message(b"\xff\x00", b"sensors/\x1b[2Jd\r\n\xc2\x9b"), "no_mapping")
        await dlq.bury(message(b"x" * 2000, b"\xff\xfe"), "topic_invalid", "binary")
        table = await dlq("ls")
        assert (table.status, table.err) == (0, "")
        header, first, second, third = table.out.splitlines()
        assert header.split() == ["SEQ", "TIME", "BRIDGE", "REASON", "SIZE", "TOPIC"]
        assert [*first.split()[:1], *first.split()[2:]] == ["1", "readings", "decode_failed", "5", "sensors/d1"]
        assert "sensors/\\x1b[2Jd\\r\\n\\x9b" in second
        assert "\\xff\\xfe" in third
        everything = await dlq.listed()
        assert [(one["sequence"], one["reason"], one["size"]) for one in everything] == [
            (1, "decode_failed", 5), (2, "no_mapping", 2), (3, "topic_invalid", 2000)
        ]  # fmt: skip
        assert everything[1]["topic"] == "sensors/\x1b[2Jd\r\n\x9b"
        for wanted, arguments in (
            ([2, 3], ("--limit", "2")),
            ([3], ("--bridge", "binary")),
            ([1], ("--reason", "decode_failed")),
            ([], ("--older-than", "1h")),
            ([1, 2, 3], ("--newer-than", "1h")),
            ([], ("--bridge", "binary", "--reason", "decode_failed")),
        ):
            assert [one["sequence"] for one in await dlq.listed(*arguments)] == wanted, arguments


async def test_show_prints_everything_readably_and_raw_the_payloads_bytes(tmp_path: Path) -> None:
    async with rig(tmp_path) as dlq:
        await dlq.bury(message(b"two\nlines \x1b]0;evil\x07"))
        await dlq.bury(message(bytes(range(256))))
        text, dump, missing = await dlq("show", "1"), await dlq("show", "2"), await dlq("show", "9")
        assert text.out.splitlines()[-2:] == ["  two", "  lines \\x1b]0;evil\\x07"]
        for line in ("reason: decode_failed", "detail: for decode_failed", "stage: convert", "bridge: readings",
                     "subject: sensors/d1", "attempts: 1", "size: 19", "sequence: 1"):  # fmt: skip
            assert line in text.out.splitlines()
        assert "  00000040  40 41 42 43 44 45 46 47 48 49 4a 4b 4c 4d 4e 4f  @ABCDEFGHIJKLMNO" in dump.out.splitlines()
        assert (missing.status, missing.err) == (
            1, "tidegate: dead letter 9: there is no such message in stream DEAD_LETTERS\n"
        )  # fmt: skip
        raw = await asyncio.to_thread(run_main, "dlq", "show", "--raw", "-c", str(dlq.config), "2")
        assert raw.out.encode(errors="surrogateescape") == bytes(range(256))


async def test_replay_converts_as_configured_now_and_keeps_what_fails_again_with_its_reason(tmp_path: Path) -> None:
    async with rig(tmp_path) as dlq:
        given = Properties("text/plain", b"\x00\xff", None, (("correlationid", "order-7"),))
        first = await dlq.bury(message(b"{torn", properties=given, retained=True))
        await dlq.bury(message(b"no mapping", b"elsewhere/x"))
        await dlq.bury(message(b"cut", size=5000, defect="payload_too_large"))
        await dlq.bury(message(b"1"), bridge="gone")
        await dlq.bury(message(b"1", b"a/x"), bridge="nowhere")
        failed = await dlq("replay", "--bridge", "readings")
        assert failed.status == 1
        assert "1: decode_failed" in failed.out
        dlq.configure("text")
        finished = await dlq("replay")
        assert finished.status == 1
        lines = finished.out.splitlines()
        assert [line.split(":")[0] for line in lines[:-1]] == ["2", "3", "4", "5"]
        assert "truncated" in lines[1]
        assert "'gone' is not configured" in lines[2]
        assert "no stream listens" in lines[3]
        assert lines[-1] == "replayed 1, failed 4"
        assert [one["sequence"] for one in await dlq.listed()] == [2, 3, 4, 5]
        (event,) = await envelopes(dlq.client)
        assert (event.id, event.data, event.subject) == (first.id, "{torn", "sensors/d1")
        assert (event.correlationid, event.retained) == ("order-7", True)
        (raw,) = await stored(dlq.client)
        assert raw.headers["Nats-Msg-Id"] == first.id


async def test_replay_gives_back_the_payload_byte_for_byte_and_its_content_type(tmp_path: Path) -> None:
    async with rig(tmp_path) as dlq:
        payload = bytes(range(256)) * 10
        await dlq.bury(message(payload, properties=Properties("image/png")), bridge="binary")
        await dlq.bury(message(b"second"), bridge="binary")
        finished = await dlq("replay", "1", "7")
        assert (finished.status, finished.out.splitlines()) == (
            1, ["7: there is no such dead letter", "replayed 1, failed 1"]
        )  # fmt: skip
        (event,) = await stored(dlq.client)
        assert event.data == payload
        assert event.headers["Content-Type"] == "image/png"
        assert [one["sequence"] for one in await dlq.listed()] == [2]


async def test_what_was_to_go_down_is_published_on_its_subject_again(tmp_path: Path) -> None:
    """With its own headers, but for those that NATS would take for instructions."""
    async with rig(tmp_path) as dlq:
        headers = (("ce-id", "7"), ("Nats-Msg-Id", "old"), ("Nats-Expected-Stream", "OTHER"), ("X", "y"), ("Z", "ü"))
        given = message(b"\x00\xff", b"plant.notices.+", properties=Properties(None, user=headers))
        await dlq.bury(given, "topic_invalid", "notices")
        (listed,) = await dlq.listed()
        assert (listed["topic"], listed["reason"], listed["bridge"]) == ("plant.notices.+", "topic_invalid", "notices")
        assert "subject: plant.notices.+" in (await dlq("show", "1")).out
        assert (await dlq("replay")).out.splitlines() == ["replayed 1, failed 0"]
        (event,) = await stored(dlq.client)
        assert (event.subject, event.data) == ("plant.notices.+", b"\x00\xff")
        assert event.headers == {"Nats-Msg-Id": given.id, "ce-id": "7", "X": "y"}
        assert await dlq.listed() == []


async def test_a_replay_into_the_dead_letters_own_stream_is_no_loss(tmp_path: Path) -> None:
    """That stream knows the id, so that it calls the event a duplicate and does not store it."""
    async with nats_server(tmp_path / "nats") as server, nats_client(server.port) as client:
        await client.jetstream().add_stream(StreamConfig(name="DEAD_LETTERS", subjects=["dead.*", "plant.>"]))
        dlq = Rig(tmp_path, server.port, client)
        await dlq.bury(message(b"1"))
        finished = await dlq("replay")
        assert finished.status == 1
        assert "duplicate" in finished.out
        assert len(await dlq.listed()) == 1


async def test_purge_only_counts_without_yes_and_deletes_only_what_matches(tmp_path: Path) -> None:
    async with rig(tmp_path) as dlq:
        for reason in ("decode_failed", "no_mapping", "decode_failed"):
            await dlq.bury(message(), reason)
        asked = await dlq("purge", "--reason", "decode_failed")
        assert (asked.status, asked.out) == (0, "would delete 2; say --yes to do it\n")
        assert len(await dlq.listed()) == 3
        done = await dlq("purge", "--reason", "decode_failed", "--yes")
        assert (done.status, done.out) == (0, "deleted 2\n")
        assert [one["reason"] for one in await dlq.listed()] == ["no_mapping"]


async def test_what_is_no_dead_letter_is_listed_and_never_sent(tmp_path: Path) -> None:
    async with rig(tmp_path) as dlq:
        for body in (b"junk", b"[]", b'{"type":"io.tidegate.dead_letter.v1"}', b""):
            await dlq.client.jetstream().publish("dead.readings", body)
        assert {one["reason"] for one in await dlq.listed()} == {"unreadable"}
        finished = await dlq("replay")
        assert (finished.status, finished.out.splitlines()[-1]) == (1, "replayed 0, failed 4")
        assert (await dlq("show", "1")).status == 1


async def test_a_server_that_is_away_or_has_no_such_stream_is_one_clear_line(tmp_path: Path) -> None:
    async with nats_server(tmp_path / "nats") as server, nats_client(server.port) as client:
        dlq = Rig(tmp_path, server.port, client)
        finished = await dlq("ls")
        assert (finished.status, finished.err) == (1, "tidegate: stream DEAD_LETTERS: stream not found\n")
        dlq.port = free_port()
        dlq.configure("json")
        for arguments in (("ls",), ("replay",)):
            finished = await tidegate("dlq", *arguments, "-c", dlq.config)
            (line,) = finished.err.splitlines()
            assert (finished.status, finished.out) == (1, "")
            assert line.startswith(f"tidegate: nats://127.0.0.1:{dlq.port}: "), line


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["fly"], ["ls"], ["show", "-c", "x"], ["show", "-c", "x", "0"], ["show", "-c", "x", "-1"],
        ["ls", "-c", "x", "--older-than", "soon"], ["ls", "-c", "x", "--limit", "0"], ["replay", "-c", "x", "one"],
    ],
)  # fmt: skip
def test_bad_usage_of_dlq_ends_with_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["dlq", *arguments])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: tidegate dlq")


async def test_a_message_survives_its_dead_letter_with_all_that_a_replay_needs() -> None:
    given = Properties("a/b", bytes(range(256)), "reply/to", (("k", "v\x00é"), ("k", "2")))
    some = message(b"\x00\xff", b"\xff\xfe/" + b"x" * 60_000, properties=given, retained=True)
    (event,) = (await letters(Rejected(some, DeliveryError("r", "d"), "convert"))).values()
    document = json.loads(event.body)
    found = message_of(document)
    for name in ("topic", "payload", "id", "qos", "retained", "properties", "size", "received", "defect"):
        assert getattr(found, name) == getattr(some, name), name
    assert "truncated" not in document
    assert document["attempts"] == 1
