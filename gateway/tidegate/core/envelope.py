"""What goes out: the CloudEvents 1.0 document, as people and their code see it."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from math import modf
from typing import Annotated, Any, Literal
from urllib.parse import quote, unquote

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, model_validator
from pydantic_core import from_json

STRUCTURED_CONTENT_TYPE = "application/cloudevents+json"

DEAD_LETTER_TYPE = "io.tidegate.dead_letter.v1"
"""The type of what was set aside, by a bridge or by a service."""


def format_time(seconds: float) -> str:
    """Return seconds since 1970 as an RFC 3339 time stamp in UTC, always with microseconds (CloudEvents §2.2)."""
    fraction, whole = modf(seconds)
    microseconds = round(fraction * 1e6)
    if not 0 <= microseconds < 1_000_000:  # before 1970, or rounded up to the next second
        return _format_datetime(datetime.fromtimestamp(seconds, UTC))
    return f"{_format_second(whole)}.{microseconds:06d}Z"


@lru_cache(maxsize=16)
def _format_second(whole: float) -> str:
    return datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _format_datetime(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


Timestamp = Annotated[datetime, PlainSerializer(_format_datetime, return_type=str)]


class Envelope(BaseModel):
    """One event (CloudEvents 1.0 §3.1), with Tidegate's extension attributes.

    id: unique for each event; also its `Nats-Msg-Id`.
    source: `urn:tidegate:<gateway>:<bridge>`, unless the event came with its own.
    type: what happened, in reverse-DNS form, with a version.
    subject: the MQTT topic, exactly.
    time: of the occurrence; where the device does not say, of receipt.
    data: the JSON value, or absent; data_base64: the bytes, where they are not JSON. Never both (JSON format §3.1).
    correlationid: the same for all events of one story. causationid: the id of the event that led to this one.
    recordedtime: when the gateway received it. traceparent: W3C Trace Context.
    retained: the MQTT broker had kept the message; it is not news.
    Other extension attributes are allowed, as strings, integers and booleans.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    specversion: Literal["1.0"] = "1.0"
    id: str = Field(min_length=1)
    source: str = Field(min_length=1)
    type: str = Field(min_length=1)
    subject: str | None = None
    time: Timestamp | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    data: Any = None
    data_base64: str | None = None
    correlationid: str | None = None
    causationid: str | None = None
    recordedtime: Timestamp | None = None
    traceparent: str | None = None
    retained: bool | None = None

    @model_validator(mode="after")
    def _one_data_member(self) -> Envelope:
        if {"data", "data_base64"} <= self.model_fields_set:
            raise ValueError("an event has data or data_base64, not both")
        return self

    def payload(self) -> Any:
        """Return the data: a JSON value, or bytes where the event carries bytes. None where there is none."""
        return self.data if self.data_base64 is None else b64decode(self.data_base64)

    def to_json(self) -> bytes:
        """Return the event in the JSON event format, without the attributes that were never set."""
        return self.model_dump_json(exclude_unset=True).encode()

    def model_post_init(self, _context: object) -> None:
        """`specversion` is part of every document, said or not."""
        self.__pydantic_fields_set__.add("specversion")

    @classmethod
    def from_nats(cls, headers: Mapping[str, str] | None, body: bytes) -> Envelope:
        """Return the event that a NATS message carries, in structured or in binary mode (NATS binding §3).

        Raises ValueError if the message is not a CloudEvent.
        """
        headers = headers or {}
        content_type = headers.get("Content-Type", headers.get("content-type", ""))
        if content_type.startswith("application/cloudevents"):
            return cls.model_validate_json(body)
        attributes: dict[str, Any] = {
            name.lower()[3:]: unquote(value) for name, value in headers.items() if name.lower().startswith("ce-")
        }
        if "id" not in attributes:
            raise ValueError("not a CloudEvent: neither a cloudevents content type nor a ce-id header")
        if content_type:
            attributes["datacontenttype"] = content_type
        return cls.model_validate({**attributes, **_binary_data(content_type, body)})


def _binary_data(content_type: str, body: bytes) -> dict[str, Any]:
    """Return the data member, as bytes too where they are not what their type says: a device may have said it."""
    media_type = content_type.partition(";")[0].strip()
    if not body:
        return {}
    with suppress(ValueError):
        if media_type == "application/json" or media_type.endswith("+json"):
            return {"data": from_json(body, allow_inf_nan=False)}
        if media_type.startswith("text/"):
            return {"data": body.decode()}
    return {"data_base64": b64encode(body).decode()}


_PLAIN = re.compile(r"(?![Nn])[!#$&-~]*").fullmatch
"""Most values: nothing in them is encoded."""

_HEADER_SAFE = "!#$&'()*+,-./:;<=>?@[\\]^_`{|}~"


def percent_encode(value: str) -> str:
    """Return an attribute as a NATS header value: what is outside printable ASCII, and space, `"` and `%`, is
    percent-encoded (NATS binding §3.1.3.2), and so is the first letter of a value that starts like one of NATS's own
    header names."""
    if _PLAIN(value):
        return value
    if value[:5].lower() == "nats-":
        return f"%{ord(value[0]):02X}" + quote(value[1:], safe=_HEADER_SAFE)
    return quote(value, safe=_HEADER_SAFE)
