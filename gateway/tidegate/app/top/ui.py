"""What the viewer has chosen to see, and what each key makes of it. Pure: a key makes a new value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from tidegate.app.top.status import BridgeStatus

Sort = Literal["name", "rate", "lag", "spool", "dead"]
SORTS: tuple[Sort, ...] = ("name", "rate", "lag", "spool", "dead")
"""In the order in which `s` goes through them."""

View = Literal["bridges", "bridge", "dead", "help"]

_MOST: dict[Sort, Callable[[BridgeStatus], float]] = {
    "rate": lambda bridge: bridge.rates.received,
    "lag": lambda bridge: bridge.waiting or 0.0,
    "spool": lambda bridge: bridge.queued or 0,
    "dead": lambda bridge: bridge.dead,
}


@dataclass(frozen=True)
class Ui:
    """selected: the bridge that the keys are about, by its name, so that it stays so where the order changes; None is
    the first. scroll: lines above what is seen of a view that has more than fit."""

    sort: Sort = "name"
    backwards: bool = False
    view: View = "bridges"
    selected: str | None = None
    scroll: int = 0

    def order(self, bridges: list[BridgeStatus]) -> list[BridgeStatus]:
        """Return bridges in the chosen order: names from a, all else from the most."""
        ordered = sorted(bridges, key=lambda bridge: bridge.name)
        if self.sort != "name":
            ordered.sort(key=_MOST[self.sort], reverse=True)
        return ordered[::-1] if self.backwards else ordered

    def index(self, ordered: list[BridgeStatus]) -> int:
        """Return where the selected bridge is; that of one that is not there any more is the first."""
        return next((at for at, bridge in enumerate(ordered) if bridge.name == self.selected), 0)


_MOVES = {"up": -1, "down": 1, "page up": -10, "page down": 10, "home": -1_000_000, "end": 1_000_000}
_VIEWS: dict[str, View] = {"d": "dead", "?": "help"}


def press(ui: Ui, key: str, bridges: list[BridgeStatus], deepest: int) -> Ui | None:
    """Return what a key makes of it, or None for quit. deepest: the farthest that the view that is seen scrolls."""
    if key == "q":
        return None
    if key == "escape" or _VIEWS.get(key) == ui.view:
        return replace(ui, view="bridges", scroll=0)
    if key in _VIEWS:
        return replace(ui, view=_VIEWS[key], scroll=0)
    if key in _MOVES:
        return _move(ui, _MOVES[key], bridges, deepest)
    if ui.view != "bridges":
        return ui
    if key == "enter" and bridges:
        ordered = ui.order(bridges)
        return replace(ui, view="bridge", selected=ordered[ui.index(ordered)].name, scroll=0)
    if key == "s":
        return replace(ui, sort=SORTS[(SORTS.index(ui.sort) + 1) % len(SORTS)])
    if key == "r":
        return replace(ui, backwards=not ui.backwards)
    return ui


def _move(ui: Ui, by: int, bridges: list[BridgeStatus], deepest: int) -> Ui:
    if ui.view != "bridges":
        return replace(ui, scroll=min(max(0, min(ui.scroll, deepest) + by), deepest))
    if not bridges:
        return ui
    ordered = ui.order(bridges)
    at = min(max(0, ui.index(ordered) + by), len(ordered) - 1)
    return replace(ui, selected=ordered[at].name)
