"""A gateway's /status.json as a test wants it."""

from __future__ import annotations

import copy
from typing import Any

from tidegate.app.top.status import Status

BRIDGE: dict[str, Any] = {
    "name": "readings",
    "direction": "up",
    "mqtt_topic": "sensors/{site}/{device}/reading",
    "nats_subject": "plant.sensors.{site}.{device}",
    "qos": 1,
    "deliver": "jetstream",
    "stream": "SENSORS",
    "state": "delivering",
    "problem": None,
    "blocked": None,
    "mqtt": {"up": True, "url": "mqtt://127.0.0.1:1883", "reconnects": 0, "sessions_lost": 0, "last_error": None},
    "received": 81_240,
    "delivered": 81_102,
    "filtered": 6,
    "dead_lettered": {"decode_failed": 2},
    "dropped": {"spool_full": 0},
    "duplicates": 3,
    "received_bytes": 8_000_000,
    "delivered_bytes": 24_000_000,
    "in_flight": 128,
    "spooled": 0,
    "window": 1000,
    "rates": {
        "received": 812.4,
        "delivered": 810.2,
        "step": 5.0,
        "history": {"received": [float(n % 17 * 50) for n in range(60)], "delivered": [800.0] * 60},
    },
    "lag": {
        "oldest_unsettled": 0.004,
        "spool_oldest": None,
        "consumer_pending": None,
        "delivery_p50": 0.001,
        "delivery_p99": 0.004,
        "event_p50": 0.2,
        "event_p99": 1.5,
    },
    "spool": {"messages": 0, "bytes": 0, "problem": None},
    "last_error": None,
    "guarantee": {"promise": "at least once into SENSORS", "weaknesses": ["the stream deletes after 7d"]},
}
STATUS: dict[str, Any] = {
    "gateway": "plant-1",
    "version": "0.1.0",
    "started": 1_750_000_000.0,
    "now": 1_750_010_000.0,
    "ready": True,
    "problems": [],
    "nats_away": None,
    "stalled": None,
    "last_reload_successful": True,
    "nats": {"up": True, "url": "nats://127.0.0.1:4222", "reconnects": 0, "last_error": None},
    "spool": {"bytes": 0, "max_bytes": 1_073_741_824, "when_full": "block"},
    "bridges": [],
    "consumers": [],
    "dead_letters": [],
}
NOTE: dict[str, Any] = {
    "time": 1_750_009_990.0,
    "bridge": "readings",
    "reason": "decode_failed",
    "detail": "not JSON: unexpected character",
    "topic": "sensors/a/b/reading",
    "correlation_id": None,
}
REFUSED = "nats://127.0.0.1:4222: connection refused"


def bridge(name: str = "readings", **more: Any) -> dict[str, Any]:
    """Return a bridge's part. A dict given for a part that is one changes what it names alone."""
    return _changed(BRIDGE, {"name": name, **more})


def status(*bridges: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the document."""
    return _changed(STATUS, {"bridges": list(bridges), **more})


def _changed(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    made = copy.deepcopy(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(made.get(key), dict) and key not in ("dead_lettered", "dropped")
        made[key] = _changed(made[key], value) if both else value
    return made


def spooling(name: str = "readings") -> dict[str, Any]:
    """Return a bridge while NATS is away."""
    return bridge(
        name,
        state="spooling",
        blocked=REFUSED,
        spooled=12_345,
        in_flight=0,
        lag={"oldest_unsettled": None, "spool_oldest": 252.0},
        spool={"messages": 12_345, "bytes": 3_100_000},
        rates={"delivered": 0.0},
        last_error={"text": REFUSED, "time": 1_750_009_000.0},
    )


def down_bridge(name: str = "commands") -> dict[str, Any]:
    """Return a bridge down."""
    return bridge(
        name,
        direction="down",
        spool=None,
        spooled=0,
        lag={"consumer_pending": 17, "event_p50": None, "event_p99": None},
    )


STATES: dict[str, dict[str, Any]] = {
    "delivering": status(bridge(), bridge("alarms", dead_lettered={}), down_bridge(), dead_letters=[NOTE] * 20),
    "idle": status(
        bridge(in_flight=0, lag={"oldest_unsettled": None}, rates={"received": 0.0, "delivered": 0.0}),
    ),
    "spooling": status(
        spooling(), bridge("alarms", state="spooling", blocked=REFUSED), nats_away=REFUSED,
        nats={"up": False, "last_error": REFUSED, "reconnects": 2}, spool={"bytes": 3_100_000},
    ),
    "blocked": status(bridge(state="spooling", blocked="no stream"), nats_away="streams: SENSORS is full"),
    "draining": status(
        bridge(state="draining", spooled=9_000, lag={"spool_oldest": 95.0}, rates={"delivered": 5_000.0},
               spool={"messages": 9_000, "bytes": 2_000_000}),
    ),
    "stuck": status(
        bridge(state="stuck", problem="mqtt: connection refused", mqtt={"up": False, "last_error": "refused"}),
        bridge("alarms", state="stuck", problem="spool: no space left on device " * 9),
        ready=False, problems=["readings: mqtt: connection refused", "alarms: spool: no space left on device " * 9],
    ),
    "stalled": status(bridge(), stalled="readings holds 128 messages, and none was settled for two minutes"),
    "reload failed": status(bridge(), last_reload_successful=False),
    "consumers": status(
        bridge(), consumers=[{"stream": "KITCHEN", "name": f"kitchen{n}", "pending": n, "unsettled": 3, "problem": None}
                             for n in range(20)],
    ),
    "no bridges": status(nats=None, spool=None),
}  # fmt: skip


def parsed(document: dict[str, Any]) -> Status:
    """Return the document as it is read."""
    return Status.model_validate(document)
