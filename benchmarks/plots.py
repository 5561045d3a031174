"""Plots of the results, for docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.report import MIB
from benchmarks.results import Results
from benchmarks.summary import Line, summarize

COLORS = {"ours": "#1f6fb2", "baseline": "#8a8a8a", "reference": "#c4c4c4", "peer": "#d9a441"}
MARKS = {"full": "o-", "updated_1": "s-", "idle": "^-"}
INCHES_WIDE = 10


def plot_scenarios(results: Results, file: Path) -> None:
    """Plot full load and 1 % updated: everybody's medians as bars, with their ranges."""
    lines = summarize(results.measurements)
    figure, axes = _figure(columns=2, height=3.2)
    for axis, name in zip(axes, ("full", "updated_1"), strict=True):
        shown = sorted((line for line in lines if line.scenario == name), key=lambda line: -line.seconds)
        if not shown:
            continue
        axis.barh(
            [line.competitor for line in shown],
            [line.seconds for line in shown],
            xerr=_ranges(shown),
            color=[COLORS[line.role] for line in shown],
        )
        axis.set_title(f"{shown[0].title}, {shown[0].rows:,} rows")
        axis.set_xlabel("seconds")
    _save(figure, file)


def plot_scale(results: Results, file: Path) -> None:
    """Return seconds over rows, where linear cost is a straight line of the baseline's slope, and memory over rows."""
    lines = summarize(results.measurements)
    figure, (time, memory) = _figure(columns=2, height=3.8)
    for name, mark in MARKS.items():
        for role in ("ours", "baseline"):
            shown = [line for line in lines if (line.scenario, line.role) == (name, role)]
            label = f"{shown[0].title}: {shown[0].competitor}" if shown else None
            time.plot(_millions(shown), [line.seconds for line in shown], mark, color=COLORS[role], label=label)
        ours = [line for line in lines if (line.scenario, line.role) == (name, "ours")]
        label = ours[0].title if ours else None
        memory.plot(
            _millions(ours), [line.memory_bytes / MIB for line in ours], mark, color=COLORS["ours"], label=label
        )
    time.set_yscale("log")
    time.set_ylim(top=20 * max((line.seconds for line in lines), default=1))  # room for the legend
    time.set_title("seconds")
    memory.set_ylim(0, 1.3 * max((line.memory_bytes / MIB for line in lines), default=1))
    memory.set_title("peak memory of our process, MB")
    sizes = sorted({line.rows / 1e6 for line in lines})
    for axis in (time, memory):
        axis.set_xscale("log")
        axis.set_xticks(sizes, labels=[f"{size:g}" for size in sizes])
        axis.minorticks_off()
        axis.set_xlabel("million rows")
        axis.grid(visible=True, alpha=0.3)
        axis.legend(fontsize="x-small", loc="upper left")
    _save(figure, file)


def plot_workers(results: Results, file: Path) -> None:
    """Return seconds of a full load with more and more workers, and the baseline as a line."""
    lines = summarize(results.measurements)
    ours = [line for line in lines if line.role == "ours"]
    figure, (axis,) = _figure(columns=1, height=3.2)
    axis.errorbar(
        [line.competitor.removeprefix("xmin_assets, ") for line in ours],
        [line.seconds for line in ours],
        yerr=_ranges(ours),
        fmt="o-",
        color=COLORS["ours"],
        label="xmin_assets",
    )
    for line in lines:
        if line.role == "baseline":
            axis.axhline(line.seconds, color=COLORS["baseline"], linestyle="--", label=line.competitor)
    axis.set_ylim(bottom=0)
    axis.set_ylabel("seconds")
    axis.legend()
    _save(figure, file)


def _millions(lines: Sequence[Line]) -> list[float]:
    return [line.rows / 1e6 for line in lines]


def _ranges(lines: Sequence[Line]) -> list[list[float]]:
    """Return how far below and above the medians the runs were."""
    return [[line.seconds - line.fastest for line in lines], [line.slowest - line.seconds for line in lines]]


def _figure(columns: int, height: float) -> tuple[Figure, list[Any]]:
    # Not by pyplot, which keeps figures for a window that there is not.
    figure = Figure(figsize=(INCHES_WIDE * columns / 2, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(1, columns, column) for column in range(1, columns + 1)]


def _save(figure: Figure, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    # No version in the file: the same results are the same bytes.
    figure.savefig(file, dpi=110, metadata={"Software": None})
