"""A bar for every table that is being worked on, and one for all; tables that are done leave the screen."""

from __future__ import annotations

import threading
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import Progress as Display
from rich.table import Column
from rich.text import Text

from xmin_assets.redaction import redact
from xmin_assets.replication.runtime.progress import Progress


class Bars:
    """A live display on stderr; use it as a context manager.

    Args:
        tables: how many tables there are in all.
    """

    def __init__(self, tables: int) -> None:
        wide = Column(ratio=1, no_wrap=True, overflow="ellipsis")
        self._display = Display(
            TextColumn("{task.description}", markup=False, table_column=wide),
            TextColumn("{task.fields[station]}", style="cyan", table_column=Column(min_width=8)),
            BarColumn(bar_width=16),
            _Rows(),
            _Speed(table_column=Column(min_width=14)),
            console=Console(stderr=True),
            expand=True,
            transient=True,  # the table of results follows
        )
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskID] = {}
        self._stations: dict[str, str] = {}
        self._all = self._display.add_task(f"{tables} tables", total=tables, station="done", visible=tables > 1)

    def __enter__(self) -> Bars:
        self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.stop()

    def report(self, step: Progress) -> None:
        """Take note of a step; called from several threads."""
        with self._lock:
            if step.station in ("merge", "verify") and step.done >= step.total and not step.note:
                self._finish(step.table)
                return
            if step.is_retry:
                return  # a bar that starts again says so
            if step.station == "snapshot" and step.table in self._tasks:
                # What is said after the plan is a warning, or another plan: it stays on the screen, above the bars.
                self._display.console.print(redact(f"{step.table}: {step.note}"), markup=False, highlight=False)
                return
            # The plan's number is an estimate, and a merge is one statement that says nothing until it ends.
            total = step.total or None if step.station in ("extract", "stage", "verify") else None
            if step.table not in self._stations:
                self._tasks[step.table] = self._display.add_task(step.table, total=total, station=step.station)
            elif self._stations[step.table] != step.station:
                self._display.reset(self._tasks[step.table], total=total, station=step.station)
            self._stations[step.table] = step.station
            self._display.update(self._tasks[step.table], completed=step.done if total else step.total, total=total)

    def _finish(self, table: str) -> None:
        if table in self._stations:
            self._display.remove_task(self._tasks.pop(table))
            del self._stations[table]
            self._display.advance(self._all)


class _Rows(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.completed:,.0f}", style="green", justify="right")


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        if task.fields["station"] == "done" or not task.speed:
            return Text("")
        return Text(f"{task.speed:,.0f} rows/s", style="dim", justify="right")
