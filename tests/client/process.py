"""A worker as a process, as a user would write it: prints `started N` and `done N` for each task."""

from __future__ import annotations

import argparse
import asyncio

from tests.client.rig import SOURCE, Task
from tidegate.client import Event, Worker, connect, serve


async def main(options: argparse.Namespace) -> None:
    async def handle(event: Event[Task]) -> None:
        print(f"started {event.data.number}", flush=True)
        await asyncio.sleep(options.takes)
        print(f"done {event.data.number}", flush=True)

    async with connect(options.url, source=SOURCE) as client:
        workers = Worker(
            client, "WORK", "workers", Task, handle, concurrency=options.concurrency, ack_wait=options.ack_wait
        )
        await serve(workers)
    print(f"left in order, balanced {workers.counters.balanced}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--takes", type=float, default=0.0)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--ack-wait", type=float, default=30.0)
    asyncio.run(main(parser.parse_args()))
