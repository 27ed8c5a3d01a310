"""mq-bridge as its users run it: one route, acknowledged end to end, with deduplication.

python -m tests.benchmarks.mq_bridge_route MQTT_PORT NATS_PORT QOS PROTOCOL DELIVER BROKER PACE
"""

from __future__ import annotations

import sys
from typing import Any

BATCH = 2048
"""Messages in one batch. Of 128, 512 (its default) and 2048 this was the fastest; so was a concurrency of 1 (its
default) against 4."""

COMMITS = {"mosquitto": 4096, "iotcore": 1}
"""Commits at once. With its default, 4096, PUBACKs leave out of order: mosquitto takes them, and it is no slower so;
iotcore ends the connection, and messages were lost and doubled."""

EMPTY_DELAY = {"flat-out": 10, "paced": 0}
"""Milliseconds. Its default, 10, cost p99 latency; flat out, nothing is won by less."""


def config(
    mqtt_port: int, nats_port: int, qos: int, protocol: str, deliver: str, broker: str, pace: str
) -> dict[str, Any]:
    """Return its configuration. It does not map topics to subjects: everything goes to one."""
    source = {
        "url": f"mqtt://127.0.0.1:{mqtt_port}",
        "topic": "sensors/#",
        "client_id": "mq-bridge",
        "qos": qos,
        "protocol": "v5" if protocol == "5" else "v3",
        "clean_session": False,
        "session_expiry_interval": 3600,
        "max_inflight": 1000,
        "queue_capacity": 10_000,  # default 100; that many it reads ahead
    }
    sink = {
        "url": f"nats://127.0.0.1:{nats_port}",
        "subject": "plant.sensors.all",
        "stream": "SENSORS",
        "no_jetstream": deliver == "core",
        "deduplicate": deliver == "jetstream",
    }
    route = {
        "input": {"mqtt": source},
        "output": {"nats": sink},
        "batch_size": BATCH,
        "commit_concurrency_limit": COMMITS[broker],
        "empty_batch_delay_ms": EMPTY_DELAY[pace],
    }
    return {"routes": {"readings": route}}


def main() -> None:
    """Run the route until killed."""
    from mq_bridge import Route  # not needed by who only measures Tidegate

    mqtt_port, nats_port, qos, *choices = sys.argv[1:]
    Route.from_config(config(int(mqtt_port), int(nats_port), int(qos), *choices), "readings").run()


if __name__ == "__main__":
    main()
