"""A screen: shows the orders that come while it listens, and knows nothing of the others.

python examples/redis_bonus/subscriber.py --redis 6379
"""

from __future__ import annotations

import argparse

from redis import Redis

from tidegate.core import Envelope


def main(options: argparse.Namespace) -> None:
    """Print orders."""
    channel = Redis(options.host, options.redis, decode_responses=True).pubsub()
    channel.subscribe("orders")
    for message in channel.listen():
        if message["type"] == "subscribe":
            print("listening", flush=True)
        else:
            event = Envelope.model_validate_json(message["data"])
            print(f"placed: {event.data['order']} {event.data['dishes']} for {event.correlationid}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1", help="of Redis (%(default)s)")
    parser.add_argument("--redis", type=int, default=6379, metavar="PORT", help="Redis's (%(default)s)")
    main(parser.parse_args())
