"""What it costs to look into a message: the step from messages to events, on its own, for each decoder and step."""

from __future__ import annotations

import gzip
import io
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import cbor2
import fastavro
import ormsgpack
import zstandard
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet

from tests.sparkplug.payloads import DOUBLE, Node, birth_metric
from tidegate.app.config import Config
from tidegate.app.running import new_converter
from tidegate.bridge import SparkplugHost
from tidegate.core import IdSource, Message, Properties

BATCH = 100
_ROUNDS = 5
_SECONDS = 0.1  # of each round

_READING = {"device": "s17", "seq": 123456, "temperature": 21.5, "unit": "C", "quality": "good", "ts": 1700000000}
_EVENT = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "/devices/17",
    "type": "com.example.reading.v1",
    "data": _READING,
}
_FIELDS = {"device": FieldDescriptorProto.TYPE_STRING, "seq": FieldDescriptorProto.TYPE_INT32,
           "temperature": FieldDescriptorProto.TYPE_DOUBLE}  # fmt: skip
_AVRO = {
    "type": "record", "name": "Reading", "fields": [
        {"name": "device", "type": "string"}, {"name": "seq", "type": "long"},
        {"name": "temperature", "type": "double"},
    ],
}  # fmt: skip


class Cost(NamedTuple):
    """What a message costs: microseconds of processor time, and how many events it becomes."""

    name: str
    bytes: int
    events: int
    microseconds: float


class Case(NamedTuple):
    """A bridge's options, its messages, and what a node has to say before them."""

    name: str
    options: dict[str, Any]
    message: Message
    births: tuple[Message, ...] = ()


def costs() -> list[Cost]:
    """Measure every case."""
    with TemporaryDirectory() as folder:
        return [cost(case) for case in cases(Path(folder))]


def cost(case: Case) -> Cost:
    """Measure one case, in batches as they come under load; the best of some rounds, for others disturb them."""
    bridge = {"name": "b", "mqtt": "{all...}", "nats": "plant.{all...}", **case.options}
    config = Config.model_validate({"gateway": "bench", "bridges": [bridge]})
    host = SparkplugHost(lambda _topic, _payload: True) if case.births else None
    for birth in case.births:
        host.restore(birth)
    convert = new_converter(config, config.bridges[0], host.restore if host else None).convert
    messages = [case.message._replace(id=event_id) for event_id in IdSource().take(BATCH)]
    converted = convert(messages)
    assert not converted.rejected, converted.rejected[0].error
    best = min(_round(convert, messages) for _ in range(_ROUNDS))
    return Cost(case.name, case.message.size, len(converted.events) // BATCH, best * 1e6)


def _round(convert: Callable[[Sequence[Message]], object], messages: Sequence[Message]) -> float:
    """Return seconds a message."""
    done, start = 0, time.process_time()
    while (used := time.process_time() - start) < _SECONDS:
        convert(messages)
        done += len(messages)
    return used / done


def cases(folder: Path) -> list[Case]:
    """Return what is measured: a reading of some 100 bytes, in each format and through each step."""
    text = json.dumps(_READING, separators=(",", ":")).encode()
    small = {name: _READING[name] for name in _FIELDS}
    (folder / "reading.avsc").write_text(json.dumps(_AVRO))
    (folder / "reading.json").write_text(json.dumps({"type": "object", "required": ["device", "temperature"]}))
    (folder / "reading.desc").write_bytes(_descriptor())
    each = json.dumps({"readings": [_READING] * 10}).encode()
    columns = ",".join(_READING).encode() + b"\n" + ",".join(map(str, _READING.values())).encode()
    user = tuple((name, str(value)) for name, value in _EVENT.items() if name != "data")
    narrow = "{device: device, seq: seq, temperature: temperature}"
    protobuf = {"protobuf": {"descriptor": folder / "reading.desc", "message": "Reading"}}
    return [
        Case("json, as it came", {}, _message(text)),
        Case("json, binary mode", {"mode": "binary"}, _message(text)),
        Case("json, with MQTT 5 properties", {}, _message(text, Properties(user=(("correlationid", "c-1"),)))),
        Case("json, time", {"time": "ts"}, _message(text)),
        Case("json, filter", {"filter": "quality == 'good'"}, _message(text)),
        Case("json, select", {"select": "{value: temperature, unit: unit}"}, _message(text)),
        Case("json, JSON Schema", {"schema": folder / "reading.json"}, _message(text)),
        Case("json, select, Avro schema", {"schema": folder / "reading.avsc", "select": narrow}, _message(text)),
        Case("json, each: an array of 10", {"each": "readings"}, _message(each)),
        Case("an event, structured", {}, _message(json.dumps(_EVENT).encode())),
        Case("an event, in MQTT 5's binary mode", {}, _message(text, Properties("application/json", user=user))),
        Case("text", {"decode": "text"}, _message(text)),
        Case("number", {"decode": "number"}, _message(b"21.5")),
        Case("raw", {"decode": "raw"}, _message(text)),
        Case("cbor", {"decode": "cbor"}, _message(cbor2.dumps(_READING))),
        Case("msgpack", {"decode": "msgpack"}, _message(ormsgpack.packb(_READING))),
        Case("csv, one row", {"decode": "csv"}, _message(columns)),
        Case("avro", {"decode": {"avro": {"schema": folder / "reading.avsc"}}}, _message(_avro(small))),
        Case("protobuf", {"decode": protobuf}, _message(_protobuf(small))),
        _sparkplug("sparkplug_b, 5 metrics by alias", {"decode": "sparkplug_b"}),
        _sparkplug("sparkplug_b, an event for each metric", {"decode": {"sparkplug_b": {"events": "metric"}}}),
        Case("json in gzip", {"decompress": "gzip"}, _message(gzip.compress(text, mtime=0))),
        Case("json in zstd", {"decompress": "zstd"}, _message(zstandard.compress(text))),
    ]


def _message(payload: bytes, properties: Properties | None = None) -> Message:
    return Message(b"sensors/hall/s17", payload, "", 1, properties=properties, received=1_700_000_000.5)


def _sparkplug(name: str, options: dict[str, Any]) -> Case:
    """A node's data under aliases. They repeat a sequence number, which is only counted."""
    node = Node()
    birth = node.born(*(birth_metric(f"oven/zone {n}/temperature", DOUBLE, n, double_value=0.0) for n in range(5)))
    data = node.says("NDATA", *({"alias": n, "double_value": 20.5 + n} for n in range(5)))
    return Case(name, options, data._replace(duplicate=True), (birth,))


def _avro(record: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(_AVRO), record)
    return out.getvalue()


def _descriptor() -> bytes:
    file = FileDescriptorProto(name="reading.proto", syntax="proto3")
    message = file.message_type.add(name="Reading")
    for number, (name, kind) in enumerate(_FIELDS.items(), 1):
        message.field.add(name=name, number=number, type=kind, label=FieldDescriptorProto.LABEL_OPTIONAL)
    return FileDescriptorSet(file=[file]).SerializeToString()


def _protobuf(record: dict[str, Any]) -> bytes:
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message_factory import GetMessageClass

    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(_descriptor()).file:
        pool.Add(file)
    message: bytes = GetMessageClass(pool.FindMessageTypeByName("Reading"))(**record).SerializeToString()
    return message


def main() -> None:
    """Print what each costs."""
    for one in costs():
        print(f"{one.name:40} {one.bytes:5} B {one.events:3} event(s) {one.microseconds:7.1f} us")


if __name__ == "__main__":
    main()
