"""Protocol Buffers (https://protobuf.dev), by the descriptor of a message."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import Error as JsonError
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from tidegate.bridge.decode.decoder import Decoder
from tidegate.bridge.decode.json_value import Room
from tidegate.bridge.decode.proto_json import ProtoJson

_SHOWN = 5


def new(descriptor: Path, message: str) -> Decoder:
    """Return the decoder. Its value is the message as ProtoJSON, with the names of the fields as the .proto file has
    them. A field that can't tell if it was set is always there: a reading of 0 is on the wire as nothing. Integers of
    64 bits are text there, bytes are base64, NaN and infinity are text, enums are their names.

    descriptor: a file that `protoc --include_imports --descriptor_set_out=FILE` wrote. message: the full name of the
    messages' type, as plant.Reading. Fields that the type does not know are left out, as its evolution wants it.
    Raises ValueError for a file that is none, and for a name that is not in it.
    """
    if not isinstance(descriptor, str | Path):
        raise ValueError("descriptor should be the path of a file that protoc wrote, as plant.desc")
    if not isinstance(message, str):
        raise ValueError("message should be the full name of a message type, as plant.Reading")
    files = _load(Path(descriptor))
    pool = _pool(Path(descriptor), files)
    names = [name for file in files.file for name in _names(file.package, file.message_type)]
    if message not in names:
        raise ValueError(f"the file {descriptor} has no message {message!r}; {_known(message, names)}")
    kind = pool.FindMessageTypeByName(message)
    parse, read = GetMessageClass(kind).FromString, ProtoJson(pool).reader(kind)

    def decode(payload: bytes, _topic: str) -> Any:
        try:
            found: Any = parse(payload)
            if not found.IsInitialized():
                raise ValueError(f"it is without {found.FindInitializationErrors()[0]}, which is required")
            return read(found, Room(), 0)
        except (DecodeError, JsonError, TypeError, ValueError) as error:
            raise ValueError(f"not a protobuf message {message}: {_line(error)}") from None

    return Decoder(decode)


def _load(path: Path) -> FileDescriptorSet:
    try:
        files = FileDescriptorSet.FromString(path.read_bytes())
    except OSError as error:
        raise ValueError(f"the file {path} can't be read: {error.strerror}") from None
    except DecodeError:
        files = FileDescriptorSet()
    if not files.file:
        raise ValueError(f"the file {path} is no descriptor set, as protoc --descriptor_set_out=FILE writes it")
    return files


def _pool(path: Path, files: FileDescriptorSet) -> DescriptorPool:
    pool = DescriptorPool()
    for file in files.file:
        try:
            pool.Add(file)
        except TypeError as error:
            missing = [name for name in file.dependency if name not in {known.name for known in files.file}]
            problem = f"{missing[0]} is missing; protoc needs --include_imports" if missing else _line(error)
            raise ValueError(f"the file {path} can't be used: {file.name}: {problem}") from None
    return pool


def _names(scope: str, messages: Iterable[DescriptorProto]) -> Iterator[str]:
    for message in messages:
        name = f"{scope}.{message.name}" if scope else message.name
        yield name
        yield from _names(name, message.nested_type)


def _known(message: str, names: list[str]) -> str:
    shown = get_close_matches(message, names, _SHOWN) or names[:_SHOWN]
    return f"it has {', '.join(shown)}{' and others' if len(names) > len(shown) else ''}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
