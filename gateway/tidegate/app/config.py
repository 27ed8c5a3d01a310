"""The configuration: what a file may say. Reading one is `tidegate.app.config_file`."""

from __future__ import annotations

import re
from itertools import combinations, product
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Self
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from tidegate.app.loop_guard import Hop, find_loop
from tidegate.app.quantity import Duration, Size
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
from tidegate.core import DownMapping, Envelope, Mapping, check_text, fill, overlap

DAY = 86_400.0
_MIB = 1024 * 1024


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False)


def _check_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?", name):
        raise ValueError("should be lower-case letters, digits, '-' and '_', at most 64, as 'plant-1'")
    return name


Name = Annotated[str, AfterValidator(_check_name)]


def _check_url(url: str, schemes: tuple[str, ...]) -> str:
    form = f"should be {' or '.join(f'{scheme}://host:port' for scheme in schemes)}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(form) from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("a user or password has no place in a URL; use username and password_file")
    if parts.scheme not in schemes or not parts.hostname or port is None:
        raise ValueError(form)
    if parts.path or parts.query or parts.fragment:
        raise ValueError(f"{form}, and nothing after it")
    return url


MqttUrl = Annotated[str, AfterValidator(lambda url: _check_url(url, ("mqtt", "mqtts")))]
NatsUrl = Annotated[str, AfterValidator(lambda url: _check_url(url, ("nats", "tls")))]


def _number(value: object) -> object:
    """Return a number that came as text, which is what a variable gives."""
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 10 else value


class _Named(Protocol):
    @property
    def name(self) -> str: ...


def _check_unique(items: tuple[_Named, ...]) -> tuple[_Named, ...]:
    names = [item.name for item in items]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"two are called {repeated!r}; each needs a name of its own")
    return items


class Tls(_Section):
    """Certificates, as PEM files. Without `ca` the system's authorities are trusted."""

    ca: Path | None = Field(None, description="The authorities that the peer's certificate is checked against.")
    cert: Path | None = Field(None, description="Our own certificate; needs key.")
    key: Path | None = Field(None, description="The key of our own certificate.")

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key go together")
        return self


class Mqtt(_Section):
    """The broker."""

    url: MqttUrl = Field("mqtt://127.0.0.1:1883", description="mqtt://host:port, or mqtts://host:port for TLS.")
    protocol: Annotated[Literal["5", "3.1.1"], BeforeValidator(str)] = Field("5", description="The version of MQTT.")
    client_id: str | None = Field(
        None, description="Prefix of the client ids; each bridge adds its name. Stable, so that sessions survive."
    )
    username: str | None = Field(None, description="With password_file or password, if the broker wants one.")
    password_file: Path | None = Field(None, description="A file that holds the password.")
    password: SecretStr | None = Field(None, description="The password, only as ${VARIABLE}.")
    tls: Tls = Tls()
    session_expiry: Duration = Field(
        DAY,
        description="How long the broker keeps the sessions while the gateway is away. 0s: not at all; then "
        "what is published meanwhile is lost.",
    )
    receive_maximum: int = Field(
        1000,
        ge=1,
        le=65_535,
        description="Messages in flight for each bridge. More is faster over a slow NATS link, and costs memory.",
    )
    keep_alive: Duration = Field(30.0, ge=1, le=65_535, description="A dead link is noticed within this time.")
    max_payload: Size = Field(
        _MIB,
        le=256 * _MIB,
        description="Larger messages become dead letters, cut short; each bridge may hold one such message in memory.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.password is not None and self.password_file is not None:
            raise ValueError("password and password_file exclude each other")
        if (self.password or self.password_file) and self.username is None:
            raise ValueError("a password needs a username")
        return self


class Nats(_Section):
    """The NATS servers of one cluster, or a leaf node. At most one way to log in."""

    servers: tuple[NatsUrl, ...] = Field(
        ("nats://127.0.0.1:4222",), min_length=1, description="nats://host:port, or tls://host:port for TLS."
    )
    username: str | None = Field(None, description="With password_file or password.")
    password_file: Path | None = Field(None, description="A file that holds the password.")
    password: SecretStr | None = Field(None, description="The password, only as ${VARIABLE}.")
    token_file: Path | None = Field(None, description="A file that holds the token.")
    token: SecretStr | None = Field(None, description="The token, only as ${VARIABLE}.")
    nkey_seed_file: Path | None = Field(None, description="A file that holds the seed of an NKey.")
    credentials_file: Path | None = Field(None, description="A .creds file: a JWT and its NKey.")
    tls: Tls | None = Field(None, description="Given, even if empty, or with tls:// servers: only TLS is accepted.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        ways = {
            "username": self.username,
            "token": self.token,
            "token_file": self.token_file,
            "nkey_seed_file": self.nkey_seed_file,
            "credentials_file": self.credentials_file,
        }
        given = [name for name, value in ways.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other")
        if self.password is not None and self.password_file is not None:
            raise ValueError("password and password_file exclude each other")
        if (self.username is None) != (self.password is None and self.password_file is None):
            raise ValueError("username and password go together")
        return self

    @property
    def uses_tls(self) -> bool:
        """Whether nothing may be sent in clear."""
        return self.tls is not None or any(server.startswith("tls://") for server in self.servers)


class Stream(_Section):
    """A JetStream stream: created if it is missing, verified if it is there."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="Letters, digits, '-' and '_', at most 64.")
    subjects: tuple[str, ...] = Field(min_length=1, description="What it stores; * and > are wildcards.")
    retention: Literal["limits", "interest", "workqueue"] = Field(
        "limits", description="limits: until a limit. interest: until all consumers have it. workqueue: until one has."
    )
    discard: Literal["old", "new"] | None = Field(
        None,
        description="What a full stream does: drop its oldest messages, or refuse new ones, which then wait at "
        "the gateway. By default `old` for limits and `new` otherwise.",
    )
    storage: Literal["file", "memory"] = Field("file", description="memory: gone with the server.")
    max_age: Duration | None = Field(None, description="How long messages are kept; no limit unless it is given.")
    max_bytes: Size | None = Field(None, description="No limit unless it is given.")
    max_msgs_per_subject: int | None = Field(
        None,
        ge=1,
        description="So many of each subject are kept, and older ones are deleted, read or not. No limit unless it "
        "is given. Needs discard `old`; not for work queues.",
    )
    replicas: int = Field(1, ge=1, le=5, description="Servers of a cluster that have it; 3 survive the loss of one.")
    duplicate_window: Duration = Field(120.0, description="How long the stream knows an event's id.")

    @model_validator(mode="after")
    def _keep_unread_work(self) -> Self:
        if self.retention == "workqueue" and self.discard == "old":
            raise ValueError("a work queue with discard 'old' deletes unread work when it is full; say 'new'")
        if self.max_msgs_per_subject is None:
            return self
        if self.retention == "workqueue":
            raise ValueError("a work queue with max_msgs_per_subject deletes unread work; leave that out")
        if self.when_full == "new":
            raise ValueError(
                "max_msgs_per_subject deletes the oldest messages of a subject, which discard 'new' would have kept; "
                "say discard: old"
            )
        return self

    @property
    def when_full(self) -> Literal["old", "new"]:
        """What is discarded when it is full."""
        return self.discard or ("old" if self.retention == "limits" else "new")


def _name_decoders(schema: dict[str, Any]) -> None:
    """Let an editor offer the decoders that there are; others can be installed where the gateway runs."""
    options = {"anyOf": [{"type": "object"}, {"type": "null"}]}
    named = {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": options}
    schema["anyOf"] = [{"enum": decoder_names()}, {"type": "string"}, named]


def _check_direction(direction: object) -> object:
    if direction != "up":  # `down` never gets here: it is a section of its own
        raise ValueError("should be 'up' (from MQTT to NATS) or 'down' (from NATS to MQTT)")
    return direction


class Bridge(_Section):
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


class DownBridge(_Section):
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


class DeadLetters(_Section):
    """Where messages go that can't be delivered. The stream is created if it is missing."""

    stream: str = Field("DEAD_LETTERS", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="The stream that has them.")
    subject: str = Field(
        "dead.{bridge}",
        pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.\{bridge\}$",
        description="Its last token is {bridge}, the name of the bridge.",
    )
    max_age: Duration | None = Field(90 * DAY, description="How long they are kept.")

    def subject_for(self, bridge: str) -> str:
        """Return the subject of one bridge's dead letters."""
        return self.subject.replace("{bridge}", bridge)


class Spool(_Section):
    """The disk buffer in `state_dir`, for what NATS can't take now."""

    mode: Literal["overflow", "write_through"] = Field(
        "overflow",
        description="overflow: while NATS is away, refuses or does not answer. write_through: every message first, "
        "for streams whose server does not write to disk before its PubAck.",
    )
    max_bytes: Size = Field(1024 * _MIB, description="For all bridges together.")
    max_age: Duration | None = Field(7 * DAY, description="Older messages are given up, and counted.")
    when_full: Literal["block", "drop_oldest", "drop_newest"] = Field(
        "block", description="block: leave messages with the broker. drop_*: give messages up, and count them."
    )


class Http(_Section):
    """The endpoint for Prometheus and for health checks."""

    listen: str = Field("127.0.0.1:9883", description="host:port; [::1]:port for IPv6.")

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, listen: str) -> str:
        found = re.fullmatch(r"(?:\[[0-9a-fA-F:.]+\]|[^:\s]+):([0-9]{1,5})", listen)
        if found is None or int(found[1]) > 65_535:
            raise ValueError("should be host:port, as '127.0.0.1:9883'")
        return listen

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class Log(_Section):
    """What is logged: one line for each change of state, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="And what is worse.")
    format: Literal["auto", "text", "json"] = Field(
        "auto", description="auto: text on a terminal, JSON lines elsewhere."
    )


class Config(_Section):
    """The whole file."""

    gateway: Name = Field(description="This gateway's id: in event sources and client ids.")
    state_dir: Path = Field(Path("state"), description="For the spool and event ids in flight; of one gateway alone.")
    shutdown_timeout: Duration = Field(10.0, description="How long a stop waits for what is in flight.")
    mqtt: Mqtt = Mqtt()
    nats: Nats = Nats()
    streams: Annotated[tuple[Stream, ...], AfterValidator(_check_unique)] = Field(
        (), description="Created if they are missing, verified if they are there."
    )
    bridges: Annotated[
        tuple[AnyBridge, ...],
        Field(min_length=1, description="What comes from where and goes where."),
        AfterValidator(_check_unique),
    ]
    dead_letters: DeadLetters = DeadLetters()
    spool: Spool = Spool()
    http: Http | None = Field(Http(), description="null: no endpoint.")
    log: Log = Log()

    @model_validator(mode="after")
    def _refuse_loops(self) -> Self:
        hops = [
            *(
                Hop.up(one.name, one.mapping().topic_filter, one.mapping().subject_filter, self._dead(one))
                for one in self.up_bridges
            ),
            *(
                Hop.down(one.name, one.mapping().subject_filter, one.mapping().topic_filter, self._dead(one))
                for one in self.down_bridges
            ),
        ]
        if loop := find_loop(hops):
            raise ValueError(
                f"messages would go round for ever: {loop}; let their subjects or topics exclude each other"
            )
        return self

    def _dead(self, bridge: AnyBridge) -> str:
        return self.dead_letters.subject_for(bridge.name)

    @property
    def up_bridges(self) -> tuple[Bridge, ...]:
        """The bridges from MQTT to NATS."""
        return tuple(bridge for bridge in self.bridges if isinstance(bridge, Bridge))

    @property
    def down_bridges(self) -> tuple[DownBridge, ...]:
        """The bridges from NATS to MQTT."""
        return tuple(bridge for bridge in self.bridges if isinstance(bridge, DownBridge))

    def consumer(self, bridge: str) -> str:
        """Return the name of a bridge's durable consumer."""
        return f"tidegate-{self.gateway}-{bridge}"

    @model_validator(mode="after")
    def _check_last_values(self) -> Self:
        bridges = [(bridge, bridge.mapping().subject_filter) for bridge in self.up_bridges if bridge.last_value]
        for stream, (bridge, subjects) in product(self.streams, bridges):
            if stream.retention == "workqueue" and any(overlap(subjects, one) for one in stream.subjects):
                raise ValueError(
                    f"bridge {bridge.name}: last_value can't have the events of a work queue, {stream.name}, which "
                    "gives each to one taker alone; leave it out, or use another retention"
                )
        for (one, subjects), (two, others) in combinations(bridges, 2):
            if one.last_value == two.last_value and subjects != others and overlap(subjects, others):
                raise ValueError(
                    f"bridges {one.name} and {two.name} have one last_value, {one.last_value}, and subjects that "
                    f"overlap, {subjects} and {others}; name two buckets"
                )
        return self

    def client_id(self, bridge: str) -> str:
        """Return the MQTT client id of a bridge."""
        return f"{self.mqtt.client_id or f'tidegate-{self.gateway}'}-{bridge}"

    def dataschema(self, bridge: Bridge) -> str | None:
        """Return the CloudEvents `dataschema` of a bridge with a schema: its own URI, or one of ours."""
        schema = bridge.data_schema()
        if schema is None or bridge.schema_file is None:
            return None
        named = schema.uri is not None and urlsplit(schema.uri).scheme
        return schema.uri if named else f"urn:tidegate:{self.gateway}:schema:{quote(bridge.schema_file.name)}"

    def source(self, bridge: str) -> str:
        """Return the CloudEvents `source` of a bridge."""
        return f"urn:tidegate:{self.gateway}:{bridge}"
