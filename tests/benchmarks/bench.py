"""Tidegate beside its rivals: throughput, CPU, memory and latency, in one command.

    make bench
    make bench ARGS="--jobs base,core --contenders tidegate,mq-bridge --rounds 5"

Every job has servers of its own, and in every round each contender has its turn, so that what disturbs the machine
disturbs them alike. Exit status 1: a message of Tidegate's was lost or doubled, or a run of it failed.
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from tests.benchmarks import counting, decoders, workers
from tests.benchmarks.contender import CONTENDERS, TIDEGATE, Contender
from tests.benchmarks.idle import long
from tests.benchmarks.job import JOBS, QUICK, Job, Size
from tests.benchmarks.machine import machine, versions
from tests.benchmarks.measure import measure
from tests.benchmarks.plot import plot
from tests.benchmarks.report import Report, table, write
from tests.benchmarks.result import Run
from tests.support.server import MOSQUITTO
from tidegate.app.quantity import parse_duration

RESULTS = Path(__file__).parent / "results"

_SIZE = Size(100_000)
_QUICK_SIZE = Size(20_000, latency=3.0, idle=3.0)


async def bench(
    chosen: Sequence[Job],
    who: Sequence[Contender],
    rounds: int,
    size: Size,
    *,
    command: str,
    quick: bool = False,
    long_seconds: float = 0.0,
) -> Report:
    """Measure, saying each result as it comes."""
    there = {contender.name: contender for contender in who if contender.version()}
    absent = {contender.name: contender.missing for contender in who if contender.name not in there}
    report = Report(command, quick, rounds, size.count, machine(), versions(), absent)
    for number in range(1, rounds + 1):
        for job in chosen:
            for name in (name for name in job.contenders if name in there):
                run = await measure(job, there[name], number, size)
                report.runs.append(run)
                print(line(run), flush=True)
    if long_seconds:
        report.long.extend(await long(TIDEGATE, long_seconds, print))
    return report


def line(run: Run) -> str:
    """Return a run in one line."""
    forms = {
        "rate": "{:,.0f} msg/s",
        "cpu": "{:.1f} us CPU a message",
        "peak": "{:.1f} MiB peak",
        "p50": "p50 {:.2f} ms",
        "p99": "p99 {:.2f} ms",
        "p999": "p99.9 {:.2f} ms",
        "idle": "{:.2f} % CPU",
        "resident": "{:.1f} MiB",
    }
    parts = [form.format(run.values[key]) for key, form in forms.items() if key in run.values]
    if run.lost or run.doubled:
        parts.append(f"LOST {run.lost}, DOUBLED {run.doubled}")
    if run.problem:
        parts.append(f"not reported: {run.problem}")
    return f"{run.round}  {run.job:13} {run.contender:16} {', '.join(parts)}"


def failed(runs: Sequence[Run]) -> bool:
    """Whether Tidegate lost or doubled a message, or did not run to its end."""
    return any(run.contender == "tidegate" and not run.sound for run in runs)


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_T = TypeVar("_T", bound=_Named)


def picked(there: Sequence[_T]) -> Callable[[str], tuple[_T, ...]]:
    """Return what reads a comma-separated list of names."""
    known = {one.name: one for one in there}

    def read(names: str) -> tuple[_T, ...]:
        wanted = [name.strip() for name in names.split(",")]
        if unknown := [name for name in wanted if name not in known]:
            raise argparse.ArgumentTypeError(f"no {', '.join(unknown)}; there are {', '.join(known)}")
        return tuple(known[name] for name in wanted)

    return read


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=picked(JOBS), help="of: " + ", ".join(job.name for job in JOBS))
    names = ", ".join(contender.name for contender in CONTENDERS)
    parser.add_argument("--contenders", type=picked(CONTENDERS), default=CONTENDERS, help="of: " + names)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--count", type=int, help="messages of the base job")
    parser.add_argument("--quick", action="store_true", help="two jobs, one round, few messages")
    parser.add_argument("--long", type=parse_duration, default=0.0, help="then watch the memory for so long: 10m")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder for the results")
    return parser.parse_args()


def _command(given: argparse.Namespace) -> str:
    """Return how to repeat it. Where the results go is nobody else's business."""
    words = [word for word in sys.argv[1:] if word not in ("--out", str(given.out)) and not word.startswith("--out=")]
    return " ".join(("make", "bench", *([f'ARGS="{shlex.join(words)}"'] if words else [])))


def main() -> int:
    """Measure, and write the results."""
    given = options()
    if MOSQUITTO is None:
        print("mosquitto is not installed (apt install mosquitto)", file=sys.stderr)
        return 2
    size = _QUICK_SIZE if given.quick else _SIZE
    if given.count:
        size = Size(given.count, size.latency, size.idle)
    chosen = given.jobs or (QUICK if given.quick else JOBS)
    rounds = given.rounds or (1 if given.quick else 3)
    report = asyncio.run(
        bench(
            chosen, given.contenders, rounds, size, command=_command(given), quick=given.quick, long_seconds=given.long
        )
    )
    if given.jobs is None:
        report.costs.extend(decoders.costs())
        report.handled.extend(workers.handled())
        report.counting = counting.counting()
    write(report, given.out)
    if reason := plot(report, given.out):
        print(reason)
    print("\n" + table(report))
    return 1 if failed(report.runs) else 0


if __name__ == "__main__":
    sys.exit(main())
