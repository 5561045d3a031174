"""The engine's progress, as lines of the run's log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from xmin_assets.replication.runtime.progress import Progress, ProgressCallback

INTERVAL = 1.0
"""Seconds between two lines: each one is a row in Dagster's event log."""


def progress_lines(write: Callable[[str], object], interval: float = INTERVAL) -> ProgressCallback:
    """Return a report callback that writes at most one line every `interval` seconds.

    It may be called by many threads at once. None of them waits: what comes while a line is being written,
    or too early, is left out.
    """
    writing = threading.Lock()
    due = 0.0

    def report(progress: Progress) -> None:
        nonlocal due
        if not writing.acquire(blocking=False):
            return
        try:
            if time.monotonic() >= due:
                due = time.monotonic() + interval
                write(line(progress))
        finally:
            writing.release()

    return report


def line(progress: Progress) -> str:
    """Return one step forward, in words."""
    text = f"{progress.table}: {progress.station}"
    if progress.done or progress.total:
        text += f" {progress.done:,}" + (f" of {progress.total:,}" if progress.total else "") + " rows"
        if progress.total:
            text += f" ({min(progress.done / progress.total, 1):.0%})"
    return f"{text}, {progress.note}" if progress.note else text
