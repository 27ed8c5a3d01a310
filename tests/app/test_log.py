"""Log lines: JSON for machines, text for people, nothing below the level."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import Literal

import pytest

from tests.app.helpers import log_lines
from tidegate.app.config import Log
from tidegate.app.log import JsonFormatter, configure_logging, flush_logging, say_last


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root, ours, theirs = (logging.getLogger(name) for name in (None, "tidegate", "nats"))
    handlers, levels = root.handlers[:], (root.level, ours.level, theirs.level)
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    for logger, level in zip((root, ours, theirs), levels, strict=True):
        logger.setLevel(level)


def _said(capfd: pytest.CaptureFixture[str]) -> str:
    flush_logging()
    return capfd.readouterr().err


def _log_all() -> None:
    for level in ("debug", "info", "warning", "error"):
        getattr(logging.getLogger("tidegate.test"), level)("%s here\nsecond line", level)
    logging.getLogger("another").info("not ours")
    logging.getLogger("another").warning("a library's warning")


def test_a_json_line_has_time_level_logger_and_message(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(Log(format="json", level="debug"))
    _log_all()
    lines = log_lines(_said(capfd))
    assert [(line["level"], line["logger"]) for line in lines] == [
        ("debug", "tidegate.test"),
        ("info", "tidegate.test"),
        ("warning", "tidegate.test"),
        ("error", "tidegate.test"),
        ("warning", "another"),
    ]
    assert lines[0]["message"] == "debug here\nsecond line"
    assert all(line.keys() == {"time", "level", "logger", "message"} for line in lines)
    assert all(line["time"].endswith("Z") for line in lines)


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_is_honoured(capfd: pytest.CaptureFixture[str], level: str, count: int) -> None:
    configure_logging(Log(format="json", level=level))
    _log_all()
    lines = log_lines(_said(capfd))
    assert [line["logger"] for line in lines].count("tidegate.test") == count


def test_an_exception_is_part_of_its_line(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(Log(format="json"))
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("tidegate.test").exception("it failed")
    (line,) = log_lines(_said(capfd))
    assert line["message"] == "it failed"
    assert "Traceback" in line["error"]
    assert "ValueError: broken" in line["error"]


@pytest.mark.parametrize("text", ["a file \udcff name", "\x00\x1b[31m", "ünïcödé \U0001f30a", '"quoted" \\ back'])
def test_any_text_makes_a_json_line(text: str) -> None:
    record = logging.LogRecord("tidegate", logging.INFO, "", 1, "%s", (text,), None)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert log_lines(line)[0]["message"] == text


def test_a_line_about_a_bridge_has_its_name_as_a_field(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(Log(format="json"))
    logging.getLogger("tidegate.test").info("%s: connected to %s", "readings", "a broker")
    logging.getLogger("tidegate.test").info("nats: connected to %s", "a server")
    assert [line.get("bridge") for line in log_lines(_said(capfd))] == ["readings", None]


def test_text_lines_are_there_on_request(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(Log(format="text"))
    logging.getLogger("tidegate.test").info("it runs")
    line = _said(capfd)
    assert "INFO" in line
    assert line.endswith("it runs\n")
    assert "{" not in line


def test_a_peer_s_words_neither_end_a_text_line_nor_drive_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(Log(format="text"))
    reason = "refused\n12:00:00 INFO    all is well\x1b[2J\x9b2J\r\u202e\u2028\udcff"
    logging.getLogger("tidegate.test").warning("%s: not connected: %s", "readings", reason)
    line = _said(capfd)
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert "refused\\n12:00:00 INFO    all is well\\x1b[2J" in line


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_a_command_says_last_comes_after_the_log_as_plain_lines(
    capfd: pytest.CaptureFixture[str], log_format: Literal["text", "json"]
) -> None:
    configure_logging(Log(format=log_format))
    logging.getLogger("tidegate.test").info("it runs")
    say_last("tidegate: no stream: \x1b[2J 100%s\nsecond line")
    assert capfd.readouterr().err.splitlines()[1:] == ["tidegate: no stream: \\x1b[2J 100%s", "second line"]


def test_a_text_line_has_its_traceback_after_it(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(Log(format="text"))
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("tidegate.test").exception("it failed")
    lines = _said(capfd).splitlines()
    assert lines[0].endswith("it failed")
    assert lines[1].startswith("Traceback")
    assert lines[-1] == "ValueError: broken"


@pytest.mark.parametrize("terminal", [True, False])
def test_auto_is_text_on_a_terminal_and_json_elsewhere(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    configure_logging(Log(format="auto"))
    logging.getLogger("tidegate.test").info("it runs")
    assert _said(capfd).startswith("{") is not terminal


def test_configured_twice_a_line_comes_once(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(Log(format="json"))
    configure_logging(Log(format="json"))
    logging.getLogger("tidegate.test").info("it runs")
    assert len(log_lines(_said(capfd))) == 1


def test_without_a_standard_error_nothing_is_written_anywhere(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    configure_logging(Log())
    logging.getLogger("tidegate.test").error("nobody hears this")
    assert capfd.readouterr().err == ""
