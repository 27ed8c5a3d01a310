"""The bridges of the configuration, up and down."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from tidegate.app.config_section import Name, Section
from tidegate.bridge import (
    Compression,
    Decoder,
    DownPayload,
    Expression,
    Schema,
    Steps,
    Unit,
    decoder_names,
    load_schema,
    new_decoder,
    new_inflate,
)
from tidegate.core import DownMapping, Envelope, Mapping, check_text, fill


def _number(value: object) -> object:
    """Return a number that came as text, which is what a variable gives."""
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 10 else value


def _name_decoders(schema: dict[str, Any]) -> None:
    """Let an editor offer the decoders that there are; others can be installed where the gateway runs."""
    options = {"anyOf": [{"type": "object"}, {"type": "null"}]}
    named = {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": options}
    schema["anyOf"] = [{"enum": decoder_names()}, {"type": "string"}, named]


def _check_direction(direction: object) -> object:
    if direction != "up":  # `down` never gets here: it is a section of its own
        raise ValueError("should be 'up' (from MQTT to NATS) or 'down' (from NATS to MQTT)")
    return direction


class Bridge(Section):
    """A path from a topic pattern to a subject."""

    name: Name = Field(description="In metrics, client ids, event sources and the subjects of dead letters.")
    direction: Annotated[Literal["up"], BeforeValidator(_check_direction)] = Field(
        "up", description="up: from MQTT to NATS."
    )
    mqtt: str = Field(description="Topic pattern: {x} captures one level, {x...} the rest; + and # match only.")
    nats: str = Field(description="Subject template, with the captures as whole tokens.")
    qos: Annotated[Literal[0, 1, 2], BeforeValidator(_number)] = Field(
        1, description="0: can be lost. 1: not lost. 2: not lost either, and one exchange more for each message."
    )
    deliver: Literal["jetstream", "core"] = Field(
        "jetstream", description="jetstream: settled when a stream has it. core: fire and forget, to whoever listens."
    )
    last_value: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="A key-value bucket that has the newest event of each subject, with the subject as its key. "
        "Created if it is missing.",
    )
    decompress: Compression | None = Field(None, description="gzip, zlib or zstd; up to mqtt.max_payload.")
    decode: str | dict[str, dict[str, Any]] = Field(
        "json",
        description="A decoder's name, or with options as {csv: {delimiter: ';'}}.",
        json_schema_extra=_name_decoders,
    )
    each: str | None = Field(None, description="JMESPath: the array whose elements become an event each.")
    filter: str | None = Field(None, description="JMESPath: only where this is true there is an event.")
    select: str | None = Field(None, description="JMESPath: what the event's data is.")
    time: str | None = Field(
        None, description="JMESPath: the device's own time; or header:NAME for an MQTT 5 user property."
    )
    time_unit: Unit | None = Field(None, description="s, ms, us or ns; told apart by size unless it is given.")
    time_zone: str = Field("UTC", description="Of times without an offset, as Europe/Berlin.")
    correlation: str | None = Field(
        None, description="JMESPath: a correlation id, as order.id; used where MQTT 5 brings none."
    )
    causation: str | None = Field(None, description="JMESPath: the id of the event that led to this one.")
    type: str = Field(
        "io.tidegate.message.v1", min_length=1, max_length=256, description="The events' type; may have {captures}."
    )
    source: str | None = Field(
        None, min_length=1, max_length=256, description="The events' source; default urn:tidegate:<gateway>:<bridge>."
    )
    attributes: dict[str, str] = Field({}, description="More attributes of the events; may have {captures}.")
    schema_file: Path | None = Field(
        None, alias="schema", description="What the data must be: JSON Schema, or Avro (*.avsc)."
    )
    cloudevents: Literal["pass", "wrap"] = Field(
        "pass", description="What is an event already: pass it on as it is, or wrap it as any payload."
    )
    mode: Literal["structured", "binary"] = Field(
        "structured", description="structured: one JSON document. binary: ce- headers around the payload as it came."
    )

    @field_validator("mqtt")
    @classmethod
    def _check_pattern(cls, pattern: str) -> str:
        Mapping(pattern, "any")
        return pattern

    @field_validator("nats")
    @classmethod
    def _check_template(cls, template: str, info: ValidationInfo) -> str:
        if "mqtt" in info.data:
            Mapping(info.data["mqtt"], template)
        return template

    @field_validator("decode", mode="before")
    @classmethod
    def _check_decoder(cls, decode: Any) -> Any:
        if isinstance(decode, dict):
            decode = {name: {} if options is None else options for name, options in decode.items()}
        if not isinstance(decode, str) and not _is_one_with_options(decode):
            raise ValueError("should be a decoder's name, as json, or one with its options, as {csv: {delimiter: ';'}}")
        new_decoder(*_decoder_parts(decode))
        return decode

    @field_validator("each", "filter", "select", "correlation", "causation")
    @classmethod
    def _check_expression(cls, text: str | None) -> str | None:
        if text is not None:
            Expression(text)
        return text

    @field_validator("time")
    @classmethod
    def _check_time(cls, text: str | None) -> str | None:
        if text == _HEADER:
            raise ValueError("needs the name of a user property, as header:sent")
        if text is not None and not text.startswith(_HEADER):
            Expression(text)
        return text

    @field_validator("time_zone")
    @classmethod
    def _check_zone(cls, name: str) -> str:
        _zone(name)
        return name

    @field_validator("decompress")
    @classmethod
    def _check_compression(cls, name: Compression | None) -> Compression | None:
        if name is not None:
            new_inflate(name, 0)
        return name

    @field_validator("schema_file")
    @classmethod
    def _check_schema(cls, path: Path | None) -> Path | None:
        if path is not None:
            load_schema(path)
        return path

    @field_validator("attributes")
    @classmethod
    def _check_attributes(cls, attributes: dict[str, str]) -> dict[str, str]:
        for name, text in attributes.items():
            if not re.fullmatch("[a-z0-9]{1,20}", name):
                raise ValueError(f"{name!r} can't be an attribute: lower-case letters and digits, at most 20")
            if name in _OWN_ATTRIBUTES:
                raise ValueError(f"{name!r} is an attribute that the gateway sets")
            if not 0 < len(text) <= _MAX_ATTRIBUTE:
                raise ValueError(f"the value of {name!r} should have 1 to {_MAX_ATTRIBUTE} characters")
        return attributes

    @model_validator(mode="after")
    def _check_last_value(self) -> Self:
        if self.last_value and self.deliver == "core":
            raise ValueError("last_value: a bucket has its values from a stream; use deliver: jetstream")
        if self.last_value and (token := re.search(r"\$[0-9]+", self.nats)):
            raise ValueError(
                f"last_value: NATS takes {token[0]} in a key for the level of that number; rename the token"
            )
        return self

    @model_validator(mode="after")
    def _check_captures(self) -> Self:
        names = Mapping(self.mqtt, "any").names
        for key, text in (("type", self.type), ("source", self.source or ""), *self.attributes.items()):
            try:
                check_text(text, names)
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from None
            if key in ("type", "source") and text and not fill(text, {name: [""] for name in names}):
                raise ValueError(f"{key}: needs a text besides {text}, because a level of a topic can be empty")
        if self.decoder_name == "sparkplug_b" and self.decompress:
            raise ValueError("decompress: Sparkplug messages are not compressed as a whole; leave it out")
        if self.decoder_name == "raw":
            inside = [*self.expressions, *(["schema"] if self.schema_file else [])]
            if inside:
                raise ValueError(f"{inside[0]} looks into the payload, and decode: raw leaves it as bytes")
        for key, expression in self.expressions.items():
            if unknown := sorted(expression.captured - set(names)):
                known = ", ".join(names) or "nothing"
                raise ValueError(f"{key}: capture('{unknown[0]}'): the topic pattern captures {known}")
        return self

    @property
    def expressions(self) -> dict[str, Expression]:
        """The JMESPath expressions that are configured, by the names of the options."""
        texts = {name: getattr(self, name) for name in ("each", "filter", "select", "correlation", "causation")}
        texts["time"] = self.time if self.time_property is None else None
        return {name: Expression(text) for name, text in texts.items() if text is not None}

    @property
    def time_property(self) -> str | None:
        """The user property that has the device's time, if one has."""
        if self.time is None or not self.time.startswith(_HEADER):
            return None
        return self.time.removeprefix(_HEADER)

    @property
    def decoder_name(self) -> str:
        """The decoder's name without its options."""
        return _decoder_parts(self.decode)[0]

    def mapping(self) -> Mapping:
        """Return the topic to subject mapping. Raises ValueError."""
        return Mapping(self.mqtt, self.nats)

    def decoder(self) -> Decoder:
        """Return the decoder. Raises ValueError."""
        return new_decoder(*_decoder_parts(self.decode))

    def data_schema(self) -> Schema | None:
        """Return the schema of the events' data, if there is one. Raises ValueError."""
        return load_schema(self.schema_file) if self.schema_file else None

    def steps(self, max_payload: int) -> Steps:
        """Return what happens between a payload and its events. Raises ValueError."""
        expressions, schema = self.expressions, self.data_schema()
        return Steps(
            inflate=new_inflate(self.decompress, max_payload) if self.decompress else None,
            time_property=self.time_property,
            time_unit=self.time_unit,
            time_zone=_zone(self.time_zone),
            check=schema.check if schema else None,
            **expressions,
        )


_HEADER = "header:"
_MAX_ATTRIBUTE = 256
_OWN_ATTRIBUTES = frozenset((*Envelope.model_fields, "specversion", "emptypayload", "timefallback", "tracestate"))


def _is_one_with_options(decode: object) -> bool:
    return isinstance(decode, dict) and len(decode) == 1 and all(isinstance(one, dict) for one in decode.values())


def _decoder_parts(decode: str | dict[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    return (decode, {}) if isinstance(decode, str) else next(iter(decode.items()))


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"there is no time zone {name!r} on this machine; as Europe/Berlin, or UTC") from None


class DownBridge(Section):
    """A path from a subject pattern to a topic: how commands and notices get to devices."""

    name: Name = Field(description="In metrics, client ids, names of consumers and the subjects of dead letters.")
    direction: Literal["down"] = Field(description="down: from NATS to MQTT.")
    nats: str = Field(description="Subject pattern: {x} captures one token, {x...} the rest; * and > match only.")
    mqtt: str = Field(description="Topic template, with the captures as whole levels.")
    qos: Annotated[Literal[0, 1, 2], BeforeValidator(_number)] = Field(
        1, description="0: a device can miss it. 1: it may come twice. 2: twice only after a lost connection."
    )
    retain: bool = Field(False, description="Whether the broker keeps the last message of a topic for who comes later.")
    deliver: Literal["jetstream", "core"] = Field(
        "jetstream", description="jetstream: from a stream, until the broker has it. core: what is published just then."
    )
    payload: DownPayload = Field(
        "data", description="data: an event's data, its attributes as user properties. event: the whole event, as JSON."
    )

    @field_validator("nats")
    @classmethod
    def _check_pattern(cls, pattern: str) -> str:
        DownMapping(pattern, "any")
        return pattern

    @field_validator("mqtt")
    @classmethod
    def _check_template(cls, template: str, info: ValidationInfo) -> str:
        if "nats" in info.data:
            DownMapping(info.data["nats"], template)
        return template

    def mapping(self) -> DownMapping:
        """Return the subject to topic mapping. Raises ValueError."""
        return DownMapping(self.nats, self.mqtt)


_UP, _DOWN = "(direction: up)", "(direction: down)"


def _direction(bridge: object) -> str:
    direction = bridge.get("direction") if isinstance(bridge, dict) else getattr(bridge, "direction", None)
    return _DOWN if direction == "down" else _UP


AnyBridge = Annotated[
    Annotated[Bridge, Tag(_UP)] | Annotated[DownBridge, Tag(_DOWN)],
    Discriminator(_direction),
]
