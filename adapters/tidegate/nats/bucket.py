"""Key-value buckets that hold the newest event of each subject: what a silent device said last."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from tidegate.core import overlap
from tidegate.nats.jetstream import NOT_FOUND, ApiError, call
from tidegate.nats.link import Link
from tidegate.nats.stream import StreamError

log = logging.getLogger(__name__)

_Source = dict[str, Any]
"""A source of a stream as JetStream's API has it."""


@dataclass(frozen=True, kw_only=True)
class BucketSpec:
    """A bucket and the subjects whose newest events it has, as filters of which no two overlap."""

    name: str
    subjects: tuple[str, ...]

    @property
    def stream(self) -> str:
        """The name of the stream that a bucket is (NATS ADR-8)."""
        return f"KV_{self.name}"


async def ensure_bucket(link: Link, spec: BucketSpec) -> None:
    """Create the bucket, or see that the one there takes the events of all its subjects, and add what it lacks.

    Its stream takes the events from the streams that store them, so nothing is published twice and it has what they
    have, in their order, from their first message on. What else a bucket is like (history, age, replicas) is left as it
    is; so are sources that are no longer asked for. The key of an event is its subject.

    Raises StreamError where that can't be; ApiError and ConnectError where the server can't be asked.
    """
    streams = {subject: await _streams_of(link, spec, subject) for subject in spec.subjects}
    wanted = [_source(stream["name"], subject, spec.name) for subject in streams for stream in streams[subject]]
    try:
        found = (await call(link, f"STREAM.INFO.{spec.stream}"))["config"]
    except ApiError as error:
        if error.code != NOT_FOUND:
            raise
        replicas = max(stream["num_replicas"] for several in streams.values() for stream in several)
        await _call(link, spec, "CREATE", {**_new_bucket(spec), "num_replicas": replicas, "sources": wanted})
        log.info("nats: bucket %s created for %s", spec.name, ", ".join(spec.subjects))
        return
    there = found.get("sources") or []
    missing = [source for source in wanted if _identity(source) not in map(_identity, there)]
    if not missing:
        return
    _refuse_overlap(spec, missing, there)
    await _call(link, spec, "UPDATE", {**found, "sources": [*there, *missing]})
    log.info("nats: bucket %s takes from %s too", spec.name, ", ".join(source["name"] for source in missing))


async def _streams_of(link: Link, spec: BucketSpec, subject: str) -> list[dict[str, Any]]:
    """Return the configurations of the streams that store events of a subject filter."""
    names = (await call(link, "STREAM.NAMES", {"subject": subject})).get("streams") or []
    if not names:
        raise StreamError(spec.stream, f"no stream stores {subject}, so the bucket {spec.name} can't have its events")
    found = [(await call(link, f"STREAM.INFO.{name}"))["config"] for name in names]
    for config in found:
        if config["retention"] == "workqueue":
            raise StreamError(
                spec.stream,
                f"the bucket {spec.name} can't have the events of {subject}: {config['name']} is a work queue, and "
                "gives each event to one taker alone",
            )
    return found


def _source(stream: str, subject: str, bucket: str) -> _Source:
    return {"name": stream, "subject_transforms": [{"src": subject, "dest": f"$KV.{bucket}.{_destination(subject)}"}]}


def _destination(subject: str) -> str:
    """Return a filter as the target of a subject transform, where each `*` is named by its number."""
    tokens, number = subject.split("."), 0
    for place, token in enumerate(tokens):
        if token == "*":
            number += 1
            tokens[place] = f"{{{{wildcard({number})}}}}"
    return ".".join(tokens)


def _new_bucket(spec: BucketSpec) -> dict[str, Any]:
    """Return a bucket as NATS's own clients create it (ADR-8), but with a duplicate window of 0.

    For a stream with sources that is none: the streams have folded what is sent twice, and an event of one stream may
    have the id of an event of another.
    """
    return {
        "name": spec.stream,
        "subjects": [f"$KV.{spec.name}.>"],
        "storage": "file",
        "max_msgs_per_subject": 1,
        "max_bytes": -1,
        "discard": "new",
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "allow_direct": True,
        "duplicate_window": 0,
    }


def _identity(source: _Source) -> tuple[str, tuple[tuple[str, str], ...]]:
    transforms = source.get("subject_transforms") or []
    return source["name"], tuple((one["src"], one.get("dest", "")) for one in transforms)


def _refuse_overlap(spec: BucketSpec, missing: list[_Source], there: list[_Source]) -> None:
    """An event that comes by two sources comes late by one of them, and can hide a newer one."""
    taken = [(source["name"], subject) for source in there for subject in _filters(source)]
    for source in missing:
        (subject,) = _filters(source)
        for name, other in taken:
            if name == source["name"] and overlap(subject, other):
                raise StreamError(
                    spec.stream,
                    f"the bucket {spec.name} has {other} of {name} already, which overlaps with {subject}; name "
                    "another bucket, or delete this one: it is made again of what the streams hold",
                )


def _filters(source: _Source) -> list[str]:
    transforms = source.get("subject_transforms") or []
    return [one["src"] for one in transforms] or [source.get("filter_subject") or ">"]


async def _call(link: Link, spec: BucketSpec, verb: str, config: dict[str, Any]) -> None:
    try:
        await call(link, f"STREAM.{verb}.{spec.stream}", config)
    except ApiError as error:
        raise StreamError(spec.stream, f"the server refused the bucket {spec.name}: {error}") from error
