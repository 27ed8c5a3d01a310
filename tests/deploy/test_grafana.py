"""The dashboard: every panel has something to say of a gateway to which everything happened, and has its own place.

Grafana itself does not run here; what it is given is checked, and Prometheus answers what it would ask.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from ruamel.yaml import YAML

from tests.deploy.plant import outage, plant, recovery, work
from tests.support.prometheus import Prometheus, prometheus, scrape
from tests.support.wait import eventually

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards" / "tidegate.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
SHOWN = [panel for panel in PANELS if panel["type"] != "row"]
TARGETS = [
    pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for panel in SHOWN
    for target in panel["targets"]
]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
VARIABLES = {"$instance": ".*", "$bridge": ".*", "$__rate_interval": "10s"}
QUESTIONS = ["Is all well?", "Does data flow?", "How far behind?", "What went wrong?", "What does it cost?"]

UNITS = {"none", "short", "s", "mps", "Bps", "bytes", "percentunit"}

NAME = re.compile(r"(?<![:\w])(?:tidegate|process)_[a-z_]+(?!\w|:)")
"""A series of the gateway. What a rule records has a colon before it or after it."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prometheus]:
    """A Prometheus that has seen work, NATS that hangs, an outage and a recovery."""
    folder = tmp_path_factory.mktemp("grafana")
    async with plant(folder) as running, prometheus(folder / "data", scrape(running.gateway.http, "200ms")) as server:
        await eventually(lambda: server.query('up{job="tidegate"} == 1'), "the target is up", 30)
        await work(running, range(2000))
        running.nats.pause()
        await running.sensor.send(range(2000, 2010))
        waiting = "tidegate_oldest_unsettled_timestamp_seconds"
        await eventually(lambda: server.query(waiting), "a scrape with messages in flight")
        running.nats.resume()
        await outage(running, range(2010, 5000))
        await eventually(lambda: server.query("tidegate_spool_oldest_timestamp_seconds"), "a scrape of the outage")
        await recovery(running)
        received = await running.gateway.total("tidegate_messages_received_total")
        await eventually(
            lambda: server.query(f"sum(tidegate_messages_received_total) == {received}"), "the last scrape"
        )
        yield server


def _filled(expression: str) -> str:
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    return expression


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("expression", TARGETS)
async def test_each_query_has_data(watched: Prometheus, expression: str) -> None:
    """At some moment of the story that the fixture plays."""
    assert [sample for sample in await watched.history(_filled(expression), 600) if sample.value == sample.value]


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "path",
    ["deploy/prometheus/rules.yml", "deploy/prometheus/rules_test.yml", "deploy/grafana/dashboards/tidegate.json"],
)
async def test_every_series_that_is_named_is_exported(watched: Prometheus, path: str) -> None:
    assert set(NAME.findall((ROOT / path).read_text())) - await watched.names() == set()


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
async def test_the_readme_names_no_series_that_is_not_there(watched: Prometheus) -> None:
    names = await watched.names()
    named = set(re.findall(r"`(tidegate_[a-z_]+)", (ROOT / "README.md").read_text()))
    families = {re.sub("_(bucket|count|sum)$", "", name) for name in names} | names
    assert named - families == set()


def test_rows_ask_what_an_operator_asks_in_that_order() -> None:
    assert [panel["title"] for panel in PANELS if panel["type"] == "row"] == QUESTIONS
    assert sorted(PANELS, key=lambda panel: (panel["gridPos"]["y"], panel["gridPos"]["x"])) == PANELS


@pytest.mark.parametrize("panel", SHOWN, ids=lambda panel: panel["title"])
def test_each_panel_says_what_it_shows_and_in_what_unit(panel: dict[str, Any]) -> None:
    assert re.fullmatch(r"[A-Z].{20,}\.", panel["description"])
    assert ". " not in panel["description"], "more than one sentence"
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert all(target["legendFormat"] for target in panel["targets"])


def test_every_data_source_is_the_variable() -> None:
    sources = [panel["datasource"] for panel in SHOWN]
    sources += [target["datasource"] for panel in SHOWN for target in panel["targets"]]
    sources += [v["datasource"] for v in DASHBOARD["templating"]["list"] if v["type"] == "query"]
    assert all(source == SOURCE for source in sources)
    assert [v["name"] for v in DASHBOARD["templating"]["list"]] == ["datasource", "instance", "bridge"]


@pytest.mark.parametrize("expression", TARGETS)
def test_each_query_is_of_the_chosen_gateways_alone(expression: str) -> None:
    selectors = re.findall(NAME.pattern + r"(\{[^}]*)?", expression)
    assert selectors
    assert all("$instance" in chosen for chosen in selectors)


def test_ids_are_unique_and_panels_do_not_overlap() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for one, other in combinations((panel["gridPos"] for panel in PANELS), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"], (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in PANELS)


def test_provisioning_names_a_prometheus_and_the_dashboards() -> None:
    yaml = YAML(typ="safe")
    (source,) = yaml.load(GRAFANA / "provisioning" / "datasources" / "prometheus.yaml")["datasources"]
    assert (source["type"], source["access"], source["isDefault"]) == ("prometheus", "proxy", True)
    (provider,) = yaml.load(GRAFANA / "provisioning" / "dashboards" / "tidegate.yaml")["providers"]
    assert (provider["type"], provider["options"]) == ("file", {"path": "/etc/grafana/dashboards"})
