"""The results as a Markdown page and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.benchmarks.counting import Counting
from tests.benchmarks.decoders import Cost
from tests.benchmarks.job import JOBS, Job, Kind
from tests.benchmarks.result import LOAD_LIMIT, Run, median
from tests.benchmarks.statistic import ratio
from tests.benchmarks.target import TARGETS
from tests.benchmarks.workers import Handled

_RIVAL = "mq-bridge"


@dataclass(frozen=True)
class Report:
    """Everything that a run of the bench found out. absent: contenders and why. long: MiB each ten seconds. costs: of
    looking into a message. handled: tasks by a service's worker. counting: what metrics cost."""

    command: str
    quick: bool
    rounds: int
    count: int
    machine: dict[str, str]
    versions: dict[str, str]
    absent: dict[str, str]
    runs: list[Run] = field(default_factory=list)
    long: list[float] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    handled: list[Handled] = field(default_factory=list)
    counting: Counting | None = None

    @property
    def jobs(self) -> list[Job]:
        """The jobs that were run, in the table's order."""
        done = {run.job for run in self.runs}
        return [job for job in JOBS if job.name in done]


def write(report: Report, folder: Path) -> None:
    """Write results.json and table.md."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(asdict(report), indent=1) + "\n")
    (folder / "table.md").write_text(table(report))


def table(report: Report) -> str:
    """Return the page."""
    parts = [
        "# Benchmark" + (" (quick: too short to be quoted)" if report.quick else ""),
        _where(report),
        _targets(report.runs),
        _throughput(report),
        _latency(report),
        _idle(report),
        _costs(report),
        _handled(report),
        _counting(report.counting),
        _failures(report.runs),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _where(report: Report) -> str:
    parts = ", ".join(f"{name} {text}" for name, text in report.versions.items())
    lines = [
        f"`{report.command}`: medians of {report.rounds} round(s), the contenders in turn, all servers and the load on "
        f"the same machine; {report.count:,} messages in the base job.",
        "; ".join(f"{name} {text}" for name, text in report.machine.items()) + ".",
        f"Parts: {parts}.",
        *(f"{name} did not take part: {why}." for name, why in report.absent.items()),
    ]
    return "\n\n".join(lines)


def _targets(runs: Sequence[Run]) -> str:
    rows = []
    for target in TARGETS:
        measured = target.measured(runs)
        bound = f"{'at least' if target.least else 'at most'} {target.limit:,g} {target.unit}"
        rows.append(
            (target.text, bound, _text(measured, ".2f" if target.limit < 100 else ",.0f"), target.verdict(runs))
        )
    return "## Targets\n\n" + _rows(("target", "bound", "measured", "verdict"), rows)


def _throughput(report: Report) -> str:
    against = f"x {_RIVAL}"
    head = ("job", "contender", "msg/s", against, "CPU us a message", against, "peak MiB", "lost", "doubled")
    rows: list[list[str]] = []
    for job, contender in _lines(report, "throughput", "drain"):
        first = not rows or rows[-1][0].partition(":")[0] != job.name
        title = f"{job.name}: {job.text}" if first else job.name
        rows.append([title, contender, *_throughput_row(report, job, contender)])
    note = (
        "\n\nmosquitto_sub stores nothing: it counts what the broker sends it. Lost is what was not stored when for "
        "10 s nothing more was. A throughput is left out where messages "
        f"were lost, and where the load took more than {LOAD_LIMIT:.0%} of a core and may have been the limit."
    )
    return "## Throughput\n\n" + _rows(head, rows) + note if rows else ""


def _throughput_row(report: Report, job: Job, contender: str) -> list[str]:
    if contender in report.absent:
        return [report.absent[contender], *[""] * 6]
    rate, cpu, peak = (median(report.runs, job.name, contender, key) for key in ("rate", "cpu", "peak"))
    other_rate, other_cpu = (median(report.runs, job.name, _RIVAL, key) for key in ("rate", "cpu"))
    return [
        _text(rate, ",.0f"),
        _text(ratio(rate, other_rate), ".2f"),
        _text(cpu, ".1f"),
        _text(ratio(cpu, other_cpu), ".2f"),
        _text(peak, ".0f"),
        *_losses(report.runs, job, contender),
    ]


def _latency(report: Report) -> str:
    head = ("job", "contender", "p50 ms", "p99 ms", "p99.9 ms", "sender late by, p99 ms", "lost", "doubled")
    rows = []
    for job, contender in _lines(report, "latency"):
        texts = [_text(median(report.runs, job.name, contender, key), ".2f") for key in ("p50", "p99", "p999", "late")]
        rows.append((job.text, contender, *texts, *_losses(report.runs, job, contender)))
    return "## Latency, device to core subscriber\n\n" + _rows(head, rows) if rows else ""


def _idle(report: Report) -> str:
    lines = [
        f"{contender}, idle: {_text(median(report.runs, job.name, contender, 'idle'), '.2f')} % of a core, "
        f"{_text(median(report.runs, job.name, contender, 'resident'), '.1f')} MiB."
        for job, contender in _lines(report, "idle")
    ]
    if report.long:
        lines.append(
            f"tidegate, under a steady load for {len(report.long) * 10} s: {report.long[0]:.1f} MiB after 10 s, "
            f"{report.long[-1]:.1f} at the end, at most {max(report.long):.1f}."
        )
    return "## Memory\n\n" + "\n\n".join(lines) if lines else ""


def _costs(report: Report) -> str:
    head = ("bridge", "payload B", "events", "CPU us a message")
    rows = [(one.name, str(one.bytes), str(one.events), f"{one.microseconds:.1f}") for one in report.costs]
    note = (
        "\n\nThe step from messages to events alone, in batches, in one process without servers. All else that a "
        "message costs is in the base job. `python -m tests.benchmarks.decoders` measures this alone."
    )
    return "## Decoders\n\n" + _rows(head, rows) + note if rows else ""


def _handled(report: Report) -> str:
    head = ("a service's worker", "tasks a second", "CPU us a task")
    rows = [(one.name, f"{one.rate:,.0f}", f"{one.microseconds:.0f}") for one in report.handled]
    note = (
        "\n\nA `tidegate.client.Worker` in one process, with a handler that does nothing: each task pulled from a work "
        "queue, validated, acknowledged, and the acknowledgement confirmed. `python -m tests.benchmarks.workers` "
        "measures this alone."
    )
    return "## Workers\n\n" + _rows(head, rows) + note if rows else ""


def _counting(counting: Counting | None) -> str:
    if counting is None:
        return ""
    return (
        "## Metrics\n\n"
        f"Counting costs {counting.microseconds:.2f} us a message, the bridge between ends in memory without it "
        f"{counting.bridge:.1f} us; a scrape of a gateway with one bridge {counting.scrape:.1f} ms. "
        "`python -m tests.benchmarks.counting` measures this alone; the job `scraped` is the whole gateway."
    )


def _failures(runs: Sequence[Run]) -> str:
    found = [f"- {run.job}, {run.contender}, round {run.round}: {run.problem}" for run in runs if run.problem]
    return "## What was not reported\n\n" + "\n".join(found) if found else ""


def _lines(report: Report, *kinds: Kind) -> list[tuple[Job, str]]:
    """Return each job with each contender that took part, or would have if it were here."""
    took_part = {(run.job, run.contender) for run in report.runs}
    return [
        (job, contender)
        for job in report.jobs
        if job.kind in kinds
        for contender in job.contenders
        if (job.name, contender) in took_part or contender in report.absent
    ]


def _losses(runs: Sequence[Run], job: Job, contender: str) -> tuple[str, str]:
    """Return lost and doubled messages over all rounds, as text."""
    found = [run for run in runs if (run.job, run.contender) == (job.name, contender)]
    return str(sum(run.lost for run in found)), str(sum(run.doubled for run in found))


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
