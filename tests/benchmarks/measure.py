"""How each kind of job is run."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable

from nats.errors import Error as NatsError

from tests.benchmarks.contender import Contender
from tests.benchmarks.drain import drain
from tests.benchmarks.idle import idle
from tests.benchmarks.job import Job, Kind, Size
from tests.benchmarks.latency import latency
from tests.benchmarks.result import Run
from tests.benchmarks.throughput import throughput

_KINDS: dict[Kind, Callable[[Job, Contender, int, Size], Awaitable[Run]]] = {
    "throughput": throughput,
    "latency": latency,
    "drain": drain,
    "idle": idle,
}


async def measure(job: Job, contender: Contender, number: int, size: Size) -> Run:
    """Run one contender in one job, with servers of its own; a run that fails says why. `number` is the round.

    The whole of an error, with a log's end, goes to standard error; its first line alone into the results.
    """
    try:
        return await _KINDS[job.kind](job, contender, number, size)
    except (AssertionError, OSError, NatsError) as error:  # TimeoutError is an OSError
        text = f"{type(error).__name__}: {error}"
        print(text, file=sys.stderr, flush=True)
        return Run(job.name, contender.name, number, problem=text.splitlines()[0])
