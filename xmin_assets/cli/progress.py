"""How far a sync is, on stderr: bars on a terminal, now and then a line where nobody watches."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from xmin_assets.cli.console import show_note
from xmin_assets.replication.runtime.progress import Progress, ProgressCallback

LINE_INTERVAL = 5.0
"""Seconds between two lines about one table."""


@contextmanager
def progress_display(tables: int) -> Iterator[ProgressCallback]:
    """Show progress in the way that suits stderr; `tables` is how many there are in all."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        from xmin_assets.cli.bars import Bars

        with Bars(tables) as bars:
            yield bars.report
    else:
        yield Lines().report


class Lines:
    """A line when a table's plan is known or is made again, and every few seconds while the table is worked on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said_at: dict[str, float] = {}

    def report(self, step: Progress) -> None:
        """Take note of a step; called from several threads."""
        now = time.monotonic()
        with self._lock:
            said_at = self._said_at.get(step.table)
            if step.is_retry and said_at is None:
                due = False  # it never got as far as a plan: its error comes soon enough
            elif step.station == "snapshot":
                due = True
            else:
                due = said_at is None or now - said_at >= LINE_INTERVAL
            if due:
                self._said_at[step.table] = now
        if due:
            show_note(f"{step.table}: {_describe(step)}")


def _describe(step: Progress) -> str:
    if step.station == "snapshot":
        return step.note
    rows = f"{step.done:,} of {step.total:,} rows" if step.total else step.note or f"{step.done:,} rows"
    return f"{step.station}: {rows}"
