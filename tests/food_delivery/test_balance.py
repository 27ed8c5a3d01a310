"""The balance finds what is wrong: each kind of fault makes it uneven, and names the order."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from events import CourierDispatched, OrderDelivered, OrderPlaced, OrderReady, TaskCooked
from show.balance import Balance, Fact, balance
from show.notes import Note

STEPS = ("placed", "ready", "under way", "delivered")


class Story:
    """What streams and journals say of one order that went well, to be spoiled."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.notes: list[Note] = []
        self.dead_letters = self.tasks = 0
        self.place()
        for number in (2, 1):
            self.fact(TaskCooked.event_type, number=number)
        for kind in (OrderReady, CourierDispatched, OrderDelivered):
            self.fact(kind.event_type)
        self.note("sends the order")
        self.note("placed")
        for step in STEPS:
            self.note(f"heard: {step}")

    def place(self) -> None:
        self.fact(OrderPlaced.event_type, customer="ann", dishes=["ramen", "curry"])

    def fact(self, kind: str, correlation: str = "c", **data: object) -> None:
        self.facts.append(Fact(f"id-{len(self.facts)}", kind, correlation, {"order": "o1", **data}))

    def note(self, what: str, who: str = "ann") -> None:
        self.notes.append(Note(float(len(self.notes)), who, what, "o1", "c", 1))

    def drop(self, kind: str) -> None:
        self.facts = [fact for fact in self.facts if fact.type != kind]

    def silence(self, what: str) -> None:
        self.notes = [note for note in self.notes if note.what != what]

    def swap_notices(self) -> None:
        self.notes[-1], self.notes[-2] = self.notes[-2], self.notes[-1]

    def balance(self) -> Balance:
        return balance(self.facts, self.notes, dead_letters=self.dead_letters, tasks=self.tasks)


def test_an_order_that_went_well_is_even() -> None:
    found = Story().balance()
    assert found.problems == []
    assert all(row.wanted == row.found for row in found.rows)


def test_an_order_that_was_replayed_is_even_and_counted() -> None:
    story = Story()
    story.facts.append(story.facts[0])
    found = story.balance()
    assert found.problems == []
    assert [row.wanted for row in found.rows if row.text.startswith("replayed")] == [1]


def test_an_order_that_was_sent_twice_is_even_and_counted() -> None:
    story = Story()
    story.note("sends the order")
    story.note("placed")
    story.place()
    found = story.balance()
    assert found.problems == []
    assert [row.wanted for row in found.rows if row.text.startswith("sent twice")] == [1]


SPOILS: dict[str, Callable[[Story], object]] = {
    "lost between PUBACK and stream": lambda story: story.drop(OrderPlaced.event_type),
    "never acknowledged": lambda story: story.silence("placed"),
    "stored twice by the gateway": lambda story: story.fact(
        OrderPlaced.event_type, customer="ann", dishes=["ramen", "curry"]
    ),
    "a dish not cooked": lambda story: story.facts.pop(1),
    "a dish cooked twice": lambda story: story.fact(TaskCooked.event_type, number=1),
    "a dish that was not ordered": lambda story: story.fact(TaskCooked.event_type, number=3),
    "never ready": lambda story: story.drop(OrderReady.event_type),
    "ready twice": lambda story: story.fact(OrderReady.event_type),
    "two couriers": lambda story: story.fact(CourierDispatched.event_type),
    "delivered twice": lambda story: story.fact(OrderDelivered.event_type),
    "a step that was not heard": lambda story: story.silence("heard: ready"),
    "a step that was heard twice": lambda story: story.note("heard: delivered"),
    "another customer hears it too": lambda story: story.note("heard: ready", "ben"),
    "steps out of order": lambda story: story.swap_notices(),
    "another correlation id": lambda story: story.fact("com.example.food.other.v1", correlation="d"),
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS.keys())
def test_what_is_wrong_with_an_order_is_found_and_named(spoil: Callable[[Story], object]) -> None:
    story = Story()
    spoil(story)
    found = story.balance()
    assert found.problems
    assert all(problem.startswith("o1: ") for problem in found.problems)
    assert any(row.found < row.wanted for row in found.rows)


@pytest.mark.parametrize("left", ["dead_letters", "tasks"])
def test_what_is_left_over_is_found(left: str) -> None:
    story = Story()
    setattr(story, left, 2)
    (problem,) = story.balance().problems
    assert problem.endswith(": 2")
