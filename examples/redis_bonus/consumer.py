"""A kitchen: reads orders from the stream as one of a group, each at least once, also those it was away for.

python examples/redis_bonus/consumer.py --redis 6379 --name cook-1
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator

from redis import Redis
from redis.exceptions import ResponseError

from tidegate.core import Envelope

STREAM, GROUP = "orders", "kitchen"


def main(options: argparse.Namespace) -> None:
    """Print orders; each is acknowledged after it was handled."""
    client = Redis(options.host, options.redis, decode_responses=True)
    with contextlib.suppress(ResponseError):  # BUSYGROUP: it is there already
        client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    print("waiting for orders", flush=True)
    for entry, fields in entries(client, options.name, options.idle):
        time.sleep(options.cook)
        event = Envelope.model_validate_json(fields["event"])
        print(f"{options.name}: {event.data['order']} {event.data['dishes']} for {event.correlationid}", flush=True)
        client.xack(STREAM, GROUP, entry)


def entries(client: Redis, name: str, idle: float) -> Iterator[tuple[str, dict[str, str]]]:
    """Return entries for ever: those that somebody took more than `idle` seconds ago and did not acknowledge, perhaps
    this consumer itself before it died, and those that nobody took yet."""
    while True:
        _, left, _ = client.xautoclaim(STREAM, GROUP, name, int(idle * 1000), count=1)
        yield from left
        for _, fresh in client.xreadgroup(GROUP, name, {STREAM: ">"}, count=1, block=1000):
            yield from fresh


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1", help="of Redis (%(default)s)")
    parser.add_argument("--redis", type=int, default=6379, metavar="PORT", help="Redis's (%(default)s)")
    parser.add_argument("--name", default="cook-1", help="of this consumer in its group (%(default)s)")
    parser.add_argument("--cook", type=float, default=0.0, metavar="SECONDS", help="that an order takes (%(default)s)")
    parser.add_argument(
        "--idle",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="after which an order that was taken and not acknowledged is given to another: longer than one can take "
        "(%(default)s)",
    )
    main(parser.parse_args())
