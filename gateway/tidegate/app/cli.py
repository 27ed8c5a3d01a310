"""The command line."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import orjson

from tidegate.app.config import Config
from tidegate.app.config_file import load_config
from tidegate.app.log import configure_logging, flush_logging, say_last
from tidegate.app.quantity import parse_duration, parse_size
from tidegate.app.run import run
from tidegate.app.version import VERSION
from tidegate.app.warning import warnings
from tidegate.core import ConfigError, TidegateError
from tidegate.spool import MESSAGE_OVERHEAD

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
"""As a shell has it for SIGINT."""
EXIT_BAD_CONFIG = 78
"""EX_CONFIG of sysexits.h; argparse itself exits with 2 on bad usage."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except ConfigError as error:
        say_last(str(error))
        return EXIT_BAD_CONFIG
    except TidegateError as error:
        say_last(f"tidegate: {error}")
        return EXIT_FAILED
    except BrokenPipeError:
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tidegate", description="MQTT into NATS JetStream, acknowledged end to end.")
    parser.add_argument("--version", action="version", version=f"tidegate {VERSION}")
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
    command.add_argument("--rate", type=_rate, metavar="N", help="messages a second, to see how long the spool lasts")
    command.add_argument("--size", type=_size, default=256, metavar="SIZE", help="of a message (default 256B)")
    command.set_defaults(command=_check)

    _add_previews(commands)
    _add_top(commands)

    _add_demo(commands)
    _add_dlq(commands)

    command = commands.add_parser(
        "schema",
        help="print the JSON Schema of the configuration, or the AsyncAPI document of one",
        description="Print the JSON Schema of configuration files, for editors. With --asyncapi: what FILE's bridges "
        "receive and send, as an AsyncAPI 3.0 document, in JSON, which is YAML too; without connecting.",
    )
    command.add_argument("--asyncapi", action="store_true", help="print the AsyncAPI document of FILE; needs -c")
    command.add_argument("-c", "--config", type=Path, metavar="FILE", help="only with --asyncapi")
    command.set_defaults(command=partial(_schema, command.error))
    return parser


def _add_previews(commands: Any) -> None:
    """The commands that show what the gateway would do."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-c", "--config", type=Path, required=True, metavar="FILE")

    command = commands.add_parser(
        "map",
        parents=[common],
        help="show the way of topics",
        description="Show which bridges take each TOPIC, on which subject, which stream of FILE stores that, and the "
        "topic that comes back from it. Without connecting. Exit status 1 if one has no way.",
    )
    command.add_argument("topics", nargs="+", metavar="TOPIC")
    command.set_defaults(command=_map)

    command = commands.add_parser(
        "test",
        parents=[common],
        help="test a configuration with cases of messages",
        description="Convert the messages in CASES as the gateway would, and compare what comes. Without connecting. "
        "Exit status 1 if a case fails, 78 if CASES can't be read.",
        epilog=_CASES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("cases", type=Path, metavar="CASES", help="a YAML file; see below")
    command.set_defaults(command=_test)

    command = commands.add_parser(
        "tap",
        parents=[common],
        help="show live messages and what would become of them",
        description="Show what comes on FILTER now, and what the gateway would make of it. Needs the broker alone, has "
        "a session of its own, and sends nothing. Until Ctrl-C; then it says how many there were.",
    )
    command.add_argument("filter", type=_filter, metavar="FILTER", help="a topic filter, as 'sensors/#'")
    command.add_argument("--count", type=_count, metavar="N", help="stop after so many messages")
    command.add_argument("--for", dest="duration", type=_duration, metavar="TIME", help="stop after this time, as 30s")
    command.add_argument("--json", action="store_true", help="one JSON object a line")
    command.set_defaults(command=_tap)


def _add_top(commands: Any) -> None:
    command = commands.add_parser(
        "top",
        help="watch a running gateway",
        description="Show how a running gateway is, from its HTTP endpoint: whether data flows, how far behind it is, "
        "and where it is stuck. Press ? for the keys. Where there is no terminal: one picture, as with --once.",
    )
    where = command.add_mutually_exclusive_group()
    where.add_argument("-c", "--config", type=Path, metavar="FILE", help="of the gateway: it says where it listens")
    where.add_argument("--url", type=_url, default="http://127.0.0.1:9883", help="of the gateway (default %(default)s)")
    command.add_argument("--interval", type=_interval, default=1.0, metavar="TIME", help="between looks (default 1s)")
    command.add_argument(
        "--sort", choices=("name", "rate", "lag", "spool", "dead"), default="name", help="order of bridges"
    )
    command.add_argument("--once", action="store_true", help="print one picture; exit status 1 if there is no answer")
    command.set_defaults(command=_top)


def _add_demo(commands: Any) -> None:
    """The demos; that of the sensors is the one without a name."""
    command = commands.add_parser(
        "demo",
        help="see it work, with servers of its own",
        description="Devices, a broker, the gateway, streams and backend services, on this machine, until it is all "
        "shown or Ctrl-C; then a balance. Needs the extra 'embedded'.",
    )
    command.add_argument(
        "name",
        nargs="?",
        choices=("sensors", "food-delivery"),
        default="sensors",
        metavar="NAME",
        help="sensors (default): readings to a subscriber; food-delivery: services, work queues, and what goes wrong",
    )
    command.add_argument("--for", dest="duration", type=_duration, metavar="TIME", help="stop after this time, as 30s")
    command.add_argument("--rate", type=_rate, metavar="N", help="sensors: messages a second (default 100)")
    command.add_argument("--orders", type=_count, metavar="N", help="food-delivery: at least so many (default 30)")
    command.add_argument(
        "--faults", metavar="NAMES", help="food-delivery: chef,notification,twice,poison,nats (default: all), or none"
    )
    command.set_defaults(command=partial(_demo, command.error))


_CASES = """\
cases:
  - name: a reading
    topic: sensors/hall/s1/reading
    payload: '{"temperature": 21.5}'   # or json, hex, base64, file; absent: empty
    # content_type, correlation_data, response_topic, user, retained, qos, received, bridge
    expect:                            # the events; [] if it is filtered out. Without it: prints what comes
      - nats: plant.sensors.hall.s1    # the subject; then attributes, those that are named; and data, as a whole
        data: {temperature: 21.5}
  - name: not JSON
    topic: sensors/hall/s1/reading
    payload: "{torn"
    expect_dead_letter: {reason: decode_failed, detail: not JSON}
"""


def _add_dlq(commands: Any) -> None:
    """The commands about dead letters."""
    dlq = commands.add_parser(
        "dlq",
        help="look at dead letters, send them again, delete them",
        description="Dead letters: messages that were set aside. Each command takes -c FILE, and --help.",
    )
    dlq_commands = dlq.add_subparsers(required=True, metavar="ls|show|replay|purge")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-c", "--config", type=Path, required=True, metavar="FILE")
    filters = argparse.ArgumentParser(add_help=False)
    filters.add_argument("--bridge", metavar="NAME", help="only those of this bridge, or of this consumer of a service")
    filters.add_argument("--reason", metavar="WORD", help="only those with this reason")
    filters.add_argument("--older-than", type=_duration, metavar="TIME", help="only those set aside so long ago, as 1d")
    filters.add_argument("--newer-than", type=_duration, metavar="TIME", help="only those set aside since, as 1h")

    def add(name: str, text: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = dlq_commands.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", parents=[common, *parents]
        )
        command.set_defaults(command=_dlq, dlq=name)
        return command

    command = add("ls", "list them, newest last", filters)
    command.add_argument("--json", action="store_true", help="one JSON object a line")
    command.add_argument("--limit", type=_count, metavar="N", help="only the newest N")
    command = add("show", "print one, with its payload as text or as a hex dump")
    command.add_argument("sequence", type=_count, metavar="SEQ", help="its number, as ls shows it")
    command.add_argument("--raw", action="store_true", help="write the payload's bytes alone")
    command = add("replay", "send them again, as their bridges are configured now; what fails again stays", filters)
    command.add_argument("sequences", type=_count, nargs="*", metavar="SEQ", help="only these")
    command = add("purge", "delete them for good", filters)
    command.add_argument("sequences", type=_count, nargs="*", metavar="SEQ", help="only these")
    command.add_argument("--yes", action="store_true", help="do it; without this, only say how many there are")


def _dlq(options: argparse.Namespace) -> int:
    from tidegate.app import dlq

    commands = {"ls": dlq.ls, "show": dlq.show, "replay": dlq.replay, "purge": dlq.purge}
    return int(_drive(commands[options.dlq](load_config(options.config), options)))


def _map(options: argparse.Namespace) -> int:
    from tidegate.app import topic_map

    return topic_map.show(load_config(options.config), options)


def _test(options: argparse.Namespace) -> int:
    from tidegate.app.trial import run_cases

    return run_cases(load_config(options.config), options)


def _tap(options: argparse.Namespace) -> int:
    from tidegate.app.tap import tap

    return int(_drive(tap(load_config(options.config), options)))


def _top(options: argparse.Namespace) -> int:
    from tidegate.app.top.top import top

    return top(options)


def _url(text: str) -> str:
    from tidegate.app.top.source import Address

    try:
        Address.of_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _filter(text: str) -> str:
    from tidegate.app.tap import filter_problem

    if problem := filter_problem(text):
        raise argparse.ArgumentTypeError(problem)
    return text


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text[:20]) < 1 << 63:
        raise argparse.ArgumentTypeError("should be a number, 1 or more")
    return int(text[:20])


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _interval(text: str) -> float:
    seconds = _duration(text)
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("should be from 100ms to 1h")
    return seconds


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _rate(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError("should be a number from 1 to 1000000")
    return int(text)


def _run(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    configure_logging(config.log)
    try:
        _drive(run(options.config, config, embedded=options.embedded))
    finally:
        flush_logging()
    return 0


def _check(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    print(f"{options.config}: ok")
    for bridge in config.bridges:
        mapping = bridge.mapping()
        ends = [f"{mapping.topic_filter} (QoS {bridge.qos})", f"{mapping.subject_filter} ({bridge.deliver})"]
        if bridge.direction == "down":
            ends.reverse()
        print(f"  {bridge.name}: {' -> '.join(ends)}")
    if options.rate is not None:
        print(f"  spool: {_endurance(config, options.rate, options.size)}")
    for warning in warnings(config, options.config):
        print(f"warning: {warning}")
    return 0


def _endurance(config: Config, rate: int, size: int) -> str:
    """Say how long the spool lasts while NATS is away."""
    spool = config.spool
    seconds = spool.max_bytes / (rate * (size + MESSAGE_OVERHEAD))
    end = "max_bytes"
    if spool.max_age is not None and spool.max_age < seconds:
        seconds, end = spool.max_age, "max_age"
    return f"lasts {seconds / 3600:.1f} hours at {rate} messages of {size} bytes a second; then {end} is reached"


def _demo(refuse: Callable[[str], NoReturn], options: argparse.Namespace) -> int:
    if options.name == "food-delivery":
        if options.rate is not None:
            refuse("--rate is for the demo of the sensors; here orders come one a second")
        return _food_delivery(options)
    if options.orders is not None or options.faults is not None:
        refuse("--orders and --faults are for the demo food-delivery")
    from tidegate.app.demo import demo

    return int(_drive(demo(options.duration, options.rate or 100)))


def _food_delivery(options: argparse.Namespace) -> NoReturn:
    """Become the example's own program, so that it is the same from here and by hand."""
    from tidegate.app.example import example_folder

    duration = None if options.duration is None else f"{options.duration * 1000:.0f}ms"
    given = {"--for": duration, "--orders": options.orders, "--faults": options.faults}
    arguments = [f"{name}={value}" for name, value in given.items() if value is not None]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, str(example_folder("food_delivery") / "demo.py"), *arguments])


def _schema(refuse: Callable[[str], NoReturn], options: argparse.Namespace) -> int:
    if options.asyncapi and options.config is None:
        refuse("--asyncapi needs -c FILE: the document is of one configuration's bridges")
    if options.config is not None and not options.asyncapi:
        refuse("-c FILE is for --asyncapi: the JSON Schema is the same for every configuration")
    if options.asyncapi:
        from tidegate.app.asyncapi import asyncapi

        document = asyncapi(load_config(options.config))
    else:
        from tidegate.app.file_schema import file_schema

        document = file_schema()
    print(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    return 0


def _drive(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on uvloop where it is installed, else on asyncio's own loop."""
    if find_spec("uvloop") is None:
        return asyncio.run(work)
    import uvloop

    return uvloop.run(work)


if __name__ == "__main__":
    sys.exit(main())
