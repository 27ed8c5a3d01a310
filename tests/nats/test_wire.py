"""Cutting what a server sends into events, and writing commands: pure, so that any bytes can be tried."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from itertools import groupby, pairwise
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.nats.helpers import event
from tidegate.core import Encoded, Message, ProtocolError, header_lines
from tidegate.nats import wire
from tidegate.nats.wire import Answer, ErrorLine, Event, Info, Ping, Pong, PubAcks, Reader, encode_events

PLAIN = b'{"stream":"S","seq":1}'
INBOXES = st.sampled_from(
    [(1, b"_INBOX.aa."), (2, b"_INBOX.aa."), (1, b"_INBOX.0123456789abcdef."), (77, b"_INBOX.1.")]
)
TOKENS = st.integers(0, 10**12).map(lambda number: b"%d" % number)
PLACES = st.lists(st.integers(0, 1 << 16), max_size=30)


class PubAck(NamedTuple):
    """One plain PubAck of a run."""

    sid: int
    token: bytes


class Sample(NamedTuple):
    """What a server could send, and what it must be read as."""

    data: bytes
    meaning: list[PubAck | Event]


def message(subject: bytes, sid: int, payload: bytes, reply: bytes = b"") -> bytes:
    """Return MSG. A reply subject ends with a space."""
    return b"MSG %b %d %b%d\r\n%b\r\n" % (subject, sid, reply, len(payload), payload)


def message_with_headers(subject: bytes, sid: int, headers: bytes, payload: bytes, reply: bytes = b"") -> bytes:
    """Return HMSG. A reply subject ends with a space."""
    total = len(headers) + len(payload)
    return b"HMSG %b %d %b%d %d\r\n%b%b\r\n" % (subject, sid, reply, len(headers), total, headers, payload)


@st.composite
def plain(draw: st.DrawFn) -> bytes:
    """The payload of a plain PubAck, with a space or without as different servers write it."""
    space = draw(st.sampled_from([b"", b" "]))
    names = st.sampled_from(["S", "SENSORS", "a-b_c", "plant 1", "MSG 1 2", "größe", "x" * 255]).map(str.encode)
    domain = draw(st.just(b"") | names.map(lambda name: b'"domain":"%b",' % name + space))
    sequence = draw(st.integers(0, 2**64 - 1))
    return b'{"stream":"%b",%b%b"seq":%d}' % (draw(names), space, domain, sequence)


@st.composite
def runs(draw: st.DrawFn) -> Sample:
    """Plain PubAcks to one inbox."""
    sid, prefix = draw(INBOXES)
    tokens = draw(st.lists(TOKENS, min_size=1, max_size=8))
    data = b"".join(message(prefix + token, sid, draw(plain())) for token in tokens)
    return Sample(data, [PubAck(sid, token) for token in tokens])


LOOKALIKES = st.lists(
    st.sampled_from([PLAIN, b"\r\n", b"\r", b"PING\r\n", b"-ERR 'x'\r\n", b"INFO {}\r\n", b"+OK\r\n", b"MSG a 1 5\r\n"])
    | runs().map(lambda sample: sample.data)
    | st.binary(max_size=5),
    max_size=6,
).map(b"".join)
"""Payloads that look like what the protocol is made of."""

STATUSES = {
    b"": 0,
    b"NATS/1.0\r\n\r\n": 0,
    b"NATS/1.0\r\nNats-Msg-Id: 1\r\n\r\n": 0,
    b"NATS/1.0\r\n503 : a name, not a status\r\n\r\n": 0,
    b"NATS/1.0 503\r\n\r\n": 503,
    b"NATS/1.0 404 No Messages\r\n\r\n": 404,
    b"NATS/1.0 100\r\nA: 1\r\n\r\n": 100,
}


NAME = rb'"[^"\\\x00-\x1f]+"'
IS_PLAIN = re.compile(rb'\{"stream":%b, ?("domain":%b, ?)?"seq":\d{1,20}\}' % (NAME, NAME))


@st.composite
def answers(draw: st.DrawFn) -> Sample:
    """MSG and HMSG, with any payload."""
    sid, prefix = draw(INBOXES)
    token = draw(TOKENS | st.sampled_from([b"x", b"*", b"1a"]))
    reply = draw(st.sampled_from([b"", b"reply.to ", b"7 "]))
    payload = draw(st.binary(max_size=60) | LOOKALIKES | plain())
    if draw(st.booleans()):
        headers = draw(st.sampled_from(sorted(STATUSES)))
        data = message_with_headers(prefix + token, sid, headers, payload, reply)
        return Sample(data, flat([Answer(sid, token, STATUSES[headers], payload)]))
    return Sample(message(prefix + token, sid, payload, reply), flat([Answer(sid, token, 0, payload)]))


FIELDS = st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.integers() | st.booleans(), max_size=4)
OTHERS = st.one_of(
    FIELDS.map(lambda fields: Sample(b"INFO %b \r\n" % json.dumps(fields).encode(), [Info(fields)])),
    st.sampled_from([
        Sample(b"PING\r\n", [Ping()]),
        Sample(b"PONG\r\n", [Pong()]),
        Sample(b"+OK\r\n", []),
        Sample(b"-ERR 'Authorization Violation'\r\n", [ErrorLine("Authorization Violation")]),
        Sample(b"-ERR 'it isn't \xff'\r\n", [ErrorLine("it isn't \ufffd")]),
    ]),
)  # fmt: skip
STREAMS = st.lists(runs() | answers() | OTHERS, max_size=10)


def flat(events: list[Event]) -> list[PubAck | Event]:
    """Return events with each PubAck by itself.

    A plain one may come as an Answer as well: beside a payload that holds the text of others, it does.
    """
    found: list[PubAck | Event] = []
    for one in events:
        if isinstance(one, PubAcks):
            found += [PubAck(one.sid, token) for token in one.tokens]
        elif isinstance(one, Answer) and one.token.isdigit() and not one.status and IS_PLAIN.fullmatch(one.payload):
            found.append(PubAck(one.sid, one.token))
        else:
            found.append(one)
    return found


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut bytes at these places."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(edges)]


def read_all(chunks: list[bytes]) -> list[Event]:
    """Feed chunk by chunk, as a socket does; return every event."""
    reader = Reader()
    return [one for chunk in chunks for one in reader.read(chunk)]


@settings(deadline=None, max_examples=60)
@given(STREAMS, PLACES)
def test_a_stream_cut_into_chunks_at_any_place_is_read_the_same(samples: list[Sample], at: list[int]) -> None:
    data = b"".join(sample.data for sample in samples)
    meaning = [one for sample in samples for one in sample.meaning]
    assert flat(read_all([data])) == meaning
    assert flat(read_all(cut(data, at))) == meaning


@settings(deadline=None, max_examples=20)
@given(st.lists(runs() | answers() | OTHERS, max_size=3))
def test_a_stream_that_comes_byte_by_byte_is_read_the_same(samples: list[Sample]) -> None:
    data = b"".join(sample.data for sample in samples)
    bytewise = [data[place : place + 1] for place in range(len(data))]
    assert flat(read_all(bytewise)) == [one for sample in samples for one in sample.meaning]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(INBOXES, st.lists(st.tuples(TOKENS, plain()), min_size=1, max_size=20)), max_size=6), PLACES)
def test_every_token_of_a_run_comes_out_once_and_in_order(
    sent: list[tuple[tuple[int, bytes], list[tuple[bytes, bytes]]]], at: list[int]
) -> None:
    """And uncut as few runs as there are changes of the inbox: that is what makes them cheap."""
    data = b"".join(message(prefix + token, sid, body) for (sid, prefix), acks in sent for token, body in acks)
    tokens = [PubAck(sid, token) for (sid, _), acks in sent for token, _ in acks]
    for found in (read_all([data]), read_all(cut(data, at))):
        assert all(isinstance(one, PubAcks) for one in found)
        assert flat(found) == tokens
    assert len(read_all([data])) == len(list(groupby(inbox for inbox, _ in sent)))


NOT_PLAIN = {
    "a duplicate": b'{"stream":"S","seq":1,"duplicate":true}',
    "a duplicate of a domain": b'{"stream":"S","domain":"hub","seq":1,"duplicate": true}',
    "an error": b'{"error":{"code":503,"err_code":10077,"description":"maximum bytes"},"stream":"S","seq":0}',
    "an error alone": b'{"error":{"code":400}}',
    "an extra member before": b'{"type":"x","stream":"S","seq":1}',
    "an extra member between": b'{"stream":"S","val":"1","seq":1}',
    "an extra member after": b'{"stream":"S","seq":1,"batch":"b"}',
    "no stream": b'{"seq":1}',
    "a stream without a name": b'{"stream":"","seq":1}',
    "no sequence": b'{"stream":"S"}',
    "a sequence that is none": b'{"stream":"S","seq":-1}',
    "a long sequence": b'{"stream":"S","seq":%b}' % (b"1" * 5000),
    "an escape": b'{"stream":"S\\",\\"error\\":\\"","seq":1}',
    "a control character": b'{"stream":"S\n","seq":1}',
    "the end of a line as a name": b'{"stream":"a.9 9 9\r","seq":1}',
    "a line as a name": b'{"stream":"a\r\nPING\r\n","seq":1}',
    "more after it": PLAIN + b" ",
    "an end of line after it": PLAIN + b"\r\n",
    "another after it": PLAIN + b"\r\n" + message(b"_INBOX.aa.9", 1, PLAIN)[:-2],
    "nothing": b"",
    "a foreign text": b"ok",
    "a foreign number": b"1",
    "a foreign list": b"[1]",
}


@pytest.mark.parametrize("payload", NOT_PLAIN.values(), ids=NOT_PLAIN.keys())
@given(at=PLACES)
@settings(deadline=None, max_examples=20)
def test_what_says_more_or_less_than_a_plain_puback_is_an_answer(payload: bytes, at: list[int]) -> None:
    before, after = message(b"_INBOX.aa.1", 1, PLAIN), message(b"_INBOX.aa.3", 1, PLAIN)
    data = before + message(b"_INBOX.aa.2", 1, payload) + after
    for found in (read_all([data]), read_all(cut(data, at))):
        assert flat(found) == [PubAck(1, b"1"), Answer(1, b"2", 0, payload), PubAck(1, b"3")]


def test_a_puback_with_headers_or_a_reply_subject_is_an_answer() -> None:
    for data in (
        message_with_headers(b"_INBOX.aa.1", 1, b"NATS/1.0\r\n\r\n", PLAIN),
        message(b"_INBOX.aa.1", 1, PLAIN, b"reply "),
        message(b"_INBOX.aa.1", 1, PLAIN, b"7 "),
        message(b"elsewhere.aa.1", 1, PLAIN),
    ):
        assert read_all([data]) == [Answer(1, b"1", 0, PLAIN)]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(TOKENS, st.integers(0, 9999), plain()), min_size=1, max_size=5), plain(), PLACES)
def test_messages_inside_a_payload_are_never_taken_for_messages(
    hidden: list[tuple[bytes, int, bytes]], first: bytes, at: list[int]
) -> None:
    """Whatever sizes they claim to have: whoever sees a reply subject may answer with anything."""
    lines = [b"MSG _INBOX.aa.%b 1 %d\r\n%b" % (token, size, body) for token, size, body in hidden]
    payload = b"\r\n".join([first, *lines])
    before, after = message(b"_INBOX.aa.1", 1, PLAIN), message(b"_INBOX.aa.3", 1, PLAIN)
    data = before * 2 + message(b"_INBOX.aa.2", 1, payload) + after
    for found in (read_all([data]), read_all(cut(data, at))):
        assert flat(found) == [*[PubAck(1, b"1")] * 2, Answer(1, b"2", 0, payload), PubAck(1, b"3")]


PIECES = st.sampled_from(
    [b"MSG ", b"HMSG ", b"INFO ", b"-ERR", b"PING", b"\r\n", b"\r", b" ", b"1", b"22", b"-1", b"_INBOX.a.1", b"{", b"}"]
)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=300) | st.lists(PIECES | st.just(PLAIN) | st.binary(max_size=3)).map(b"".join), PLACES)
def test_random_bytes_raise_nothing_but_a_protocol_error(data: bytes, at: list[int]) -> None:
    with suppress(ProtocolError):
        read_all(cut(data, at))


@settings(deadline=None, max_examples=60)
@given(STREAMS, st.integers(0, 1 << 16), st.binary(max_size=3), st.integers(0, 3), PLACES)
def test_a_stream_with_damage_raises_nothing_but_a_protocol_error(
    samples: list[Sample], place: int, new: bytes, lost: int, at: list[int]
) -> None:
    data = b"".join(sample.data for sample in samples)
    place %= len(data) + 1
    with suppress(ProtocolError):
        read_all(cut(data[:place] + new + data[place + lost :], at))


@pytest.mark.parametrize(
    "line",
    [
        b"MSG ",
        b"MSG a",
        b"MSG a 1",
        b"MSG a x 1",
        b"MSG a 1 x",
        b"MSG a 1 -1",
        b"MSG a 1 b 2 3",
        b"MSG a 1 99999999999",
        b"MSG a 1 " + b"9" * 5000,
        b"MSG a " + b"9" * 5000 + b" 1",
        b"MSG _INBOX.a.1 " + b"9" * 5000 + b" 22\r\n" + PLAIN,
        b"MSG _INBOX.a.1 1 21\r\n" + PLAIN,
        b"HMSG a 1 5",
        b"HMSG a 1 -1 5",
        b"HMSG a 1 -5 -1",
        b"HMSG a 1 6 5",
        b"HMSG a 1 5 99999999999",
        b"HMSG a 1 b 2 3 4",
        b"INFO",
        b"INFO nothing",
        b"INFO []",
        b'INFO {"a": "\xff"}',
        b"INFO " + b"[" * 60_000,
        b"",
        b"HTTP/1.1 400 Bad Request",
        b"SSH-2.0-OpenSSH_9.2",
        b"PUB a 1",
    ],
    ids=lambda line: repr(line[:24]),
)
@pytest.mark.parametrize("size", [10, 1 << 20], ids=["in pieces", "at once"])
def test_a_malformed_line_is_a_protocol_error(line: bytes, size: int) -> None:
    """Where a message is announced that is too large, it is not waited for."""
    data = line + b"\r\n" + b"PING\r\n" * 2
    with pytest.raises(ProtocolError):
        read_all([data[start : start + size] for start in range(0, len(data), size)])


@pytest.mark.parametrize("start", [b"", b"PING\r\n", b"MSG ", b"INFO ", b"-ERR '", message(b"_INBOX.aa.1", 1, PLAIN)])
def test_a_line_without_an_end_is_refused_and_not_collected(start: bytes) -> None:
    with pytest.raises(ProtocolError, match="without an end"):
        read_all([start, *[b"x" * 1000] * 100])


def test_a_message_up_to_a_large_limit_is_read_and_what_follows_it() -> None:
    payload = bytes(8 * 1024 * 1024)
    data = message(b"_INBOX.aa.1", 1, payload) + b"PING\r\n"
    assert read_all([data[: 1 << 20], data[1 << 20 :]]) == [Answer(1, b"1", 0, payload), Ping()]


# Commands


class Published(NamedTuple):
    """An HPUB, as a server reads it."""

    subject: str
    reply: str
    headers: dict[str, str]
    body: bytes


def parse_hpubs(data: bytes) -> list[Published]:
    """Read HPUBs strictly. Raises AssertionError for anything that is not as the protocol wants it."""
    found = []
    while data:
        line, _, data = data.partition(b"\r\n")
        verb, subject, *reply, header_size, size = line.decode().split(" ") if b"  " not in line else _no_reply(line)
        assert (verb, len(reply) <= 1) == ("HPUB", True)
        block, body, end = data[: int(header_size)], data[int(header_size) : int(size)], data[int(size) :][:2]
        version, *lines, last, after = block.decode("ascii").split("\r\n")
        assert (version, last, after, end) == ("NATS/1.0", "", "", b"\r\n")
        found.append(Published(subject, "".join(reply), dict(one.split(": ", 1) for one in lines), body))
        data = data[int(size) + 2 :]
    return found


def _no_reply(line: bytes) -> list[str]:
    words = line.decode().split(" ")
    assert words.pop(2) == ""
    assert len(words) == 4
    return words


SUBJECTS = st.text("azAZ09.-_/$*>%\"'é漢😀", min_size=1, max_size=30)
NAMES = st.sampled_from(["Nats-Msg-Id", "Content-Type", "ce-id", "ce-subject", "X"])
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)


@st.composite
def encoded(draw: st.DrawFn) -> Encoded:
    """An event that fits."""
    lines = header_lines(draw(st.dictionaries(NAMES, VALUES, max_size=3)))
    return Encoded("id", draw(SUBJECTS), lines, draw(st.binary(max_size=60) | LOOKALIKES), Message(b"a", b"", "id"))


REPLIES = st.just("") | st.integers(0, 10**9).map("_INBOX.0123456789abcdef.{}".format)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(encoded(), REPLIES), max_size=6))
def test_events_are_written_so_that_a_server_reads_what_they_are(sent: list[tuple[Encoded, str]]) -> None:
    """Any bytes as a body, and no reply subject where no answer is wanted."""
    data = encode_events([one for one, _ in sent], [reply for _, reply in sent])
    assert parse_hpubs(data) == [Published(one.subject, reply, one.headers, one.body) for one, reply in sent]


def test_an_event_without_a_reply_is_written_without_one() -> None:
    data = encode_events([event(1, "a.b", b"\r\n")], [""])
    line, _, rest = data.partition(b"\r\n")
    assert line.split()[:2] == [b"HPUB", b"a.b"]
    assert [int(size) for size in line.split()[2:]] == [len(rest) - 4, len(rest) - 2]


def test_events_need_a_reply_each() -> None:
    with pytest.raises(ValueError):
        encode_events([event(1), event(2)], ["one"])


@settings(deadline=None, max_examples=30)
@given(st.binary(max_size=60) | LOOKALIKES)
def test_a_request_is_written_with_its_size(payload: bytes) -> None:
    assert wire.encode_request("a.b", "c.d", payload) == b"PUB a.b c.d %d\r\n%b\r\n" % (len(payload), payload)


@settings(deadline=None, max_examples=30)
@given(FIELDS)
def test_a_login_is_one_line_of_json(fields: dict[str, object]) -> None:
    """A secret with an end of line in it injects nothing."""
    data = wire.encode_connect({**fields, "pass": "a\r\nPUB x 0\r\n"})
    assert data.count(b"\r\n") == 1
    assert data.endswith(b"\r\n")
    assert json.loads(data.removeprefix(b"CONNECT ")) == {**fields, "pass": "a\r\nPUB x 0\r\n"}


@given(st.lists(st.tuples(st.binary(max_size=30), st.booleans(), st.booleans()), max_size=6), PLACES)
def test_a_subscription_that_wants_it_gets_its_messages_whole(
    messages: list[tuple[bytes, bool, bool]], places: list[int]
) -> None:
    """With subject, reply and headers, however the bytes are cut, and between PubAcks to another subscription."""
    data, wanted = b"", []
    headers = b"NATS/1.0\r\nA: 1\r\nB:2\r\n\r\n"
    for payload, has_reply, has_headers in messages:
        reply = b"$JS.ACK.S.c.1.2.3.4.5" if has_reply else b""
        sizes = b"%d %d" % (len(headers), len(headers) + len(payload)) if has_headers else b"%d" % len(payload)
        verb, space = (b"HMSG" if has_headers else b"MSG"), b" " if has_reply else b""
        body = (headers if has_headers else b"") + payload
        data += verb + b" n.a 7 " + reply + space + sizes + b"\r\n" + body + b"\r\n"
        data += b"MSG _INBOX.aa.5 1 %d\r\n%b\r\n" % (len(PLAIN), PLAIN)
        wanted += [wire.Delivery(7, b"n.a", reply, headers if has_headers else b"", payload), PubAcks(1, [b"5"])]
    reader = Reader()
    reader.whole.add(7)
    cuts = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    found = [event for start, end in pairwise(cuts) for event in reader.read(data[start:end])]
    assert found == wanted


def test_headers_are_read_in_order_and_what_is_none_is_passed_over() -> None:
    raw = b"NATS/1.0\r\nA: 1\r\nnonsense\r\nB:2:3\r\nA:\xff\r\n\r\n"
    assert wire.read_headers(raw) == (("A", "1"), ("B", "2:3"), ("A", "\ufffd"))
    assert wire.read_headers(b"") == ()
    assert wire.status_of(b"NATS/1.0 409 Consumer Deleted\r\n\r\n") == 409
