"""The configuration: what a file may say. Reading one is `tidegate.app.config_file`."""

from __future__ import annotations

import re
from itertools import combinations, product
from pathlib import Path
from typing import Annotated, Literal, Protocol, Self
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator, model_validator

from tidegate.app.config_bridge import AnyBridge, Bridge, DownBridge
from tidegate.app.config_section import Name, Section
from tidegate.app.config_tracing import Tracing
from tidegate.app.loop_guard import Hop, find_loop
from tidegate.app.quantity import Duration, Size
from tidegate.core import overlap

__all__ = [
    "Config",
    "AnyBridge",
    "Bridge",
    "DownBridge",
    "Stream",
    "Consumer",
    "Mqtt",
    "Nats",
    "Tls",
    "DeadLetters",
    "Spool",
    "Http",
    "Log",
    "Tracing",
    "DAY",
]

DAY = 86_400.0
_MIB = 1024 * 1024
_STREAM_NAME = r"^[A-Za-z0-9_-]{1,64}$"


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


class _Named(Protocol):
    @property
    def name(self) -> str: ...


def _check_unique(items: tuple[_Named, ...]) -> tuple[_Named, ...]:
    names = [item.name for item in items]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"two are called {repeated!r}; each needs a name of its own")
    return items


class Tls(Section):
    """Certificates, as PEM files. Without `ca` the system's authorities are trusted."""

    ca: Path | None = Field(None, description="The authorities that the peer's certificate is checked against.")
    cert: Path | None = Field(None, description="Our own certificate; needs key.")
    key: Path | None = Field(None, description="The key of our own certificate.")

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key go together")
        return self


class Mqtt(Section):
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


class Nats(Section):
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


class Stream(Section):
    """A JetStream stream: created if it is missing, verified if it is there."""

    name: str = Field(pattern=_STREAM_NAME, description="Letters, digits, '-' and '_', at most 64.")
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


class Consumer(Section):
    """A durable consumer of a service's, whose backlog is shown. It is not made here."""

    stream: str = Field(pattern=_STREAM_NAME, description="The stream that it reads.")
    name: str = Field(pattern=_STREAM_NAME, description="The name of the durable consumer.")


class DeadLetters(Section):
    """Where messages go that can't be delivered. The stream is created if it is missing."""

    stream: str = Field("DEAD_LETTERS", pattern=_STREAM_NAME, description="The stream that has them.")
    subject: str = Field(
        "dead.{bridge}",
        pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.\{bridge\}$",
        description="Its last token is {bridge}, the name of the bridge.",
    )
    max_age: Duration | None = Field(90 * DAY, description="How long they are kept.")

    def subject_for(self, bridge: str) -> str:
        """Return the subject of one bridge's dead letters."""
        return self.subject.replace("{bridge}", bridge)


class Spool(Section):
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


class Http(Section):
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


class Log(Section):
    """What is logged: one line for each change of state, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="And what is worse.")
    format: Literal["auto", "text", "json"] = Field(
        "auto", description="auto: text on a terminal, JSON lines elsewhere."
    )


class Config(Section):
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
    consumers: tuple[Consumer, ...] = Field(
        (), max_length=100, description="Consumers whose backlog is shown, as tidegate_consumer_pending_messages."
    )
    dead_letters: DeadLetters = DeadLetters()
    spool: Spool = Spool()
    http: Http | None = Field(Http(), description="null: no endpoint.")
    log: Log = Log()
    tracing: Tracing | None = Field(None, description="Without it there are no spans.")

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
