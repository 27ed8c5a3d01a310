"""MQTT 3.1.1 and 5, by our own session over codecs without I/O."""

from tidegate.mqtt.codec import Codec
from tidegate.mqtt.handshake import BrokerOptions
from tidegate.mqtt.publisher import Publisher, PublisherOptions
from tidegate.mqtt.session import Session, SessionOptions
from tidegate.mqtt.v5 import Codec5
from tidegate.mqtt.v311 import Codec311

CODECS: dict[str, Codec] = {"5": Codec5(), "3.1.1": Codec311()}
"""By the version's name in the configuration."""

__all__ = [
    "CODECS",
    "BrokerOptions",
    "Codec",
    "Codec5",
    "Codec311",
    "Publisher",
    "PublisherOptions",
    "Session",
    "SessionOptions",
]
