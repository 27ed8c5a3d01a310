"""The command line."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Coroutine, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson

from tidegate.app.config import Config
from tidegate.app.config_file import load_config
from tidegate.app.log import configure_logging
from tidegate.app.quantity import parse_duration
from tidegate.app.run import run
from tidegate.core import ConfigError, TidegateError

EXIT_FAILED = 1
EXIT_BAD_CONFIG = 78
"""EX_CONFIG of sysexits.h; argparse itself exits with 2 on bad usage."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_CONFIG
    except TidegateError as error:
        print(f"tidegate: {error}", file=sys.stderr)
        return EXIT_FAILED
    except BrokenPipeError:
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tidegate", description="MQTT into NATS JetStream, acknowledged end to end.")
    parser.add_argument("--version", action="version", version=f"tidegate {version('tidegate')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("run", help="run the gateway", description="Run the gateway until SIGTERM or Ctrl-C.")
    command.add_argument("-c", "--config", type=Path, required=True, metavar="FILE")
    command.add_argument(
        "--embedded", action="store_true", help="bring a broker and a nats-server along, where FILE expects them"
    )
    command.set_defaults(command=_run)

    command = commands.add_parser(
        "check", help="check a configuration file", description="Check FILE, without connecting."
    )
    command.add_argument("config", type=Path, metavar="FILE")
    command.set_defaults(command=_check)

    command = commands.add_parser(
        "demo",
        help="see it work, with servers of its own",
        description="Sensors, a broker, the gateway, a stream and a "
        "subscriber, on this machine, until Ctrl-C; then a balance. Needs the extra 'embedded'.",
    )
    command.add_argument("--for", dest="duration", type=_duration, metavar="TIME", help="stop after this time, as 30s")
    command.add_argument("--rate", type=_rate, default=100, metavar="N", help="messages a second (default 100)")
    command.set_defaults(command=_demo)

    command = commands.add_parser("schema", help="print the JSON Schema of the configuration")
    command.set_defaults(command=_schema)
    return parser


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _rate(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError("should be a number from 1 to 1000000")
    return int(text)


def _run(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    configure_logging(config.log)
    _drive(run(options.config, config, embedded=options.embedded))
    return 0


def _check(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    print(f"{options.config}: ok")
    for bridge in config.bridges:
        mapping = bridge.mapping()
        print(
            f"  {bridge.name}: {mapping.topic_filter} (QoS {bridge.qos}) -> {mapping.subject_filter} ({bridge.deliver})"
        )
    return 0


def _demo(options: argparse.Namespace) -> int:
    from tidegate.app.demo import demo

    return int(_drive(demo(options.duration, options.rate)))


def _schema(_options: argparse.Namespace) -> int:
    schema = Config.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    print(orjson.dumps(schema, option=orjson.OPT_INDENT_2).decode())
    return 0


def _drive(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on uvloop where it is installed, else on asyncio's own loop."""
    if find_spec("uvloop") is None:
        return asyncio.run(work)
    import uvloop

    return uvloop.run(work)


if __name__ == "__main__":
    sys.exit(main())
