"""A partitioned source: rows that move, and partitions that come, go and are emptied."""

from __future__ import annotations

import pytest

from xmin_assets.errors import PlanOutdated
from xmin_assets_tests.integration.interleaving.harness import WatchedTable
from xmin_assets_tests.integration.interleaving.sessions import Running, until_engine_waits

PARTITIONED = """
CREATE TABLE t (id int, region text, v text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE t_north PARTITION OF t FOR VALUES IN ('north');
CREATE TABLE t_south PARTITION OF t FOR VALUES IN ('south') PARTITION BY RANGE (id);
CREATE TABLE t_south_low PARTITION OF t_south FOR VALUES FROM (0) TO (100);
CREATE TABLE t_south_high PARTITION OF t_south FOR VALUES FROM (100) TO (200);
INSERT INTO t SELECT i, CASE WHEN i % 2 = 0 THEN 'north' ELSE 'south' END, 'first' FROM generate_series(1, 8) i;
"""
LOOSE = """
CREATE TABLE loose (id int, region text, v text, PRIMARY KEY (id, region));
INSERT INTO loose VALUES (1, 'east', 'loose'), (2, 'east', 'loose');
"""
ATTACH = "ALTER TABLE t ATTACH PARTITION loose FOR VALUES IN ('east')"
MOVE = "UPDATE t SET region = 'south' WHERE id = 2; UPDATE t SET region = 'north' WHERE id = 1"
EXCHANGE = "UPDATE t SET region = CASE region WHEN 'north' THEN 'south' ELSE 'north' END"


@pytest.fixture
def parts(empty: WatchedTable) -> WatchedTable:
    """Partitions at two levels. The key is the region and the id; the rows move by either."""
    empty.source.execute(PARTITIONED)
    empty.key = ("id", "region")
    return empty


@pytest.fixture
def moving(empty: WatchedTable) -> WatchedTable:
    """Partitions by a column outside of the key that the copy goes by: a moved row keeps its key."""
    empty.source.execute(PARTITIONED)
    empty.options["key"] = ["id"]
    return empty


def test_rows_that_move_to_other_partitions_are_there_once(parts: WatchedTable) -> None:
    parts.sync()
    parts.source.execute(MOVE)
    result = parts.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (2, 0, 2)


def test_rows_that_move_to_other_partitions_and_keep_their_key_are_updated(moving: WatchedTable) -> None:
    moving.sync()
    moving.source.execute(MOVE)
    result = moving.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (0, 2, 0)


def test_rows_that_move_there_and_back_between_syncs_are_where_they_were(moving: WatchedTable) -> None:
    moving.sync()
    moving.source.execute(EXCHANGE)
    moving.source.execute(EXCHANGE)
    assert moving.sync().rows_updated == 8


@pytest.mark.parametrize("point", ["snapshot_taken", "batch_copied", "merging"])
def test_rows_that_move_between_partitions_during_an_extract_are_in_it_once_where_they_were(
    moving: WatchedTable, point: str
) -> None:
    """A row that moves from a partition not yet read to one already read, or the other way about."""
    moving.sync()
    moving.source.execute("UPDATE t SET v = 'second'")
    result = moving.sync(**{point: lambda: moving.source.execute(EXCHANGE)})
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (0, 8, 0)
    assert moving.sync().rows_updated == 8


def test_rows_moved_by_a_transaction_open_during_syncs_move_after_its_commit(moving: WatchedTable) -> None:
    moving.sync()
    late = moving.session()
    late.begin()
    late.run(MOVE)
    moving.source.execute("UPDATE t SET v = 'other' WHERE id > 6")
    moving.sync()
    moving.sync()
    late.run("COMMIT")
    assert moving.sync().rows_updated == 2


def test_rows_moved_and_changed_in_subtransactions_end_with_them(moving: WatchedTable) -> None:
    moving.sync()
    late = moving.session()
    late.begin()
    late.run("SAVEPOINT a; UPDATE t SET region = 'south' WHERE id = 2; ROLLBACK TO a")
    late.run("SAVEPOINT b; UPDATE t SET region = 'north', v = 'moved' WHERE id = 1; RELEASE b")
    moving.source.execute("UPDATE t SET v = 'other' WHERE id > 6")
    moving.sync()
    late.run("COMMIT")
    assert moving.sync().rows_updated == 1


def test_a_partition_attached_between_syncs_comes_with_all_its_rows(parts: WatchedTable) -> None:
    parts.source.execute(LOOSE)
    parts.sync()
    parts.source.execute(ATTACH)
    assert parts.sync().rows_inserted == 2


def test_a_partition_attached_during_an_extract_comes_with_the_next_sync(parts: WatchedTable) -> None:
    """Its rows are older than the watermark of the sync that did not see it."""
    parts.source.execute(LOOSE)
    result = parts.sync(snapshot_taken=lambda: parts.source.execute(ATTACH))
    assert result.rows_inserted == 8
    assert parts.sync().rows_inserted == 2


def test_a_partition_detached_between_syncs_goes_with_all_its_rows(parts: WatchedTable) -> None:
    parts.sync()
    parts.source.execute("ALTER TABLE t DETACH PARTITION t_north")
    assert parts.sync().rows_deleted == 4


def test_a_partition_detached_for_the_time_of_a_sync_comes_back_with_all_its_rows(parts: WatchedTable) -> None:
    parts.sync()
    parts.source.execute("ALTER TABLE t DETACH PARTITION t_north")
    parts.source.execute("UPDATE t_north SET v = 'detached' WHERE id = 2; DELETE FROM t_north WHERE id = 4")
    parts.sync()
    parts.source.execute("ALTER TABLE t ATTACH PARTITION t_north FOR VALUES IN ('north')")
    assert parts.sync().rows_inserted == 3


def test_a_partition_detached_and_attached_again_between_syncs_has_what_was_written_to_it_meanwhile(
    parts: WatchedTable,
) -> None:
    parts.sync()
    parts.source.execute("ALTER TABLE t DETACH PARTITION t_north")
    parts.source.execute("UPDATE t_north SET v = 'detached' WHERE id = 2; DELETE FROM t_north WHERE id = 4")
    parts.source.execute("ALTER TABLE t ATTACH PARTITION t_north FOR VALUES IN ('north')")
    result = parts.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (0, 1, 1)


def test_a_partition_exchanged_for_another_that_the_same_transaction_wrote_has_the_others_rows(
    parts: WatchedTable,
) -> None:
    """One transaction writes a key in both, so that key and xid are those of two different rows."""
    parts.source.execute("CREATE TABLE other (LIKE t_north INCLUDING ALL)")
    parts.source.execute(
        "BEGIN; UPDATE t_north SET v = 'in t_north';"
        "INSERT INTO other SELECT id, region, 'in other' FROM t_north; COMMIT"
    )
    parts.sync()
    parts.source.execute("ALTER TABLE t DETACH PARTITION t_north")
    parts.source.execute("ALTER TABLE t ATTACH PARTITION other FOR VALUES IN ('north')")
    assert parts.sync().rows_updated == 4


def test_a_partition_truncated_while_an_extract_waits_for_its_lock_makes_the_plan_outdated(
    parts: WatchedTable,
) -> None:
    parts.sync()
    writer = parts.session()
    with parts.passage() as passage:
        passage.snapshot()
        writer.run("BEGIN; TRUNCATE t_south_low; INSERT INTO t VALUES (55, 'south', 'new')")
        extracting = Running(passage.extract)
        until_engine_waits(parts.source, extracting)
        writer.run("COMMIT")
        with pytest.raises(PlanOutdated):
            extracting.result()
    result = parts.sync()
    assert (result.rows_inserted, result.rows_deleted) == (1, 4)


def test_a_truncate_of_one_partition_waits_for_an_extract_of_all(parts: WatchedTable) -> None:
    parts.sync()
    parts.source.execute("UPDATE t SET v = 'second' WHERE id < 3")
    writer = parts.session()
    with parts.passage() as passage:
        passage.snapshot()
        passage.extract(snapshot_taken=lambda: writer.start("TRUNCATE t_south_low"))
        writer.finish()
        passage.stage()
        assert passage.merge().updated == 2
    assert parts.sync().rows_deleted == 4


def test_a_partition_rewritten_by_vacuum_full_between_syncs_brings_nothing(parts: WatchedTable) -> None:
    parts.source.execute("DELETE FROM t WHERE id = 2")
    parts.sync()
    ((north,),) = parts.source.fetch("SELECT count(*) FROM t_north")
    parts.source.execute("VACUUM FULL t_north")
    # Where the copy knows the rows' blocks, it learns the new ones.
    assert parts.sync().rows_extracted == (north if parts.options.get("track_blocks") else 0)


def test_rows_of_a_table_that_inherits_come_and_go_with_the_rows_of_its_parent(table: WatchedTable) -> None:
    table.source.execute("CREATE TABLE child (PRIMARY KEY (id), more int) INHERITS (t)")
    table.source.execute("INSERT INTO child VALUES (101, 'child', 1), (102, 'child', 2)")
    table.sync()
    late = table.session()
    late.begin()
    late.run("UPDATE t SET v = 'late' WHERE id IN (1, 101); DELETE FROM t WHERE id = 102")
    table.source.execute("INSERT INTO child VALUES (103, 'child', 3)")
    assert table.sync().rows_inserted == 1
    late.run("COMMIT")
    result = table.sync()
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (0, 2, 1)
