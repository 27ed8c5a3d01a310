"""The bench measures what it says: its arithmetic, and one small run of everything that needs no rival."""

from __future__ import annotations

import json
import math
import socket
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from tests.benchmarks.bench import bench, failed
from tests.benchmarks.contender import CONTENDERS
from tests.benchmarks.job import BASE, JOBS, Job, Size
from tests.benchmarks.load import payload
from tests.benchmarks.plot import plot
from tests.benchmarks.report import Report, table, write
from tests.benchmarks.result import Run, median, refusal
from tests.benchmarks.sender import encode
from tests.benchmarks.statistic import percentile, ratio
from tests.benchmarks.subscriber import Read, marks, summary, tally
from tests.benchmarks.target import TARGETS
from tests.support.server import needs_mosquitto


@pytest.mark.parametrize(
    ("values", "percent", "expected"), [(range(1, 101), 50, 50), (range(1, 101), 99, 99), ([7.0], 99.9, 7.0)]
)
def test_a_percentile_is_a_value_that_was_measured(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == expected


def test_nothing_measured_gives_no_percentile_and_no_ratio() -> None:
    assert math.isnan(percentile([], 50))
    assert ratio(1.0, None) is None
    assert ratio(None, 1.0) is None
    assert ratio(1.0, 0.0) is None
    assert ratio(3.0, 2.0) == 1.5


def test_a_throughput_is_refused_where_the_load_was_busy_itself() -> None:
    assert refusal(load_cpu=0.4, elapsed=1.0) == ""
    assert refusal(load_cpu=0.6, elapsed=1.0) == "the load itself took 60% of a core"
    assert refusal(load_cpu=0.6, elapsed=0.0)


def test_each_job_differs_from_the_base_in_one_thing() -> None:
    free = ("name", "text", "contenders", "share")
    for job in (job for job in JOBS if job.kind == "throughput"):
        plain = replace(job, **{key: getattr(BASE, key) for key in free})
        changed = [key for key in vars(BASE) if getattr(plain, key) != getattr(BASE, key)]
        assert len(changed) <= (2 if job.name == "core" else 1), job.name  # core is QoS 0, fire and forget throughout


def test_a_payload_has_the_size_that_its_job_says() -> None:
    for job in JOBS:
        for number in (0, 499_999):
            found = payload(number, job.size)
            assert (len(found), json.loads(found)["seq"]) == (job.size, number)


def test_a_tally_finds_what_is_lost_and_what_is_doubled() -> None:
    reads: list[Read] = [(0, [(b"0", b"1"), (b"1", b"1")]), (1, [(b"1", b"1"), (b"3", b"1")])]
    assert tally(reads, 4) == (1, 1)


def test_the_subscriber_reads_every_number_however_the_bytes_are_cut() -> None:
    data = b"".join(b"MSG plant.a 1 100\r\n" + payload(number, 100) + b"\r\n" for number in range(20))
    for step in (1, 7, 113, 1000):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # a read is what one write was
        with ours, theirs:
            cuts = (data[start : start + step] for start in range(0, len(data), step))
            writer = Thread(target=lambda theirs=theirs, cuts=cuts: [theirs.send(cut) for cut in cuts])
            writer.start()
            reads = list(marks(ours, idle=0.1))
            writer.join()
        assert [int(number) for _, found in reads for number, _ in found] == list(range(20)), step


def test_a_delay_is_the_time_since_the_stamp() -> None:
    read: Read = (5_000_000, [(b"0", b"1%018d" % 3_000_000)])
    found = summary([read], 1)
    assert (found["p50"], found["lost"], found["doubled"]) == (2.0, 0, 0)


def test_the_stamp_replaces_the_send_time_and_nothing_else() -> None:
    packet, place = encode(7)
    packet[place : place + 18] = b"%018d" % 42
    assert json.loads(packet[packet.index(b"{") :])["sent"] == 10**18 + 42


def _report(*runs: Run) -> Report:
    return Report("make bench", False, 1, 10, {"cores": "2"}, {}, {"telegraf": "not on PATH"}, list(runs))


def test_a_target_is_judged_by_the_medians() -> None:
    runs = [
        *(Run("base", "tidegate", n, 1, values={"rate": rate}) for n, rate in enumerate((100.0, 150.0, 900.0))),
        Run("base", "mq-bridge", 1, 1, values={"rate": 100.0}),
        Run("base", "mosquitto_sub", 1, 1, values={"rate": 140.0}),
    ]
    assert median(runs, "base", "tidegate", "rate") == 150.0
    verdicts = [target.verdict(runs) for target in TARGETS]
    assert verdicts[:3] == ["met", "missed", "not measured"]


def test_the_table_says_who_is_absent_and_what_was_not_reported() -> None:
    page = table(_report(Run("base", "tidegate", 1, 1, values={"cpu": 9.0}, problem="the load itself took 60%")))
    assert "| telegraf | not on PATH |" in page
    assert "- base, tidegate, round 1: the load itself took 60%" in page


def test_only_what_tidegate_loses_fails_the_bench() -> None:
    fine = Run("base", "tidegate", 1, 1, values={"rate": 1.0})
    assert not failed([fine, Run("base", "mq-bridge", 1, 1, lost=1, values={"rate": 1.0})])
    assert failed([replace(fine, doubled=1)])
    assert failed([replace(fine, lost=1)])
    assert failed([Run("base", "tidegate", 1, problem="it did not start")])


def test_pictures_are_drawn_or_the_reason_is_given(tmp_path: Path) -> None:
    report = _report(
        Run("base", "tidegate", 1, 1, values={"rate": 1.0, "cpu": 2.0}),
        Run("latency-100", "tidegate", 1, 1, values={"p50": 1.0, "p99": 2.0, "p999": 3.0}),
    )
    reason = plot(report, tmp_path)
    assert reason == "no pictures: matplotlib is not installed" or (tmp_path / "latency.svg").stat().st_size > 1000


@needs_mosquitto
@pytest.mark.slow
async def test_a_small_run_measures_and_loses_nothing(tmp_path: Path) -> None:
    who = [contender for contender in CONTENDERS if contender.name in ("tidegate", "naive")]
    names = ("base", "core", "drain", "idle", "latency-100")
    jobs: list[Job] = [job for job in JOBS if job.name in names]
    report = await bench(jobs, who, 1, Size(2000, latency=1.0, idle=1.0), command="test", quick=True)
    write(report, tmp_path)
    runs = json.loads((tmp_path / "results.json").read_text())["runs"]
    assert [(run["job"], run["contender"]) for run in runs] == [
        ("base", "tidegate"),
        ("base", "naive"),
        ("core", "tidegate"),
        ("drain", "tidegate"),
        ("idle", "tidegate"),
        ("latency-100", "tidegate"),
        ("latency-100", "naive"),
    ]
    assert [(run["lost"], run["doubled"], run["problem"]) for run in runs] == [(0, 0, "")] * len(runs)
    assert all(run["values"] for run in runs)
    page = (tmp_path / "table.md").read_text()
    assert "quick" in page
    assert all(f"| {name} |" in page for name in ("tidegate", "naive"))
