"""What can go wrong in a service, and what a handler can say about an event."""

from __future__ import annotations

from typing import Any

from tidegate.core import TidegateError


class PublishError(TidegateError):
    """An event was not acknowledged by a stream. It may be stored nevertheless.

    event: publish it again, as it is, and it is stored once, within the stream's duplicate window.
    """

    def __init__(self, subject: str, reason: str, event: Any) -> None:
        self.subject = subject
        self.reason = reason
        self.event = event
        super().__init__(f"{subject}: {reason}")


class PoisonError(TidegateError):
    """Raised by a handler: this event will never be handled, however often it is tried. It becomes a dead letter."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


class RetryError(TidegateError):
    """Raised by a handler: try this event again, not before `after` seconds."""

    def __init__(self, after: float, reason: str) -> None:
        self.after = after
        self.reason = reason
        super().__init__(reason)
