"""What /status.json says, as far as it is shown. Times are seconds since 1970, durations and lags are seconds.

These are the reader's types, apart from those of `app.status`: the gateway may be of another version, and what it says
is checked before a picture is made of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_MOST = 10**36

Number = Annotated[float, Field(ge=-_MOST, le=_MOST)]
Count = Annotated[int, Field(ge=-_MOST, le=_MOST)]
"""Far more than a gateway has of anything, and sums of them can still be divided and rounded."""


class _Part(BaseModel):
    """A newer gateway may say more; what it says must be of the right kind, or it would break a picture later."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Endpoint(_Part):
    """A connection, to the broker or to NATS."""

    up: bool
    url: str
    reconnects: Count = 0
    sessions_lost: Count = 0
    last_error: str | None = None


class Rates(_Part):
    """Messages a second. history: one number for each `step` seconds, oldest first."""

    received: Number
    delivered: Number
    step: Number
    history: History


class History(_Part):
    """The rates of the last minutes."""

    received: list[Number]
    delivered: list[Number]


class Lag(_Part):
    """How far behind a bridge is; None where nothing waits, or nothing is known."""

    oldest_unsettled: Number | None = None
    spool_oldest: Number | None = None
    consumer_pending: Count | None = None
    delivery_p50: Number | None = None
    delivery_p99: Number | None = None
    event_p50: Number | None = None
    event_p99: Number | None = None


class BridgeSpool(_Part):
    """What a bridge has on the disk."""

    messages: Count
    bytes: Count
    problem: str | None = None


class LastError(_Part):
    """What went wrong last, and when."""

    text: str
    time: Number


class Guarantee(_Part):
    """What a bridge promises, and what weakens it."""

    promise: str
    weaknesses: list[str]


class BridgeStatus(_Part):
    """A bridge. state: delivering, spooling, draining or stuck."""

    name: str
    direction: str
    mqtt_topic: str
    nats_subject: str
    qos: Count
    deliver: str
    stream: str | None = None
    state: str
    problem: str | None = None
    blocked: str | None = None
    mqtt: Endpoint
    received: Count
    delivered: Count
    filtered: Count
    dead_lettered: dict[str, Count]
    dropped: dict[str, Count]
    duplicates: Count
    received_bytes: Count
    delivered_bytes: Count
    in_flight: Count
    spooled: Count
    window: Count
    rates: Rates
    lag: Lag
    spool: BridgeSpool | None = None
    last_error: LastError | None = None
    guarantee: Guarantee | None = None

    @property
    def dead(self) -> int:
        """Dead letters of all reasons."""
        return sum(self.dead_lettered.values())

    @property
    def waiting(self) -> float | None:
        """Seconds for which the oldest message that is not delivered has waited, in flight or on the disk."""
        return longest((self.lag.oldest_unsettled, self.lag.spool_oldest))

    @property
    def queued(self) -> int | None:
        """Messages on the disk; of a bridge down, those that wait in its stream. None where that is not known."""
        return self.lag.consumer_pending if self.direction == "down" else self.spooled


class DiskSpool(_Part):
    """The disk buffer of all bridges."""

    bytes: Count
    max_bytes: Count
    when_full: str


class ConsumerStatus(_Part):
    """A consumer of a stream whose backlog is watched."""

    stream: str
    name: str
    pending: Count | None = None
    unsettled: Count | None = None
    problem: str | None = None


class DeadLetterNote(_Part):
    """A message that was set aside. topic and detail are a device's text."""

    time: Number
    bridge: str
    reason: str
    detail: str
    topic: str
    correlation_id: str | None = None


class Status(_Part):
    """The whole gateway."""

    gateway: str
    version: str
    started: Number
    now: Number
    ready: bool
    problems: list[str]
    nats_away: str | None = None
    stalled: str | None = None
    last_reload_successful: bool = True
    nats: Endpoint | None = None
    spool: DiskSpool | None = None
    bridges: list[BridgeStatus]
    consumers: list[ConsumerStatus] = Field(default=[])
    dead_letters: list[DeadLetterNote] = Field(default=[])


def longest(seconds: Iterable[float | None]) -> float | None:
    """Return the greatest of those that are known."""
    return max((one for one in seconds if one is not None), default=None)
