"""What `/status.json` says in each state of a gateway, without a gateway."""

from __future__ import annotations

import copy
from typing import Any

NOW = 1_750_000_000.0
Status = dict[str, Any]


def bridge(name: str = "readings", **changes: Any) -> Status:
    """Return a bridge that delivers. `changes` replace values; those that are dicts are merged."""
    up = changes.get("direction", "up") == "up"
    history = [780 + 40 * ((7 * i) % 5) for i in range(60)]
    made: Status = {
        "name": name, "direction": "up", "mqtt_topic": "sensors/{site}/{device}/reading",
        "nats_subject": "plant.sensors.{site}.{device}", "qos": 1, "deliver": "jetstream", "stream": "SENSORS",
        "state": "delivering", "problem": None, "blocked": None,
        "mqtt": {"up": True, "url": "mqtt://127.0.0.1:1883", "reconnects": 0, "sessions_lost": 0, "last_error": None},
        "received": 1_234_567, "delivered": 1_234_548, "filtered": 3, "dead_lettered": {}, "dropped": {},
        "duplicates": 0, "received_bytes": 123_456_789, "delivered_bytes": 345_678_901, "in_flight": 14, "spooled": 0,
        "window": 1000,
        "rates": {"received": 812.4, "delivered": 810.2, "step": 5.0,
                  "history": {"received": history, "delivered": [0.98 * n for n in history]}},
        "lag": {"oldest_unsettled": 0.004, "spool_oldest": None, "consumer_pending": None if up else 0,
                "delivery_p50": 0.001, "delivery_p99": 0.004, "event_p50": 0.2, "event_p99": 1.5},
        "spool": {"messages": 0, "bytes": 0, "problem": None} if up else None,
        "last_error": None,
        "guarantee": {
            "promise": "at least once into SENSORS, and stored once within its duplicate window of 120 s: "
                       "PUBACK only after the stream's PubAck or an fsync here",
            "weaknesses": ["SENSORS has one replica: a power cut of its server can lose its last seconds"],
        },
    }  # fmt: skip
    return _merged(made, changes)


def status(*bridges: Status, **changes: Any) -> Status:
    """Return a whole document. `changes` replace values; those that are dicts are merged."""
    made: Status = {
        "gateway": "plant-1", "version": "0.1.0", "started": NOW - 9200, "now": NOW,
        "ready": True, "problems": [], "nats_away": None, "stalled": None, "last_reload_successful": True,
        "nats": {"up": True, "url": "nats://127.0.0.1:4222", "reconnects": 0, "last_error": None},
        "spool": {"bytes": 0, "max_bytes": 1 << 30, "when_full": "block"},
        "bridges": list(bridges), "consumers": [], "dead_letters": [],
    }  # fmt: skip
    return _merged(made, changes)


def _merged(made: Status, changes: Status) -> Status:
    for key, value in changes.items():
        assert key in made, key
        both = isinstance(value, dict) and isinstance(made[key], dict) and made[key]
        made[key] = _merged(made[key], value) if both and key not in ("dead_lettered", "dropped") else value
    return copy.deepcopy(made)


def dead_letter(bridge: str = "readings", **changes: Any) -> Status:
    """Return a dead letter of a minute ago."""
    made = {
        "time": NOW - 60, "bridge": bridge, "reason": "decode_failed", "detail": "not JSON: unexpected end of data",
        "topic": "sensors/hall/d7/reading", "correlation_id": None,
    }  # fmt: skip
    return _merged(made, changes)
