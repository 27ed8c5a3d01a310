"""What NATS can't carry, found before it harms the connection that every bridge shares."""

from __future__ import annotations

from collections.abc import Sequence

from tidegate.core import DeliveryError, Encoded

LONG_SUBJECT = 500
LONG_HEADERS = 256 * 1024
"""An event with a longer subject, or a body closer to the server's limit, is worth a look; others always fit."""

_MAX_SUBJECT = 3900  # of the 4096 bytes of a protocol line, the rest is for the reply subject and the sizes
_HEADER_LINES = 12  # "NATS/1.0" and the empty line, each with CR LF


def all_fit(events: Sequence[Encoded], max_payload: int) -> bool:
    """Whether all events surely fit. False means that `misfit` has to look. Looks at columns, which is fast."""
    if not events:
        return True
    _, subjects, lines, bodies, *_ = zip(*events, strict=True)
    joined = " ".join(subjects)
    return (
        max(map(len, bodies)) <= max_payload - LONG_HEADERS
        and max(map(len, lines)) <= LONG_HEADERS - _HEADER_LINES
        and max(map(len, subjects)) <= LONG_SUBJECT
        and all(subjects)
        and joined.count(" ") == len(events) - 1
        and joined.isprintable()
        and all(map(str.isascii, lines))
    )


def misfit(event: Encoded, max_payload: int) -> DeliveryError | None:
    """Return why the server would not take this event, or would close the connection over it."""
    subject = event.subject
    if not subject or subject.split() != [subject] or any(ch < " " or ch == "\x7f" for ch in subject):
        return DeliveryError("refused", f"{subject[:80]!r} can't be a subject: it is empty, or has white space")
    try:
        length = len(subject.encode())
    except UnicodeEncodeError:
        return DeliveryError("refused", f"{subject[:80]!r} can't be a subject: it is not Unicode text")
    if length > _MAX_SUBJECT:
        return DeliveryError("refused", f"its subject is longer than {_MAX_SUBJECT} bytes")
    if not event.lines.isascii():
        return DeliveryError("refused", "its headers are not ASCII")
    size = len(event.body) + len(event.lines) + _HEADER_LINES
    if size <= max_payload:
        return None
    return DeliveryError("too_large", f"the event has {size} bytes with its headers; the server takes {max_payload}")
