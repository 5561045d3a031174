"""Other sessions commit while an extract reads: it has what its snapshot saw, whichever pass reads what."""

from __future__ import annotations

import pytest

from xmin_assets.errors import StaleExtract
from xmin_assets_tests.integration.interleaving.harness import Step, WatchedTable

POINTS = ["snapshot_taken", "batch_copied", "reading_keys", "merging"]


def at(point: str, table: WatchedTable, statement: str) -> dict[str, Step]:
    return {point: lambda: table.source.execute(statement)}


every_point = pytest.mark.parametrize("point", POINTS)


@pytest.fixture
def changed(wide: WatchedTable) -> WatchedTable:
    """A wide table with updates, inserts and deletes since its last sync, so that every pass has work to do."""
    wide.sync()
    wide.source.execute("UPDATE t SET v = 'second' WHERE id % 3 = 0; DELETE FROM t WHERE id % 7 = 0")
    wide.source.execute("INSERT INTO t SELECT i, 'new', repeat('y', 800) FROM generate_series(1001, 1050) i")
    return wide


@every_point
def test_rows_deleted_meanwhile_are_still_in_this_sync_and_gone_in_the_next(changed: WatchedTable, point: str) -> None:
    changed.sync(**at(point, changed, "DELETE FROM t WHERE id % 2 = 0"))
    result = changed.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (0, 0, 283)


@every_point
def test_rows_inserted_meanwhile_beyond_the_end_of_the_table_come_with_the_next_sync(
    changed: WatchedTable, point: str
) -> None:
    more = "INSERT INTO t SELECT i, 'meanwhile', repeat('z', 800) FROM generate_series(2001, 2300) i"
    changed.sync(**at(point, changed, more))
    result = changed.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (300, 0, 0)


@every_point
def test_rows_updated_meanwhile_are_in_this_sync_once_as_they_were(changed: WatchedTable, point: str) -> None:
    """Every row moves to the end of the table, into blocks that are yet to be read."""
    changed.sync(**at(point, changed, "UPDATE t SET v = 'meanwhile'"))
    result = changed.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (0, 565, 0)


@every_point
def test_keys_changed_meanwhile_are_in_this_sync_as_they_were(changed: WatchedTable, point: str) -> None:
    changed.sync(**at(point, changed, "UPDATE t SET id = id + 5000 WHERE id % 2 = 1"))
    result = changed.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (282, 0, 282)


@every_point
def test_a_transaction_begun_before_and_committed_meanwhile_comes_with_the_next_sync(
    changed: WatchedTable, point: str
) -> None:
    late = changed.session()
    xid = late.begin()
    late.run("UPDATE t SET v = 'late' WHERE id = 1; DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (3001, 'late')")
    assert changed.sync(**{point: lambda: late.run("COMMIT")}).watermark == xid
    result = changed.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (1, 1, 1)


@every_point
def test_a_transaction_begun_meanwhile_and_committed_later_comes_with_a_later_sync(
    changed: WatchedTable, point: str
) -> None:
    late = changed.session()
    changed.sync(**{point: lambda: late.run("BEGIN; UPDATE t SET v = 'late' WHERE id = 1; DELETE FROM t WHERE id = 2")})
    changed.source.execute("UPDATE t SET v = 'other' WHERE id = 4")
    changed.sync()
    late.run("COMMIT")
    result = changed.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (0, 1, 1)


def test_a_first_sync_has_its_snapshots_rows_whatever_is_committed_meanwhile(wide: WatchedTable) -> None:
    result = wide.sync(
        snapshot_taken=lambda: wide.source.execute("DELETE FROM t WHERE id % 2 = 0; UPDATE t SET v = 'meanwhile'"),
        batch_copied=lambda: wide.source.execute("INSERT INTO t VALUES (601, 'meanwhile'); DELETE FROM t WHERE id < 9"),
    )
    assert (result.mode, result.rows_inserted) == ("full_sync", 600)
    wide.sync()
    wide.assert_equal()


def test_commits_between_plan_and_extract_are_in_the_sync(table: WatchedTable) -> None:
    table.sync()
    with table.passage() as passage:
        passage.snapshot()
        table.source.execute("UPDATE t SET v = 'between' WHERE id = 1; DELETE FROM t WHERE id = 2")
        passage.extract()
        passage.stage()
        merged = passage.merge()
    assert (merged.updated, merged.deleted) == (1, 1)
    assert table.sync().rows_extracted == 0


def test_a_transaction_that_ends_between_plan_and_extract_is_in_the_sync_and_frees_the_watermark(
    table: WatchedTable,
) -> None:
    table.sync()
    late = table.session()
    xid = late.begin()
    late.run("UPDATE t SET v = 'late' WHERE id = 1")
    with table.passage() as passage:
        assert passage.snapshot().horizon == xid
        late.run("COMMIT")
        passage.extract()
        passage.stage()
        merged = passage.merge()
    assert merged.updated == 1
    assert merged.watermark > xid


def test_of_two_syncs_planned_from_the_same_state_the_second_to_merge_is_refused(table: WatchedTable) -> None:
    table.sync()
    table.source.execute("UPDATE t SET v = 'one' WHERE id = 1")
    with table.passage() as early, table.passage() as late:
        early.snapshot()
        late.snapshot()
        early.extract()
        table.source.execute("UPDATE t SET v = 'two' WHERE id = 1; DELETE FROM t WHERE id = 2")
        late.extract()
        late.stage()
        late.merge()
        with pytest.raises(StaleExtract):
            early.stage().rows and early.merge()
    table.assert_equal()
    assert table.sync().rows_updated == 0


def test_a_sync_between_extract_and_stage_of_another_makes_that_one_stale(table: WatchedTable) -> None:
    table.sync()
    table.source.execute("UPDATE t SET v = 'one' WHERE id = 1; DELETE FROM t WHERE id = 3")
    with table.passage() as passage:
        passage.snapshot()
        passage.extract()
        table.source.execute("UPDATE t SET v = 'two' WHERE id = 1; INSERT INTO t VALUES (3, 'back')")
        table.sync()
        with pytest.raises(StaleExtract):
            passage.stage()
    table.assert_equal()


def test_a_merge_repeated_after_further_changes_at_the_source_does_nothing(table: WatchedTable) -> None:
    table.sync()
    table.source.execute("UPDATE t SET v = 'one' WHERE id = 1")
    with table.passage() as passage:
        passage.snapshot()
        passage.extract()
        passage.stage()
        first = passage.merge()
        table.source.execute("UPDATE t SET v = 'two' WHERE id = 1")
        again = passage.merge()
    assert again.repeated
    assert (again.updated, again.watermark) == (first.updated, first.watermark)
    assert table.target.fetch("SELECT v FROM t WHERE id = 1") == [("one",)]
    assert table.sync().rows_updated == 1
