"""Keys that change, go, come back and change places. A key is only looked at under the extract's own snapshot."""

from __future__ import annotations

import pytest

from xmin_assets_tests.integration.interleaving.harness import WatchedTable

DEFERRABLE = """
CREATE TABLE t (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v text);
INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 8) i;
"""
SWAP = "UPDATE t SET id = 3 - id WHERE id IN (1, 2)"


def test_a_changed_key_is_a_row_gone_and_a_row_come(table: WatchedTable) -> None:
    table.sync()
    table.source.execute("UPDATE t SET id = 101 WHERE id = 1")
    result = table.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (1, 0, 1)


def test_a_key_changed_and_changed_back_between_syncs_is_the_same_row_again(table: WatchedTable) -> None:
    table.sync()
    table.source.execute("UPDATE t SET id = 101 WHERE id = 1")
    table.source.execute("UPDATE t SET id = 1 WHERE id = 101")
    result = table.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (0, 1, 0)


def test_a_key_changed_late_by_a_transaction_open_during_a_sync_moves_its_row(table: WatchedTable) -> None:
    table.sync()
    late = table.session()
    late.begin()
    late.run("UPDATE t SET id = 101 WHERE id = 1; UPDATE t SET id = 1 WHERE id = 2")
    table.source.execute("UPDATE t SET v = 'other' WHERE id = 3")
    table.sync()
    late.run("COMMIT")
    result = table.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (1, 1, 1)


def test_a_key_deleted_and_inserted_in_one_transaction_has_the_new_rows_values(table: WatchedTable) -> None:
    table.sync()
    table.source.execute("DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (1, 'again')")
    result = table.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (0, 1, 0)


def test_a_key_deleted_and_inserted_in_two_transactions_between_syncs_has_the_new_rows_values(
    table: WatchedTable,
) -> None:
    table.sync()
    table.source.execute("DELETE FROM t WHERE id = 1")
    table.source.execute("INSERT INTO t VALUES (1, 'again')")
    result = table.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (0, 1, 0)


def test_a_key_deleted_before_a_sync_and_inserted_after_it_goes_and_comes(table: WatchedTable) -> None:
    table.sync()
    table.source.execute("DELETE FROM t WHERE id = 1")
    assert table.sync().rows_deleted == 1
    table.source.execute("INSERT INTO t VALUES (1, 'again')")
    assert table.sync().rows_inserted == 1


def test_a_row_inserted_and_deleted_between_syncs_never_comes(table: WatchedTable) -> None:
    table.sync()
    table.source.execute("INSERT INTO t VALUES (101, 'brief')")
    table.source.execute("DELETE FROM t WHERE id = 101")
    assert table.sync().rows_extracted == 0


def test_an_insert_hides_no_delete_of_another_row(table: WatchedTable) -> None:
    """The number of rows is the same before and after."""
    table.sync()
    table.source.execute("DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (101, 'new')")
    result = table.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (1, 0, 1)


@pytest.mark.parametrize("changed", [1, 7], ids=["few rows changed", "most rows changed"])
def test_an_update_hides_no_delete_of_another_row(table: WatchedTable, changed: int) -> None:
    table.sync()
    table.source.execute(f"UPDATE t SET v = 'new' WHERE id <= {changed}; DELETE FROM t WHERE id = 8")
    result = table.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (0, changed, 1)


def test_keys_swapped_in_one_statement_are_swapped(empty: WatchedTable) -> None:
    empty.source.execute(DEFERRABLE)
    empty.sync()
    empty.source.execute(SWAP)
    result = empty.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (0, 2, 0)
    assert empty.target.fetch("SELECT v FROM t WHERE id IN (1, 2) ORDER BY id") == [("row 2",), ("row 1",)]


def test_keys_swapped_by_a_transaction_open_during_a_sync_are_swapped(empty: WatchedTable) -> None:
    empty.source.execute(DEFERRABLE)
    empty.sync()
    late = empty.session()
    late.begin()
    late.run(SWAP)
    empty.source.execute("UPDATE t SET v = 'other' WHERE id = 3")
    empty.sync()
    late.run("COMMIT")
    assert empty.sync().rows_updated == 2


def test_keys_swapped_twice_between_syncs_are_where_they_were(empty: WatchedTable) -> None:
    empty.source.execute(DEFERRABLE)
    empty.sync()
    empty.source.execute(SWAP)
    empty.source.execute(SWAP)
    assert empty.sync().rows_updated == 2
    assert empty.target.fetch("SELECT v FROM t WHERE id IN (1, 2) ORDER BY id") == [("row 1",), ("row 2",)]


def test_keys_that_move_round_by_a_spare_one_are_where_the_source_has_them(table: WatchedTable) -> None:
    table.sync()
    for old, new in ((1, 0), (2, 1), (3, 2), (0, 3)):
        table.source.execute(f"UPDATE t SET id = {new}, v = v || ' was {old}' WHERE id = {old}")
    result = table.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (0, 3, 0)


def test_all_keys_moved_up_by_one_are_one_row_gone_and_one_come(empty: WatchedTable) -> None:
    empty.source.execute(DEFERRABLE)
    empty.sync()
    empty.source.execute("UPDATE t SET id = id + 1")
    result = empty.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (1, 7, 1)


def test_rows_that_exchange_a_unique_value_besides_the_key_are_taken_over(empty: WatchedTable) -> None:
    empty.source.execute(
        "CREATE TABLE t (id int PRIMARY KEY, place int UNIQUE DEFERRABLE);"
        "INSERT INTO t SELECT i, i FROM generate_series(1, 8) i"
    )
    empty.sync()
    empty.source.execute("UPDATE t SET place = 9 - place")
    assert empty.sync().rows_updated == 8


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [("numeric", "1.0", "1.00"), ("interval", "24:00", "1 day"), ("float8", "0", "-0")],
)
def test_a_key_that_is_equal_and_written_otherwise_is_written_as_the_source_has_it(
    empty: WatchedTable, kind: str, before: str, after: str
) -> None:
    empty.source.execute(f"CREATE TABLE t (id {kind} PRIMARY KEY, v text); INSERT INTO t VALUES ('{before}', 'same')")
    empty.sync()
    empty.source.execute(f"UPDATE t SET id = '{after}'")
    assert empty.sync().rows_updated == 1
    assert empty.target.fetch("SELECT id::text FROM t") == empty.source.fetch("SELECT id::text FROM t")
