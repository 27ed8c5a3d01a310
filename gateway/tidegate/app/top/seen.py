"""What is known of a gateway now."""

from __future__ import annotations

from typing import NamedTuple

from tidegate.app.top.status import Status


class Failure(NamedTuple):
    """Why there is no answer, and since when, by our clock."""

    reason: str
    since: float


class Seen(NamedTuple):
    """status: what the gateway said last, or None before its first answer; at: when that was. failure: None while it
    answers. now, at: by our clock, which need not be the gateway's."""

    url: str
    now: float
    status: Status | None = None
    at: float = 0.0
    failure: Failure | None = None

    def answered(self, status: Status, now: float) -> Seen:
        """Return what is known after an answer."""
        return Seen(self.url, now, status, now)

    def failed(self, reason: str, now: float) -> Seen:
        """Return what is known after an answer that did not come."""
        since = now if self.failure is None else self.failure.since
        return self._replace(now=now, failure=Failure(reason, since))
