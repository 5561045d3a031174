"""Table locks behind a pooler that keeps the session of a client that died, with its session-level locks."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from xmin_assets.config import TableConfig
from xmin_assets.errors import TableBusy
from xmin_assets.postgres.connection import Database as Endpoint
from xmin_assets.replication.state.table_lock import TableLocks
from xmin_assets.replication.sync import sync_tables
from xmin_assets_tests.integration.faults.keeping_pooler import KeepingPooler, pooler_to
from xmin_assets_tests.integration.faults.watched_table import TABLE, WatchedTable
from xmin_assets_tests.replica import Replica
from xmin_assets_tests.waiting import wait_until

HELD = """
SELECT classid, objid, pid FROM pg_locks
 WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@pytest.fixture
def pooler(replica: Replica) -> Iterator[KeepingPooler]:
    """In front of the target."""
    with pooler_to(replica.target) as pooler:
        yield pooler


@pytest.fixture
def table(replica: Replica) -> TableConfig:
    return replica.config(TABLE).tables[0]


def die_in_turn(pooler: KeepingPooler, replica: Replica, table: TableConfig) -> None:
    """Let a client of the pooler end that holds the table lock; the pooler keeps the session, and it the lock."""
    with Endpoint(pooler.url(replica.target), "target") as target, TableLocks(target) as locks, locks.hold(table, 1):
        pooler.lose_clients()
        wait_until(lambda: pooler.kept == 1)
    assert len(replica.target.fetch(HELD)) == 1


def test_a_process_killed_in_its_turn_keeps_nobody_waiting(watched: WatchedTable, pooler: KeepingPooler) -> None:
    replica = watched.replica
    watched.environment["XMIN_TARGET_URL"] = pooler.url(replica.target)
    with watched.start(failpoint="after the stage") as running:
        running.communicate(timeout=60)
    # Of its transaction-level locks none is left; the table lock is a session-level one.
    wait_until(lambda: len(replica.target.fetch(HELD)) == 1)
    began = time.monotonic()

    (result,) = sync_tables(replica.config(TABLE, queue_timeout=5)).tables

    assert result.status == "success", result.error
    assert time.monotonic() - began < 5
    replica.assert_equal(TABLE)


def test_a_crowd_takes_turns_beside_a_lock_that_a_pooler_kept(
    watched: WatchedTable, pooler: KeepingPooler, table: TableConfig
) -> None:
    die_in_turn(pooler, watched.replica, table)

    crowd = [watched.start() for _ in range(4)]
    ends = [(running, *running.communicate(timeout=120)) for running in crowd]

    assert [running.returncode for running, _, _ in ends] == [0] * 4, [stderr for *_, stderr in ends]
    assert sum(json.loads(stdout)["tables"][0]["rows_inserted"] for _, stdout, _ in ends) == 50
    assert all("rror" not in stderr for *_, stderr in ends), [stderr for *_, stderr in ends]
    assert len(watched.replica.target.fetch(HELD)) == 1
    watched.replica.assert_equal(TABLE)


def test_the_next_sync_on_a_kept_session_gives_its_locks_back(
    replica: Replica, pooler: KeepingPooler, table: TableConfig
) -> None:
    die_in_turn(pooler, replica, table)
    ((*_, kept),) = replica.target.fetch(HELD)

    with Endpoint(pooler.url(replica.target), "target") as target, TableLocks(target) as locks:
        with locks.hold(table, 1):
            assert kept in [pid for *_, pid in replica.target.fetch(HELD)]
        with Endpoint(replica.target.url, "target") as direct, TableLocks(direct) as others, others.hold(table, 0):
            pass

    wait_until(lambda: replica.target.fetch(HELD) == [])


def test_a_kept_session_that_somebody_else_works_in_keeps_nobody_waiting(
    replica: Replica, pooler: KeepingPooler, table: TableConfig
) -> None:
    die_in_turn(pooler, replica, table)
    ((*_, kept),) = replica.target.fetch(HELD)

    with (
        Endpoint(pooler.url(replica.target), "target") as pooled,
        pooled.connection() as lent,
        lent.cursor() as cursor,
        Endpoint(replica.target.url, "target") as target,
    ):
        cursor.execute("BEGIN")
        cursor.execute("SELECT pg_backend_pid()")
        assert cursor.fetchone() == (kept,)
        with TableLocks(target) as locks, locks.hold(table, 1):
            pass


def test_who_is_at_work_beside_a_lock_that_a_pooler_kept_is_waited_for(
    replica: Replica, pooler: KeepingPooler, table: TableConfig
) -> None:
    die_in_turn(pooler, replica, table)

    with Endpoint(replica.target.url, "target") as target, TableLocks(target) as first, first.hold(table, 1):
        ours = {pid for *_, pid in replica.target.fetch(HELD)}
        with TableLocks(target) as second, pytest.raises(TableBusy) as refused, second.hold(table, 0.5):
            pass

    assert any(f"backend {pid} of the target" in str(refused.value) for pid in ours)
