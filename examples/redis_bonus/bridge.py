"""Takes orders from MQTT and puts each into Redis, once.

python examples/redis_bonus/bridge.py --mqtt 1883 --redis 6379
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
from functools import partial
from pathlib import Path

from redis_write import connect, write_once
from sink import BatchSink

from tidegate.bridge import Bridge, Converter, DeadLetters, Shape, new_decoder
from tidegate.core import Mapping, Sink, Source
from tidegate.mqtt import CODECS, Session, SessionOptions

SOURCE = "urn:tidegate:example:orders"
TYPE = "com.example.food.order_placed.v1"
STOP_TIMEOUT = 10.0
"""Seconds that what is in flight has when the bridge is stopped; what is left then, the broker sends again."""


def order_bridge(source: Source, sink: Sink) -> Bridge:
    """Return the bridge from the topic `orders` to the subject `orders`: with this sink a stream and a channel. What is
    no JSON, and what the sink refuses, goes to `orders.dead`."""
    shape = Shape(bridge="orders", mapping=Mapping("orders", "orders"), source=SOURCE, type=TYPE)
    converter = Converter(shape, new_decoder("json"))
    letters = DeadLetters(sink, "orders", SOURCE, "orders.dead", converter.correlation_of)
    return Bridge("orders", source, converter, sink, letters)


async def main(options: argparse.Namespace) -> None:
    """Run until SIGTERM or SIGINT, then take no more and finish what is in flight."""
    session_options = SessionOptions(
        host=options.host,
        port=options.mqtt,
        codec=CODECS["5"],
        client_id="redis-bonus",  # stable, so that the broker keeps the session while the bridge is away
        topic_filter="orders",
        state_file=options.state,
    )
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with (
        connect(f"redis://{options.host}:{options.redis}") as redis,
        BatchSink(partial(write_once, redis)) as sink,
        Session(session_options) as session,
    ):
        bridge = order_bridge(session, sink)
        running = asyncio.create_task(bridge.run(), name="bridge")
        stop = asyncio.create_task(stopping.wait(), name="stop")
        parts = [running, sink.task, session.task]
        await asyncio.wait([stop, *parts], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        bridge.stop()
        await asyncio.wait([running], timeout=STOP_TIMEOUT)
        count = bridge.counters
        logging.info(
            "delivered %d, set aside %d, left %d", count.delivered, count.dead_lettered.total(), count.in_flight
        )
        running.cancel()
        await asyncio.wait([running])
        for part in parts:
            if part.done() and not part.cancelled():
                part.result()  # only a defect ends one of them before it is stopped


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1", help="of both servers (%(default)s)")
    parser.add_argument("--mqtt", type=int, default=1883, metavar="PORT", help="the MQTT broker's (%(default)s)")
    parser.add_argument("--redis", type=int, default=6379, metavar="PORT", help="Redis's (%(default)s)")
    parser.add_argument(
        "--state",
        type=Path,
        default=Path("redis_bonus.state"),
        metavar="FILE",
        help="keeps the ids of what is in flight, so that it is not doubled by a crash (%(default)s)",
    )
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    asyncio.run(main(parser.parse_args()))
