"""The NATS client protocol without I/O: the commands of a client, and a reader of what a server sends.

The names are those of NATS's "Client Protocol" document. Nothing here knows JetStream but one pattern: PubAcks come by
the thousand, so a run of plain ones is read by one regular expression instead of line by line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from tidegate.core import Encoded, ProtocolError

PING = b"PING\r\n"
PONG = b"PONG\r\n"

NO_RESPONDERS = 503
"""The status of an answer that says that nobody listens to the subject."""

_MAX_LINE = 64 * 1024  # INFO is the longest, with one address for each server of a cluster
_MAX_MESSAGE = 64 * 1024 * 1024  # a server's max_payload is 1 MB, and hardly ever over 8
_VERSION = len("NATS/1.0\r\n\r\n")  # around the header lines

# {"stream":"S","seq":1}, perhaps with a domain; anything more, such as an error or a duplicate, is not plain.
_TEXT = rb'"[^"\\\x00-\x1f]+"'
_PLAIN = rb'\{"stream":' + _TEXT + rb', ?(?:"domain":' + _TEXT + rb', ?)?"seq":\d{1,20}\}\r\n'
_PUBACKS = re.compile(
    rb"MSG (_INBOX\.\w+\.)\d{1,18} (\d{1,18}) (\d{1,4})\r\n"
    + _PLAIN
    + rb"(?:MSG \1\d{1,18} \2 \d{1,4}\r\n"
    + _PLAIN
    + rb")*"
)
_TOKEN = re.compile(rb"\.(\d+) \d+ \d+\r")
_SIZE = re.compile(rb" (\d+)\r")
_AROUND = len("MSG   \r\n\r\n")  # around the subject, the sid, the size and the payload of a PubAck


class PubAcks(NamedTuple):
    """A run of plain PubAcks to one subscription: the last tokens of their subjects, in order."""

    sid: int
    tokens: list[bytes]


class Answer(NamedTuple):
    """Any other message to a subscription. token: the last of its subject. status: of its headers, 0 if it has none."""

    sid: int
    token: bytes
    status: int
    payload: bytes


class Delivery(NamedTuple):
    """A message to a subscription that wants it whole. reply, headers: empty where there are none."""

    sid: int
    subject: bytes
    reply: bytes
    headers: bytes
    payload: bytes


class Info(NamedTuple):
    """The server's greeting, or news about itself."""

    fields: dict[str, Any]


class ErrorLine(NamedTuple):
    """A -ERR line, without its quotes."""

    text: str


class Ping(NamedTuple):
    """The server asks for a sign of life."""


class Pong(NamedTuple):
    """The answer to our PING."""


Event = PubAcks | Answer | Delivery | Info | ErrorLine | Ping | Pong


class Reader:
    """Cuts what a server sends into events. It holds what is not yet complete.

    whole: the subscriptions whose messages come as `Delivery`; those of all others are answers.
    """

    def __init__(self) -> None:
        self.whole: set[int] = set()
        self._rest = b""

    def read(self, data: bytes) -> Iterator[Event]:
        """Take bytes and yield what they complete. Raises ProtocolError where the stream can't be read on."""
        data = self._rest + data
        position = no_run_before = 0
        try:
            while True:
                if position >= no_run_before and (run := _PUBACKS.match(data, position)):
                    if tokens := _tokens(run):
                        yield PubAcks(int(run[2]), tokens)
                        position = run.end()
                        continue
                    no_run_before = run.end()
                end = data.find(b"\r\n", position)
                if end < 0:
                    if len(data) - position > _MAX_LINE:
                        raise ProtocolError("a line without an end")
                    return
                line = data[position:end]
                after = end + 2
                if line[:4] == b"MSG " or line[:5] == b"HMSG ":
                    sid, subject, reply, header_size, size = _parse_message_line(line)
                    if len(data) < after + size + 2:
                        return
                    headers = data[after : after + header_size]
                    payload = data[after + header_size : after + size]
                    position = after + size + 2
                    if sid in self.whole:
                        yield Delivery(sid, subject, reply, headers, payload)
                    else:
                        yield Answer(sid, subject.rpartition(b".")[2], status_of(headers), payload)
                else:
                    position = after
                    event = _parse_line(line)
                    if event is not None:
                        yield event
        finally:
            self._rest = data[position:]


def _tokens(run: re.Match[bytes]) -> list[bytes] | None:
    """Return the tokens of a run, or None if a part of it is only the text of a payload.

    Such a payload holds whole messages, and is longer than what the run was taken for: the sizes show it in their sum.
    """
    data, start, end = run.string, run.start(), run.end()
    tokens = _TOKEN.findall(data, start, end)
    sizes: list[bytes] = [run[3]] * len(tokens)
    if data.count(b" %b\r\n{" % run[3], start, end) != len(tokens):  # most often they are all the same
        sizes = _SIZE.findall(data, start, end)
    written = len(tokens) * (_AROUND + len(run[1]) + len(run[2])) + len(b"".join(tokens)) + len(b"".join(sizes))
    return tokens if written + sum(map(int, sizes)) == end - start else None


def _parse_message_line(line: bytes) -> tuple[int, bytes, bytes, int, int]:
    """Return (sid, subject, reply subject, bytes of headers, bytes in all) of MSG or HMSG."""
    verb, *words = line.split()
    sizes = 2 if verb == b"HMSG" else 1
    try:
        size = int(words[-1])
        header_size = int(words[-2]) if sizes == 2 else 0
        sid = int(words[1])
    except (IndexError, ValueError):
        raise ProtocolError(f"malformed message line: {line[:80]!r}") from None
    if not 0 <= header_size <= size <= _MAX_MESSAGE or len(words) not in (2 + sizes, 3 + sizes):
        raise ProtocolError(f"malformed message line: {line[:80]!r}")
    return sid, words[0], words[2] if len(words) == 3 + sizes else b"", header_size, size


def _parse_line(line: bytes) -> Event | None:
    verb, _, rest = line.partition(b" ")
    match verb.upper():
        case b"PING":
            return Ping()
        case b"PONG":
            return Pong()
        case b"+OK":
            return None
        case b"-ERR":
            return ErrorLine(rest.decode(errors="replace").strip().strip("'"))
        case b"INFO":
            try:
                fields = json.loads(rest)
            except (ValueError, RecursionError):
                raise ProtocolError("an INFO that is not JSON") from None
            if not isinstance(fields, dict):
                raise ProtocolError("an INFO that is not an object")
            return Info(fields)
    raise ProtocolError(f"unknown line {line[:80]!r}; is this a NATS server?")


def status_of(headers: bytes) -> int:
    """Return the status of "NATS/1.0 503", 0 if there is none."""
    words = headers[:16].partition(b"\r")[0].split(None, 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


def read_headers(headers: bytes) -> tuple[tuple[str, str], ...]:
    """Return the headers by name, in order. What is no header is passed over: anyone may have written it."""
    lines = headers.decode(errors="replace").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines)
    return tuple((name.strip(), value.strip()) for name, colon, value in pairs if colon)


def encode_connect(fields: dict[str, Any]) -> bytes:
    """Return CONNECT."""
    return b"CONNECT %b\r\n" % json.dumps(fields).encode()


def encode_subscribe(subject: str, sid: int) -> bytes:
    """Return SUB."""
    return f"SUB {subject} {sid}\r\n".encode()


def encode_unsubscribe(sid: int) -> bytes:
    """Return UNSUB."""
    return f"UNSUB {sid}\r\n".encode()


def encode_replies(subjects: Iterable[str], payload: bytes) -> bytes:
    """Return a PUB of the same payload, without headers, to each subject: how a consumer's messages are answered."""
    return b"".join([f"PUB {subject} {len(payload)}\r\n".encode() + payload + b"\r\n" for subject in subjects])


def encode_request(subject: str, reply: str, payload: bytes) -> bytes:
    """Return PUB with a reply subject and no headers."""
    return f"PUB {subject} {reply} {len(payload)}\r\n".encode() + payload + b"\r\n"


def encode_events(events: Iterable[Encoded], replies: Iterable[str]) -> bytes:
    """Return an HPUB for each event; a reply is empty where no answer is wanted.

    The events must fit (see `misfit`): a subject with white space would be read as something else.
    """
    parts: list[bytes] = []
    for event, reply in zip(events, replies, strict=True):
        lines, body = event.lines, event.body
        headers = len(lines) + _VERSION
        parts += (
            f"HPUB {event.subject} {reply} {headers} {headers + len(body)}\r\nNATS/1.0\r\n{lines}\r\n".encode(),
            body,
            b"\r\n",
        )
    return b"".join(parts)
