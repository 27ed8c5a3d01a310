"""The picture as a whole: pure, from what is known, what the viewer chose, and the terminal's size."""

from __future__ import annotations

from typing import NamedTuple

from rich.text import Text

from tidegate.app.top.dead_letter import dead_letter, dead_letters
from tidegate.app.top.detail import detail
from tidegate.app.top.header import header
from tidegate.app.top.line import cut, fit, line
from tidegate.app.top.seen import Seen
from tidegate.app.top.status import Status
from tidegate.app.top.table import table
from tidegate.app.top.ui import Ui

_HELP = """\
q, Ctrl-C       quit
up down, j k    select a bridge; scroll elsewhere
Page, Home End  further (also space, g and G)
Enter           everything about the selected bridge
Esc             back
s               sort by name, rate, lag, spool, dead letters
r               reverse the order
d               the latest dead letters
?               this page

delivering  NATS takes the messages
spooling    NATS does not; they go to the disk
draining    NATS does again, and the disk still holds some
stuck       messages can neither be delivered nor spooled
IN/S OUT/S  messages a second that come and that are delivered
HISTORY     IN/S over the last minutes, to the newest at the right
LAG         for how long the oldest message waits, in flight or on the disk
FLIGHT      messages in flight, of how many there may be
SPOOL AGE   messages on the disk, and how old the oldest is;
            of a bridge down, messages that wait in its stream
DEAD        messages that were set aside; tidegate dlq has all of them
P99         from receipt to acknowledgement, 99 of 100 took no longer
EVENT99     the same from the time of the event
"""
_KEYS = {
    "bridges": "q quit  up/down select  Enter detail  s sort  r reverse  d dead letters  ? help",
    "bridge": "Esc back  up/down scroll  d dead letters  ? help  q quit",
    "dead": "Esc back  up/down scroll  ? help  q quit",
    "help": "Esc back  up/down scroll  q quit",
}

_LATEST = 5
"""Dead letters in a plain picture."""


class Picture(NamedTuple):
    """deepest: the farthest that it scrolls."""

    lines: list[Text]
    deepest: int


def picture(seen: Seen, ui: Ui, width: int, height: int, *, ascii_only: bool = False) -> Picture:
    """Return the lines for a terminal of this size: never more, and none longer."""
    top = header(seen, width, hops=ui.view == "bridges")[: max(2, height - 3)]
    room = max(0, height - len(top) - 2)  # the footer, and a line above the body that says what part of it is seen
    deepest = 0
    if ui.view == "bridges":
        body, place = _bridges(seen, ui, width, room, ascii_only)
    else:
        lines = _page(seen, ui, width, ascii_only)
        deepest = max(0, len(lines) - room)
        first = min(ui.scroll, deepest)
        body = lines[first : first + room]
        place = f"line {first + 1}-{first + len(body)} of {len(lines)}" if deepest else ""
    if seen.failure is not None:
        for one in body:
            one.stylize("dim")
    lines = [*top, line((fit(place, width, right=True), "dim")), *body, *[line()] * (room - len(body))]
    lines.append(line((_KEYS[ui.view], "dim")))
    return Picture([cut(one, width) for one in lines[:height]], deepest)


def plain_picture(seen: Seen, ui: Ui, width: int, *, ascii_only: bool = False) -> list[Text]:
    """Return the lines of one picture that is as long as it takes, with every bridge."""
    lines = header(seen, width)
    if seen.status is not None:
        body = table(seen.status.bridges, ui, width, len(seen.status.bridges), ascii_only=ascii_only, select=False)
        lines += [line(), *body.lines, *_news(seen.status, width, _LATEST)]
    return [cut(one, width) for one in lines]


def _bridges(seen: Seen, ui: Ui, width: int, room: int, ascii_only: bool) -> tuple[list[Text], str]:
    if seen.status is None:
        return [], ""
    bridges = seen.status.bridges
    shown = table(bridges, ui, width, max(1, room - 1), ascii_only=ascii_only)
    lines = shown.lines[-max(1, room) :]
    lines += _news(seen.status, width, room)[: room - len(lines)]
    order = f"by {ui.sort}" + (" reversed" if ui.backwards else "")
    return lines, f"{shown.first}-{shown.last} of {len(bridges)} bridges {order}"


def _news(status: Status, width: int, letters: int) -> list[Text]:
    """Return what is worth a line below the bridges: problems where there are some, and so many dead letters."""
    lines = []
    if len(status.problems) > 1:
        lines += [line(), line(("problems", "dim")), *(line((one, "red")) for one in status.problems)]
    if status.dead_letters:
        lines += [line(), line(("latest dead letters", "dim"))]
        for note in status.dead_letters[:letters]:
            made = dead_letter(note)
            made.append(line(f"  {note.detail}"))
            lines.append(made)
    return [cut(one, width) for one in lines]


def _page(seen: Seen, ui: Ui, width: int, ascii_only: bool) -> list[Text]:
    if ui.view == "help":
        return [line(text) for text in _HELP.splitlines()]
    if seen.status is None:
        return []
    if ui.view == "bridge":
        return detail(seen.status, ui.selected, width, ascii_only=ascii_only)
    if not seen.status.dead_letters:
        return [line("No dead letters since the gateway started.")]
    return [line(("latest dead letters, newest first", "dim")), *dead_letters(seen.status.dead_letters, width)]
