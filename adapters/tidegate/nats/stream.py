"""JetStream streams: created where they are missing, verified where they exist."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Literal

from tidegate.core import TidegateError
from tidegate.nats.jetstream import NOT_FOUND, ApiError, call
from tidegate.nats.link import Link

log = logging.getLogger(__name__)

Retention = Literal["limits", "interest", "workqueue"]
Discard = Literal["old", "new"]
Storage = Literal["file", "memory"]


@dataclass(frozen=True, kw_only=True)
class StreamSpec:
    """What a stream should be. max_age and duplicate_window in seconds, max_bytes in bytes; None means no limit."""

    name: str
    subjects: tuple[str, ...]
    retention: Retention = "limits"
    discard: Discard = "old"
    storage: Storage = "file"
    max_age: float | None = None
    max_bytes: int | None = None
    replicas: int = 1
    duplicate_window: float = 120.0


class StreamError(TidegateError):
    """A stream can't be what the configuration says. Nothing was changed."""

    def __init__(self, stream: str, problem: str) -> None:
        self.stream = stream
        self.problem = problem
        super().__init__(f"stream {stream}: {problem}")


async def ensure_stream(link: Link, spec: StreamSpec) -> None:
    """Create the stream, or see that the one there is what the configuration says; widen its limits if need be.

    Raises StreamError where that can't be, or would delete stored messages; ApiError and ConnectError where the server
    can't be asked.
    """
    try:
        found = (await call(link, f"STREAM.INFO.{spec.name}"))["config"]
    except ApiError as error:
        if error.code != NOT_FOUND:
            raise
        await _create(link, spec)
        return
    _refuse_what_cannot_change(spec, found)
    changes = {name: value for name, value in _wanted(spec).items() if found.get(name) != value}
    if not changes:
        return
    if losing := _losing(spec, found):
        raise StreamError(spec.name, f"{losing}: that would delete stored messages; change the stream by hand")
    try:
        await call(link, f"STREAM.UPDATE.{spec.name}", {**found, **changes})
    except ApiError as error:
        raise StreamError(spec.name, f"the server refused the change of {', '.join(changes)}: {error}") from error
    log.info("nats: stream %s updated: %s", spec.name, ", ".join(changes))


async def find_stream(link: Link, subject: str) -> StreamSpec | None:
    """Return the stream that stores a subject or subject filter, as the server has it; None if there is none.

    Raises ApiError and ConnectError where the server can't be asked.
    """
    names = (await call(link, "STREAM.NAMES", {"subject": subject})).get("streams")
    if not names:
        return None
    config = (await call(link, f"STREAM.INFO.{names[0]}"))["config"]
    return StreamSpec(
        name=names[0],
        subjects=tuple(config.get("subjects") or ()),
        retention=config["retention"],
        discard=config["discard"],
        storage=config["storage"],
        max_age=_seconds(config, "max_age") or None,
        max_bytes=_max_bytes(config),
        replicas=config.get("num_replicas", 1),
        duplicate_window=_seconds(config, "duplicate_window"),
    )


async def _create(link: Link, spec: StreamSpec) -> None:
    config = {"name": spec.name, "retention": spec.retention, "storage": spec.storage, **_wanted(spec)}
    try:
        await call(link, f"STREAM.CREATE.{spec.name}", config)
    except ApiError as error:
        raise StreamError(spec.name, f"the server refused to create it: {error}") from error
    log.info("nats: stream %s created for %s", spec.name, ", ".join(spec.subjects))


_Config = dict[str, Any]
"""A stream's configuration as JetStream's API has it: durations in nanoseconds, no limit of bytes is -1."""


def _wanted(spec: StreamSpec) -> _Config:
    """Return what can be changed later."""
    return {
        "subjects": list(spec.subjects),
        "discard": spec.discard,
        "max_age": round((spec.max_age or 0.0) * 1e9),
        "max_bytes": spec.max_bytes if spec.max_bytes is not None else -1,
        "num_replicas": spec.replicas,
        "duplicate_window": round(spec.duplicate_window * 1e9),
    }


def _seconds(config: _Config, name: str) -> float:
    return float(config.get(name, 0)) / 1e9


def _max_bytes(config: _Config) -> int | None:
    limit: int = config.get("max_bytes", -1)
    return limit if limit > 0 else None


def _refuse_what_cannot_change(spec: StreamSpec, found: _Config) -> None:
    for name, wanted in (("retention", spec.retention), ("storage", spec.storage)):
        if found[name] != wanted:
            raise StreamError(
                spec.name,
                f"it exists with {name} {found[name]}, the configuration says {wanted}; NATS can't change that",
            )
    if found.get("sealed"):
        raise StreamError(spec.name, "it is sealed: it takes no messages")


def _losing(spec: StreamSpec, found: _Config) -> str | None:
    """Return the limit that would get tighter, if any."""
    for name, wanted, there in (
        ("max_age", spec.max_age, _seconds(found, "max_age")),
        ("max_bytes", spec.max_bytes, _max_bytes(found)),
    ):
        if wanted and (not there or wanted < there):
            return f"{name} goes from {there or 'unlimited'} to {wanted}"
    missing = set(found.get("subjects") or ()) - set(spec.subjects)
    return f"it no longer listens to {', '.join(sorted(missing))}" if missing else None
