"""Two pictures of the medians. Grey text and no background: they are readable on a light and on a dark page."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.report import Report
from tests.benchmarks.result import median

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GREY = "#808080"
_COLOURS = {
    "tidegate": "#1f8fd6",
    "mq-bridge": "#e0702b",
    "mosquitto_sub": "#8a8f98",
    "telegraf": "#9b6dd6",
    "redpanda-connect": "#d64f6a",
    "naive": "#3fa65a",
}


def plot(report: Report, folder: Path) -> str:
    """Draw throughput.svg and latency.svg. Return why not, or ""."""
    if importlib.util.find_spec("matplotlib") is None:
        return "no pictures: matplotlib is not installed"
    import matplotlib as mpl

    mpl.use("Agg")
    style: Any = {
        **{f"{part}.color": _GREY for part in ("text", "xtick", "ytick")},
        **{f"axes.{part}": _GREY for part in ("edgecolor", "labelcolor", "titlecolor")},
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "legend.labelcolor": _GREY,
        "savefig.transparent": True,
        "svg.hashsalt": "tidegate",  # the same file for the same numbers
    }
    with mpl.rc_context(style):
        _draw_throughput(report, folder / "throughput.svg")
        _draw_latency(report, folder / "latency.svg")
    return ""


def _draw_throughput(report: Report, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, key, title in (
        (axes[0], "rate", "messages a second (more is better)"),
        (axes[1], "cpu", "CPU, us a message (less is better)"),
    ):
        bars = {name: value for name in _COLOURS if (value := median(report.runs, "base", name, key)) is not None}
        _draw_bars(axis, bars, title)
    figure.savefig(path, metadata={"Date": None})


def _draw_bars(axis: Axes, bars: dict[str, float], title: str) -> None:
    drawn = axis.barh(list(bars), list(bars.values()), color=[_COLOURS[name] for name in bars])
    axis.bar_label(drawn, fmt="{:,.0f}", padding=3, color=_GREY)
    axis.invert_yaxis()
    axis.margins(x=0.15)
    axis.set_title(title, fontsize=10)
    axis.xaxis.set_visible(False)
    axis.spines["bottom"].set_visible(False)


def _draw_latency(report: Report, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    jobs = [job for job in report.jobs if job.kind == "latency"]
    for axis, key, title in zip(axes, ("p50", "p99", "p999"), ("p50", "p99", "p99.9"), strict=True):
        for name, colour in _COLOURS.items():
            points = [(job.pace, median(report.runs, job.name, name, key)) for job in jobs]
            known = [(pace, value) for pace, value in points if value is not None]
            if known:
                axis.plot(*zip(*known, strict=True), marker="o", color=colour, label=name)
        axis.set(xscale="log", yscale="log", title=title, xlabel="messages a second")
        axis.grid(visible=True, color=_GREY, alpha=0.25)
    axes[0].set_ylabel("ms")
    if axes[0].get_legend_handles_labels()[0]:
        axes[0].legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None})
