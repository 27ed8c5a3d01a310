"""Cases for `tidegate test`: a message, and what is to become of it.

```yaml
cases:                            # or the list alone
  - name: a Shelly reports its power
    topic: shellies/hall/relay/0/power
    payload: "12.5"               # or json: {...} | hex: "0a 0b" | base64: ... | file: beside the cases; else empty
    content_type: text/plain      # this and the next three are MQTT 5 properties
    correlation_data: order-7     # or {hex: "0a 0b"}
    response_topic: answers/7
    user: {correlationid: abc}    # or [[name, value], ...] where a name comes twice
    retained: false
    qos: 1
    received: 2026-01-01T00:00:00Z    # when; the default is this, so that results are the same every day
    bridge: readings              # only this one; by default all that take the topic
    expect:                       # the events, in order; [] if it is filtered out
      - nats: plant.power.hall    # the NATS subject
        type: com.example.power   # attributes: those that are named are compared; null: it has none
        data: 12.5                # as a whole
    # or: expect_dead_letter: {reason: decode_failed, detail: a part of it}
```

Bridges share what they remember: a case comes after those before it. Case 1 has the event id
00000000-0000-7000-8000-000000000001, case 2 ends with 2, and so on.
"""

from __future__ import annotations

import json
from base64 import b64decode
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

from tidegate.core import Message, Properties, format_time, id_of

_RECEIVED = 1_767_225_600.0  # 2026-01-01
_TIMES = ("time", "recordedtime")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _check_text(value: object) -> object:
    if value is not None and not isinstance(value, str):
        raise ValueError('should be text; put it in quotes, as "12.5"')
    try:
        str(value).encode()
    except UnicodeEncodeError:
        raise ValueError("is no text: it has half of a surrogate pair") from None
    return value


def _from_hex(text: object) -> bytes:
    try:
        return bytes.fromhex(str(_check_text(text)))
    except ValueError:
        raise ValueError("should be bytes in hexadecimal, in quotes, as '0a 0b'") from None


def _from_base64(text: object) -> bytes:
    try:
        return b64decode("".join(str(_check_text(text)).split()), validate=True)
    except ValueError:
        raise ValueError("should be base64") from None


def _from_json(value: object) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        raise ValueError("has no form in JSON: not a number, infinity or half of a surrogate pair") from None


def _given(info: ValidationInfo, name: str) -> Any:
    """Return what is known besides the file; see `load_cases`."""
    assert info.context is not None
    return info.context[name]


def _from_file(name: object, info: ValidationInfo) -> bytes:
    try:
        return Path(_given(info, "base"), str(_check_text(name))).read_bytes()
    except (OSError, ValueError) as error:
        raise ValueError(f"the file can't be read: {getattr(error, 'strerror', None) or error}") from None


def _correlation_data(value: object) -> bytes:
    if isinstance(value, dict) and list(value) == ["hex"]:
        return _from_hex(value["hex"])
    if not isinstance(value, str):
        raise ValueError("should be text, or bytes as {hex: '0a 0b'}")
    return value.encode()


def _user(value: object) -> object:
    pairs = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
        for pair in pairs
    ):
        raise ValueError("should be names with texts, as {correlationid: abc}; or [[name, text], ...]")
    return [tuple(pair) for pair in pairs]


def _seconds(value: object) -> float:
    time = _read_time(value)
    if time is None:
        raise ValueError("should be a time with its offset from UTC, as 2026-01-01T00:00:00Z")
    return time.timestamp()


def _read_time(value: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return time if time is not None and time.tzinfo else None


def _check_bridge(name: str, info: ValidationInfo) -> str:
    known = _given(info, "bridges")
    if name not in known:
        raise ValueError(f"no bridge is called {name!r}; there are {', '.join(known)}")
    return name


def _same_form(event: dict[str, Any]) -> dict[str, Any]:
    """Write times as the gateway does, so that equal times are equal texts."""
    times = {name: found for name in _TIMES if (found := _read_time(event.get(name)))}
    return event | {name: format_time(time.timestamp()) for name, time in times.items()}


Text = Annotated[str, BeforeValidator(_check_text)]
ExpectedEvent = Annotated[dict[str, Any], AfterValidator(_same_form)]


class ExpectedDeadLetter(_Section):
    """The reason, and some text that the detail contains; each only where it is given."""

    reason: Text | None = None
    detail: Text | None = None


class Case(_Section):
    """A message, and what is to become of it: events in order, a dead letter, or both where several bridges take it."""

    name: Text
    topic: Text
    payload: Text | None = None
    json_value: Annotated[bytes, BeforeValidator(_from_json)] = Field(b"", alias="json")
    hex: Annotated[bytes, BeforeValidator(_from_hex)] = b""
    base64: Annotated[bytes, BeforeValidator(_from_base64)] = b""
    file: Annotated[bytes, BeforeValidator(_from_file)] = b""
    content_type: Text | None = None
    correlation_data: Annotated[bytes | None, BeforeValidator(_correlation_data)] = None
    response_topic: Text | None = None
    user: Annotated[tuple[tuple[str, str], ...], BeforeValidator(_user)] = ()
    retained: bool = False
    qos: Literal[0, 1, 2] = 1
    received: Annotated[float, BeforeValidator(_seconds)] = _RECEIVED
    bridge: Annotated[Text, AfterValidator(_check_bridge)] | None = None
    expect: tuple[ExpectedEvent, ...] | None = None
    expect_dead_letter: ExpectedDeadLetter | None = None

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        given = [name for name in _PAYLOADS if name in self.model_fields_set]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(_PAYLOADS[name] for name in given)} exclude each other")
        if self.properties is not None and _given(info, "protocol") != "5":
            raise ValueError("a message of MQTT 3.1.1, which mqtt.protocol says, has no properties")
        return self

    @property
    def body(self) -> bytes:
        """The payload."""
        return (self.payload or "").encode() or self.json_value or self.hex or self.base64 or self.file

    @property
    def properties(self) -> Properties | None:
        """The MQTT 5 properties, or None if there are none."""
        found = Properties(self.content_type, self.correlation_data, self.response_topic, self.user)
        return None if found == Properties() else found

    def message(self, number: int, max_payload: int) -> Message:
        """Return the message, as a session with this limit receives it. number: of the case, which makes its id."""
        body = self.body
        return Message(
            self.topic.encode(),
            body[:max_payload],
            id_of(0x7000, 1 << 63 | number),
            self.qos,
            self.retained,
            False,
            self.properties,
            len(body),
            "payload_too_large" if len(body) > max_payload else None,
            self.received,
        )


_PAYLOADS = {"payload": "payload", "json_value": "json", "hex": "hex", "base64": "base64", "file": "file"}


class Cases(_Section):
    """The whole file."""

    cases: tuple[Case, ...] = Field(min_length=1)
