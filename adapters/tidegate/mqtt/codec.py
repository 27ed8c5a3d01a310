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
    """What a CONNACK packet says (§3.2). `refusal` is None if the server accepted; `limits` is what it can't do.

    receive_maximum, maximum_packet_size, maximum_qos, retain_available: what it takes of a publisher.
    """

    session_present: bool
    refusal: str | None
    keep_alive: int | None = None
    session_expiry: int | None = None
    limits: tuple[str, ...] = ()
    receive_maximum: int = 65_535
    maximum_packet_size: int | None = None
    maximum_qos: int = 2
    retain_available: bool = True


class SubAck(NamedTuple):
    """What a SUBACK packet says (§3.9): the granted QoS, or why not."""

    packet_id: int
    granted_qos: int
    refusal: str | None


class Ack(NamedTuple):
    """PUBACK, PUBREC, PUBREL or PUBCOMP (§3.4 to §3.7). refusal: why the server did not take the message, or None.

    is_passing: the refusal is one that ends with time.
    """

    kind: int
    packet_id: int
    refusal: str | None = None
    is_passing: bool = False


class Closing(NamedTuple):
    """A DISCONNECT from the server, with its reason (MQTT 5 §3.14). blames_us: for something that was sent to it."""

    reason: str
    blames_us: bool = False


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

    def properties(self, properties: Properties) -> bytes | None:
        """Return the properties of a PUBLISH as bytes, without their length; None where the version has none."""
        ...

    def read(self, control: Control) -> Reply:
        """Read any packet but a PUBLISH. Raises ProtocolError."""
        ...

    def read_properties(self, section: bytes) -> Properties | None:
        """Read a PUBLISH's properties. Raises DeliveryError."""
        ...
