"""Values and ports: pure, without I/O, tasks or any client library."""

from tidegate.core.backoff import Backoff
from tidegate.core.batch import Batch
from tidegate.core.counter import BridgeCounters, Histogram
from tidegate.core.down_mapping import DownMapping
from tidegate.core.encode import (
    BYTES,
    Content,
    Data,
    Encoded,
    Extensions,
    Mode,
    Moment,
    Plan,
    checked_content_type,
    encode_binary,
    encode_event,
    encode_plain,
    encode_structured,
    header_lines,
    new_plan,
)
from tidegate.core.envelope import DEAD_LETTER_TYPE, STRUCTURED_CONTENT_TYPE, Envelope, format_time, percent_encode
from tidegate.core.error import ConfigError, ConnectError, DeliveryError, ProtocolError, TidegateError
from tidegate.core.identity import IdBlock, IdSource, id_of
from tidegate.core.message import Message, Properties, new_tuple
from tidegate.core.port import Outcome, Refused, Sink, Source
from tidegate.core.quantity import rounded_duration, rounded_size, written_duration, written_size
from tidegate.core.subject import subject_to_topic, topic_to_subject
from tidegate.core.subject_filter import is_covered, overlap
from tidegate.core.template import Captures, Mapping, check_text, fill, fnv1a_32
from tidegate.core.topic import check_filter, common_topic, decode_topic, matches, unfit_character, unshared
from tidegate.core.trouble import Trouble

__all__ = [
    "Message",
    "Properties",
    "new_tuple",
    "Envelope",
    "DEAD_LETTER_TYPE",
    "STRUCTURED_CONTENT_TYPE",
    "Encoded",
    "Batch",
    "Source",
    "Sink",
    "Refused",
    "Outcome",
    "Captures",
    "Mapping",
    "DownMapping",
    "check_text",
    "fill",
    "fnv1a_32",
    "IdSource",
    "IdBlock",
    "id_of",
    "Backoff",
    "BridgeCounters",
    "Histogram",
    "BYTES",
    "Content",
    "Data",
    "Extensions",
    "Mode",
    "Moment",
    "Plan",
    "checked_content_type",
    "encode_binary",
    "encode_event",
    "encode_plain",
    "encode_structured",
    "header_lines",
    "new_plan",
    "format_time",
    "percent_encode",
    "check_filter",
    "common_topic",
    "decode_topic",
    "matches",
    "unfit_character",
    "unshared",
    "is_covered",
    "overlap",
    "subject_to_topic",
    "topic_to_subject",
    "rounded_duration",
    "rounded_size",
    "written_duration",
    "written_size",
    "Trouble",
    "TidegateError",
    "ConfigError",
    "ConnectError",
    "ProtocolError",
    "DeliveryError",
]
