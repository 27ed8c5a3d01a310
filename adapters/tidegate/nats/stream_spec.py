"""What a stream should be, and as what JetStream's API has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Retention = Literal["limits", "interest", "workqueue"]
Discard = Literal["old", "new"]
Storage = Literal["file", "memory"]

StreamConfig = dict[str, Any]
"""A stream's configuration as JetStream's API has it: durations in nanoseconds, no limit is -1, or 0 for an age."""


@dataclass(frozen=True, kw_only=True)
class StreamSpec:
    """What a stream should be. max_age and duplicate_window in seconds, max_bytes in bytes; None means no limit.

    max_msgs_per_subject: beyond so many a subject's oldest messages are deleted, whatever `discard` says.
    """

    name: str
    subjects: tuple[str, ...]
    retention: Retention = "limits"
    discard: Discard = "old"
    storage: Storage = "file"
    max_age: float | None = None
    max_bytes: int | None = None
    max_msgs_per_subject: int | None = None
    replicas: int = 1
    duplicate_window: float = 120.0


def changeable(spec: StreamSpec) -> StreamConfig:
    """Return what NATS can change in a stream that is there; a retention, unless it is that of a work queue."""
    return {
        "subjects": list(spec.subjects),
        "retention": spec.retention,
        "discard": spec.discard,
        "max_age": round((spec.max_age or 0.0) * 1e9),
        "max_bytes": spec.max_bytes if spec.max_bytes is not None else -1,
        "max_msgs_per_subject": spec.max_msgs_per_subject if spec.max_msgs_per_subject is not None else -1,
        "num_replicas": spec.replicas,
        "duplicate_window": round(spec.duplicate_window * 1e9),
    }


def read_spec(config: StreamConfig) -> StreamSpec:
    """Return what a stream is."""
    return StreamSpec(
        name=config["name"],
        subjects=tuple(config.get("subjects") or ()),
        retention=config["retention"],
        discard=config["discard"],
        storage=config["storage"],
        max_age=_seconds(config, "max_age") or None,
        max_bytes=_limit(config, "max_bytes"),
        max_msgs_per_subject=_limit(config, "max_msgs_per_subject"),
        replicas=config.get("num_replicas", 1),
        duplicate_window=_seconds(config, "duplicate_window"),
    )


def _seconds(config: StreamConfig, name: str) -> float:
    return float(config.get(name, 0)) / 1e9


def _limit(config: StreamConfig, name: str) -> int | None:
    limit: int = config.get(name, -1)
    return limit if limit > 0 else None
