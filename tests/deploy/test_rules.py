"""The rules that operators load: promtool takes them, and each alert fires when it must, and stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.support.prometheus import needs_promtool, promtool

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
RULES: list[dict[str, Any]] = [
    rule for group in YAML(typ="safe").load(FOLDER / "rules.yml")["groups"] for rule in group["rules"]
]
ALERTS = [rule["alert"] for rule in RULES if "alert" in rule]
RECORDED = [rule["record"] for rule in RULES if "record" in rule]
CASES: list[dict[str, Any]] = YAML(typ="safe").load(FOLDER / "rules_test.yml")["tests"]


@needs_promtool
@pytest.mark.parametrize(
    "arguments",
    [("check", "config", "prometheus.yml"), ("check", "rules", "rules.yml"), ("test", "rules", "rules_test.yml")],
    ids=" ".join,
)
async def test_promtool_has_nothing_to_say(arguments: tuple[str, ...]) -> None:
    status, said = await promtool(*arguments[:-1], str(FOLDER / arguments[-1]))
    assert (status, "SUCCESS" in said, "FAILED" in said) == (0, True, False), said


def _firing(case: dict[str, Any]) -> list[str]:
    """Return, for each moment of a case at which all firing alerts are expected, their labels, in order of time."""
    looks = [look for look in case["promql_expr_test"] if 'ALERTS{alertstate="firing"}' in look["expr"]]
    looks.sort(key=lambda look: int(look["eval_time"].removesuffix("m")))
    return [" ".join(sample["labels"] for sample in look["exp_samples"]) for look in looks]


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_has_a_case_in_which_it_does_not_fire_yet_then_fires_and_resolves(alert: str) -> None:
    name = f'alertname="{alert}"'
    ways = [[name in labels for labels in _firing(case)] for case in CASES]
    assert any(True in way and not way[0] and not way[-1] for way in ways), ways


@pytest.mark.parametrize("record", RECORDED)
def test_each_recording_rule_is_looked_at_by_a_case_or_used_by_another_rule(record: str) -> None:
    looks = [look["expr"] for case in CASES for look in case["promql_expr_test"]]
    assert any(record in expression for expression in [*looks, *(rule["expr"] for rule in RULES)])


@pytest.mark.parametrize("rule", [rule for rule in RULES if "alert" in rule], ids=lambda rule: rule["alert"])
def test_each_alert_says_how_bad_it_is_what_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert set(rule["annotations"]) == {"summary", "description"}
    assert "$labels.gateway" in rule["annotations"]["summary"] or "$labels.stream" in rule["annotations"]["summary"]
    assert len(rule["annotations"]["description"]) > 80
