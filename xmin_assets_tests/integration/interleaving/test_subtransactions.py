"""Savepoints: a subtransaction's xid is above its parent's, and the parent's end decides about both."""

from __future__ import annotations

import pytest

from xmin_assets_tests.integration.interleaving.harness import WatchedTable

# More than the 64 subtransactions that a backend advertises (PGPROC_MAX_CACHED_SUBXIDS in src/include/storage/proc.h),
# so that snapshots have to look them up in pg_subtrans. A block with an EXCEPTION clause is a subtransaction.
MANY = """
DO $$
BEGIN
    FOR i IN 1..150 LOOP
        BEGIN
            INSERT INTO t VALUES (1000 + i, 'many');
            UPDATE t SET v = 'sub ' || i WHERE id = i % 8 + 1;
            IF i % 3 = 0 THEN
                RAISE EXCEPTION 'back';
            END IF;
        EXCEPTION WHEN raise_exception THEN
            NULL;
        END;
    END LOOP;
END $$
"""


def test_rows_of_a_released_savepoint_arrive_with_their_transaction(table: WatchedTable) -> None:
    table.sync()
    late, other = table.session(), table.session()
    xid = late.begin()
    late.run("SAVEPOINT a; INSERT INTO t VALUES (101, 'released'); UPDATE t SET v = 'released' WHERE id = 1")
    other.run("UPDATE t SET v = 'other' WHERE id = 3")
    assert table.sync().watermark == xid
    late.run("RELEASE a")
    other.run("UPDATE t SET v = 'other' WHERE id = 4")
    assert table.sync().watermark == xid

    late.run("COMMIT")
    result = table.sync()
    assert (result.rows_inserted, result.rows_updated) == (1, 1)


def test_rows_of_a_savepoint_rolled_back_never_arrive_and_those_around_it_do(table: WatchedTable) -> None:
    table.sync()
    late, other = table.session(), table.session()
    late.begin()
    late.run("INSERT INTO t VALUES (101, 'before'); SAVEPOINT a; INSERT INTO t VALUES (102, 'back')")
    late.run("UPDATE t SET v = 'back' WHERE id = 1; DELETE FROM t WHERE id = 2")
    other.run("UPDATE t SET v = 'other' WHERE id = 3")
    table.sync()
    late.run("ROLLBACK TO a; INSERT INTO t VALUES (103, 'after')")
    table.sync()

    late.run("COMMIT")
    result = table.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (2, 0, 0)
    assert table.target.fetch("SELECT id FROM t WHERE id > 100 ORDER BY id") == [(101,), (103,)]


def test_of_nested_savepoints_each_keeps_its_own_end(table: WatchedTable) -> None:
    table.sync()
    late, other = table.session(), table.session()
    late.begin()
    late.run("SAVEPOINT a; UPDATE t SET v = 'a' WHERE id = 1; SAVEPOINT b; UPDATE t SET v = 'b' WHERE id IN (1, 2)")
    other.run("UPDATE t SET v = 'other' WHERE id = 8")
    table.sync()
    late.run("SAVEPOINT c; UPDATE t SET v = 'c' WHERE id IN (1, 2, 3); RELEASE c; ROLLBACK TO b; RELEASE a")
    other.run("UPDATE t SET v = 'other' WHERE id = 7")
    table.sync()

    late.run("COMMIT")
    assert table.sync().rows_updated == 1
    assert table.target.fetch("SELECT v FROM t WHERE id <= 3 ORDER BY id") == [("a",), ("first",), ("first",)]


def test_a_row_written_in_a_savepoint_after_others_have_committed_higher_xids_arrives(table: WatchedTable) -> None:
    """The subtransaction gets an xid above the commits that the sync has seen; its parent's is below them."""
    late, other = table.session(), table.session()
    parent = late.begin()
    other.run("UPDATE t SET v = 'other' WHERE id = 1")
    table.sync()
    late.run("SAVEPOINT a; UPDATE t SET v = 'sub' WHERE id = 1; RELEASE a; UPDATE t SET v = 'parent' WHERE id = 2")
    other.run("UPDATE t SET v = 'other' WHERE id = 3")
    table.sync()

    late.run("COMMIT")
    table.sync()
    ((sub,),) = table.target.fetch("SELECT source_xmin FROM t WHERE id = 1")
    assert table.target.fetch("SELECT source_xmin FROM t WHERE id = 2") == [(parent,)]
    assert sub > parent


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK", "PREPARE TRANSACTION 'many'; COMMIT PREPARED 'many'"])
def test_more_than_64_subtransactions_in_one_transaction_end_as_one(table: WatchedTable, end: str) -> None:
    table.sync()
    late, other = table.session(), table.session()
    xid = late.begin()
    late.run(MANY)
    other.run("INSERT INTO t VALUES (500, 'other')")
    assert table.sync().watermark == xid

    for statement in end.split("; "):
        late.run(statement)
        other.run("UPDATE t SET v = v || '!' WHERE id = 500")
        result = table.sync()
    assert result.rows_inserted == (0 if end == "ROLLBACK" else 100)


def test_a_sync_that_begins_among_more_than_64_open_subtransactions_sees_none_of_them(table: WatchedTable) -> None:
    late = table.session()
    late.begin()
    for number in range(70):
        late.run(f"SAVEPOINT s{number}; INSERT INTO t VALUES ({1000 + number}, 'open')")
    assert table.sync().rows_inserted == 8
    late.run("ROLLBACK TO s35; COMMIT")
    assert table.sync().rows_inserted == 35
