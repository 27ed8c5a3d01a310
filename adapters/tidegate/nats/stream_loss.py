"""What a change of a stream would do to the messages that it holds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tidegate.core import is_covered, rounded_duration, rounded_size, written_duration, written_size
from tidegate.nats.jetstream import call
from tidegate.nats.link import Link
from tidegate.nats.stream_spec import StreamSpec, read_spec

_MOST_SUBJECTS = 10_000
"""As many are looked at one by one: with names of 50 bytes that is an answer of half a megabyte, over the connection
that the events share."""


async def losses(link: Link, wanted: StreamSpec, info: dict[str, Any]) -> list[str]:
    """Return a reason, with its numbers, for each difference that would delete messages which a stream holds, or leave
    them where it no longer listens.

    info: the answer of STREAM.INFO. Raises ApiError and ConnectError where the server can't be asked.
    """
    if not info["state"]["messages"]:
        return []
    there = read_spec(info["config"])
    found = [
        _by_retention(wanted, there, info["state"]["messages"]),
        _by_age(wanted, there, info),
        _by_bytes(wanted, there, info["state"]["bytes"]),
        await _by_messages_per_subject(link, wanted, there, info["state"]["num_subjects"]),
        await _by_subjects(link, wanted, there, info["state"]["num_subjects"]),
    ]
    return [one for one in found if one is not None]


def _by_retention(wanted: StreamSpec, there: StreamSpec, messages: int) -> str | None:
    if wanted.retention != "interest" or there.retention == "interest":
        return None
    return (
        f"retention goes from {there.retention} to interest, which deletes what no consumer waits for, and "
        f"{messages} messages are stored"
    )


def _by_age(wanted: StreamSpec, there: StreamSpec, info: dict[str, Any]) -> str | None:
    limit = wanted.max_age
    if limit is None or (there.max_age is not None and limit >= there.max_age):
        return None
    # By the server's own clock, which those before 2.10 do not tell.
    now = datetime.fromisoformat(info["ts"]) if "ts" in info else datetime.now(UTC)
    age = (now - datetime.fromisoformat(info["state"]["first_ts"])).total_seconds()
    if age <= limit:
        return None
    before = "none" if there.max_age is None else written_duration(there.max_age)
    return (
        f"max_age goes from {before} to {written_duration(limit)}, and the oldest message is "
        f"{rounded_duration(age)} old"
    )


def _by_bytes(wanted: StreamSpec, there: StreamSpec, stored: int) -> str | None:
    """A full stream that refuses new messages deletes none, however far above its limit it is."""
    limit = wanted.max_bytes
    if wanted.discard == "new" or limit is None or stored <= limit:
        return None
    before = "none" if there.max_bytes is None else written_size(there.max_bytes)
    discard = "" if there.discard == "old" else " with discard: old"
    return f"max_bytes goes from {before} to {written_size(limit)}{discard}, and {rounded_size(stored)} are stored"


async def _by_messages_per_subject(link: Link, wanted: StreamSpec, there: StreamSpec, subjects: int) -> str | None:
    limit, before = wanted.max_msgs_per_subject, there.max_msgs_per_subject
    if limit is None or (before is not None and limit >= before):
        return None
    change = f"max_msgs_per_subject goes from {before or 'none'} to {limit}, and "
    if subjects > _MOST_SUBJECTS:
        return f"{change}{subjects} subjects are too many to see that none has more"
    more = {subject: count for subject, count in (await _counts(link, wanted.name, ">")).items() if count > limit}
    if not more:
        return None
    largest = max(more, key=more.__getitem__)
    others = f" and {len(more) - 1} more subjects exceed that" if len(more) > 1 else ""
    return f"{change}{largest} has {more[largest]}{others}"


async def _by_subjects(link: Link, wanted: StreamSpec, there: StreamSpec, subjects: int) -> str | None:
    """NATS keeps what is stored under a subject that a stream no longer has, but few would think of reading it."""
    gone = [subject for subject in there.subjects if not is_covered(subject, wanted.subjects)]
    if not gone:
        return None
    change = f"it no longer listens to {', '.join(gone)}, and "
    if subjects > _MOST_SUBJECTS:
        return f"{change}{subjects} subjects are too many to see that nothing is stored there"
    stored = 0
    for subject_filter in gone:
        for subject, count in (await _counts(link, wanted.name, subject_filter)).items():
            stored += 0 if is_covered(subject, wanted.subjects) else count
    return f"{change}{stored} messages are stored there" if stored else None


async def _counts(link: Link, stream: str, subject_filter: str) -> dict[str, int]:
    """Return how many messages each subject has; up to 100,000 come in one answer."""
    info = await call(link, f"STREAM.INFO.{stream}", {"subjects_filter": subject_filter})
    return info["state"].get("subjects") or {}
