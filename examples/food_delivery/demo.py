"""The food delivery on a stage of its own, with things that go wrong, and a balance at the end.

    tidegate demo food-delivery [--orders N] [--for TIME] [--faults NAMES]

Servers, gateway, services and devices are processes, as they would be elsewhere. What moves them is in show/, and no
part of the example.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from show.balance import Balance, Fact, balance
from show.faults import FAULTS
from show.notes import Notes
from show.script import Script, keys
from show.show import Show
from show.stage import Stage
from show.timeline import timeline
from tidegate.app.quantity import parse_duration
from tidegate.core import TidegateError

_TIMELINES = 5


async def demo(options: argparse.Namespace) -> int:
    """Run until all is shown, `--for` is over or Ctrl-C; print timelines and the balance; return 0 if it is even."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    folder = Path(tempfile.mkdtemp(prefix="tidegate-food-"))
    logging.basicConfig(filename=folder / "demo.log")
    print(f"Starting servers, gateway, services and devices; their logs and data: {folder}", flush=True)
    notes = Notes()
    try:
        async with Stage(folder, notes) as stage:
            show = Show(stage, notes)
            await _play(show, options, stop)
            result = await take_stock(show)
    except BaseException:
        print(f"The logs and data stay in {folder}", flush=True)
        raise
    if not result.problems:
        shutil.rmtree(folder)
    _print(show, result)
    if result.problems:
        print(f"\nNot even; logs and data stay in {folder}")
    return 1 if result.problems else 0


async def _play(show: Show, options: argparse.Namespace, stop: asyncio.Event) -> None:
    """Take orders while the faults happen, one after another, until all that was sent is delivered."""
    script = Script(options.faults)
    with keys(script) as help_line:
        show.say(f"Everything runs. An order a second; Ctrl-C ends. {help_line}")
        faults = asyncio.create_task(script.run(show), name="faults")
        if options.duration is not None:
            asyncio.get_running_loop().call_later(options.duration, stop.set)
        await show.take_orders(options.orders, script.idle, stop)
        script.end()
        await faults
    show.say("No more orders; waiting until all are delivered")
    await show.notes.orders_become("heard: delivered", show.orders)


async def take_stock(show: Show) -> Balance:
    """Stop the services, so that nothing more can happen, let the phones hear what was sent, and read the streams."""
    stage = show.stage
    ended = [f"{name} ended by itself; see {name}.log" for name in stage.ended]
    await stage.stop(*stage.services)
    posted = len(await stage.events("DEVICES", "notices.*"))
    await show.notes.become(lambda notes: sum(note.what.startswith("heard: ") for note in notes) >= posted, 5)
    facts = [Fact(e.id, e.type, e.correlationid, e.data) for e in await stage.events("ORDERS", "orders.*")]
    dead_letters, tasks = await stage.stored("DEAD_LETTERS"), await stage.stored("KITCHEN")
    result = balance(facts, show.notes.all, dead_letters=dead_letters, tasks=tasks)
    return result._replace(problems=[*ended, *result.problems])


def _print(show: Show, result: Balance) -> None:
    for order, reason in list(show.special.items())[:_TIMELINES]:
        print(f"\n{order}: {reason}")
        print("\n".join(timeline(order, show.notes.all)))
    print(f"\n{'orders':<50}{'wanted':>8}{'found':>8}")
    for row in result.rows:
        print(f"{row.text:<50}{row.wanted:>8}{row.found:>8}")
    print("\n".join(["", *result.problems] if result.problems else ["\nThe balance is even."]), flush=True)


def _faults(text: str) -> list[str]:
    names = [] if text == "none" else text.split(",")
    if unknown := [name for name in names if name not in FAULTS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not a fault; there are {', '.join(FAULTS)}, or none")
    return names


def main() -> int:
    """Read the command line, and run."""
    parser = argparse.ArgumentParser(prog="tidegate demo food-delivery", description=__doc__.splitlines()[0])
    parser.add_argument("--orders", type=int, default=30, metavar="N", help="at least so many (default 30)")
    parser.add_argument("--for", dest="duration", type=_duration, metavar="TIME", help="no orders after this, as 30s")
    text = f"{','.join(FAULTS)} (default: all), or none"
    parser.add_argument("--faults", type=_faults, default=list(FAULTS), metavar="NAMES", help=text)
    try:
        return asyncio.run(demo(parser.parse_args()))
    except TidegateError as error:
        print(f"tidegate: {error}", file=sys.stderr)
    except BrokenPipeError:
        pass  # who looked on has gone
    return 1


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
