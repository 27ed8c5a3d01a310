"""A real Prometheus on a free loopback port, and what its HTTP API says."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

import pytest

from tests.support.gateway import get
from tests.support.server import Server
from tests.support.wait import eventually
from tidegate.app.embedded import free_port

PROMETHEUS = shutil.which("prometheus", path="/usr/bin:/usr/local/bin:/opt/homebrew/bin")
PROMTOOL = shutil.which("promtool", path="/usr/bin:/usr/local/bin:/opt/homebrew/bin")
_MISSING = "prometheus and promtool are not installed (apt install prometheus)"

_DIRECTLY = build_opener(ProxyHandler({}))  # whatever proxy the environment names

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason=_MISSING)


class Sample(NamedTuple):
    """One element of a vector."""

    labels: dict[str, str]
    value: float


class QueryError(Exception):
    """Prometheus refused a query; its text is Prometheus's."""


class Prometheus:
    """What a running server answers."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def query(self, expression: str) -> list[Sample]:
        """Evaluate an expression that gives a vector, now. Raises QueryError where it does not parse."""
        found = (await self._get("query", query=expression))["result"]
        return [Sample(element["metric"], float(element["value"][1])) for element in found]

    async def history(self, expression: str, seconds: int) -> list[Sample]:
        """Return all values that an expression had at each of the last seconds."""
        end = time.time()
        data = await self._get("query_range", query=expression, start=f"{end - seconds}", end=f"{end}", step="1")
        return [Sample(found["metric"], float(value)) for found in data["result"] for _, value in found["values"]]

    async def names(self) -> set[str]:
        """Return the names of all series that it has had."""
        return set(await self._get("label/__name__/values"))

    async def rules(self) -> list[dict[str, Any]]:
        """Return its rules, each with its `health` and `lastError`."""
        groups = (await self._get("rules"))["groups"]
        return [rule for group in groups for rule in group["rules"]]

    async def alerts(self) -> dict[str, list[dict[str, Any]]]:
        """Return the alerts that are active, each with its `state` ("pending", "firing"), by their name."""
        found: dict[str, list[dict[str, Any]]] = {}
        for alert in (await self._get("alerts"))["alerts"]:
            found.setdefault(alert["labels"]["alertname"], []).append(alert)
        return found

    async def _get(self, path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urlencode(parameters)}"
        return await asyncio.to_thread(_fetch, url)


def _fetch(url: str) -> Any:
    try:
        with _DIRECTLY.open(url, timeout=10) as answer:
            return json.load(answer)["data"]
    except HTTPError as error:
        with error:
            raise QueryError(json.load(error)["error"]) from None


@asynccontextmanager
async def prometheus(folder: Path, config: str) -> AsyncIterator[Prometheus]:
    """Run Prometheus with this configuration; its paths are relative to the folder."""
    if PROMETHEUS is None:
        pytest.skip(_MISSING)
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    path = folder / "prometheus.yml"
    path.write_text(config)
    options = [f"--config.file={path}", f"--storage.tsdb.path={folder / 'data'}"]
    options += [f"--web.listen-address=127.0.0.1:{port}"]
    server = Server("prometheus", port, folder / "prometheus.log", PROMETHEUS, *options)
    try:
        await server.start()
        await eventually(lambda: _ready(port), "prometheus is ready")
        yield Prometheus(port)
    finally:
        await server.stop()


async def _ready(port: int) -> bool:
    """Whether it answers queries: it listens before it does."""
    return (await get(port, "/-/ready"))[0] == 200


def scrape(http: int, interval: str = "500ms", *, rules: str = "", gateway: str = "test") -> str:
    """Return a configuration that scrapes a gateway as deploy/prometheus does, but often. rules: a file of rules."""
    files = f"rule_files: [{rules}]\n" if rules else ""
    return f"""\
global: {{scrape_interval: {interval}, evaluation_interval: {interval}}}
{files}scrape_configs:
  - job_name: tidegate
    static_configs:
      - {{targets: ["127.0.0.1:{http}"], labels: {{gateway: {gateway}}}}}
"""


async def promtool(*arguments: str, stdin: bytes = b"") -> tuple[int, str]:
    """Run promtool; return its exit status and what it said."""
    assert PROMTOOL is not None
    process = await asyncio.create_subprocess_exec(
        PROMTOOL, *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, said.decode()
