"""The unit of work and of acknowledgement: what one read of a socket or of the spool brought."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tidegate.core.message import Message


class Batch:
    """Messages that arrived together and are settled together."""

    __slots__ = ("_settle", "messages")

    def __init__(self, messages: Sequence[Message], settle: Callable[[], None] | None = None) -> None:
        self.messages = messages
        self._settle = settle

    def settle(self) -> None:
        """Tell the source that every message of the batch is finished: delivered, spooled, dead-lettered or dropped.

        Call it once all of them are durable, never before: this is what releases the PUBACKs. A second call, and a
        call for a connection that is gone, do nothing. Never raises.
        """
        settle, self._settle = self._settle, None
        if settle is not None:
            settle()

    @property
    def settled(self) -> bool:
        """Whether `settle` was called. A batch without a source to tell counts as settled."""
        return self._settle is None
