"""Row versions that are many, locked, shared or frozen at birth."""

from __future__ import annotations

import io

from xmin_assets_tests.integration.interleaving.harness import WatchedTable


def test_of_many_versions_of_a_row_between_syncs_the_last_one_is_copied_once(table: WatchedTable) -> None:
    table.sync()
    for number in range(50):
        table.source.execute(f"UPDATE t SET v = 'version {number}' WHERE id = 1")
    result = table.sync()
    assert (result.rows_extracted, result.rows_updated) == (1, 1)
    assert table.target.fetch("SELECT v FROM t WHERE id = 1") == [("version 49",)]


def test_of_many_versions_of_a_row_in_one_transaction_the_last_one_is_copied_once(table: WatchedTable) -> None:
    table.sync()
    table.source.execute(";".join(f"UPDATE t SET v = 'version {number}' WHERE id = 1" for number in range(50)))
    assert table.sync().rows_extracted == 1


def test_a_row_written_again_with_the_same_values_is_a_new_version(table: WatchedTable) -> None:
    table.sync()
    table.source.execute("UPDATE t SET v = v WHERE id = 1")
    assert table.sync().rows_updated == 1


def test_an_update_rolled_back_leaves_the_version_before_it(table: WatchedTable) -> None:
    table.sync()
    table.source.execute("UPDATE t SET v = 'second' WHERE id = 1")
    back = table.session()
    back.run("BEGIN; UPDATE t SET v = 'third' WHERE id = 1; DELETE FROM t WHERE id = 2; ROLLBACK")
    assert table.sync().rows_extracted == 1


def test_a_row_locked_for_update_is_a_row_that_has_not_changed(table: WatchedTable) -> None:
    table.sync()
    locker = table.session()
    locker.begin()
    locker.run("SELECT FROM t WHERE id <= 2 FOR UPDATE")
    assert table.sync().rows_extracted == 0
    locker.run("UPDATE t SET v = 'locked first' WHERE id = 1; COMMIT")
    assert table.sync().rows_extracted == 1


def test_a_row_under_several_shared_locks_is_there_and_so_is_its_next_version(table: WatchedTable) -> None:
    """Two lockers make xmax a multixact; an updater that joins them makes it one with an update in it."""
    table.sync()
    first, second, updater = table.session(), table.session(), table.session()
    for session in (first, second):
        session.begin()
        session.run("SELECT FROM t WHERE id = 1 FOR KEY SHARE")
    updater.begin()
    updater.run("UPDATE t SET v = 'beside key share' WHERE id = 1")
    assert table.sync().rows_extracted == 0

    updater.run("COMMIT")
    assert table.sync().rows_updated == 1
    second.run("UPDATE t SET v = 'by a locker' WHERE id = 1; COMMIT")
    assert table.sync().rows_updated == 1
    first.run("ROLLBACK")
    assert table.sync().rows_updated == 0


def test_a_row_deleted_by_one_of_its_lockers_goes_when_that_one_commits(table: WatchedTable) -> None:
    table.sync()
    reader, deleter = table.session(), table.session()
    for session in (reader, deleter):
        session.begin()
        session.run("SELECT FROM t WHERE id = 1 FOR SHARE")
    reader.run("COMMIT")
    deleter.run("DELETE FROM t WHERE id = 1")
    assert table.sync().rows_deleted == 0
    deleter.run("COMMIT")
    assert table.sync().rows_deleted == 1


def test_rows_locked_by_the_foreign_keys_of_open_transactions_are_taken_as_they_are(table: WatchedTable) -> None:
    table.source.execute("CREATE TABLE child (t int REFERENCES t)")
    first, second = table.session(), table.session()
    for session in (first, second):
        session.begin()
        session.run("INSERT INTO child VALUES (1)")
    table.source.execute("UPDATE t SET v = 'beside children' WHERE id = 1")
    table.sync()
    first.run("COMMIT")
    second.run("ROLLBACK")
    result = table.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (0, 0, 0)


def test_rows_frozen_at_birth_by_copy_freeze_are_copied(table: WatchedTable) -> None:
    """COPY FREEZE marks rows as visible to all; their raw xmin stays that of the loading transaction."""
    table.sync()
    with table.source.connect().cursor() as loader:
        loader.execute("BEGIN")
        loader.execute("TRUNCATE t")
        loader.copy_expert("COPY t FROM STDIN (FREEZE)", io.StringIO("1\tfrozen\n101\tfrozen\n"))
        loader.execute("COMMIT")
    assert table.source.fetch("SELECT count(*) FROM t WHERE age(xmin) < 10") == [(2,)]
    result = table.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (1, 1, 7)
    assert table.sync().rows_extracted == 0


def test_rows_loaded_by_copy_freeze_while_another_transaction_holds_the_watermark_are_copied(
    table: WatchedTable,
) -> None:
    table.sync()
    holder = table.session()
    xid = holder.begin()
    with table.source.connect().cursor() as loader:
        loader.execute("BEGIN")
        loader.execute("TRUNCATE t")
        loader.copy_expert("COPY t FROM STDIN (FREEZE)", io.StringIO("1\tfrozen\n"))
        loader.execute("COMMIT")
    assert table.sync().watermark == xid
    holder.run("UPDATE t SET v = 'thawed' WHERE id = 1; COMMIT")
    assert table.sync().rows_updated == 1
