"""JetStream streams: created where they are missing, verified where they exist."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from tidegate.core import TidegateError

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


async def ensure_stream(client: Client, spec: StreamSpec) -> None:
    """Create the stream, or see that the one there is what the configuration says; widen its limits if need be.

    Raises StreamError where that can't be, or would delete stored messages; nats.errors.Error where the server can't
    be asked.
    """
    jetstream = client.jetstream()
    try:
        info = await jetstream.stream_info(spec.name)
    except nats.js.errors.NotFoundError:
        await _create(client, spec)
        return
    found = info.config
    _refuse_what_cannot_change(spec, found)
    changes = _differences(spec, found)
    if not changes:
        return
    if losing := _losing(spec, found):
        raise StreamError(spec.name, f"{losing}: that would delete stored messages; change the stream by hand")
    try:
        await jetstream.update_stream(found.evolve(**changes))
    except nats.js.errors.APIError as error:
        raise StreamError(
            spec.name, f"the server refused the change of {', '.join(changes)}: {_text(error)}"
        ) from error
    log.info("nats: stream %s updated: %s", spec.name, ", ".join(changes))


async def find_stream(client: Client, subject: str) -> StreamSpec | None:
    """Return the stream that stores a subject or subject filter, as the server has it; None if there is none.

    Raises nats.errors.Error where the server can't be asked.
    """
    jetstream = client.jetstream()
    try:
        name = await jetstream.find_stream_name_by_subject(subject)
    except nats.js.errors.NotFoundError:
        return None
    config = (await jetstream.stream_info(name)).config
    return StreamSpec(
        name=name,
        subjects=tuple(config.subjects or ()),
        retention=str(getattr(config.retention, "value", config.retention)),  # type: ignore[arg-type]
        discard=str(getattr(config.discard, "value", config.discard)),  # type: ignore[arg-type]
        storage=str(getattr(config.storage, "value", config.storage)),  # type: ignore[arg-type]
        max_age=config.max_age or None,
        max_bytes=config.max_bytes if (config.max_bytes or 0) > 0 else None,
        replicas=config.num_replicas or 1,
        duplicate_window=config.duplicate_window or 0.0,
    )


async def _create(client: Client, spec: StreamSpec) -> None:
    config = StreamConfig(
        name=spec.name, retention=RetentionPolicy(spec.retention), storage=StorageType(spec.storage)
    ).evolve(**_wanted(spec))
    try:
        await client.jetstream().add_stream(config)
    except nats.js.errors.APIError as error:
        raise StreamError(spec.name, f"the server refused to create it: {_text(error)}") from error
    log.info("nats: stream %s created for %s", spec.name, ", ".join(spec.subjects))


def _wanted(spec: StreamSpec) -> dict[str, object]:
    """Return what can be changed later, as nats-py names it."""
    return {
        "subjects": list(spec.subjects),
        "discard": DiscardPolicy(spec.discard),
        "max_age": spec.max_age or 0.0,
        "max_bytes": spec.max_bytes if spec.max_bytes is not None else -1,
        "num_replicas": spec.replicas,
        "duplicate_window": spec.duplicate_window,
    }


def _differences(spec: StreamSpec, found: StreamConfig) -> dict[str, object]:
    return {name: value for name, value in _wanted(spec).items() if getattr(found, name) != value}


def _refuse_what_cannot_change(spec: StreamSpec, found: StreamConfig) -> None:
    for name, wanted, there in (
        ("retention", spec.retention, found.retention),
        ("storage", spec.storage, found.storage),
    ):
        if there is not None and there != wanted:  # nats-py gives plain strings here
            raise StreamError(
                spec.name,
                f"it exists with {name} {there}, the configuration says {wanted}; NATS can't change that",
            )
    if found.sealed:
        raise StreamError(spec.name, "it is sealed: it takes no messages")


def _losing(spec: StreamSpec, found: StreamConfig) -> str | None:
    """Return the limit that would get tighter, if any."""
    for name, wanted, there in (
        ("max_age", spec.max_age, found.max_age),
        ("max_bytes", spec.max_bytes, found.max_bytes if (found.max_bytes or 0) > 0 else None),
    ):
        if wanted and (not there or wanted < there):
            return f"{name} goes from {there or 'unlimited'} to {wanted}"
    missing = set(found.subjects or ()) - set(spec.subjects)
    return f"it no longer listens to {', '.join(sorted(missing))}" if missing else None


def _text(error: nats.js.errors.APIError) -> str:
    return str(error.description or error)
