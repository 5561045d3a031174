"""TRUNCATE and rewriting ALTER TABLE. They are not MVCC-safe: a snapshot older than they are sees an empty table
(https://www.postgresql.org/docs/current/mvcc-caveats.html), and all rows would look deleted."""

from __future__ import annotations

import pytest

from xmin_assets.errors import PlanOutdated
from xmin_assets_tests.integration.interleaving.harness import WatchedTable
from xmin_assets_tests.integration.interleaving.sessions import Running, until_engine_waits

REWRITES = [
    "TRUNCATE t; INSERT INTO t VALUES (1, 'new'), (101, 'new')",
    "ALTER TABLE t ALTER id TYPE bigint",
    "ALTER TABLE t ADD COLUMN moment timestamptz DEFAULT clock_timestamp()",
    "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'another table')",
]

every = pytest.mark.parametrize("rewrite", REWRITES)


@every
def test_one_that_is_open_when_a_sync_begins_and_then_commits_is_in_it(table: WatchedTable, rewrite: str) -> None:
    table.sync()
    writer = table.session()
    writer.begin()
    writer.run(rewrite)
    syncing = Running(lambda: table.sync(may_retry=True))
    until_engine_waits(table.source, syncing)
    writer.run("COMMIT")
    syncing.result()
    table.assert_equal()


@every
def test_one_that_is_open_when_a_sync_begins_and_is_rolled_back_leaves_no_trace(
    table: WatchedTable, rewrite: str
) -> None:
    table.sync()
    table.source.execute("UPDATE t SET v = 'second' WHERE id = 1")
    writer = table.session()
    writer.begin()
    writer.run(rewrite)
    syncing = Running(table.sync)
    until_engine_waits(table.source, syncing)
    writer.run("ROLLBACK")
    result = syncing.result()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (0, 1, 0)


@every
def test_one_that_commits_while_an_extract_waits_for_its_lock_makes_the_plan_outdated(
    table: WatchedTable, rewrite: str
) -> None:
    table.sync()
    writer = table.session()
    with table.passage() as passage:
        passage.snapshot()
        writer.begin()
        writer.run(rewrite)
        extracting = Running(passage.extract)
        until_engine_waits(table.source, extracting)
        writer.run("COMMIT")
        with pytest.raises(PlanOutdated):
            extracting.result()
    table.sync()
    table.assert_equal()


@every
def test_one_that_is_rolled_back_while_an_extract_waits_for_its_lock_leaves_no_trace(
    table: WatchedTable, rewrite: str
) -> None:
    table.sync()
    writer = table.session()
    with table.passage() as passage:
        passage.snapshot()
        writer.begin()
        writer.run(rewrite)
        extracting = Running(passage.extract)
        until_engine_waits(table.source, extracting)
        writer.run("ROLLBACK")
        assert extracting.result().rows == 0
        passage.stage()
        passage.merge()
    table.assert_equal()


@every
def test_one_that_waits_for_a_running_extract_is_not_in_it_and_is_in_the_next_sync(
    wide: WatchedTable, rewrite: str
) -> None:
    wide.sync()
    wide.source.execute("UPDATE t SET v = 'second' WHERE id % 3 = 0; DELETE FROM t WHERE id % 7 = 0")
    writer = wide.session()
    with wide.passage() as passage:
        passage.snapshot()
        extracted = passage.extract(snapshot_taken=lambda: writer.start(f"BEGIN; {rewrite}; COMMIT"))
        writer.finish()
        # A helper that queued behind the writer, who waits for the coordinator, would never get its lock.
        assert extracted.seconds < wide.replica.config("t").settings.lock_timeout
        passage.stage()
        passage.merge()
    wide.sync()
    wide.assert_equal()


@every
def test_one_between_extract_and_merge_is_not_in_the_merge_and_is_in_the_next_sync(
    table: WatchedTable, rewrite: str
) -> None:
    table.sync()
    table.source.execute("UPDATE t SET v = 'second' WHERE id = 1; DELETE FROM t WHERE id = 2")
    with table.passage() as passage:
        passage.snapshot()
        passage.extract()
        passage.stage()
        table.source.execute(rewrite)
        passage.merge()
    table.sync()
    table.assert_equal()


def test_one_that_commits_between_the_passes_of_an_extract_cannot(wide: WatchedTable) -> None:
    """All the while an extract reads, its lock is held."""
    impatient = wide.session()
    impatient.run("SET lock_timeout = '1ms'")

    def truncate() -> None:
        with pytest.raises(Exception, match="lock timeout"):
            impatient.run("TRUNCATE t")

    wide.sync(snapshot_taken=truncate, batch_copied=truncate, merging=lambda: impatient.run("TRUNCATE t"))
    assert wide.sync().rows_deleted == 600


def test_a_schema_exchanged_for_another_during_an_extract_mixes_no_rows_of_the_two(empty: WatchedTable) -> None:
    """ALTER SCHEMA ... RENAME waits for nobody who reads a table in it."""
    empty.name = "live.t"
    for schema in ("live", "next"):
        empty.source.execute(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.t (id int PRIMARY KEY, v text)")
        empty.source.execute(f"INSERT INTO {schema}.t SELECT i, '{schema}' FROM generate_series(1, 8) i")
    exchange = "ALTER SCHEMA live RENAME TO old; ALTER SCHEMA next RENAME TO live"
    empty.replica.sync({"source": empty.name})
    empty.source.execute("UPDATE live.t SET v = 'changed' WHERE id = 1")
    with empty.passage() as passage:
        passage.snapshot()
        with pytest.raises(PlanOutdated):
            passage.extract(snapshot_taken=lambda: empty.source.execute(exchange))
    assert empty.sync().rows_updated == 8
    empty.source.execute("DROP SCHEMA live, old CASCADE")
    empty.target.execute("DROP SCHEMA live CASCADE")


def test_a_truncated_table_is_an_empty_table(table: WatchedTable) -> None:
    table.sync()
    table.source.execute("TRUNCATE t")
    result = table.sync()
    assert (result.rows_extracted, result.rows_deleted) == (0, 8)


def test_a_table_truncated_and_filled_with_as_many_rows_has_the_new_ones(table: WatchedTable) -> None:
    table.sync()
    table.source.execute("TRUNCATE t; INSERT INTO t SELECT i, 'new' FROM generate_series(5, 12) i")
    result = table.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (4, 4, 4)


def test_a_truncate_rolled_back_to_a_savepoint_in_a_transaction_that_commits_leaves_the_rows(
    table: WatchedTable,
) -> None:
    table.sync()
    table.source.execute("BEGIN; SAVEPOINT a; TRUNCATE t; ROLLBACK TO a; UPDATE t SET v = 'kept' WHERE id = 1; COMMIT")
    result = table.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (0, 1, 0)


def test_a_column_dropped_and_recreated_under_its_name_brings_its_values(table: WatchedTable) -> None:
    """Neither changes an xmin: the new column's default is in the catalog."""
    table.sync()
    table.source.execute("ALTER TABLE t DROP COLUMN v")
    table.source.execute("ALTER TABLE t ADD COLUMN v text DEFAULT 'anew'")
    assert table.sync().rows_updated == 8


def test_a_column_that_is_copied_again_after_a_time_without_it_brings_its_values(table: WatchedTable) -> None:
    table.sync()
    table.options["exclude_columns"] = ["v"]
    table.source.execute("UPDATE t SET v = 'meanwhile'")
    table.replica.sync({"source": table.name, **table.options})
    table.options.clear()
    table.sync()
    table.assert_equal()
