"""Progress in the run's log: seldom, readable, and from any thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from xmin_assets.orchestration.run_log import line, progress_lines
from xmin_assets.replication.runtime.progress import Progress


def test_many_threads_together_write_one_line_per_interval() -> None:
    written: list[str] = []
    report = progress_lines(written.append, interval=3600)
    with ThreadPoolExecutor(8) as pool:
        for done in range(1000):
            pool.submit(report, Progress("public.orders", "extract", done, 1000))
    assert len(written) == 1


def test_a_line_comes_again_when_the_interval_is_over() -> None:
    written: list[str] = []
    report = progress_lines(written.append, interval=0)
    for done in (1, 2, 3):
        report(Progress("public.orders", "extract", done, 3))
    assert len(written) == 3


def test_a_log_that_fails_does_not_block_the_reports_after_it() -> None:
    tried: list[str] = []

    def write(text: str) -> None:
        tried.append(text)
        raise OSError(text)

    report = progress_lines(write, interval=0)
    for _ in range(2):
        with pytest.raises(OSError, match="stage"):
            report(Progress("t", "stage", 1, 1))
    assert len(tried) == 2


def test_a_line_says_the_table_the_station_and_how_far_it_is() -> None:
    assert line(Progress("public.orders", "extract", 1200, 4800)) == (
        "public.orders: extract 1,200 of 4,800 rows (25%)"
    )
    assert line(Progress("public.orders", "stage", 5, 0)) == "public.orders: stage 5 rows"
    assert line(Progress("public.orders", "snapshot", 0, 0, "first sync")) == ("public.orders: snapshot, first sync")
