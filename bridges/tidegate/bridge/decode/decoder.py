"""What a decoder is, and where the one with a given name is found."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, NamedTuple

from tidegate.bridge.decode.json_value import json_value
from tidegate.core import Data

GROUP = "tidegate.decoders"
"""The entry point group in which packages offer decoders of their own."""


class Decoder(NamedTuple):
    """Makes a value of a payload.

    decode: takes the payload and the topic, returns what JSON can hold: None, bool, int, float, str, list or dict with
    str keys (`json_value` makes that of most else). Raises DeliveryError, or ValueError with one sentence. It must give
    the same for the same message whenever it is called: a message that waited on the disk is decoded again.
    From the entry point it passes through `json_value`, so that what JSON has no form of is refused and not changed.
    data: set where a payload is its own value, so that it needs no decoding while nothing looks inside.
    is_list: the value is a list, and each element is an event of its own.
    """

    decode: Callable[[bytes, str], Any]
    data: Data | None = None
    is_list: bool = False


_BUILT_IN = ("json", "text", "number", "cbor", "msgpack", "csv", "avro", "protobuf", "sparkplug_b", "raw")
_EXTRAS = {"fastavro": "avro", "google": "protobuf"}
"""The extra that brings a library, by its first name."""


def new_decoder(name: str, options: Mapping[str, Any] | None = None) -> Decoder:
    """Return the decoder of that name: a built-in one, or one from the entry point group `tidegate.decoders`, whose
    object is called with the options as keyword arguments and returns a `Decoder`.

    Raises ValueError with a sentence that says what is wrong: the name, an option, or a library that is missing.
    """
    factory = _factory(name)
    given = dict(options or {})
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the decoder {name!r} is none: {error}") from None
    try:
        signature.bind(**given)
    except TypeError as error:
        known = ", ".join(signature.parameters) or "none"
        raise ValueError(f"the decoder {name!r}: {error} (its options: {known})") from None
    try:
        decoder = factory(**given)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"the decoder {name!r} can't be made: {error!r}") from error
    if not isinstance(decoder, Decoder):
        raise ValueError(f"the decoder {name!r} is none: its entry point returns {type(decoder).__name__}")
    return decoder if name in _BUILT_IN else _checked(decoder)


def _checked(decoder: Decoder) -> Decoder:
    """Return somebody's decoder with its values checked: as JSON, NaN would be written as null without a word."""
    decode = decoder.decode
    return decoder._replace(decode=lambda payload, topic: json_value(decode(payload, topic)))


def decoder_names() -> list[str]:
    """Return the names of all decoders that there are, the built-in ones first."""
    return [*_BUILT_IN, *sorted({point.name for point in entry_points(group=GROUP)} - set(_BUILT_IN))]


def _factory(name: str) -> Callable[..., Any]:
    if name in _BUILT_IN:
        return _built_in(name)
    for point in entry_points(group=GROUP, name=name):
        try:
            found: Callable[..., Any] = point.load()
        except Exception as error:
            raise ValueError(f"the decoder {name!r} can't be loaded from {point.value}: {error!r}") from error
        return found
    raise ValueError(f"there is no decoder {name!r}; there are {', '.join(decoder_names())}")


def _built_in(name: str) -> Callable[..., Any]:
    try:
        found: Callable[..., Any] = import_module(f"tidegate.bridge.decode.{name}").new
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        raise ValueError(f"the decoder {name!r} needs the extra {extra!r}: pip install 'tidegate[{extra}]'") from None
    return found
