"""Transactions that are open during syncs and end later: nothing of them is lost, nothing of them comes early."""

from __future__ import annotations

from itertools import permutations

import pytest

from xmin_assets_tests.integration.interleaving.harness import WatchedTable

CHANGES = "INSERT INTO t VALUES (101, 'late'); UPDATE t SET v = 'late' WHERE id = 1; DELETE FROM t WHERE id = 2"


def test_rows_of_a_transaction_open_during_a_sync_arrive_after_its_commit(table: WatchedTable) -> None:
    table.sync()
    late, other = table.session(), table.session()
    xid = late.begin()
    late.run(CHANGES)
    other.run("UPDATE t SET v = 'other' WHERE id = 3")

    result = table.sync()
    assert (result.rows_updated, result.watermark) == (1, xid)
    assert result.max_xmin > xid

    late.run("COMMIT")
    result = table.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (1, 1, 1)


def test_rows_of_a_transaction_open_during_several_syncs_arrive_after_its_commit(table: WatchedTable) -> None:
    late, other = table.session(), table.session()
    xid = late.begin()
    late.run(CHANGES)
    for number in range(4):
        other.run(f"INSERT INTO t VALUES ({200 + number}, 'other')")
        result = table.sync()
        assert result.watermark == xid

    late.run("COMMIT")
    result = table.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (1, 1, 1)
    assert result.watermark > xid


def test_a_transaction_rolled_back_after_syncs_leaves_no_trace(table: WatchedTable) -> None:
    late, other = table.session(), table.session()
    late.begin()
    late.run(CHANGES)
    table.sync()
    other.run("UPDATE t SET v = 'other' WHERE id = 3")
    table.sync()

    late.run("ROLLBACK")
    result = table.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (0, 0, 0)


def test_a_transaction_that_takes_its_xid_before_a_sync_and_writes_after_it_is_not_lost(table: WatchedTable) -> None:
    table.sync()
    late, other = table.session(), table.session()
    late.begin()
    other.run("UPDATE t SET v = 'other' WHERE id = 3")
    table.sync()

    late.run(CHANGES)
    late.run("COMMIT")
    table.sync()


def test_a_newer_version_written_by_a_lower_xid_replaces_the_older_one(table: WatchedTable) -> None:
    table.sync()
    lower, higher = table.session(), table.session()
    low, high = lower.begin(), higher.begin()
    assert low < high
    higher.run("UPDATE t SET v = 'older' WHERE id = 1; COMMIT")
    table.sync()
    assert table.target.fetch("SELECT v, source_xmin FROM t WHERE id = 1") == [("older", high)]

    lower.run("UPDATE t SET v = 'newer' WHERE id = 1; COMMIT")
    result = table.sync()
    assert table.target.fetch("SELECT v, source_xmin FROM t WHERE id = 1") == [("newer", low)]
    assert (result.rows_updated, result.max_xmin) == (1, high)


def test_a_row_deleted_and_recreated_by_lower_xids_has_the_last_ones_values(table: WatchedTable) -> None:
    table.sync()
    third, second, first = table.session(), table.session(), table.session()
    for session in (third, second, first):
        session.begin()
    first.run("UPDATE t SET v = 'first' WHERE id = 1; COMMIT")
    table.sync()
    second.run("DELETE FROM t WHERE id = 1; COMMIT")
    table.sync()
    third.run("INSERT INTO t VALUES (1, 'third'); COMMIT")
    table.sync()
    assert table.target.fetch("SELECT v FROM t WHERE id = 1") == [("third",)]


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_transactions_arrive_in_the_order_of_their_commits_whatever_their_xids(
    table: WatchedTable, order: tuple[int, ...]
) -> None:
    table.sync()
    sessions = [table.session() for _ in order]
    for number, session in enumerate(sessions):
        session.begin()
        session.run(f"INSERT INTO t VALUES ({100 + number}, 'late'); DELETE FROM t WHERE id = {number + 1}")
    table.sync()

    for number in order:
        sessions[number].run("COMMIT")
        result = table.sync()
        assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (1, 0, 1)


def test_rows_read_again_because_the_watermark_is_held_back_are_not_written_again(table: WatchedTable) -> None:
    late, other = table.session(), table.session()
    late.begin()
    late.run(CHANGES)
    other.run("UPDATE t SET v = 'other' WHERE id > 4")
    table.sync()
    written = "SELECT xmin, * FROM t ORDER BY id"
    before = table.target.fetch(written)

    result = table.sync()
    assert (result.rows_extracted, result.rows_updated) == (4, 0)
    assert table.target.fetch(written) == before


def test_a_transaction_in_another_database_of_the_cluster_holds_the_watermark_back_and_nothing_else(
    table: WatchedTable,
) -> None:
    elsewhere = table.source.cluster.connect("postgres")
    try:
        with elsewhere.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT pg_current_xact_id()::text::int8")
            ((xid,),) = cursor.fetchall()
            table.source.execute("UPDATE t SET v = 'other' WHERE id = 3")
            assert table.sync().watermark == xid
            table.source.execute("UPDATE t SET v = 'again' WHERE id = 3; DELETE FROM t WHERE id = 4")
            result = table.sync()
            assert (result.rows_updated, result.rows_deleted, result.watermark) == (1, 1, xid)
    finally:
        elsewhere.close()


def test_a_read_only_transaction_holds_nothing_back(table: WatchedTable) -> None:
    reader = table.session()
    reader.run("BEGIN ISOLATION LEVEL REPEATABLE READ")
    reader.run("SELECT count(*) FROM t")
    before = table.sync().watermark
    table.source.execute("UPDATE t SET v = 'other' WHERE id = 3")
    assert table.sync().watermark > before
    assert table.sync().rows_extracted == 0
