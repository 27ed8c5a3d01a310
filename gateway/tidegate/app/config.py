"""The configuration: what a file may say. Reading one is `tidegate.app.config_file`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Protocol, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from tidegate.app.quantity import Duration, Size
from tidegate.core import Mapping

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

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

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
    username: str | None = None
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

    servers: tuple[NatsUrl, ...] = Field(("nats://127.0.0.1:4222",), min_length=1)
    username: str | None = None
    password_file: Path | None = None
    password: SecretStr | None = Field(None, description="The password, only as ${VARIABLE}.")
    token_file: Path | None = None
    token: SecretStr | None = Field(None, description="The token, only as ${VARIABLE}.")
    nkey_seed_file: Path | None = None
    credentials_file: Path | None = None
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

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    subjects: tuple[str, ...] = Field(min_length=1)
    retention: Literal["limits", "interest", "workqueue"] = "limits"
    discard: Literal["old", "new"] | None = Field(
        None,
        description="What a full stream does: drop its oldest messages, or refuse new ones, which then wait at "
        "the gateway. By default `old` for limits and `new` otherwise.",
    )
    storage: Literal["file", "memory"] = "file"
    max_age: Duration | None = None
    max_bytes: Size | None = None
    replicas: int = Field(1, ge=1, le=5)
    duplicate_window: Duration = Field(120.0, description="How long the stream knows an event's id.")

    @model_validator(mode="after")
    def _keep_unread_work(self) -> Self:
        if self.retention == "workqueue" and self.discard == "old":
            raise ValueError("a work queue with discard 'old' deletes unread work when it is full; say 'new'")
        return self


class Bridge(_Section):
    """A path from a topic pattern to a subject."""

    name: Name
    direction: Literal["up"] = "up"
    mqtt: str = Field(description="Topic pattern: {x} captures one level, {x...} the rest; + and # match only.")
    nats: str = Field(description="Subject template, with the captures as whole tokens.")
    qos: Annotated[Literal[0, 1, 2], BeforeValidator(_number)] = 1
    deliver: Literal["jetstream", "core"] = Field(
        "jetstream", description="jetstream: settled when a stream has it. core: fire and forget, to whoever listens."
    )
    decode: Literal["json", "text", "raw"] = "json"
    correlation: str | None = Field(
        None,
        pattern=r"^[^.]+(\.[^.]+)*$",
        description="Where in a JSON payload a correlation id is, as order.id; used where MQTT 5 brings none.",
    )
    type: str = Field("io.tidegate.message.v1", min_length=1, max_length=256, description="The events' type.")
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

    def mapping(self) -> Mapping:
        """Return the topic to subject mapping. Raises ValueError."""
        return Mapping(self.mqtt, self.nats)


class DeadLetters(_Section):
    """Where messages go that can't be delivered. The stream is created if it is missing."""

    stream: str = Field("DEAD_LETTERS", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    subject: str = Field("dead.{bridge}", pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.\{bridge\}$")
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

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = Field(
        "auto", description="auto: text on a terminal, JSON lines elsewhere."
    )


class Config(_Section):
    """The whole file."""

    gateway: Name = Field(description="This gateway's id: in event sources and client ids.")
    state_dir: Path = Path("state")
    shutdown_timeout: Duration = Field(10.0, description="How long a stop waits for what is in flight.")
    mqtt: Mqtt = Mqtt()
    nats: Nats = Nats()
    streams: Annotated[tuple[Stream, ...], AfterValidator(_check_unique)] = ()
    bridges: Annotated[tuple[Bridge, ...], Field(min_length=1), AfterValidator(_check_unique)]
    dead_letters: DeadLetters = DeadLetters()
    spool: Spool = Spool()
    http: Http | None = Http()
    log: Log = Log()

    def client_id(self, bridge: str) -> str:
        """Return the MQTT client id of a bridge."""
        return f"{self.mqtt.client_id or f'tidegate-{self.gateway}'}-{bridge}"

    def source(self, bridge: str) -> str:
        """Return the CloudEvents `source` of a bridge."""
        return f"urn:tidegate:{self.gateway}:{bridge}"
