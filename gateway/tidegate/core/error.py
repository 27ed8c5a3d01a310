"""What can go wrong, by what the caller can do about it. Every error carries its data; the edge makes the sentence."""

from __future__ import annotations


class TidegateError(Exception):
    """Base of every error that Tidegate raises on purpose."""


class ConfigError(TidegateError):
    """The configuration is wrong. Carries one (key, problem) pair for each fault; never a secret's value."""

    def __init__(self, problems: list[tuple[str, str]], source: str = "") -> None:
        self.problems = problems
        self.source = source
        super().__init__(str(self))

    def __str__(self) -> str:
        where = f"{self.source}: " if self.source else ""
        return "\n".join(f"{where}{key}: {problem}" if key else f"{where}{problem}" for key, problem in self.problems)


class ConnectError(TidegateError):
    """A connection could not be made or was refused. Trying again may help."""

    def __init__(self, endpoint: str, reason: str) -> None:
        self.endpoint = endpoint
        self.reason = reason
        super().__init__(f"{endpoint}: {reason}")


class ProtocolError(TidegateError):
    """The peer broke the protocol. The connection can't go on; a new one may."""


class DeliveryError(TidegateError):
    """This one message can never be delivered as it is: it becomes a dead letter.

    reason: a fixed word of bounded cardinality, fit for a metric label.
    detail: one sentence for a person; never a secret, may quote the device.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")
