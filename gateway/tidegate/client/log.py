"""Which story a log line belongs to."""

from __future__ import annotations

import logging

from tidegate.client.delivery import current_delivery


class CorrelationFilter(logging.Filter):
    """Gives each record the `correlation_id` of the event that is being handled, or `-`; the lines of libraries too.

    For a handler of `logging`: `handler.addFilter(CorrelationFilter())`, and `%(correlation_id)s` in its format. A
    record that has one already keeps it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Take every record."""
        if not hasattr(record, "correlation_id"):
            delivery = current_delivery()
            story = (delivery.event.correlationid or delivery.event.id) if delivery else "-"
            record.correlation_id = story if story.isprintable() else ascii(story)
        return True
