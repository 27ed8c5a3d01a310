"""What NATS can't carry, found before it harms the connection that every bridge shares."""

from __future__ import annotations

import nats.errors

from tidegate.core import DeliveryError, Encoded

UNFIT = (nats.errors.BadSubjectError, nats.errors.BadHeaderError, nats.errors.MaxPayloadError, UnicodeError)
"""What nats-py raises for an event that it can't write, and for no other reason."""

LONG_SUBJECT = 500
LONG_HEADERS = 256 * 1024
"""An event with a longer subject, or a body closer to the server's limit, is worth a look; others always fit."""

_MAX_SUBJECT = 3900  # of the 4096 bytes of a protocol line, the rest is for the reply subject and the sizes
_HEADER_LINES = 12  # "NATS/1.0" and the empty line, each with CR LF


def misfit(event: Encoded, max_payload: int) -> DeliveryError | None:
    """Return why the server would close the connection over this event, which nats-py does not see coming."""
    if len(event.subject.encode()) > _MAX_SUBJECT:
        return DeliveryError("refused", f"its subject is longer than {_MAX_SUBJECT} bytes")
    headers = sum(len(name) + len(value.encode()) + 4 for name, value in event.headers.items())
    size = len(event.body) + headers + _HEADER_LINES
    if size <= max_payload:
        return None
    return DeliveryError("too_large", f"the event has {size} bytes with its headers; the server takes {max_payload}")


def unfit(error: Exception) -> DeliveryError:
    """Return what an error of nats-py, one of UNFIT, says about the event."""
    reason = "too_large" if isinstance(error, nats.errors.MaxPayloadError) else "refused"
    return DeliveryError(reason, f"NATS can't carry it: {str(error).removeprefix('nats: ')}")
