"""What hypothesis makes: topics, filters, payloads and messages as a device could send them."""

from __future__ import annotations

import json
from functools import partial

from hypothesis import strategies as st

from tidegate.core import Message, Properties

_AWKWARD = ".%*> \t\r\n\x01\x7f\u00a0\u2028{}$/25AFaéß😀\ufeff"

level_text = st.text(st.characters(exclude_characters="\x00+#/", exclude_categories=["Cs"]), max_size=8)
awkward_text = st.text(st.sampled_from([character for character in _AWKWARD if character != "/"]), max_size=8)
levels = level_text | awkward_text
topics = st.lists(levels, min_size=1, max_size=6).map("/".join).filter(bool)
"""Any valid topic name (MQTT 5 §4.7.3): some text without NUL, `+` and `#`."""

_few_levels = st.sampled_from(["", "a", "b", "$SYS", "$x", "a.b"])
few_topics = st.lists(_few_levels, min_size=1, max_size=5).map("/".join).filter(bool)
few_filters = (
    st.tuples(st.lists(_few_levels | st.just("+"), max_size=5), st.booleans())
    .map(lambda parts: "/".join([*parts[0], *(["#"] if parts[1] else [])]))
    .filter(bool)
)
"""Valid topic filters over few levels, so that topics often match."""

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab:\"\\ é{'", max_size=4), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def json_payloads(draw: st.DrawFn) -> bytes:
    """JSON in the spellings that devices use: with and without white space, escaped and not."""
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:\r\n ")]))
    return json.dumps(draw(json_values), ensure_ascii=draw(st.booleans()), separators=separators).encode()


device_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    [
        "Nats-y",
        "nats-Msg-Id: x",
        "NATS-",
        'a%20"b',
        "x\r\nNats-Msg-Id: 1",
        " lead and trail ",
        "\x7f\x00",
        "\u017fnats-",
    ]
)
"""Text of a device's choice, some of it aimed at NATS's headers."""

properties = st.builds(
    Properties,
    content_type=st.none() | device_texts | st.sampled_from(["text/csv", "application/x-protobuf; v=1", "nats-x/y"]),
    correlation_data=st.none() | st.binary(max_size=8) | device_texts.map(str.encode),
    user=st.lists(st.tuples(st.sampled_from(["correlationid", "other"]), device_texts), max_size=2).map(tuple),
)

_payloads = {
    "json": json_payloads() | st.just(b""),
    "text": st.text(st.characters(exclude_categories=["Cs"]), max_size=30).map(str.encode),
    "raw": st.binary(max_size=30),
}


def messages(decoder: str) -> st.SearchStrategy[Message]:
    """Messages whose payload a decoder takes."""
    return st.builds(
        partial(Message),  # itself it would be given every field
        topic=(topics | st.sampled_from(["Nats-x", "nats-Expected-Stream/a"])).map(str.encode),
        payload=_payloads[decoder],
        id=st.uuids(version=4).map(str),
        qos=st.just(1),
        retained=st.booleans(),
        properties=st.none() | properties,
    )
