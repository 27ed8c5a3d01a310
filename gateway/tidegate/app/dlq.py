"""Dead letters for a person: list them, look at one, send them again, delete them."""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from base64 import b64decode
from binascii import hexlify
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Self

from tidegate.app.config import Config
from tidegate.app.log import configure_logging
from tidegate.app.options import nats_options
from tidegate.app.replay import UNREADABLE, Replayer, read_letter
from tidegate.app.terminal import columns, json_line, printable, take_any_character
from tidegate.bridge import topic_of
from tidegate.core import DeliveryError, TidegateError, format_time
from tidegate.nats import DeadLetterStream, Stored, dead_letter_stream

_MAX_TOPIC = 80
_HEX_WIDTH = 16


class Filters(NamedTuple):
    """Which dead letters are meant: those for which everything given holds. Ages in seconds."""

    sequences: frozenset[int] = frozenset()
    bridge: str | None = None
    reason: str | None = None
    older_than: float | None = None
    newer_than: float | None = None

    @classmethod
    def of(cls, options: Namespace) -> Self:
        """Return what the command line says."""
        sequences = frozenset(getattr(options, "sequences", ()))
        return cls(sequences, options.bridge, options.reason, options.older_than, options.newer_than)

    def match(self, letter: Letter, now: float) -> bool:
        """Whether a dead letter is meant. Its age counts from when it was set aside."""
        age = now - letter.time
        return (
            (not self.sequences or letter.sequence in self.sequences)
            and self.bridge in (None, letter.bridge)
            and self.reason in (None, letter.reason)
            and (self.older_than is None or age >= self.older_than)
            and (self.newer_than is None or age <= self.newer_than)
        )


class Letter(NamedTuple):
    """A dead letter as the list shows it. bridge: or the consumer, where a service gave the event up."""

    sequence: int
    time: float
    bridge: str
    reason: str
    topic: str
    size: int


async def ls(config: Config, options: Namespace) -> int:
    """List dead letters, newest last."""
    async with _stream(config) as stream:
        found = deque([letter async for letter, _ in _select(stream, config, Filters.of(options))], options.limit)
    if options.json:
        for letter in found:
            print(json_line(letter._asdict() | {"time": format_time(letter.time)}))
        return 0
    rows = [_row(letter) for letter in found]
    header = ("SEQ", "TIME", "BRIDGE", "REASON", "SIZE", "TOPIC")
    for line in columns([header, *rows]):
        print(line)
    return 0


async def show(config: Config, options: Namespace) -> int:
    """Print one dead letter, or only its payload's bytes."""
    async with _stream(config) as stream:
        stored = await stream.get(options.sequence)
        document = read_letter(stored.body) if stored else None
        if stored is None:
            raise DeadLetterError(options.sequence, f"there is no such message in stream {config.dead_letters.stream}")
        if document is None:
            raise DeadLetterError(options.sequence, "it is not a dead letter")
    payload = _payload(document)
    if options.raw:
        sys.stdout.buffer.write(payload)
        sys.stdout.flush()
        return 0
    shown = {"sequence": stored.sequence, "stored": format_time(stored.time)} | document
    shown.pop("data_base64", None)
    for name, value in shown.items():
        text = value if isinstance(value, str) else json.dumps(value)
        print(f"{printable(name)}: {printable(text)}")
    print(f"payload: {len(payload)} bytes")
    for line in _readable(payload):
        print(f"  {line}")
    return 0


async def replay(config: Config, options: Namespace) -> int:
    """Send messages again, as their bridges are configured now, and events of services as they were; what a stream then
    has is no longer a dead letter."""
    done = failed = 0
    filters = Filters.of(options)
    missing = set(filters.sequences)
    replayer = Replayer(config)
    async with _stream(config) as stream:
        async for letter, stored in _select(stream, config, filters):
            missing.discard(letter.sequence)
            try:
                await replayer.replay(stream, read_letter(stored.body))
            except DeliveryError as error:
                failed += 1
                print(f"{letter.sequence}: {printable(str(error))}")
                continue
            await stream.delete(letter.sequence)
            done += 1
    for sequence in sorted(missing):
        print(f"{sequence}: there is no such dead letter")
    failed += len(missing)
    print(f"replayed {done}, failed {failed}")
    return 1 if failed else 0


async def purge(config: Config, options: Namespace) -> int:
    """Delete dead letters for good; without `--yes` only count them."""
    count = 0
    async with _stream(config) as stream:
        async for letter, _ in _select(stream, config, Filters.of(options)):
            count += 1
            if options.yes:
                await stream.delete(letter.sequence)
    print(f"deleted {count}" if options.yes else f"would delete {count}; say --yes to do it")
    return 0


class DeadLetterError(TidegateError):
    """One dead letter can't be had."""

    def __init__(self, sequence: int, problem: str) -> None:
        self.sequence = sequence
        super().__init__(f"dead letter {sequence}: {problem}")


def _stream(config: Config) -> AbstractAsyncContextManager[DeadLetterStream]:
    """Connect to the stream of dead letters; what the connection would log, its error says."""
    configure_logging(config.log.model_copy(update={"level": "error"}))
    take_any_character()
    return dead_letter_stream(nats_options(config), config.dead_letters.stream)


async def _select(stream: DeadLetterStream, config: Config, filters: Filters) -> AsyncIterator[tuple[Letter, Stored]]:
    """Yield the dead letters that are meant, oldest first."""
    now = time.time()
    if filters.sequences:
        prefix = config.dead_letters.subject_for("")  # the stream may hold more than dead letters
        for sequence in sorted(filters.sequences):
            found = await stream.get(sequence)
            if found and found.subject.startswith(prefix) and filters.match(letter := _letter(found), now):
                yield letter, found
        return
    async for stored in stream.read(config.dead_letters.subject_for("*")):
        letter = _letter(stored)
        if filters.match(letter, now):
            yield letter, stored


def _letter(stored: Stored) -> Letter:
    document = read_letter(stored.body)
    try:
        if document is not None:
            topic = topic_of(document).decode(errors="backslashreplace")
            bridge, reason = str(document.get("bridge") or document["consumer"]), str(document["reason"])
            return Letter(stored.sequence, stored.time, bridge, reason, topic, int(document["size"]))
    except (ValueError, KeyError, TypeError):
        pass
    return Letter(stored.sequence, stored.time, "", UNREADABLE, stored.subject, len(stored.body))


def _payload(document: dict[str, Any]) -> bytes:
    try:
        return b64decode(document.get("data_base64", ""))
    except (ValueError, TypeError):
        return b""


def _row(letter: Letter) -> tuple[str, ...]:
    topic = printable(letter.topic)
    if len(topic) > _MAX_TOPIC:
        topic = f"{topic[: _MAX_TOPIC - 1]}…"
    stamp = f"{format_time(letter.time)[:19]}Z"
    bridge, reason = printable(letter.bridge), printable(letter.reason)
    return str(letter.sequence), stamp, bridge, reason, str(letter.size), topic


def _readable(payload: bytes) -> list[str]:
    """Return a payload's lines of text, or a hex dump where it is no text."""
    try:
        lines = payload.decode().split("\n")
    except UnicodeDecodeError:
        return [_hex_line(payload, start) for start in range(0, len(payload), _HEX_WIDTH)]
    return [printable(line) for line in lines] if payload else []


def _hex_line(payload: bytes, start: int) -> str:
    part = payload[start : start + _HEX_WIDTH]
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
    return f"{start:08x}  {hexlify(part, ' ').decode():<{3 * _HEX_WIDTH}} {text}"
