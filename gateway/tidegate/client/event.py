"""Typed events: the envelope with data of a declared type."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import to_json

from tidegate.core import Envelope

T = TypeVar("T")


class EventData(BaseModel):
    """Base of what an event says. It can't be changed; use tuples rather than lists, so that this holds within.

    event_type: the CloudEvents `type`, as `com.example.food.order_placed.v1`. A new meaning gets a new version. Members
    that a reader does not know are passed over, so a writer may add some without a new version.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    event_type: ClassVar[str]


class Event(Envelope, Generic[T]):
    """An event whose data is of a type: `Event[OrderPlaced]`. `Event[bytes]` has what is no JSON."""

    data: T

    def to_json(self) -> bytes:
        """Return the event in the JSON event format, with all of its data and the attributes that were set."""
        document = self.model_dump(mode="json", exclude={"data"}, exclude_unset=True)
        if isinstance(self.data, bytes):
            return to_json(document | {"data_base64": b64encode(self.data).decode()})
        return to_json(document | self.model_dump(mode="json", include={"data"}, by_alias=True))


def read_event(data_type: type[T], headers: Mapping[str, str] | None, body: bytes) -> Event[T]:
    """Return the event that a NATS message carries, its data validated.

    Raises ValueError, with one sentence, if it is not an event, not of the declared type, or its data is not.
    """
    wanted = getattr(data_type, "event_type", None)
    if data_type is bytes:
        return _read_bytes(data_type, Envelope.from_nats(headers, body))
    try:
        event: Event[T] = Event[data_type].from_nats(headers, body)  # type: ignore[valid-type, assignment]
    except ValidationError as error:
        if wanted is not None and (found := _type_of(headers, body)) not in (None, wanted):
            raise ValueError(f"its type is {found!r}, and this consumer handles {wanted!r}") from error
        raise ValueError(_first(error)) from error
    if wanted is not None and event.type != wanted:
        raise ValueError(f"its type is {event.type!r}, and this consumer handles {wanted!r}")
    return event


def new_event(
    data_type: type[T],
    data: T,
    *,
    id: str,  # noqa: A002
    source: str,
    type: str | None,  # noqa: A002
    cause: Envelope | None,
) -> Event[T]:
    """Return an event that happens now. cause: what led to it; its story goes on, its trace too.

    type: only where the data does not declare one. Raises ValueError if nothing does.
    """
    event_type = type or getattr(data_type, "event_type", None)
    if event_type is None:
        raise ValueError(f"{data_type.__name__} declares no event_type; give one, as type='com.example.thing.v1'")
    attributes: dict[str, Any] = {
        "id": id,
        "source": source,
        "type": event_type,
        "time": datetime.fromtimestamp(time.time(), UTC),
        "datacontenttype": "application/octet-stream" if isinstance(data, bytes) else "application/json",
        "correlationid": (cause.correlationid or cause.id) if cause else id,
    }
    if cause is not None:
        attributes["causationid"] = cause.id
        if cause.traceparent is not None:
            attributes["traceparent"] = cause.traceparent
    return Event[data_type](**attributes, data=data)  # type: ignore[valid-type]


def _read_bytes(data_type: type[T], envelope: Envelope) -> Event[T]:
    if envelope.data_base64 is None:
        raise ValueError("its data are no bytes")
    attributes = envelope.model_dump(exclude={"data_base64"}, exclude_unset=True)
    return Event[data_type](**attributes, data=envelope.payload())  # type: ignore[valid-type]


def _type_of(headers: Mapping[str, str] | None, body: bytes) -> str | None:
    try:
        return Envelope.from_nats(headers, body).type
    except ValueError:
        return None


def _first(error: ValidationError) -> str:
    """Return what is wrong first, and where, without what it looks like: it may be long."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]


def story_of(event: Envelope | None) -> str:
    """Return what a log line says of the story that an event belongs to. A device may have made the id."""
    if event is None:
        return ""
    story = event.correlationid or event.id
    return f" (correlation {story if story.isprintable() else ascii(story)})"
