"""Log lines: text for people, JSON for machines; on standard error."""

from __future__ import annotations

import json
import logging
import sys

import orjson

from tidegate.app.config import Log
from tidegate.core import format_time


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `message`, and `error` with the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = {
            "time": format_time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(fields).decode()
        except TypeError:  # a file name that is not UTF-8 comes as lone surrogates, which JSON can't hold
            return json.dumps(fields)


def configure_logging(config: Log) -> None:
    """Send log records to standard error as configured."""
    handler = logging.StreamHandler(sys.stderr)
    if config.format == "json" or (config.format == "auto" and not sys.stderr.isatty()):
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("tidegate").setLevel(config.level.upper())
