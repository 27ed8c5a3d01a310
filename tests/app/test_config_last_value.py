"""Which bridges may keep last values in a bucket."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.app.helpers import faults, load
from tidegate.app.options import bucket_specs
from tidegate.nats import BucketSpec


def _text(first: str, second: str, streams: str = "[]", bucket: str = "LAST") -> str:
    return (
        f"gateway: g\nstreams: {streams}\nbridges:\n"
        f'  - {{name: one, mqtt: "a/{{x}}", nats: "{first}", last_value: LAST}}\n'
        f'  - {{name: two, mqtt: "b/{{x}}", nats: "{second}", last_value: {bucket}}}\n'
    )


def test_bridges_share_a_bucket_and_each_subject_is_taken_once(tmp_path: Path) -> None:
    specs = bucket_specs(load(tmp_path, _text("p.a.{x}", "p.b.{x}")))
    assert specs == [BucketSpec(name="LAST", subjects=("p.a.*", "p.b.*"))]
    assert bucket_specs(load(tmp_path, _text("p.{x}", "p.{x}"))) == [BucketSpec(name="LAST", subjects=("p.*",))]
    assert [spec.name for spec in bucket_specs(load(tmp_path, _text("p.{x}", "p.b", bucket="OTHER")))] == [
        "LAST",
        "OTHER",
    ]


@pytest.mark.parametrize("second", ["p.b", "p.x.{x}"])
def test_bridges_whose_subjects_overlap_in_part_need_two_buckets(tmp_path: Path, second: str) -> None:
    text = _text("p.{x}", second).replace('"a/{x}", nats: "p.{x}"', '"a/{x...}", nats: "p.{x...}"')
    (problem,) = faults(tmp_path, text)
    assert problem.startswith("bridges one and two have one last_value, LAST, and subjects that overlap, p.> and p.")


def test_a_work_queue_of_the_same_file_is_refused(tmp_path: Path) -> None:
    streams = '[{name: W, subjects: ["p.b.>"], retention: workqueue}]'
    (problem,) = faults(tmp_path, _text("p.a.{x}", "p.b.{x}", streams))
    assert problem.startswith("bridge two: last_value can't have the events of a work queue, W, which gives each")
    load(tmp_path, _text("p.a.{x}", "p.c.{x}", streams))


def test_a_token_that_nats_would_replace_in_a_key_is_refused(tmp_path: Path) -> None:
    """Else every device of `p.$1.*` would be found under a key that is not its subject."""
    (problem,) = faults(tmp_path, _text("p.a.{x}", "p.$1.{x}"))
    assert "last_value: NATS takes $1 in a key" in problem
    load(tmp_path, _text("p.a.{x}", "p.$x.{x}"))
