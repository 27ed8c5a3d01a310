"""What lies between a source and a sink; it knows neither protocol."""

from tidegate.bridge.bridge import Bridge, Conversion
from tidegate.bridge.convert import Converted, Converter
from tidegate.bridge.dead_letter import DeadLetterNote, DeadLetters, Rejected, message_of, topic_of
from tidegate.bridge.decode import Decoder, decoder_names, new_decoder
from tidegate.bridge.device_time import Unit
from tidegate.bridge.down_convert import DownConverter, DownPayload
from tidegate.bridge.expression import Expression
from tidegate.bridge.inflate import Compression, new_inflate
from tidegate.bridge.normalise import Shape, Steps
from tidegate.bridge.overflow import Overflow
from tidegate.bridge.schema import Schema, load_schema
from tidegate.bridge.sparkplug import SparkplugHost

__all__ = [
    "Bridge",
    "Compression",
    "Conversion",
    "Converted",
    "Converter",
    "DeadLetterNote",
    "DeadLetters",
    "Decoder",
    "DownConverter",
    "DownPayload",
    "Expression",
    "Overflow",
    "Rejected",
    "Schema",
    "Shape",
    "SparkplugHost",
    "Steps",
    "Unit",
    "decoder_names",
    "load_schema",
    "message_of",
    "new_decoder",
    "new_inflate",
    "topic_of",
]
