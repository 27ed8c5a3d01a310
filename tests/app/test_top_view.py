"""The picture of `tidegate top`: it fits its terminal whatever the gateway says, and says what matters."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rich.cells import cell_len
from rich.text import Text

from tests.app.top_status import NOTE, REFUSED, STATES, bridge, parsed, spooling, status
from tidegate.app.top.seen import Seen
from tidegate.app.top.ui import SORTS, Sort, Ui, View, press
from tidegate.app.top.view import picture, plain_picture

NOW = 1_750_010_000.0
SIZES = [(80, 24), (40, 12), (200, 60), (80, 6), (20, 3), (1, 1)]
VIEWS: list[View] = ["bridges", "bridge", "dead", "help"]
MANY = [f"bridge-{number:03}" for number in range(100)]

HOSTILE = "\x1b[2J\x1b]0;x\x07\r\n\x9b1m[bold red]x[/]\u202e\u200b" + "é\u0301" * 20 + "温度计" * 60 + "👩‍🏭" * 9


def seen(document: dict[str, Any] | None) -> Seen:
    """Return what is known once the gateway has said this."""
    nothing = Seen("http://127.0.0.1:9883", NOW)
    return nothing if document is None else nothing.answered(parsed(document), NOW)


def texts(lines: list[Text]) -> list[str]:
    """Return lines without their colours."""
    return [one.plain for one in lines]


def screen(document: dict[str, Any] | None, ui: Ui | None = None, width: int = 80, height: int = 24) -> str:
    """Return a picture as it is seen."""
    return "\n".join(texts(picture(seen(document), ui or Ui(), width, height).lines))


def rows(document: dict[str, Any], ui: Ui, height: int = 24) -> list[str]:
    """Return the names in the table, from the top; the selected one begins with `>`."""
    lines = screen(document, ui, 80, height).split("\n")
    titles = next(at for at, one in enumerate(lines) if one.startswith("  BRIDGE"))
    return [one[:2].strip() + one[2:].split()[0] for one in lines[titles + 1 : -1] if one[2:].strip()]


def assert_fits(lines: list[Text], width: int, height: int) -> None:
    """Check the law of every picture."""
    assert len(lines) <= height
    for one in lines:
        assert cell_len(one.plain) <= width, one.plain
        assert all(char.isprintable() for char in one.plain), ascii(one.plain)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("state", [*STATES, "no answer yet"])
def test_no_picture_is_larger_than_its_terminal(state: str, size: tuple[int, int], view: View) -> None:
    known = seen(STATES.get(state))
    for ui in (Ui(view=view, selected="readings"), Ui(view=view, selected="gone", scroll=10_000)):
        for what in (known, known.failed("Connection refused " * 20, NOW + 7)):
            for ascii_only in (False, True):
                assert_fits(picture(what, ui, *size, ascii_only=ascii_only).lines, *size)


def hostile(value: Any) -> Any:
    """Return a document whose every text is a device's worst, but for the words that are ours."""
    if isinstance(value, dict):
        return {
            key: part if key in ("direction", "when_full", "name", "bridge") else hostile(part)
            for key, part in value.items()
        }
    if isinstance(value, list):
        return [hostile(part) for part in value]
    return HOSTILE if isinstance(value, str) else value


@pytest.mark.parametrize("view", VIEWS)
def test_hostile_text_neither_moves_the_cursor_nor_widens_a_line(view: View) -> None:
    document = hostile(STATES["delivering"] | {"nats_away": "x", "problems": ["x", "y"]})
    document["bridges"][0]["dead_lettered"] = {HOSTILE: 3}
    document["bridges"].append(bridge(HOSTILE))
    for width in (80, 41, 120):
        for known in (seen(document), seen(document).failed(HOSTILE, NOW)):
            for selected in ("readings", HOSTILE):
                assert_fits(picture(known, Ui(view=view, selected=selected), width, 24).lines, width, 24)


def test_what_looks_like_markup_is_shown_as_it_is() -> None:
    note = NOTE | {"detail": "[red]not[/red] JSON"}
    assert "[red]not[/red] JSON" in screen(status(bridge(), dead_letters=[note]), Ui(view="dead"))


@pytest.mark.parametrize("number", [0, -1, 10**9, 10**18, 10**30])
def test_numbers_of_any_size_fit(number: int) -> None:
    one = bridge(in_flight=number, spooled=number, received=number, dead_lettered={"x": number}, window=number)
    one["rates"] |= {"received": float(number), "history": {"received": [float(number), 1.0], "delivered": [-1.0]}}
    one["lag"] |= {"oldest_unsettled": float(number), "spool_oldest": float(number), "event_p99": -float(number)}
    for view in VIEWS:
        assert_fits(picture(seen(status(one)), Ui(view=view, selected="readings"), 80, 24).lines, 80, 24)


HEADLINES = {
    "delivering": "READY: 2437/s come in, 2431/s are delivered, 4ms behind",
    "idle": "READY: nothing comes in now",
    "spooling": f"SPOOLING because {REFUSED}; 12345 messages are on the disk, the oldest for 4.2m",
    "blocked": "SPOOLING because streams: SENSORS is full; nothing is on the disk yet",
    "draining": "DRAINING: NATS takes messages again; 9000 messages are on the disk, the oldest for 1.6m; "
    "about 2.2s to go",
    "stuck": "STUCK because readings: mqtt: connection refused (and 1 more)",
    "stalled": "STALLED for no known reason, which is a defect: readings holds 128 messages",
    "reload failed": "The last reload failed",
    "consumers": "wait KITCHEN/kitchen19 19, KITCHEN/kitchen18 18",
}


@pytest.mark.parametrize(("state", "words"), HEADLINES.items(), ids=HEADLINES)
def test_the_first_lines_say_how_the_gateway_is(state: str, words: str) -> None:
    top = " ".join(" ".join(screen(STATES[state]).split("\n")[:7]).split())
    assert words in top


def test_a_gateway_that_does_not_answer_is_said_with_since_when_and_its_last_values_are_dimmed() -> None:
    known = seen(STATES["delivering"]).failed("Connection refused", NOW + 5).failed("nothing came", NOW + 65)
    lines = picture(known, Ui(), 80, 24).lines
    text = " ".join(" ".join(texts(lines)).split())
    assert "NOT ANSWERING since" in text
    assert "(1m): nothing came; these are the values of 1.1m ago" in text
    (row,) = [one for one in lines if one.plain.startswith("  readings")]
    assert any(span.style == "dim" and (span.start, span.end) == (0, len(row)) for span in row.spans)
    again = known.answered(parsed(STATES["idle"]), NOW + 70)
    assert "NOT ANSWERING" not in texts(picture(again, Ui(), 80, 24).lines)[1]


def test_without_any_answer_the_address_and_the_reason_are_shown() -> None:
    nothing = Seen("http://127.0.0.1:9883", NOW)
    assert "waiting for the first answer" in "\n".join(texts(picture(nothing, Ui(), 80, 24).lines))
    text = "\n".join(texts(picture(nothing.failed("Connection refused", NOW), Ui(), 80, 24).lines))
    assert "http://127.0.0.1:9883" in text
    assert "Connection refused" in text


def test_a_row_has_all_that_matters_at_80_columns() -> None:
    lines = screen(STATES["spooling"]).split("\n")
    (titles,) = [one for one in lines if one.startswith("  BRIDGE")]
    assert " ".join(titles.split()) == "BRIDGE STATE IN/S OUT/S HISTORY LAG FLIGHT SPOOL AGE DEAD"
    (row,) = [one for one in lines if one.startswith(("  readings", "> readings"))]
    cells = row[2:].split()
    assert [*cells[:4], *cells[-5:]] == ["readings", "spooling", "812", "0", "4.2m", "0/1000", "12345", "4.2m", "2"]


def test_the_state_and_the_lag_stay_where_there_is_little_room_and_more_is_shown_where_there_is_much() -> None:
    narrow, wide = screen(STATES["spooling"], width=40), screen(STATES["spooling"], width=200, height=60)
    assert all(word in narrow for word in ("STATE", "IN/S", "LAG", "SPOOL", "spooling", "4.2m"))
    assert all(word in wide for word in ("P99", "ROUTE", "sensors/{site}/{device}/reading -> plant.sensors"))


def test_of_a_bridge_down_the_waiting_messages_of_its_stream_are_shown() -> None:
    (row,) = [one for one in screen(STATES["delivering"]).split("\n") if "commands" in one]
    assert row.split()[-3:] == ["17", "-", "2"]
    assert rows(STATES["delivering"], Ui(sort="spool"))[0] == ">↓"  # none of the others has any


def hundred() -> dict[str, Any]:
    """Return bridges whose rates grow with their numbers, and whose other values do not."""
    return status(
        *(
            bridge(
                name,
                rates={"received": float(at)},
                lag={"oldest_unsettled": (at * 37 % 100) / 10},
                spooled=at * 53 % 100,
                dead_lettered={"x": at * 71 % 100},
            )
            for at, name in enumerate(MANY)
        )
    )


ORDERS: dict[Sort, list[str]] = {
    "name": MANY,
    "rate": MANY[::-1],
    "lag": sorted(MANY, key=lambda name: -(MANY.index(name) * 37 % 100)),
    "spool": sorted(MANY, key=lambda name: -(MANY.index(name) * 53 % 100)),
    "dead": sorted(MANY, key=lambda name: -(MANY.index(name) * 71 % 100)),
}


@pytest.mark.parametrize("sort", SORTS)
def test_each_order_begins_with_the_most_and_its_reverse_with_the_least(sort: Sort) -> None:
    shown = rows(hundred(), Ui(sort=sort), 120)
    assert [one.removeprefix(">") for one in shown] == ORDERS[sort]
    backwards = rows(hundred(), Ui(sort=sort, backwards=True), 120)
    assert [one.removeprefix(">") for one in backwards] == ORDERS[sort][::-1]


def test_every_one_of_a_hundred_bridges_can_be_reached_and_the_selected_one_is_always_seen() -> None:
    document = hundred()
    bridges = parsed(document).bridges
    for key, names in (("down", MANY), ("up", MANY[::-1])):
        ui: Ui | None = Ui(selected=names[0])
        for name in names:
            assert ui is not None
            assert f">{name}" in rows(document, ui)
            ui = press(ui, key, bridges, 0)
        assert ui is not None
        assert f">{names[-1]}" in rows(document, ui)  # it stops at the end


def test_the_selection_stays_with_its_bridge_where_the_order_changes() -> None:
    document = hundred()
    bridges = parsed(document).bridges
    ui: Ui | None = Ui(selected="bridge-007")
    for key in "srsrsss":
        assert ui is not None
        assert ">bridge-007" in rows(document, ui)
        ui = press(ui, key, bridges, 0)


def pressed(keys: list[str], document: dict[str, Any], ui: Ui | None = None) -> Ui:
    """Return what keys make of it."""
    made: Ui | None = ui or Ui()
    for key in keys:
        assert made is not None
        deepest = picture(seen(document), made, 80, 24).deepest
        made = press(made, key, parsed(document).bridges, deepest)
    assert made is not None
    return made


def test_enter_shows_everything_about_the_selected_bridge_and_escape_goes_back() -> None:
    document = status(bridge("a"), spooling("b"), bridge("c"))
    ui = pressed(["down", "enter"], document)
    text = screen(document, ui, 80, 60)
    for words in ("b  spooling", "blocked", "last error", "812 in/s", "0 of 1000", "12345 messages", "decode_failed 2"):
        assert words in text
    for words in ("at least once into SENSORS", "the stream deletes after 7d", "QoS 1", "jetstream in SENSORS"):
        assert words in text
    assert pressed(["escape"], document, ui).view == "bridges"
    assert pressed(["escape"], document, ui).selected == "b"


def test_the_detail_of_a_bridge_that_has_gone_does_not_show_another() -> None:
    text = screen(status(bridge("a")), Ui(view="bridge", selected="b"))
    assert "There is no bridge b any more" in text
    assert "812 in/s" not in text


def test_a_bridge_has_its_own_dead_letters_and_d_shows_all() -> None:
    notes = [NOTE | {"bridge": name, "topic": f"topic/of/{name}", "correlation_id": "c-1"} for name in "ab"]
    document = status(bridge("a"), bridge("b"), dead_letters=notes)
    own = screen(document, Ui(view="bridge", selected="a"), 80, 60)
    assert ("topic/of/a" in own, "topic/of/b" in own) == (True, False)
    every = screen(document, pressed(["d"], document))
    assert all(words in every for words in ("topic/of/a", "topic/of/b", "not JSON", "c-1"))


def test_a_page_that_does_not_fit_scrolls_to_its_end_and_back() -> None:
    notes = [NOTE | {"topic": f"topic/{number:02}"} for number in range(20)]
    document = status(bridge(), dead_letters=notes)
    ui = pressed(["d"], document)
    assert ("topic/00" in screen(document, ui), "topic/19" in screen(document, ui)) == (True, False)
    ui = pressed(["end"], document, ui)
    assert "topic/19" in screen(document, ui)
    assert screen(document, pressed(["down"], document, ui)) == screen(document, ui)
    assert screen(document, pressed(["up"], document, ui)) != screen(document, ui)
    assert "topic/00" in screen(document, pressed(["home"], document, ui))


def test_keys_do_nothing_where_there_is_nothing_yet() -> None:
    for key in ("up", "down", "enter", "s", "r", "d", "?", "escape", "x", "page down"):
        ui = press(Ui(), key, [], 0)
        assert ui is not None
        assert_fits(picture(seen(None), ui, 80, 24).lines, 80, 24)
    assert press(Ui(), "q", [], 0) is None


def test_one_plain_picture_has_every_bridge_and_nothing_to_press() -> None:
    lines = texts(plain_picture(seen(hundred()), Ui(sort="rate"), 80))
    assert [one.split()[0] for one in lines if one.startswith("  bridge-")] == MANY[::-1]
    assert "quit" not in "\n".join(lines)
    assert all(cell_len(one) <= 80 for one in lines)


def test_a_terminal_with_ascii_alone_gets_ascii_alone() -> None:
    for view in VIEWS:
        for state in STATES.values():
            lines = picture(seen(state), Ui(view=view, selected="readings"), 200, 60, ascii_only=True).lines
            assert "\n".join(texts(lines)).replace("…", "").isascii()


def test_what_a_newer_gateway_says_besides_is_no_trouble() -> None:
    document = json.loads(json.dumps(STATES["delivering"]).replace('"qos"', '"new": {"a": [1]}, "qos"'))
    assert screen(document | {"more": 1}) == screen(STATES["delivering"])
