"""Messages that would go round for ever: up through one bridge, and down through another to where they came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

from tidegate.core import common_topic, overlap, unshared


class Hop(NamedTuple):
    """What a bridge takes and gives, as filters. A bridge gives its dead letters, too."""

    name: str
    topics_in: str | None
    subjects_in: str | None
    topics_out: str | None
    subjects_out: tuple[str, ...]

    @classmethod
    def up(cls, name: str, topics: str, subjects: str, dead_letters: str) -> Self:
        """Return the hop of a bridge from MQTT to NATS."""
        return cls(name, unshared(topics), None, None, (subjects, dead_letters))

    @classmethod
    def down(cls, name: str, subjects: str, topics: str, dead_letters: str) -> Self:
        """Return the hop of a bridge from NATS to MQTT."""
        return cls(name, None, subjects, topics, (dead_letters,))

    def feeds(self, other: Hop) -> str | None:
        """Return the filter of what this bridge gives that the other one takes some of, or None."""
        if self.topics_out is not None and other.topics_in is not None:
            return self.topics_out if common_topic(self.topics_out, other.topics_in) else None
        if other.subjects_in is None:
            return None
        return next((given for given in self.subjects_out if overlap(given, other.subjects_in)), None)


def find_loop(hops: Sequence[Hop]) -> str | None:
    """Return the shortest way by which a message can come back to its bridge, in words, or None if there is none."""
    feeds = {hop.name: [(other.name, given) for other in hops if (given := hop.feeds(other))] for hop in hops}
    loops = [loop for hop in hops if (loop := _way_back(hop.name, feeds))]
    return min(loops, key=len) if loops else None


def _way_back(start: str, feeds: dict[str, list[tuple[str, str]]]) -> str | None:
    """Return the shortest way from a bridge to itself: a search in breadth."""
    ways = {start: ""}
    for name in (names := [start]):
        for other, given in feeds[name]:
            way = f"{ways[name]}{', and ' if ways[name] else ''}{name} gives {given} to {other}"
            if other == start:
                return way
            if other not in ways:
                ways[other] = way
                names.append(other)
    return None
