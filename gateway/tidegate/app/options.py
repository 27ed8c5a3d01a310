"""From the configuration to the adapters' own options."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from ssl import SSLContext
from urllib.parse import urlsplit

from pydantic import SecretStr

from tidegate.app import config as c
from tidegate.app.config_tracing import Tracing, parse_headers
from tidegate.app.tls import client_context
from tidegate.mqtt import CODECS, BrokerOptions, PublisherOptions, SessionOptions
from tidegate.nats import BucketSpec, ConsumerSpec, Login, NatsOptions, StreamSpec
from tidegate.spool import SpoolOptions


def session_options(config: c.Config, bridge: c.Bridge) -> SessionOptions:
    """Return the MQTT session of a bridge."""
    mqtt = config.mqtt
    return SessionOptions(
        **vars(broker_options(config, bridge.name)),
        topic_filter=bridge.mapping().topic_filter,
        qos=bridge.qos,
        max_payload=mqtt.max_payload,
        state_file=config.state_dir / f"packets-{bridge.name}",
    )


def publisher_options(config: c.Config, bridge: c.DownBridge) -> PublisherOptions:
    """Return how a down bridge publishes."""
    return PublisherOptions(
        **vars(broker_options(config, bridge.name)),
        qos=bridge.qos,
        retain=bridge.retain,
        window=config.mqtt.receive_maximum,
    )


def consumer_spec(config: c.Config, bridge: c.DownBridge) -> ConsumerSpec:
    """Return the durable consumer of a down bridge."""
    return ConsumerSpec(
        name=config.consumer(bridge.name),
        subject_filter=bridge.mapping().subject_filter,
        window=config.mqtt.receive_maximum,
    )


def broker_options(config: c.Config, bridge: str) -> BrokerOptions:
    """Return how a bridge connects to the broker."""
    mqtt = config.mqtt
    url = urlsplit(mqtt.url)
    assert url.hostname is not None
    assert url.port is not None
    tls: Callable[[], SSLContext] | None = None
    if url.scheme == "mqtts":

        def tls() -> SSLContext:
            return client_context(mqtt.tls)

    return BrokerOptions(
        host=url.hostname,
        port=url.port,
        codec=CODECS[mqtt.protocol],
        client_id=config.client_id(bridge),
        tls=tls,
        username=mqtt.username,
        password=_secret(mqtt.password_file, mqtt.password),
        session_expiry=int(mqtt.session_expiry),
        receive_maximum=mqtt.receive_maximum,
        keep_alive=int(mqtt.keep_alive),
    )


def nats_options(config: c.Config) -> NatsOptions:
    """Return the NATS connection of a gateway."""
    nats_config = config.nats
    tls: Callable[[], SSLContext] | None = None
    if nats_config.uses_tls:

        def tls() -> SSLContext:
            return client_context(nats_config.tls or c.Tls())

    return NatsOptions(
        servers=nats_config.servers,
        name=f"tidegate-{config.gateway}",
        login=Login(
            username=nats_config.username,
            password=_secret(nats_config.password_file, nats_config.password),
            token=_secret(nats_config.token_file, nats_config.token),
            nkey_seed_file=nats_config.nkey_seed_file,
            credentials_file=nats_config.credentials_file,
        ),
        tls=tls,
    )


def otlp_headers(tracing: Tracing) -> Callable[[], dict[str, str]]:
    """Return what reads the headers for the collector of spans. It raises OSError or ValueError."""
    read = _secret(tracing.headers_file, tracing.headers)
    return lambda: parse_headers(read()) if read is not None else {}


def _secret(file: Path | None, value: SecretStr | None) -> Callable[[], str] | None:
    if file is not None:
        return lambda: _read_secret(file)
    return value.get_secret_value if value is not None else None


def spool_options(config: c.Config) -> SpoolOptions:
    """Return the spool of a gateway."""
    spool = config.spool
    return SpoolOptions(
        path=config.state_dir / "spool.db",
        max_bytes=spool.max_bytes,
        max_age=spool.max_age,
        when_full=spool.when_full,
    )


def stream_specs(config: c.Config) -> list[StreamSpec]:
    """Return the configured streams, and the one for dead letters unless it is among them."""
    specs = [
        StreamSpec(
            name=stream.name,
            subjects=stream.subjects,
            retention=stream.retention,
            discard=stream.when_full,
            storage=stream.storage,
            max_age=stream.max_age,
            max_bytes=stream.max_bytes,
            max_msgs_per_subject=stream.max_msgs_per_subject,
            replicas=stream.replicas,
            duplicate_window=stream.duplicate_window,
        )
        for stream in config.streams
    ]
    dead = config.dead_letters
    if all(spec.name != dead.stream for spec in specs):
        specs.append(
            StreamSpec(name=dead.stream, subjects=(dead.subject_for("*"),), discard="new", max_age=dead.max_age)
        )
    return specs


def bucket_specs(config: c.Config) -> list[BucketSpec]:
    """Return the buckets that the bridges name, each with the subjects of its bridges."""
    subjects: dict[str, dict[str, None]] = {}
    for bridge in config.up_bridges:
        if bridge.last_value:
            subjects.setdefault(bridge.last_value, {})[bridge.mapping().subject_filter] = None
    return [BucketSpec(name=name, subjects=tuple(some)) for name, some in subjects.items()]


def _read_secret(file: Path) -> str:
    """Return a file's text without its line end. Raises OSError."""
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise OSError(errno.EILSEQ, "it is not UTF-8 text", str(file)) from None
