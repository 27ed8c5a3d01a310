"""The bridges, a line for each, with the columns that there is room for."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from rich.cells import cell_len
from rich.text import Text

from tidegate.app.top.figure import count, duration, rate, sparkline
from tidegate.app.top.header import STYLES
from tidegate.app.top.line import cut, fit, line
from tidegate.app.top.status import BridgeStatus
from tidegate.app.top.ui import Sort, Ui

_LONGEST_NAME = 32


class _Column(NamedTuple):
    """need: the order in which columns go where there is no room, highest first. most: what it can use."""

    title: str
    width: int
    need: int
    cell: Callable[[BridgeStatus, int, bool], tuple[str, str]]
    right: bool = True
    most: int = 0
    sort: Sort | None = None


def _name(bridge: BridgeStatus, _width: int, ascii_only: bool) -> tuple[str, str]:
    down = ("v " if ascii_only else "↓ ") if bridge.direction == "down" else ""
    return down + bridge.name, ""


def _history(bridge: BridgeStatus, width: int, ascii_only: bool) -> tuple[str, str]:
    return sparkline(bridge.rates.history.received, width, ascii_only=ascii_only), "blue"


def _window(bridge: BridgeStatus, _width: int, _ascii_only: bool) -> tuple[str, str]:
    full = bridge.window and bridge.in_flight >= bridge.window
    return f"{count(bridge.in_flight)}/{count(bridge.window)}", "yellow" if full else ""


def _spool(bridge: BridgeStatus, _width: int, _ascii_only: bool) -> tuple[str, str]:
    return "-" if bridge.queued is None else count(bridge.queued), "yellow" if bridge.queued else ""


def _route(bridge: BridgeStatus, _width: int, _ascii_only: bool) -> tuple[str, str]:
    ends = [bridge.mqtt_topic, bridge.nats_subject]
    return " -> ".join(ends[::-1] if bridge.direction == "down" else ends), "dim"


_COLUMNS = (
    _Column("BRIDGE", 8, 0, _name, False, _LONGEST_NAME, "name"),
    _Column("STATE", 10, 1, lambda bridge, *_: (bridge.state, STYLES.get(bridge.state, "bold red")), False),
    _Column("IN/S", 5, 2, lambda bridge, *_: (rate(bridge.rates.received), ""), sort="rate"),
    _Column("OUT/S", 5, 5, lambda bridge, *_: (rate(bridge.rates.delivered), "")),
    _Column("HISTORY", 8, 9, _history, False, 30),
    _Column("LAG", 5, 3, lambda bridge, *_: (duration(bridge.waiting), ""), sort="lag"),
    _Column("FLIGHT", 9, 7, _window),
    _Column("SPOOL", 5, 4, _spool, sort="spool"),
    _Column("AGE", 5, 8, lambda bridge, *_: (duration(bridge.lag.spool_oldest), "")),
    _Column("DEAD", 5, 6, lambda bridge, *_: (count(bridge.dead), "yellow" if bridge.dead else ""), sort="dead"),
    _Column("P99", 6, 10, lambda bridge, *_: (duration(bridge.lag.delivery_p99), "")),
    _Column("EVENT99", 7, 11, lambda bridge, *_: (duration(bridge.lag.event_p99), "")),
    _Column("ROUTE", 24, 12, _route, False, 200),
)


class Table(NamedTuple):
    """lines: the titles first. first, last: which bridges are among them, from 1; 0 and 0 for none."""

    lines: list[Text]
    first: int
    last: int


def table(
    bridges: list[BridgeStatus], ui: Ui, width: int, rows: int, *, ascii_only: bool, select: bool = True
) -> Table:
    """Return the bridges in their order, as many as there are `rows` for; the selected one is always among them.

    select: whether to show which one that is.
    """
    ordered = ui.order(bridges)
    selected = ui.index(ordered)
    first = max(0, min(selected - rows // 2, len(ordered) - rows))
    shown = ordered[first : first + rows]
    columns = _fitting(width - 2, max((cell_len(_name(bridge, 0, ascii_only)[0]) for bridge in bridges), default=0))
    lines = [_titles(columns, ui, width)]
    for at, bridge in enumerate(shown, first):
        lines.append(cut(_row(bridge, columns, select and at == selected, ascii_only), width))
    return Table(lines, first + 1 if shown else 0, first + len(shown))


def _fitting(width: int, longest_name: int) -> list[tuple[_Column, int]]:
    """Return the columns that fit, with their widths."""
    columns = list(_COLUMNS)
    while len(columns) > 1 and sum(column.width + 1 for column in columns) - 1 > width:
        columns.remove(max(columns, key=lambda column: column.need))
    spare = width - sum(column.width + 1 for column in columns) + 1
    fitting = []
    for column in columns:
        wanted = min(column.most, longest_name) if column.title == "BRIDGE" else column.most
        more = max(0, min(wanted - column.width, spare))
        spare -= more
        fitting.append((column, column.width + more))
    return fitting


def _titles(columns: list[tuple[_Column, int]], ui: Ui, width: int) -> Text:
    made = line("  ")
    for at, (column, size) in enumerate(columns):
        sorts = column.sort == ui.sort
        made.append(line(" " if at else "", (fit(column.title, size, right=column.right), "bold" if sorts else "dim")))
    return cut(made, width)


def _row(bridge: BridgeStatus, columns: list[tuple[_Column, int]], selected: bool, ascii_only: bool) -> Text:
    made = line("> " if selected else "  ")
    for at, (column, size) in enumerate(columns):
        text, style = column.cell(bridge, size, ascii_only)
        if selected and column.title == "BRIDGE":
            style = "reverse"
        made.append(line(" " if at else "", (fit(text, size, right=column.right), style)))
    return made
