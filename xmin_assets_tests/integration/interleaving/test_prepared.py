"""Two-phase commit: a prepared transaction belongs to no session and is still open."""

from __future__ import annotations

from xmin_assets_tests.integration.interleaving.harness import WatchedTable

CHANGES = "INSERT INTO t VALUES (101, 'two'); UPDATE t SET v = 'two' WHERE id = 1; DELETE FROM t WHERE id = 2"


def prepare(table: WatchedTable, statements: str) -> int:
    """Leave a prepared transaction behind, whose session has ended; its xid."""
    session = table.session()
    xid = session.begin()
    session.run(statements)
    session.run("PREPARE TRANSACTION 'two'")
    session.close()
    return xid


def test_a_prepared_transaction_committed_after_several_syncs_arrives(table: WatchedTable) -> None:
    table.sync()
    xid = prepare(table, CHANGES)
    for number in range(3):
        table.source.execute(f"UPDATE t SET v = 'other' WHERE id = {number + 3}")
        assert table.sync().watermark == xid

    table.source.execute("COMMIT PREPARED 'two'")
    result = table.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (1, 1, 1)
    assert result.watermark > xid


def test_a_prepared_transaction_rolled_back_after_a_sync_leaves_no_trace(table: WatchedTable) -> None:
    prepare(table, CHANGES)
    table.sync()
    table.source.execute("UPDATE t SET v = 'other' WHERE id = 3")
    table.sync()

    table.source.execute("ROLLBACK PREPARED 'two'")
    result = table.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (0, 0, 0)


def test_a_transaction_prepared_and_committed_between_the_passes_of_an_extract_is_not_in_it(
    table: WatchedTable,
) -> None:
    table.sync()
    late = table.session()
    late.begin()
    late.run(CHANGES)
    table.source.execute("UPDATE t SET v = 'other' WHERE id = 3")
    result = table.sync(
        snapshot_taken=lambda: late.run("PREPARE TRANSACTION 'two'"),
        batch_copied=lambda: late.run("COMMIT PREPARED 'two'"),
    )
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (0, 1, 0)
    assert table.sync().rows_inserted == 1


def test_subtransactions_of_a_prepared_transaction_arrive_with_it(table: WatchedTable) -> None:
    table.sync()
    prepare(table, "SAVEPOINT a; UPDATE t SET v = 'a' WHERE id = 1; SAVEPOINT b; UPDATE t SET v = 'b'; ROLLBACK TO b")
    table.source.execute("INSERT INTO t VALUES (200, 'other')")
    table.sync()

    table.source.execute("COMMIT PREPARED 'two'")
    assert table.sync().rows_updated == 1


def test_a_row_locked_by_a_prepared_transaction_is_a_row_that_has_not_changed(table: WatchedTable) -> None:
    table.sync()
    prepare(table, "SELECT FROM t WHERE id = 1 FOR UPDATE")
    assert table.sync().rows_extracted == 0
    table.source.execute("COMMIT PREPARED 'two'")
    assert table.sync().rows_extracted == 0
