"""The faults: what goes wrong, and what came of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable

from nats.aio.msg import Msg

from show.show import PACE, Show

_OUTAGE = 5 * PACE
_SECRET_DISH = "fugu"


async def chef(show: Show) -> None:
    """Kill a chef in the middle of a task."""
    begun = await show.notes.next(lambda note: note.what.startswith("begins "), timeout=5)
    if begun is None:
        show.say("  no chef has anything to do")
        return
    dish = begun.what.removeprefix("begins ")
    await show.stage.kill(begun.who)
    show.say(f"FAULT  {begun.who} is killed over the {dish} of {begun.order}")
    show.special[begun.order] = f"{begun.who} was killed over its {dish}"
    again = await show.notes.next(
        lambda note: (note.order, note.what) == (begun.order, f"cooked {dish}") and note.attempt > 1
    )
    if again is None:
        show.say("  nobody cooked it since")
    else:
        show.say(
            f"  {again.who} cooked it, {again.at - begun.at:.1f} s after {begun.who} began: attempt {again.attempt}"
        )
    new = f"chef-{next(show.new_chefs)}"
    await show.stage.start(new)
    show.say(f"  {new} starts work")


async def notification(show: Show) -> None:
    """Take the notification service down, and up again."""
    since = time.time()
    await show.stage.stop("notification")
    show.say("FAULT  notification is down")
    await asyncio.sleep(_OUTAGE)
    missed = {note.order for note in show.notes.all if note.what == "placed" and note.at > since}
    show.say(f"  {len(missed)} orders were placed meanwhile; notification is started again")
    await show.stage.start("notification")
    late = await show.notes.orders_become("heard: placed", missed)
    show.say(f"  it caught up: of those {len(missed)}, {len(missed - late)} customers heard")


async def twice(show: Show) -> None:
    """Have a tablet send one order in two messages."""
    noticed = asyncio.create_task(show.notes.next(lambda note: note.what == "has this order already", timeout=10))
    order = await show.order(times=2)
    show.special[order] = "the tablet sent it twice"
    show.say(f"FAULT  the tablet sends {order} twice")
    show.say("  the kitchen has it already, and makes no new tasks" if await noticed else "  nobody noticed")


async def poison(show: Show) -> None:
    """Order what nobody can cook; then mend the cause, and replay the dead letter."""
    client = show.stage.client
    found: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def on_letter(message: Msg) -> None:
        if not found.done():
            found.set_result(message.data)

    dead_letters = await client.connection.subscribe("dead.*", cb=on_letter)
    order = await show.order("ramen", _SECRET_DISH)
    show.special[order] = f"nobody could cook its {_SECRET_DISH} at first"
    show.say(f"FAULT  {order} wants {_SECRET_DISH}")
    try:
        async with asyncio.timeout(20):
            letter = json.loads(await found)
    except TimeoutError:
        show.say("  and it became no dead letter")
        return
    finally:
        await dead_letters.unsubscribe()
    show.say(f"  a dead letter of {letter['consumer']}: {letter['reason']}: {letter['detail']}; other orders go on")
    await asyncio.sleep(2 * PACE)
    menu = json.loads(show.stage.menu.read_text())
    show.stage.menu.write_text(json.dumps({**menu, _SECRET_DISH: 0.9}))
    show.say(f"  the menu gets {_SECRET_DISH}; tidegate dlq replay: {await show.stage.replay()}")
    late = await show.notes.orders_become("heard: delivered", {order})
    show.say(f"  {order} is {'still missing' if late else 'delivered'}")


async def nats(show: Show) -> None:
    """Stop NATS, and start it again."""
    since = time.time()
    await show.stage.stop_nats()
    show.say("FAULT  NATS is down")
    await asyncio.sleep(_OUTAGE)
    safe = {note.order for note in show.notes.all if note.what == "placed" and note.at > since}
    show.special |= dict.fromkeys(sorted(safe)[:1], "NATS was down when it was placed")
    show.say(f"  {len(safe)} orders were acknowledged to the tablet meanwhile: the gateway has them on its disk")
    await show.stage.start_nats()
    show.say("  NATS is up")
    late = await show.notes.orders_become("heard: delivered", safe)
    show.say(f"  of those {len(safe)} orders, {len(safe - late)} are delivered")


FAULTS: dict[str, Callable[[Show], Awaitable[None]]] = {
    "chef": chef,
    "notification": notification,
    "twice": twice,
    "poison": poison,
    "nats": nats,
}
"""By name, in the order in which they are shown."""
