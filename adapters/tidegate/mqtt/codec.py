"""What a session needs from a version of MQTT. `v5` and `v311` are the two there are."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from tidegate.core import Properties
from tidegate.mqtt.packet import Control


class Connect(NamedTuple):
    """What a CONNECT packet says (§3.1). Durations in whole seconds; `session_expiry` is of MQTT 5 alone."""

    client_id: str
    username: str | None
    password: bytes | None
    clean_start: bool
    keep_alive: int
    session_expiry: int
    receive_maximum: int


class ConnAck(NamedTuple):
    """What a CONNACK packet says (§3.2). `refusal` is None if the server accepted; `limits` is what it can't do."""

    session_present: bool
    refusal: str | None
    keep_alive: int | None = None
    session_expiry: int | None = None
    limits: tuple[str, ...] = ()


class SubAck(NamedTuple):
    """What a SUBACK packet says (§3.9): the granted QoS, or why not."""

    packet_id: int
    granted_qos: int
    refusal: str | None


class Ack(NamedTuple):
    """PUBREL, or any packet of which only the packet identifier matters."""

    kind: int
    packet_id: int


class Closing(NamedTuple):
    """A DISCONNECT from the server, with its reason (MQTT 5 §3.14)."""

    reason: str


class Pong(NamedTuple):
    """A PINGRESP."""


Reply = ConnAck | SubAck | Ack | Closing | Pong


class Codec(Protocol):
    """One version of MQTT, without I/O."""

    @property
    def has_properties(self) -> bool:
        """Whether packets carry properties."""
        ...

    def connect(self, connect: Connect) -> bytes: ...

    def subscribe(self, packet_id: int, topic_filter: str, qos: int) -> bytes: ...

    def disconnect(self) -> bytes: ...

    def read(self, control: Control) -> Reply:
        """Read any packet but a PUBLISH. Raises ProtocolError."""
        ...

    def read_properties(self, section: bytes) -> Properties | None:
        """Read a PUBLISH's properties. Raises DeliveryError."""
        ...
