"""What came in: one message as its source delivered it."""

from __future__ import annotations

from typing import NamedTuple, Self


class Properties(NamedTuple):
    """The properties of a message that mean something beyond its protocol (MQTT 5 §3.3.2.3)."""

    content_type: str | None = None
    correlation_data: bytes | None = None
    response_topic: str | None = None
    user: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str | None:
        """Return the first user property of that name, or None. MQTT 5 allows a name more than once."""
        return next((value for key, value in self.user if key == name), None)


class _Fields(NamedTuple):
    topic: bytes
    payload: bytes
    id: str
    qos: int
    retained: bool
    duplicate: bool
    properties: Properties | None
    size: int
    defect: str | None
    received: float


class Message(_Fields):
    """One message as its source delivered it.

    A named tuple, not a dataclass: it is made for every message, and this is the cheapest form that still has names.

    topic: the topic's bytes. They should be UTF-8 but come from a device, so nothing may assume it.
    payload: the body, untouched; where `defect` is set it may be cut short.
    id: the event id, given at first receipt; a redelivery carries the same one.
    qos: 0, 1 or 2.
    retained: the broker had kept it; it is not news.
    duplicate: the source says that it may have sent this before (MQTT's DUP).
    properties: None where there are none, which is the common case.
    size: bytes of the whole payload as sent, also where `payload` was cut.
    received: wall-clock time of receipt, in seconds since 1970.
    defect: why this message can't become an event, found by the source while reading it; None if nothing is wrong.
    """

    __slots__ = ()

    def __new__(
        cls,
        topic: bytes,
        payload: bytes,
        id: str,  # noqa: A002 - CloudEvents' own word
        qos: int = 0,
        retained: bool = False,
        duplicate: bool = False,
        properties: Properties | None = None,
        size: int | None = None,
        defect: str | None = None,
        received: float = 0.0,
    ) -> Self:
        """Return a message; `size` is the payload's unless it is given."""
        size = len(payload) if size is None else size
        return new_tuple(cls, (topic, payload, id, qos, retained, duplicate, properties, size, defect, received))

    def __repr__(self) -> str:
        return f"<Message {self.id} topic={self.topic[:80]!r} size={self.size} qos={self.qos} defect={self.defect}>"


new_tuple = tuple.__new__
"""Makes a named tuple at a third of the price of its own constructor: worth it where one is made for every message.
All fields must be given, in order."""
