"""Servers of an AsyncAPI document, and the ways to log in to them."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from tidegate.app import config as c

MQTT_BINDING = "0.2.0"

_Object = dict[str, Any]


def servers(config: c.Config) -> tuple[_Object, _Object]:
    """Return the Servers Object, and the Security Scheme Objects that it refers to by their names."""
    mqtt, nats = _mqtt_schemes(config.mqtt), _nats_schemes(config.nats)
    found = {"mqtt": {**_mqtt_server(config), **_security(mqtt)}}
    tls = {"description": "Over TLS alone."} if config.nats.uses_tls else {}
    for name, url in zip(nats_names(config), config.nats.servers, strict=True):
        found[name] = {"host": urlsplit(url).netloc, "protocol": "nats", **tls, **_security(nats)}
    return found, mqtt | nats


def nats_names(config: c.Config) -> list[str]:
    """Return the names of the NATS servers."""
    count = len(config.nats.servers)
    return ["nats"] if count == 1 else [f"nats{number}" for number in range(1, count + 1)]


def _mqtt_server(config: c.Config) -> _Object:
    mqtt = config.mqtt
    url = urlsplit(mqtt.url)
    expiry = int(mqtt.session_expiry)
    ids = [config.client_id(bridge.name) for bridge in config.up_bridges]
    binding: _Object = {"cleanSession": expiry == 0, "keepAlive": int(mqtt.keep_alive), "bindingVersion": MQTT_BINDING}
    if len(ids) == 1:  # the binding has room for one
        binding["clientId"] = ids[0]
    if mqtt.protocol == "5":
        binding["sessionExpiryInterval"] = expiry
    return {
        "host": url.netloc,
        "protocol": "secure-mqtt" if url.scheme == "mqtts" else "mqtt",
        "protocolVersion": mqtt.protocol,
        "description": f"Each bridge has a connection and a session of its own. Client ids: {', '.join(ids)}.",
        "bindings": {"mqtt": binding},
    }


def _mqtt_schemes(mqtt: c.Mqtt) -> _Object:
    schemes: _Object = {}
    if mqtt.username is not None:
        schemes["mqttPassword"] = {"type": "userPassword"}
    if mqtt.tls.cert is not None and mqtt.url.startswith("mqtts:"):
        schemes["mqttCertificate"] = {"type": "X509"}
    return schemes


def _nats_schemes(nats: c.Nats) -> _Object:
    schemes: _Object = {}
    if nats.username is not None:
        schemes["natsPassword"] = {"type": "userPassword"}
    if nats.token is not None or nats.token_file is not None:
        schemes["natsToken"] = {"type": "apiKey", "in": "user", "description": "A token, where others have a user."}
    if nats.nkey_seed_file is not None or nats.credentials_file is not None:
        # The nearest type that there is: none is for signing a challenge.
        what = "An NKey" if nats.nkey_seed_file else "A JWT and its NKey"
        said = f"{what}: the server's challenge is signed with Ed25519."
        schemes["natsKey"] = {"type": "asymmetricEncryption", "description": said}
    if nats.tls is not None and nats.tls.cert is not None:
        schemes["natsCertificate"] = {"type": "X509"}
    return schemes


def _security(schemes: _Object) -> _Object:
    return {"security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in schemes]} if schemes else {}
