"""Redis's part of the sink: how events are written so that each is there once, and what an error means."""

from __future__ import annotations

from collections.abc import Sequence

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from tidegate.core import DeliveryError, Encoded

ONCE = """\
if redis.call('EXISTS', KEYS[2]) == 1 then return end
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'event', ARGV[1])
redis.call('SET', KEYS[2], '', 'EX', ARGV[3])
redis.call('PUBLISH', KEYS[1], ARGV[1])
"""
"""Adds an event to its stream, and tells who listens to the channel of that name, unless its mark is there.

Redis runs a script alone and writes all of it or nothing to its file. But an error undoes nothing, so XADD, which can
fail, comes before the mark. The text is sent each time: by its hash a Redis that was restarted would not know it."""

MAX_EVENTS = 1_000_000
"""Events of a stream, roughly. Redis has streams in memory and keeps what was acknowledged too, so there must be a
bound: about 0.5 GB of orders, and eleven days at one a second. Beyond it the oldest go, read or not."""

REMEMBER = 86_400
"""Seconds that a mark stays: as long as the broker keeps our session, for nothing comes again later. 130 bytes each."""

MAX_BODY = 1024 * 1024
"""Bytes of an event. Redis ends the connection over a text that is too long for it, which looks like an outage."""

ANSWER_TIMEOUT = 10.0
"""Seconds after which a Redis that does not answer counts as gone."""


def connect(url: str) -> Redis:
    """Return a client for `write_once`. Use as `async with`."""
    retry = Retry(NoBackoff(), 0)  # the sink tries again, with its own back-off
    return Redis.from_url(url, socket_timeout=ANSWER_TIMEOUT, socket_connect_timeout=ANSWER_TIMEOUT, retry=retry)


async def write_once(redis: Redis, events: Sequence[Encoded], max_body: int = MAX_BODY) -> list[Exception | None]:
    """Write events in one round trip, each into the stream and the channel that its subject names.

    Returns for each None once Redis has it, on its disk if that is what `appendfsync` says; a DeliveryError if it
    never will; any other exception for what can pass: no connection, no memory, a full disk, a replica, a missing
    permission. With those it is better to wait for the operator than to set good events aside.
    """
    results = [_too_large(event, max_body) for event in events]
    sent = [number for number, result in enumerate(results) if result is None]
    pipeline = redis.pipeline(transaction=False)
    for event in (events[number] for number in sent):
        # With the subject, for a dead letter has its message's id. With spaces, for no subject, so no stream, has one.
        mark = f"written {event.subject} {event.id}"
        pipeline.eval(ONCE, 2, event.subject, mark, event.body, str(MAX_EVENTS), str(REMEMBER))
    try:
        answers = await pipeline.execute(raise_on_error=False)
    except (RedisError, OSError) as error:
        answers = [error] * len(sent)
    for number, answer in zip(sent, answers, strict=True):
        results[number] = _error(answer)
    return results


def _too_large(event: Encoded, max_body: int) -> Exception | None:
    """Return why an event is too large, if it is. By this reason a dead letter is made smaller."""
    size = len(event.body)
    return DeliveryError("too_large", f"{size} bytes; at most {max_body} are written") if size > max_body else None


def _error(answer: object) -> Exception | None:
    if isinstance(answer, RedisError) and str(answer).startswith("WRONGTYPE"):
        return DeliveryError("refused", f"the stream's name is taken: {answer}")
    return answer if isinstance(answer, Exception) else None
