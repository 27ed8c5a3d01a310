"""Log lines: text for people, JSON for machines; on standard error."""

from __future__ import annotations

import io
import json
import logging
import sys

import orjson

from tidegate.app.config import Log
from tidegate.app.log_handler import LineHandler
from tidegate.app.log_repeat import bridge_of
from tidegate.app.terminal import printable
from tidegate.core import format_time


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `message`; for some `bridge`, or `error` with a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = {
            "time": format_time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (bridge := bridge_of(record)) is not None:
            fields["bridge"] = bridge
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(fields).decode()
        except TypeError:  # a file name that is not UTF-8 comes as lone surrogates, which JSON can't hold
            return json.dumps(fields)


class TextFormatter(logging.Formatter):
    """One line, with the time and the level, and after it the traceback if there is one.

    A peer's words are in it, such as a broker's reason: they must neither end the line nor drive the terminal.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        """Return the line."""
        record.message = printable(record.message)
        return super().formatMessage(record)


def configure_logging(config: Log) -> None:
    """Send log records to standard error as configured. Again: change how."""
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    logging.getLogger("tidegate").setLevel(config.level.upper())
    if sys.stderr is None:  # it was closed, and its number may be that of another file by now
        root.handlers[:] = [logging.NullHandler()]
        return
    handler = _handler(root.handlers)
    if config.format == "json" or (config.format == "auto" and not sys.stderr.isatty()):
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(TextFormatter())
    root.handlers[:] = [handler]


def _handler(there: list[logging.Handler]) -> logging.Handler:
    """Return what writes to standard error, which is one of those there if that does already."""
    try:
        descriptor = sys.stderr.fileno()
    except io.UnsupportedOperation:  # it is a stream in memory, which takes everything at once
        return logging.StreamHandler(sys.stderr)
    ours = (one for one in there if isinstance(one, LineHandler) and one.descriptor == descriptor)
    return next(ours, None) or LineHandler(descriptor)


def flush_logging() -> None:
    """Wait for the lines to be written, before something else is written to standard error."""
    for handler in logging.getLogger().handlers:
        handler.flush()


def say_last(text: str) -> None:
    """Write lines to standard error, after those of the log. Whether anybody reads them is not waited for long."""
    if sys.stderr is None:
        return
    handler = _handler(logging.getLogger().handlers)
    handler.setFormatter(None)
    handler.handle(logging.makeLogRecord({"msg": "\n".join(map(printable, text.split("\n")))}))
    handler.flush()
