"""The balance: what the streams and the devices' journals say of each order, held against what must be.

Services are not asked. A service that does a thing twice, and believes that it did it once, is found out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from events import CourierDispatched, OrderDelivered, OrderPlaced, OrderReady, TaskCooked
from show.notes import Note

STEPS = ["placed", "ready", "under way", "delivered"]


class Fact(NamedTuple):
    """An event of the stream ORDERS."""

    id: str
    type: str
    correlation: str | None
    data: Mapping[str, Any]


class Row(NamedTuple):
    """A line of the table: how many there should be, and how many there are as they should be."""

    text: str
    wanted: int
    found: int


class Balance(NamedTuple):
    """rows: the table. problems: a sentence for everything that is not even; none if all is."""

    rows: list[Row]
    problems: list[str]


def balance(facts: Iterable[Fact], notes: Sequence[Note], *, dead_letters: int, tasks: int) -> Balance:
    """Return the balance. dead_letters, tasks: what is left in those streams."""
    story, heard = _by_order(facts), _heard(notes)
    sent, acknowledged = _count(notes, "sends the order"), _count(notes, "placed")
    replayed = [order for order in sent if _is_replayed(story[order])]
    problems: list[str] = []

    def row(text: str, orders: Iterable[str], problem_of: Callable[[str], str | None]) -> Row:
        found = {order: problem_of(order) for order in orders}
        wrong = [f"{order}: {problem}" for order, problem in found.items() if problem]
        problems.extend(line for line in wrong if line not in problems)
        return Row(text, len(found), len(found) - len(wrong))

    def once(text: str, kind: str) -> Row:
        return row(f"{text}, once", sent, lambda order: _once(story[order], kind, text))

    rows = [
        row("acknowledged to the tablet, and stored", sent, lambda o: _stored(sent[o], acknowledged[o], story[o])),
        row("cooked: each dish once", sent, lambda order: _cooked(story[order])),
        once("ready", OrderReady.event_type),
        once("given to a courier", CourierDispatched.event_type),
        once("delivered", OrderDelivered.event_type),
        row("heard by the customer: each step once, in order", sent, lambda o: _told(story[o], heard[o])),
        row("one correlation id from the tablet to the end", sent, lambda o: _one_story(o, story[o], notes)),
        row("sent twice, cooked once", [o for o in sent if sent[o] > 1], lambda order: _cooked(story[order])),
        row("replayed from the dead letters, cooked once", replayed, lambda order: _cooked(story[order])),
        Row("dead letters left", 0, dead_letters),
        Row("tasks left in the work queue", 0, tasks),
    ]
    problems.extend(f"{row.text}: {row.found}" for row in rows[-2:] if row.found)
    return Balance(rows, problems)


def _by_order(facts: Iterable[Fact]) -> defaultdict[str, list[Fact]]:
    story: defaultdict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        story[fact.data["order"]].append(fact)
    return story


def _heard(notes: Iterable[Note]) -> defaultdict[str, list[str]]:
    """Return who heard what, by order."""
    heard: defaultdict[str, list[str]] = defaultdict(list)
    for note in notes:
        if note.what.startswith("heard: "):
            heard[note.order].append(f"{note.who} {note.what}")
    return heard


def _count(notes: Iterable[Note], what: str) -> Counter[str]:
    """Return how often something was noted, by order."""
    return Counter(note.order for note in notes if note.what == what)


def _placed(facts: list[Fact]) -> list[Fact]:
    return [fact for fact in facts if fact.type == OrderPlaced.event_type]


def _is_replayed(facts: list[Fact]) -> bool:
    """A replay stores an event again, under its own id."""
    ids = [fact.id for fact in _placed(facts)]
    return len(ids) > len(set(ids))


def _stored(sent: int, acknowledged: int, facts: list[Fact]) -> str | None:
    stored = len({fact.id for fact in _placed(facts)})
    if sent == acknowledged == stored:
        return None
    return f"was sent {sent} times, acknowledged {acknowledged} times, and is in the stream {stored} times"


def _cooked(facts: list[Fact]) -> str | None:
    wanted = next((len(fact.data["dishes"]) for fact in _placed(facts)), 0)
    cooked = Counter(fact.data["number"] for fact in facts if fact.type == TaskCooked.event_type)
    if cooked == Counter(range(1, wanted + 1)):
        return None
    return f"of dishes 1 to {wanted} were cooked: {', '.join(map(str, sorted(cooked.elements()))) or 'none'}"


def _once(facts: list[Fact], kind: str, text: str) -> str | None:
    count = sum(fact.type == kind for fact in facts)
    return None if count == 1 else f"was {text} {count} times"


def _told(facts: list[Fact], heard: list[str]) -> str | None:
    customer = next((fact.data["customer"] for fact in _placed(facts)), "nobody")
    wanted = [f"{customer} heard: {step}" for step in STEPS]
    return None if heard == wanted else f"customers heard: {', '.join(heard) or 'nothing'}"


def _one_story(order: str, facts: list[Fact], notes: Sequence[Note]) -> str | None:
    found = {fact.correlation for fact in facts} | {note.correlation for note in notes if note.order == order}
    return None if len(found) == 1 else f"has {len(found)} correlation ids: {', '.join(sorted(map(str, found)))}"
