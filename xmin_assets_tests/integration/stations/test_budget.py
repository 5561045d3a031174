"""A sync reads and loads no faster than its settings say, and reads as much as it may."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from xmin_assets.postgres import connection
from xmin_assets.replication.manifests.report import TableResult
from xmin_assets_tests.replica import Replica
from xmin_assets_tests.waiting import wait_until

TABLE = "public.t"
BLOCKS = 2000
ROWS = f"""
CREATE TABLE t (id int PRIMARY KEY, filler text);
ALTER TABLE t ALTER filler SET STORAGE PLAIN;
INSERT INTO t SELECT n, repeat('x', 7000) FROM generate_series(1, {BLOCKS}) n;
"""
SIZE = BLOCKS * 8192
"""Bytes: each row fills a block."""


@pytest.fixture
def filled(replica: Replica) -> Replica:
    replica.source.execute(ROWS)
    return replica


def seconds_of(replica: Replica, station: str, **settings: Any) -> float:
    replica.settings.update(settings)
    return replica.sync(TABLE).seconds[station]


@pytest.mark.parametrize("workers", [1, 3])
def test_all_workers_together_read_what_the_rate_says(filled: Replica, workers: int) -> None:
    took = seconds_of(filled, "extract", max_read_rate="8 MiB/s", workers=workers)

    # 0.19 s are the burst and the last piece.
    assert took == pytest.approx(SIZE / (8 << 20), abs=0.25)
    filled.assert_equal(TABLE)


def test_to_count_rows_costs_as_much(filled: Replica) -> None:
    filled.sync(TABLE)
    filled.source.execute("INSERT INTO t VALUES (0, '')")

    took = seconds_of(filled, "extract", max_read_rate="8 MiB/s", workers=2)

    assert took == pytest.approx(SIZE / (8 << 20), abs=0.35)


def test_files_are_loaded_at_the_rate_of_the_target(filled: Replica) -> None:
    took = seconds_of(filled, "stage", max_load_rate="7 MB/s", workers=2)

    assert took == pytest.approx(BLOCKS * 7000 / 7e6, abs=0.4)
    filled.assert_equal(TABLE)


def test_a_worker_that_waits_for_its_turn_is_cancelled_at_once(filled: Replica) -> None:
    filled.settings.update(max_read_rate="64 KiB/s", workers=2)
    results: list[TableResult] = []
    began = threading.Event()
    sync = threading.Thread(target=lambda: results.append(filled.try_sync(TABLE, on_progress=lambda _: began.set())))
    sync.start()
    assert began.wait(10)
    time.sleep(0.5)  # it has begun to wait; earlier would do as well
    asked = time.monotonic()
    connection.cancel_all()
    try:
        wait_until(lambda: not sync.is_alive(), 3)
    finally:
        connection.resume()
        sync.join()

    assert time.monotonic() - asked < 2
    assert results[0].status == "failed"
    assert "stopped" in str(results[0].error)


def test_the_snapshot_is_given_up_at_its_age_though_a_worker_waits(filled: Replica) -> None:
    filled.settings.update(max_read_rate="64 KiB/s", workers=2, max_snapshot_age=1)
    began = time.monotonic()

    result = filled.try_sync(TABLE)

    assert time.monotonic() - began < 4
    assert "held for longer than max_snapshot_age. Raise it, or use a higher max_read_rate" in str(result.error)
