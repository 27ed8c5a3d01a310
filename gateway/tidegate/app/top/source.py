"""Asks a gateway for its status."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import urlsplit

import h11
from pydantic import ValidationError

from tidegate.app.config_file import load_config
from tidegate.app.terminal import printable
from tidegate.app.top.status import Status
from tidegate.core import ConfigError, TidegateError

TIMEOUT = 3.0
"""Seconds for an answer. A gateway that takes longer is shown as one that does not answer."""

MAX_BYTES = 8 * 1024 * 1024
"""Of an answer, which has about 3 kB for each bridge."""

_CHUNK = 64 * 1024


class StatusError(TidegateError):
    """The gateway did not say how it is. reason: one line that says why."""

    def __init__(self, address: Address, reason: str) -> None:
        self.address = address
        self.reason = printable(reason)
        super().__init__(f"no answer from {address.url}: {self.reason}")


class Address(NamedTuple):
    """Where a gateway listens. path: what a proxy has put before its paths, as `/plant-1`."""

    host: str
    port: int
    path: str = ""

    @classmethod
    def of_url(cls, url: str) -> Self:
        """Read a URL. Raises ValueError."""
        parts = urlsplit(url)
        wrong = parts.scheme != "http" or not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment
        if wrong or not (url.isascii() and url.isprintable()) or " " in url:
            raise ValueError("should be http://host:port, as 'http://127.0.0.1:9883'")
        assert parts.hostname is not None
        return cls(parts.hostname, 80 if parts.port is None else parts.port, parts.path.rstrip("/"))

    @classmethod
    def of_config(cls, file: Path) -> Self:
        """Return where the gateway of a configuration listens. Raises ConfigError, also where it does not listen."""
        config = load_config(file)
        if config.http is None:
            raise ConfigError([("http", "is null, so there is nothing to ask; give it a `listen`")], str(file))
        host, port = config.http.address
        return cls({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)

    @property
    def authority(self) -> str:
        """Host and port as a URL has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL of the gateway."""
        return f"http://{self.authority}{self.path}"


async def fetch(address: Address, timeout: float = TIMEOUT) -> Status:
    """Return a gateway's status. Raises StatusError within `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout):
            code, body = await _get(address)
    except TimeoutError:
        raise StatusError(address, f"nothing came within {timeout:g} s") from None
    except OSError as error:
        number = error.errno or 0  # below 0 are those of a name that is not found
        raise StatusError(address, os.strerror(number) if number > 0 else error.strerror or str(error)) from None
    except h11.RemoteProtocolError as error:
        raise StatusError(address, f"what came is not HTTP: {error}") from None
    if body is None:
        raise StatusError(address, f"the answer has more than {MAX_BYTES} bytes")
    if code == 404:
        raise StatusError(address, "there is no /status.json: no gateway, or one that is too old for `tidegate top`")
    if code != 200:
        raise StatusError(address, f"status {code}")
    try:
        return Status.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise StatusError(address, f"what came is no gateway's status: {where}: {first['msg']}") from None


async def _get(address: Address) -> tuple[int, bytes | None]:
    """Return the code and the body of the answer; None where the body is too large."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        connection = h11.Connection(h11.CLIENT)
        headers = [("Host", address.authority), ("Accept", "application/json"), ("Connection", "close")]
        request = h11.Request(method="GET", target=f"{address.path}/status.json", headers=headers)
        writer.write((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
        return await _read(connection, reader)
    finally:
        writer.transport.abort()


async def _read(connection: h11.Connection, reader: asyncio.StreamReader) -> tuple[int, bytes | None]:
    code = 0
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_CHUNK))
        elif isinstance(event, h11.Response):
            code = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_BYTES:
                return code, None
        elif isinstance(event, h11.EndOfMessage):
            return code, bytes(body)
