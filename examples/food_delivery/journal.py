"""What services and devices say that they did: a line of JSON each, on standard output, for people and for demo.py."""

from __future__ import annotations

import json
import time

from tidegate.client import current_delivery


def note(who: str, what: str, order: str = "", correlation: str | None = None) -> None:
    """Write a line. In a handler it names the story (the correlation id) and which attempt this is by itself."""
    attempt = 1
    if delivery := current_delivery():
        correlation, attempt = delivery.event.correlationid, delivery.attempt
    line = {"at": time.time(), "who": who, "what": what, "order": order, "correlation": correlation, "attempt": attempt}
    print(json.dumps(line), flush=True)
