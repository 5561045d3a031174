"""What happens on either side while it is compared is neither missed nor mistaken for a fault."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from threading import Event, Lock, current_thread
from typing import Any

import pytest

from xmin_assets.postgres.server import Server, observe_server
from xmin_assets.replication.planning import observation
from xmin_assets.replication.runtime.progress import Progress
from xmin_assets.replication.runtime.snapshot_workers import SnapshotWorkers
from xmin_assets.replication.verification.sides import ComparedTable
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.integration.verify.conftest import ROWS, counts, ids
from xmin_assets_tests.replica import Replica
from xmin_assets_tests.waiting import DEADLINE

WIDE = """
CREATE TABLE wide (id int PRIMARY KEY, filler text);
INSERT INTO wide SELECT i, repeat('x', 700) FROM generate_series(1, 20000) i;
"""
LIFE = "UPDATE wide SET filler = 'new' WHERE id < 50; DELETE FROM wide WHERE id = 60; INSERT INTO wide VALUES (-1)"
PENDING = 49 + 1 + 1
OURS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'xmin_assets' AND state <> 'idle'"
)


@pytest.fixture
def wide(replica: Replica) -> Replica:
    """Rows in many ranges, synced, one of them meddled with in the target."""
    replica.source.execute(WIDE)
    replica.sync("public.wide")
    replica.target.execute("UPDATE wide SET filler = 'meddled' WHERE id = 7777")
    return replica


def once(act: Callable[[], object]) -> Callable[[Progress], None]:
    """A listener that acts when the first rows have been compared."""
    done: list[bool] = []

    def listen(progress: Progress) -> None:
        if progress.station == "verify" and progress.done and not done:
            done.append(True)
            act()

    return listen


def between_the_snapshots(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Act when the target's snapshot has been taken, and the source's has not."""
    done: list[bool] = []

    def observe(cursor: object) -> Server:
        if not done:
            done.append(True)
            act()
        return observe_server(cursor)  # type: ignore[arg-type]

    monkeypatch.setattr(observation, "observe_server", observe)


def test_changes_and_a_merge_during_a_verify_are_not_in_it(wide: Replica) -> None:
    def change_and_sync() -> None:
        wide.source.execute(LIFE)
        wide.sync("public.wide")

    found = wide.verify("public.wide", on_progress=once(change_and_sync))

    assert (counts(found), ids(found)) == ((0, 0, 1, 0), {"different": [7777]})
    assert counts(wide.verify("public.wide")) == (0, 0, 1, 0)


def test_a_merge_between_the_two_snapshots_leaves_what_it_brought_pending(
    wide: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change_and_sync() -> None:
        wide.source.execute(LIFE)
        wide.sync("public.wide")

    between_the_snapshots(monkeypatch, change_and_sync)

    assert counts(wide.verify("public.wide")) == (0, 0, 1, PENDING)
    assert counts(wide.verify("public.wide")) == (0, 0, 1, 0)


def test_all_workers_of_a_side_read_the_same_snapshot(wide: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    call, check, guard = SnapshotWorkers._start_worker, ComparedTable.check, Lock()
    changed = Event()
    helped = {"source": Event(), "target": Event()}

    def change_first(crew: SnapshotWorkers[Any]) -> None:
        with guard:
            if not changed.is_set():
                wide.source.execute("UPDATE wide SET filler = 'late' WHERE id > 10")
                wide.target.execute("DELETE FROM wide WHERE id > 10")
                changed.set()
        call(crew)

    def let_helpers_have_some(side: ComparedTable, stopped: Event | None = None) -> None:
        check(side, stopped)
        if current_thread().name.startswith("xmin-reader"):
            helped[side.database.side].set()
        elif stopped:
            assert helped[side.database.side].wait(DEADLINE)

    monkeypatch.setattr(SnapshotWorkers, "_start_worker", change_first)
    monkeypatch.setattr(ComparedTable, "check", let_helpers_have_some)

    assert counts(wide.verify("public.wide")) == (0, 0, 1, 0)


def test_a_merge_under_way_keeps_nobody_waiting(wide: Replica) -> None:
    wide.source.execute(LIFE)
    with wide.stations("public.wide") as stations:
        staged = stations.up_to_stage()
        blocker = wide.target.connect()
        blocker.autocommit = False
        blocker.cursor().execute("LOCK TABLE wide IN SHARE ROW EXCLUSIVE MODE")

        assert counts(wide.verify("public.wide")) == (0, 0, 1, PENDING)

        blocker.rollback()
        stations.merge(staged)


def test_what_a_transaction_that_is_open_during_the_sync_wrote_is_pending(wide: Replica) -> None:
    late = wide.source.connect()
    late.autocommit = False
    late.cursor().execute(LIFE)
    wide.source.execute("UPDATE wide SET filler = 'early' WHERE id BETWEEN 100 AND 110")
    wide.sync("public.wide")
    assert counts(wide.verify("public.wide")) == (0, 0, 1, 0)

    late.commit()

    assert counts(wide.verify("public.wide")) == (0, 0, 1, PENDING)


@pytest.mark.parametrize("side", ["source", "target"])
def test_connections_that_are_lost_are_made_again(wide: Replica, side: str) -> None:
    database: Database = getattr(wide, side)
    retries: list[Progress] = []
    kill = once(lambda: database.fetch(OURS))

    def report(progress: Progress) -> None:
        kill(progress)
        retries.extend([progress] if progress.is_retry else [])

    found = wide.verify("public.wide", on_progress=report)

    assert counts(found) == (0, 0, 1, 0)
    assert "trying again" in retries[0].note


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_lock_that_is_not_granted_is_named_with_its_side(wide: Replica, side: str) -> None:
    wide.settings["lock_timeout"] = 0.05
    blocker = getattr(wide, side).connect()
    blocker.autocommit = False
    blocker.cursor().execute("LOCK TABLE wide IN ACCESS EXCLUSIVE MODE")

    found = wide.verify("public.wide")

    assert found.status == "failed"
    assert f"reading the {side} ({side} 127.0.0.1" in (found.error or "")
    assert "lock_timeout" in (found.error or "")


def test_one_connection_on_each_side_is_enough(wide: Replica) -> None:
    wide.settings["workers"] = 1
    wide.source.execute(LIFE)

    assert counts(wide.verify("public.wide")) == (0, 0, 1, PENDING)


def test_a_statement_that_takes_too_long_fails_the_table(wide: Replica) -> None:
    wide.settings["statement_timeout"] = 0.001

    found = wide.verify("public.wide")

    assert (found.status, "statement_timeout" in (found.error or "")) == ("failed", True)


def test_a_table_that_fails_leaves_the_others_alone(wide: Replica) -> None:
    from xmin_assets import verify_tables

    config = wide.config("public.nowhere", "public.wide")

    nowhere, found = verify_tables(config).tables

    assert nowhere.status == "failed"
    assert counts(found) == (0, 0, 1, 0)


def test_memory_does_not_grow_with_the_differences(replica: Replica) -> None:
    rows, length = 50_000, 600
    replica.source.execute("CREATE TABLE t (k text PRIMARY KEY, v int)")
    replica.source.execute(f"INSERT INTO t SELECT lpad(i::text, {length}, '0'), i FROM generate_series(1, {rows}) i")
    replica.sync("public.t")
    replica.target.execute("UPDATE t SET v = -v")
    tracemalloc.start()
    try:
        found = replica.verify("public.t")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert counts(found) == (0, 0, rows, 0)
    assert peak < rows * length / 2


def test_nothing_is_written_on_either_side(items: Replica) -> None:
    def written() -> list[object]:
        query = "SELECT tup_inserted, tup_updated, tup_deleted, temp_files FROM pg_stat_database WHERE datname = %s"
        return [
            side.fetch("SELECT pg_current_xact_id_if_assigned()") and side.fetch(query, (side.name,))
            for side in (items.source, items.target)
        ]

    for side in (items.source, items.target):
        side.execute(f"ALTER DATABASE {side.name} SET default_transaction_read_only = on")
    before = written()

    assert counts(items.verify("public.items")) == (0, 0, 0, 0)

    assert written() == before
    assert items.target.fetch("SELECT count(*) FROM items") == [(ROWS,)]
