"""The jobs: one base, and every other differs from it in one thing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["throughput", "latency", "drain", "idle"]

ALL = ("tidegate", "mq-bridge", "mosquitto_sub", "telegraf", "redpanda-connect", "naive")
BRIDGES = ("tidegate", "mq-bridge")
OURS = ("tidegate",)


@dataclass(frozen=True)
class Job:
    """What is measured, and who takes part.

    size: bytes of a payload. share: of the run's message count. processes: gateways that share the subscription, 0 for
    one with a subscription of its own. pace: messages a second of a latency job. scrape: seconds between two looks at
    /metrics, 0 for none.
    """

    name: str
    text: str
    contenders: tuple[str, ...] = BRIDGES
    kind: Kind = "throughput"
    qos: Literal[0, 1] = 1
    protocol: Literal["5", "3.1.1"] = "5"
    size: int = 100
    topics: int = 100
    broker: Literal["mosquitto", "iotcore"] = "mosquitto"
    mode: Literal["structured", "binary"] = "structured"
    deliver: Literal["jetstream", "core"] = "jetstream"
    spool: Literal["overflow", "write_through"] = "overflow"
    processes: int = 0
    pace: int = 0
    scrape: float = 0.0
    share: float = 1.0

    @property
    def gateways(self) -> int:
        """How many gateway processes run."""
        return max(1, self.processes)


BASE = Job(
    "base", "QoS 1, MQTT 5, 100 B of JSON, 100 topics, structured, file-backed stream, mosquitto", contenders=ALL
)

JOBS = (
    BASE,
    replace(BASE, name="qos0", text="QoS 0, still into the stream", qos=0, contenders=(*BRIDGES, "mosquitto_sub")),
    Job("v311", "MQTT 3.1.1", protocol="3.1.1"),
    Job("64b", "64 B payloads", size=64),
    Job("256b", "256 B payloads", size=256),
    # A quarter of the messages: they are forty times as large, and the load holds them all in memory.
    Job("4k", "4 KiB payloads", size=4096, share=0.25),
    Job("topics", "20,000 topics", topics=20_000),
    Job("binary", "binary mode", mode="binary", contenders=OURS),
    Job("iotcore", "iotcore as the broker", broker="iotcore", contenders=(*BRIDGES, "mosquitto_sub")),
    Job("core", "QoS 0 to core NATS, no stream", qos=0, deliver="core"),
    Job("write-through", "every message through the spool first", spool="write_through", contenders=OURS),
    Job("5n", "five times as many messages", share=5.0),
    Job("scale-1", "one gateway on a shared subscription", processes=1, contenders=OURS),
    Job("scale-2", "two gateways on a shared subscription", processes=2, contenders=OURS),
    Job("scraped", "a scrape of /metrics every second", scrape=1.0, contenders=OURS),
    Job("drain", "NATS comes back to a full spool", kind="drain", contenders=OURS),
    Job("idle", "an idle gateway", kind="idle", contenders=OURS),
    Job("latency-100", "100 messages a second", kind="latency", pace=100, contenders=(*BRIDGES, "naive")),
    Job("latency-1000", "1,000 messages a second", kind="latency", pace=1000, contenders=(*BRIDGES, "naive")),
    Job("latency-5000", "5,000 messages a second", kind="latency", pace=5000),
)

QUICK = tuple(job for job in JOBS if job.name in ("base", "latency-1000"))
"""The jobs of a quick run."""


@dataclass(frozen=True)
class Size:
    """How much of each job is done. count: messages of the base job; latency and idle: seconds."""

    count: int
    latency: float = 10.0
    idle: float = 20.0

    def messages(self, job: Job, share: float) -> int:
        """Return how many messages a contender gets that takes this share of a job."""
        return max(1, round(job.pace * self.latency if job.pace else self.count * job.share * share))
