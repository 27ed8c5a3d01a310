"""What a Sparkplug host application has to remember of its edge nodes. Section numbers are of Eclipse Sparkplug 3.0.

In its birth a node names its metrics; later it sends them under a number, the alias, and without their datatype
(§6.4.6). So data mean nothing without the birth that came before them.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from tidegate.core import DeliveryError, Message, decode_topic

log = logging.getLogger(__name__)

MAX_NODES = 1024
"""Edge nodes that are remembered."""

MAX_METRICS = 200_000
"""Metrics that are remembered of all nodes together; a device counts as four, and a metric once more for every 160
characters of its name. Measured, that is 60 to 100 MB."""

MAX_TOPIC = 512
"""Bytes of the longest topic that is looked at."""

MAX_ADDED = 1024 * 1024
"""Characters of the names that are put into one message: a few bytes can stand for a long one."""

REBIRTH_INTERVAL = 10.0
"""Seconds between two requests to a node for a rebirth."""

REBIRTH = "Node Control/Rebirth"

_PREFIX = b"spBv1.0/"
_NODE_TYPES = frozenset((b"NBIRTH", b"NDEATH", b"NDATA", b"NCMD"))
_DEVICE_TYPES = frozenset((b"DBIRTH", b"DDEATH", b"DDATA", b"DCMD"))
_BOOLEAN, _TEMPLATE = 11, 19
_DEVICE, _CHARACTERS = 4, 160  # see MAX_METRICS


class SparkplugHost:
    """Completes the Sparkplug messages of one bridge as they come from the broker, and asks nodes for a rebirth.

    Data are given the names and datatypes that the birth said, in the payload itself. So what lies on the disk, or in a
    dead letter, needs no state to be decoded later, when the births are other ones; only live messages pass through
    here. All of it is in memory: after a restart nodes are asked for a rebirth, and until it comes data under an alias
    are refused by the decoder.

    publish: sends a payload to a topic at QoS 0, and says whether there was a connection to send it over. If there was
    not, it is tried again with the node's next message. clock: seconds that only grow.

    sequence_gaps: messages that did not have the sequence number after that of the one before (§6.4.5).
    rebirth_requests: requests sent (§6.4.23).
    """

    def __init__(self, publish: Callable[[str, bytes], bool], clock: Callable[[], float] = time.monotonic) -> None:
        from tidegate.bridge.decode.sparkplug_payload import MAX_VALUES, Payload  # it needs a library that is an extra

        self.sequence_gaps = 0
        self.rebirth_requests = 0
        self._payload = Payload
        self._max_values = MAX_VALUES
        self._publish = publish
        self._clock = clock
        self._nodes: OrderedDict[bytes, _Node] = OrderedDict()
        self._size = 0
        self._asked: OrderedDict[bytes, float] = OrderedDict()

    def restore(self, message: Message) -> Message:
        """Return the message with every name and datatype that its node's births told. It is a Converter's `restore`.

        What is no Sparkplug message, or has too many metrics, is returned as it is: to refuse it is the decoder's part.
        Raises DeliveryError if the topic is none, or the names would make the message too large.
        """
        levels = message.topic.split(b"/") if message.topic.startswith(_PREFIX) else ()
        if len(message.topic) > MAX_TOPIC or not all(levels):
            return message
        match levels:
            case [_, group, kind, name] if kind in _NODE_TYPES:
                device = b""
            case [_, group, kind, name, device] if kind in _DEVICE_TYPES:
                pass
            case _:
                return message
        decode_topic(message.topic)  # a wildcard in it must not get into a topic that we publish to
        try:
            payload = self._payload.FromString(message.payload)
        except Exception:  # noqa: BLE001 - the library's two implementations have different errors
            return message
        if len(payload.metrics) > self._max_values:
            return message
        return self._follow(message, b"%b/%b" % (group, name), kind, device, payload)

    def _follow(self, message: Message, key: bytes, kind: bytes, device: bytes, payload: Any) -> Message:
        """Learn from a message what it says of its node, and complete it."""
        if kind == b"NBIRTH":
            self._node_born(message, key, payload)
            return message
        node = self._nodes.get(key)
        if kind == b"NDEATH":
            return message if node is None else self._node_died(message, key, node, payload)
        if kind in (b"NCMD", b"DCMD"):  # from another host: it has no part in the sequence
            node = node or _Node()
        else:
            node = node or self._new_node(key)
            self._nodes.move_to_end(key)
            self._count(node, message, payload)
        unknown = False
        if kind == b"DBIRTH":
            self._learn(node, device, payload.metrics)
        else:
            message, unknown = _completed(message, node, device, payload)
        if kind == b"DDEATH":
            self._learn(node, device, None)
        elif kind == b"DDATA" and device not in node.births and _is_news(message):
            node.wants = node.wants or "no birth of a device has been seen"
        if unknown or node.wants:
            self._ask(key, node.wants or "no birth told of a metric")
        return message

    def _node_born(self, message: Message, key: bytes, payload: Any) -> None:
        """§6.4.19. What was known of the node and its devices is no longer so."""
        before = self._forget(key)
        node = self._new_node(key)
        node.born = True
        node.bd_seq = _bd_seq(payload)
        node.next = before.next if before else None
        if _is_news(message):
            node.next = (payload.seq + 1) % 256 if payload.HasField("seq") else None
        self._learn(node, b"", payload.metrics)

    def _node_died(self, message: Message, key: bytes, node: _Node, payload: Any) -> Message:
        """§6.4.25. The will of a connection that the node has since replaced has an earlier number, and means nothing.

        The next birth may give the aliases other meanings, so nothing is kept that could be taken for what it says.
        """
        message, _ = _completed(message, node, b"", payload)
        number = _bd_seq(payload)
        if number is None or node.bd_seq is None or number == node.bd_seq:
            self._forget(key)
        return message

    def _count(self, node: _Node, message: Message, payload: Any) -> None:
        """Check the sequence number. A message that is marked as a duplicate counts only if it is the next one: then it
        did not come before. A retained one is no news."""
        if not _is_news(message) and (message.retained or payload.seq != node.next):
            return
        if not node.born and _is_news(message):
            node.wants = node.wants or "no birth has been seen"
        if not payload.HasField("seq"):
            return
        if node.next is not None and payload.seq != node.next:
            self.sequence_gaps += 1
            node.wants = f"sequence number {payload.seq} came in place of {node.next}"
        node.next = (payload.seq + 1) % 256

    def _learn(self, node: _Node, device: bytes, metrics: Iterable[Any] | None) -> None:
        """Remember a birth in place of the one before, or none."""
        self._size -= node.size
        node.forget(device)
        if metrics is not None:
            node.learn(device, _Birth(metrics))
        self._size += node.size
        while self._size > MAX_METRICS:
            self._forget(next(iter(self._nodes)))

    def _new_node(self, key: bytes) -> _Node:
        if len(self._nodes) >= MAX_NODES:
            self._forget(next(iter(self._nodes)))
        node = self._nodes[key] = _Node()
        return node

    def _forget(self, key: bytes) -> _Node | None:
        node = self._nodes.pop(key, None)
        self._size -= node.size if node else 0
        return node

    def _ask(self, key: bytes, why: str) -> None:
        """Ask a node for a rebirth (§6.4.23), unless that was done a short time ago.

        When a node was asked is kept apart from the node, which may be forgotten meanwhile; and not for more of them
        than that, so that invented names make us send no more than so many requests in that time.
        """
        now, asked = self._clock(), self._asked
        while asked and now - next(iter(asked.values())) >= REBIRTH_INTERVAL:
            asked.popitem(last=False)
        if key in asked or len(asked) >= MAX_NODES:
            return
        group, _, name = key.decode().partition("/")
        stamp = time.time_ns() // 1_000_000
        request = self._payload(timestamp=stamp)
        request.metrics.add(name=REBIRTH, timestamp=stamp, datatype=_BOOLEAN, boolean_value=True)
        if self._publish(f"spBv1.0/{group}/NCMD/{name}", request.SerializeToString()):
            asked[key] = now
            self.rebirth_requests += 1
            log.info("sparkplug: asked the node %r of group %r for a rebirth: %s", name, group, why)


class _Metric(NamedTuple):
    """What a birth says of a metric. members: of its Template, by name."""

    name: str
    datatype: int
    members: Mapping[str, _Metric]


_NO_METRICS: Mapping[str, _Metric] = {}


class _Birth:
    """What a birth says: metrics by name and by alias, and what they take."""

    __slots__ = ("aliases", "metrics", "size")

    def __init__(self, metrics: Iterable[Any]) -> None:
        self.size = _DEVICE
        self.aliases: dict[int, _Metric] = {}
        self.metrics = self._read(metrics)

    def _read(self, metrics: Iterable[Any]) -> dict[str, _Metric]:
        found: dict[str, _Metric] = {}
        for metric in metrics:
            name, datatype = metric.name, metric.datatype
            if not name:
                continue
            members = self._read(metric.template_value.metrics) if datatype == _TEMPLATE else _NO_METRICS
            found[name] = one = _Metric(name, datatype, members)
            self.size += 1 + len(name) // _CHARACTERS
            if metric.HasField("alias"):
                self.aliases[metric.alias] = one
        return found


class _Node:
    """What is known of an edge node.

    born: its birth has been seen. bd_seq: that birth's number. births: of the node itself (b"") and of its devices.
    aliases: those of all of them, because they are unique in a node. next: the sequence number to come, if one is
    known. wants: why it is to be asked for a rebirth, until it is born again. size: what its births take.
    """

    __slots__ = ("aliases", "bd_seq", "births", "born", "next", "size", "wants")

    def __init__(self) -> None:
        self.born = False
        self.bd_seq: int | None = None
        self.births: dict[bytes, _Birth] = {}
        self.aliases: dict[int, _Metric] = {}
        self.next: int | None = None
        self.wants: str | None = None
        self.size = 0

    def learn(self, device: bytes, birth: _Birth) -> None:
        """Remember a birth, after `forget`."""
        self.births[device] = birth
        self.aliases |= birth.aliases
        self.size += birth.size

    def forget(self, device: bytes) -> None:
        """Forget a birth, if there was one."""
        if (birth := self.births.pop(device, None)) is None:
            return
        self.size -= birth.size
        for alias, metric in birth.aliases.items():
            if self.aliases.get(alias) is metric:
                del self.aliases[alias]


class _Completion:
    """Puts names and datatypes into the metrics of one message.

    changed: something was put in. unknown: no birth told of some metric. nameless: and so it has no name.
    """

    def __init__(self, aliases: Mapping[int, _Metric]) -> None:
        self.changed = self.unknown = self.nameless = False
        self._aliases = aliases
        self._added = 0

    def complete(self, metrics: Iterable[Any], known: Mapping[str, _Metric]) -> None:
        """known: the metrics that these are, by name. Raises DeliveryError if too much is put in."""
        for metric in metrics:
            name, datatype = metric.name, metric.datatype
            if name and datatype and datatype != _TEMPLATE:
                continue
            one = known.get(name) if name else self._aliases.get(metric.alias) if metric.HasField("alias") else None
            if one is not None:
                datatype = self._put(metric, one, name, datatype)
            elif not (name and datatype):
                self.unknown = True
                self.nameless = self.nameless or not name
            if datatype == _TEMPLATE:
                self.complete(metric.template_value.metrics, one.members if one else _NO_METRICS)

    def _put(self, metric: Any, one: _Metric, name: str, datatype: int) -> int:
        """Return the metric's datatype."""
        if not name:
            self._added += len(one.name)
            if self._added > MAX_ADDED:
                raise DeliveryError("payload_too_large", f"the names of its aliases have over {MAX_ADDED} characters")
            metric.name = one.name
            self.changed = True
        if not datatype and one.datatype:
            metric.datatype = one.datatype
            self.changed = True
        return datatype or one.datatype


def _completed(message: Message, node: _Node, device: bytes, payload: Any) -> tuple[Message, bool]:
    """Return a message with the names and datatypes of its metrics, and whether there is one that no birth told of. If
    it can't be named, the message is returned as it came."""
    birth = node.births.get(device)
    found = _Completion(node.aliases)
    found.complete(payload.metrics, birth.metrics if birth else _NO_METRICS)
    if found.changed and not found.nameless:
        restored = payload.SerializeToString()
        message = message._replace(payload=restored, size=len(restored))
    return message, found.unknown


def _is_news(message: Message) -> bool:
    """Whether a message surely comes for the first time, and now."""
    return not (message.duplicate or message.retained)


def _bd_seq(payload: Any) -> int | None:
    """Return the number that a node's birth shares with the death of the same connection (§6.4.19, §6.4.25)."""
    for metric in payload.metrics:
        if metric.name == "bdSeq":
            number: int = metric.int_value or metric.long_value  # whichever is not set is 0
            return number
    return None
