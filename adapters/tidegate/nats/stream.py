"""JetStream streams: created where they are missing, verified where they exist, changed where that loses nothing."""

from __future__ import annotations

import logging

from tidegate.core import TidegateError
from tidegate.nats.jetstream import NOT_FOUND, ApiError, call
from tidegate.nats.link import Link
from tidegate.nats.stream_loss import losses
from tidegate.nats.stream_spec import StreamConfig, StreamSpec, changeable, read_spec

log = logging.getLogger(__name__)


class StreamError(TidegateError):
    """A stream can't be what the configuration says. Nothing was changed."""

    def __init__(self, stream: str, problem: str) -> None:
        self.stream = stream
        self.problem = problem
        super().__init__(f"stream {stream}: {problem}")


async def ensure_stream(link: Link, spec: StreamSpec) -> None:
    """Create the stream, or see that the one there is what the configuration says, and change it if need be.

    It is changed where NATS can do that and no stored message is deleted. NATS has no change on a condition, so that is
    judged by what the stream held some milliseconds before; what others store in between can be deleted by a limit that
    they did not know of, as it would be if they stored it just after the change.

    Raises StreamError where that can't be, or would delete stored messages; ApiError and ConnectError where the server
    can't be asked.
    """
    try:
        info = await call(link, f"STREAM.INFO.{spec.name}")
    except ApiError as error:
        if error.code != NOT_FOUND:
            raise
        await _create(link, spec)
        return
    found = info["config"]
    _refuse_what_cannot_change(spec, found)
    changes = {name: value for name, value in changeable(spec).items() if found.get(name) != value}
    if not changes:
        return
    if reasons := await losses(link, spec, info):
        raise StreamError(
            spec.name, f"{'; '.join(reasons)}; nothing was changed: if messages may be lost, change the stream by hand"
        )
    try:
        await call(link, f"STREAM.UPDATE.{spec.name}", {**found, **changes})
    except ApiError as error:
        raise StreamError(spec.name, f"the server refused the change of {', '.join(changes)}: {error}") from error
    log.info("nats: stream %s updated: %s", spec.name, ", ".join(changes))


async def find_stream(link: Link, subject: str) -> StreamSpec | None:
    """Return the stream that stores a subject or subject filter, as the server has it; None if there is none.

    Raises ApiError and ConnectError where the server can't be asked.
    """
    names = (await call(link, "STREAM.NAMES", {"subject": subject})).get("streams")
    return read_spec((await call(link, f"STREAM.INFO.{names[0]}"))["config"]) if names else None


async def _create(link: Link, spec: StreamSpec) -> None:
    config = {"name": spec.name, "storage": spec.storage, **changeable(spec)}
    try:
        await call(link, f"STREAM.CREATE.{spec.name}", config)
    except ApiError as error:
        raise StreamError(spec.name, f"the server refused to create it: {error}") from error
    log.info("nats: stream %s created for %s", spec.name, ", ".join(spec.subjects))


def _refuse_what_cannot_change(spec: StreamSpec, found: StreamConfig) -> None:
    for name, wanted in (("retention", spec.retention), ("storage", spec.storage)):
        if found[name] != wanted and (name == "storage" or "workqueue" in (found[name], wanted)):
            raise StreamError(
                spec.name,
                f"it exists with {name} {found[name]}, the configuration says {wanted}; NATS can't change that",
            )
    if found.get("sealed"):
        raise StreamError(spec.name, "it is sealed: it takes no messages")
