"""The table of results, for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from benchmarks.results import Results
from benchmarks.summary import Line, summarize

MIB = 1 << 20

HEADINGS = (
    "scenario",
    "rows",
    "contender",
    "median s",
    "range s",
    "to floor",
    "memory MB",
    "spool MB",
    "WAL MB",
    "written MB",
    "copy",
)


def show(results: Results, console: Console) -> None:
    """Print medians, ranges and ratios, and who was skipped."""
    table = Table(title=f"Medians; {results.machine.get('processor', '')}")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in ("scenario", "contender", "copy") else "right")
    last = None
    for line in summarize(results.measurements):
        head = (line.scenario, line.rows)
        if last is not None and head != last:
            table.add_section()
        table.add_row(*cells(line, repeated=head == last), style="bold" if line.role == "ours" else None)
        last = head
    console.print(table)
    for out in results.skipped:
        console.print(f"skipped: {out.contender} in {out.scenario}: {out.reason}", markup=False)


def cells(line: Line, *, repeated: bool) -> list[str]:
    """A line of the table, one text for each of the headings; a repeated one does not name its scenario again."""
    return [
        "" if repeated else line.title,
        "" if repeated else f"{line.rows:,}",
        line.contender,
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
    """A time with three digits that count."""
    return f"{value:.1f}" if value >= 99.95 else f"{value:.2f}" if value >= 0.9995 else f"{value:.3f}"


def megabytes(value: int | None) -> str:
    """Bytes as MiB; a dash where there are none to tell of."""
    return "-" if value is None else f"{value / MIB:.1f}" if value < 10 * MIB else f"{value / MIB:.0f}"
