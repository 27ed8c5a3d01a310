"""A real Prometheus on a free loopback port, and what its HTTP API says."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from tests.support.server import Server
from tidegate.app.embedded import free_port

PROMETHEUS = shutil.which("prometheus", path="/usr/bin:/usr/local/bin:/opt/homebrew/bin")
PROMTOOL = shutil.which("promtool", path="/usr/bin:/usr/local/bin:/opt/homebrew/bin")
_MISSING = "prometheus and promtool are not installed (apt install prometheus)"

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason=_MISSING)


class Sample(NamedTuple):
    """One element of an instant vector; a scalar has no labels."""

    labels: dict[str, str]
    value: float


class QueryError(Exception):
    """Prometheus refused a query; its text is Prometheus's."""


class Prometheus:
    """What a running server answers."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def query(self, expression: str) -> list[Sample]:
        """Evaluate an expression now. Raises QueryError where it does not parse or can't be evaluated."""
        data = await self._get("query", query=expression)
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(found["metric"], float(found["value"][1])) for found in data["result"]]

    async def value(self, expression: str) -> float | None:
        """Return the value of an expression that gives at most one, or None where it gives none."""
        found = await self.query(expression)
        assert len(found) <= 1, found
        return found[0].value if found else None

    async def targets(self) -> list[dict[str, Any]]:
        """Return the targets that it scrapes."""
        found: list[dict[str, Any]] = (await self._get("targets", state="active"))["activeTargets"]
        return found

    async def rules(self) -> list[dict[str, Any]]:
        """Return its rules, each with its `health` and `lastError`."""
        groups = (await self._get("rules"))["groups"]
        return [rule for group in groups for rule in group["rules"]]

    async def alerts(self) -> dict[str, set[str]]:
        """Return the states ("pending", "firing") of each alert that is active, by its name."""
        states: dict[str, set[str]] = {}
        for alert in (await self._get("alerts"))["alerts"]:
            states.setdefault(alert["labels"]["alertname"], set()).add(alert["state"])
        return states

    async def _get(self, path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urlencode(parameters)}"
        return await asyncio.to_thread(_fetch, url)


def _fetch(url: str) -> Any:
    try:
        with urlopen(url, timeout=10) as answer:
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
        yield Prometheus(port)
    finally:
        await server.stop()


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
