"""What an operator can rely on, bridge by bridge, in sentences; and what weakens it."""

from __future__ import annotations

from math import inf
from typing import NamedTuple

from tidegate.app.config import Bridge, Config, DownBridge
from tidegate.nats import StreamSpec


class Guarantee(NamedTuple):
    """promise: what holds. weaknesses: what makes it less than it could be, each with what to do."""

    promise: str
    weaknesses: list[str]


def guarantee(config: Config, bridge: Bridge, stream: StreamSpec | None) -> Guarantee:
    """Return what holds for a bridge. `stream` is the one that stores its subjects, as the server has it."""
    weaknesses = _of_mqtt(config, bridge)
    if bridge.deliver == "core":
        weaknesses.append("deliver core: what is on its way when a connection dies is lost; use deliver: jetstream")
        return Guarantee("at most once, to whoever listens", weaknesses)
    if stream is None:
        subjects = bridge.mapping().subject_filter
        return Guarantee("nothing is delivered, messages wait", [f"no stream stores {subjects}; add one to streams"])
    weaknesses += _of_stream(stream) + bucket_losses(bridge, stream) + _of_spool(config)
    if bridge.qos == 0:
        return Guarantee(f"at most once into {stream.name}", weaknesses)
    once = "exactly once while the broker keeps its session" if bridge.qos == 2 else "at least once"
    window = f"and stored once within its duplicate window of {stream.duplicate_window:g} s"
    return Guarantee(
        f"{once} into {stream.name}, {window}: PUBACK only after the stream's PubAck or an fsync here", weaknesses
    )


def down_guarantee(bridge: DownBridge, stream: StreamSpec | None) -> Guarantee:
    """Return what holds for a down bridge. `stream` is the one that stores its subjects, as the server has it."""
    weaknesses = []
    if bridge.qos == 0:
        weaknesses.append("qos 0: the broker keeps nothing for a device that is away; use qos: 1")
    if bridge.deliver == "core":
        weaknesses.append("deliver core: what is published while the gateway is away is lost; use deliver: jetstream")
        return Guarantee("at most once to the broker", weaknesses)
    if stream is None:
        subjects = bridge.mapping().subject_filter
        return Guarantee("nothing is delivered", [f"no stream stores {subjects}; add one to streams"])
    weaknesses += losses(stream)
    return Guarantee(
        f"at least once from {stream.name} to the broker, in order; a device knows a copy by the user property id",
        weaknesses,
    )


def _of_mqtt(config: Config, bridge: Bridge) -> list[str]:
    found = []
    if bridge.qos == 0:
        found.append("qos 0: the broker sends each message once and forgets it; use qos: 1")
    if config.mqtt.session_expiry == 0:
        found.append("mqtt.session_expiry 0s: what is published while the gateway is away is lost; use e.g. 1d")
    return found


def losses(stream: StreamSpec, enough: float = inf) -> list[str]:
    """Return what makes a stream lose messages that nobody has read, each with what to do.

    enough: seconds; that it keeps messages for so long is not told.
    """
    found = []
    if stream.storage == "memory":
        found.append(f"{stream.name} is in memory: a restart of nats-server loses it; use storage: file")
    if stream.discard == "old" and stream.max_bytes:
        found.append(
            f"{stream.name} forgets its oldest messages at {stream.max_bytes} bytes, read or not; "
            "with discard: new it refuses new ones, which then wait at the gateway"
        )
    if stream.max_msgs_per_subject:
        found.append(
            f"{stream.name} keeps only the last {stream.max_msgs_per_subject} of each subject: a reader that is late "
            "misses those before; leave max_msgs_per_subject out if all are to be read"
        )
    if stream.max_age and stream.max_age < enough:
        found.append(f"{stream.name} forgets messages after {stream.max_age:g} s, read or not; see that all are read")
    if stream.retention == "interest":
        found.append(
            f"{stream.name} keeps only what a consumer exists for at that moment; create the consumers first, "
            "or use retention: limits"
        )
    return found


def bucket_losses(bridge: Bridge, stream: StreamSpec) -> list[str]:
    """Return what makes a bridge's bucket of last values miss events that the stream had, with what to do."""
    if bridge.last_value is None or stream.retention != "interest":
        return []
    return [
        f"{stream.name} keeps only what a consumer waits for, and a bucket does not wait while nats-server starts: "
        f"{bridge.last_value} misses what comes then; use retention: limits"
    ]


def _of_stream(stream: StreamSpec) -> list[str]:
    found = losses(stream)
    if stream.replicas == 1:
        found.append(
            f"{stream.name} has one replica: a power cut of its server can lose its last seconds, its disk all; "
            "use replicas: 3, or nats-server's sync_interval: always with spool mode write_through"
        )
    return found


def _of_spool(config: Config) -> list[str]:
    if config.spool.when_full == "block":
        return []
    return [f"spool.when_full {config.spool.when_full}: a full spool gives messages up, counted as spool_full"]
