"""The table of results, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.interference import Cost
from benchmarks.results import Results
from benchmarks.summary import Line, summarize

MIB = 1 << 20

HEADINGS = (
    "scenario",
    "rows",
    "competitor",
    "median s",
    "range s",
    "to baseline",
    "memory MB",
    "spool MB",
    "WAL MB",
    "written MB",
    "copy",
)

STATIONS = ("snapshot", "extract", "stage", "merge")
STATION_HEADINGS = ("scenario", "rows", *STATIONS)
COURTESY_HEADINGS = ("meanwhile", "p50 ms", "p99 ms", "range of p99", "to nothing")


def show(results: Results, console: Console) -> None:
    """Print medians, ranges and ratios, and who was skipped."""
    table = Table(title=f"Medians; {results.machine.get('processor', '')}")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in ("scenario", "competitor", "copy") else "right")
    last = None
    lines = summarize(results.measurements)
    for line in lines:
        head = (line.scenario, line.rows)
        if last is not None and head != last:
            table.add_section()
        table.add_row(*cells(line, repeated=head == last), style="bold" if line.role == "ours" else None)
        last = head
    console.print(table)
    console.print(_stations(lines))
    for out in results.skipped:
        console.print(f"skipped: {out.competitor} in {out.scenario}: {out.reason}", markup=False)


def _stations(lines: Sequence[Line]) -> Table:
    table = Table(title="Where our time goes: seconds, of all tables together")
    for heading in STATION_HEADINGS:
        table.add_column(heading, justify="left" if heading == "scenario" else "right")
    for row in station_rows(lines):
        table.add_row(*row)
    return table


def station_rows(lines: Sequence[Line]) -> list[list[str]]:
    """Return what the engine's stations took, one text for each of the headings."""
    return [
        [line.title, f"{line.rows:,}", *(seconds(line.parts[station]) for station in STATIONS)]
        for line in lines
        if line.role == "ours" and line.parts
    ]


def cells(line: Line, *, repeated: bool) -> list[str]:
    """Return a line of the table, one text for each heading; a repeated one does not name its scenario again."""
    return [
        "" if repeated else line.title,
        "" if repeated else f"{line.rows:,}",
        line.competitor,
        seconds(line.seconds),
        f"{seconds(line.fastest)} - {seconds(line.slowest)}",
        "" if line.ratio is None else f"{line.ratio:.2f}",
        megabytes(line.memory_bytes or None),
        megabytes(line.spool_bytes or None),
        megabytes(line.wal_bytes),
        megabytes(line.written_bytes),
        line.verdict + (f", {megabytes(line.left_bytes)} MB left in the spool" if line.left_bytes else ""),
    ]


def seconds(value: float) -> str:
    """Return a time with three digits that count."""
    return f"{value:.1f}" if value >= 99.95 else f"{value:.2f}" if value >= 0.9995 else f"{value:.3f}"


def megabytes(value: int | None) -> str:
    """Return bytes as MiB; a dash where there are none to tell of."""
    return "-" if value is None else f"{value / MIB:.1f}" if value < 10 * MIB else f"{value / MIB:.0f}"


def show_interference(costs: Sequence[Cost], console: Console) -> None:
    """Print what pgbench noticed."""
    table = Table(title="pgbench at the source")
    for heading in COURTESY_HEADINGS:
        table.add_column(heading, justify="left" if heading == "meanwhile" else "right")
    for cost in costs:
        table.add_row(*interference_cells(cost))
    console.print(table)


def interference_cells(cost: Cost) -> list[str]:
    """Return a line of that table, one text for each of the headings."""
    return [
        cost.meanwhile,
        f"{cost.p50:.2f}",
        f"{cost.p99:.2f}",
        f"{cost.lowest_p99:.2f} - {cost.highest_p99:.2f}",
        f"{cost.ratio:.2f}",
    ]
