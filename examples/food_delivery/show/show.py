"""The show: orders come in, things go wrong, and whoever looks on is told what matters."""

from __future__ import annotations

import asyncio
import json
import random
import time
from contextlib import suppress
from itertools import count

from show.notes import Notes
from show.stage import CHEFS, CUSTOMERS, HERE, Stage

PACE = 1.0
"""Seconds between two orders."""

_DISHES = tuple(json.loads((HERE / "menu.json").read_text()))


class Show:
    """orders: typed so far. special: those that are worth a timeline, and why. new_chefs: numbers for chefs who take
    others' places."""

    def __init__(self, stage: Stage, notes: Notes) -> None:
        self.stage = stage
        self.notes = notes
        self.orders: set[str] = set()
        self.special: dict[str, str] = {}
        self.new_chefs = count(len(CHEFS) + 1)
        self._number = count(1)
        self._start = time.monotonic()
        self._random = random.Random(7)

    def say(self, text: str) -> None:
        """Print a line, with the seconds since the beginning."""
        print(f"{time.monotonic() - self._start:6.1f} s  {text}", flush=True)

    async def order(self, *dishes: str, times: int = 1) -> str:
        """Type an order, of any dishes if none are given; return its number."""
        order, customer = f"o{next(self._number)}", self._random.choice(CUSTOMERS)
        self.orders.add(order)
        dishes = dishes or tuple(self._random.choices(_DISHES, k=self._random.randint(1, 3)))
        for _ in range(times):
            await self.stage.type_order(order, customer, *dishes)
        return order

    async def take_orders(self, wanted: int, idle: asyncio.Event, stop: asyncio.Event) -> None:
        """Type an order a second: `wanted` of them, and more for as long as a fault is still shown."""
        number = 0
        while not stop.is_set() and (number < wanted or not idle.is_set()):
            number += 1
            await self.order()
            with suppress(TimeoutError):
                async with asyncio.timeout(PACE):
                    await stop.wait()
