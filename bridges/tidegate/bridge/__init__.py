"""What lies between a source and a sink; it knows neither protocol."""

from tidegate.bridge.bridge import Bridge
from tidegate.bridge.convert import Converter
from tidegate.bridge.dead_letter import DEAD_LETTER_TYPE, DeadLetters, message_of, topic_of
from tidegate.bridge.decode import DECODERS
from tidegate.bridge.overflow import Overflow

__all__ = ["DEAD_LETTER_TYPE", "DECODERS", "Bridge", "Converter", "DeadLetters", "Overflow", "message_of", "topic_of"]
