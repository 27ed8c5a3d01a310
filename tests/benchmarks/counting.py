"""What counting costs a message: the same bridge between ends in memory, as it is and with everything counted left out;
and what a scrape costs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from unittest.mock import patch

import uvloop
from prometheus_client.exposition import generate_latest

from tidegate.app.config import Config
from tidegate.app.gateway import Gateway
from tidegate.app.metrics import new_registry
from tidegate.app.running import new_converter
from tidegate.bridge import Bridge, DeadLetters
from tidegate.core import Batch, Encoded, IdSource, Message, Outcome

_CONFIG = {"gateway": "bench", "bridges": [{"name": "b", "mqtt": "{all...}", "nats": "p.{all...}"}]}
_BATCH = 100
_BATCHES = 400
_ROUNDS = 31
_SCRAPES = 50


class Counting(NamedTuple):
    """microseconds: of counting, a message. bridge: of the bridge without it. scrape: milliseconds, of one bridge."""

    microseconds: float
    bridge: float
    scrape: float


def counting() -> Counting:
    """Measure with and without in turn, and take the median of the differences: others disturb both alike."""
    pairs = [(uvloop.run(_run()), _without()) for _ in range(_ROUNDS)]
    bare = median(without for _, without in pairs)
    logging.disable(logging.WARNING)
    with TemporaryDirectory() as folder:
        scrape = uvloop.run(_scrape(Path(folder)))
    logging.disable(logging.NOTSET)
    return Counting(median(one - without for one, without in pairs) * 1e6, bare * 1e6, scrape * 1e3)


def _without() -> float:
    with _uncounted():
        return uvloop.run(_run())


class _Source:
    """Batches that are there already; after the last it waits for ever."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._batches = iter(batches)
        self.empty = asyncio.Event()

    async def receive(self) -> Batch:
        for batch in self._batches:
            return batch
        self.empty.set()
        return await asyncio.Future()


class _Sink:
    """Everything is durable at once."""

    async def send(self, events: Sequence[Encoded]) -> asyncio.Future[Outcome]:  # noqa: ARG002 - a sink's signature
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        future.set_result(Outcome())
        return future


async def _run() -> float:
    """Return the processor time of a message, in seconds."""
    config = Config.model_validate(_CONFIG)
    converter = new_converter(config, config.up_bridges[0])
    ids, now = IdSource(), time.time()
    batches = [Batch([_message(event_id, now) for event_id in ids.take(_BATCH)]) for _ in range(_BATCHES)]
    source, sink = _Source(batches), _Sink()
    bridge = Bridge("b", source, converter, sink, DeadLetters(sink, "b", "urn:b", "dead.b", converter.correlation_of))
    start = time.process_time()
    task = asyncio.create_task(bridge.run())
    await source.empty.wait()
    bridge.stop()
    await task
    return (time.process_time() - start) / (_BATCH * _BATCHES)


def _message(event_id: str, received: float) -> Message:
    return Message(b"sensors/hall/s17", b'{"temperature": 21.5, "unit": "C"}', event_id, 1, received=received)


@contextmanager
def _uncounted() -> Iterator[None]:
    """Leave out everything that only metrics need."""

    def nothing(*_: Any) -> None:
        return None

    with (
        patch.object(Bridge, "_count_received", nothing),
        patch.object(Bridge, "_count_settled", nothing),
        patch("tidegate.bridge.bridge._observe", nothing),
        patch("tidegate.bridge.bridge.deque", _Forgetful),
    ):
        yield


class _Forgetful:
    """In the place of the times of receipt."""

    def append(self, _: float) -> None: ...

    def popleft(self) -> None: ...


async def _scrape(folder: Path) -> float:
    """Return the processor time of a scrape, in seconds. Its servers are not there, which costs it nothing."""
    nowhere = {"mqtt": {"url": "mqtt://127.0.0.1:1"}, "nats": {"servers": ["nats://127.0.0.1:1"]}, "http": None}
    async with Gateway() as gateway:
        await gateway.apply(Config.model_validate({**_CONFIG, **nowhere, "state_dir": folder}))
        registry = new_registry(gateway)
        start = time.process_time()
        for _ in range(_SCRAPES):
            generate_latest(registry)
        return (time.process_time() - start) / _SCRAPES


def main() -> None:
    """Print what it costs."""
    found = counting()
    print(f"counting {found.microseconds:.3f} us a message (the bridge without it {found.bridge:.2f})")
    print(f"a scrape of one bridge {found.scrape:.2f} ms")


if __name__ == "__main__":
    main()
