"""VACUUM in all its forms moves, freezes and removes row versions; it changes no row."""

from __future__ import annotations

import pytest

from xmin_assets.errors import PlanOutdated
from xmin_assets_tests.integration.interleaving.harness import WatchedTable

IN_PLACE = ["VACUUM t", "VACUUM (FREEZE) t"]
REWRITING = ["VACUUM FULL t", "VACUUM (FULL, FREEZE) t", "CLUSTER t USING t_pkey"]

every = pytest.mark.parametrize("command", [*IN_PLACE, *REWRITING])
in_place = pytest.mark.parametrize("command", IN_PLACE)
rewriting = pytest.mark.parametrize("command", REWRITING)


def moved(table: WatchedTable, command: str) -> int:
    """Rows that are in another block after it, where the copy knows their blocks; the next sync brings them all."""
    if command not in REWRITING or not table.options.get("track_blocks"):
        return 0
    ((rows,),) = table.source.fetch("SELECT count(*) FROM t")
    return int(rows)


@every
def test_between_syncs_it_brings_nothing(table: WatchedTable, command: str) -> None:
    table.source.execute("UPDATE t SET v = 'second' WHERE id < 4; DELETE FROM t WHERE id = 8")
    table.sync()
    table.source.execute(command)
    assert table.sync().rows_extracted == moved(table, command)


@every
def test_between_syncs_it_hides_neither_changes_nor_deletes(table: WatchedTable, command: str) -> None:
    table.sync()
    table.source.execute("UPDATE t SET v = 'second' WHERE id = 1; DELETE FROM t WHERE id = 2")
    table.source.execute(command)
    table.source.execute("INSERT INTO t VALUES (101, 'after')")
    result = table.sync()
    updated = max(1, moved(table, command) - 1)
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (1, updated, 1)
    assert result.mode == "xmin_incremental"


@every
def test_between_syncs_it_keeps_rows_of_transactions_above_a_watermark_that_is_held_back(
    table: WatchedTable, command: str
) -> None:
    """Rows frozen while an older transaction is open keep the xid by which they are found."""
    holder = table.session()
    xid = holder.begin()
    table.sync()
    table.source.execute("UPDATE t SET v = 'second' WHERE id = 1")
    table.source.execute(command)
    result = table.sync()
    assert (result.rows_updated, result.watermark) == (max(1, moved(table, command)), xid)
    holder.run("INSERT INTO t VALUES (101, 'late'); COMMIT")
    assert table.sync().rows_inserted == 1


@in_place
def test_during_an_extract_it_takes_nothing_away_that_the_snapshot_sees(wide: WatchedTable, command: str) -> None:
    """Half of the rows are deleted, the last ones among them, so that VACUUM would cut the file if it could."""
    wide.sync()
    wide.source.execute("UPDATE t SET v = 'second' WHERE id % 3 = 0")

    def delete_and_vacuum() -> None:
        wide.source.execute("DELETE FROM t WHERE id % 2 = 0 OR id > 500")
        wide.source.execute(command)

    result = wide.sync(snapshot_taken=delete_and_vacuum, batch_copied=lambda: wide.source.execute(command))
    assert (result.rows_updated, result.rows_deleted) == (200, 0)
    assert wide.sync().rows_deleted == 350


@rewriting
def test_it_waits_for_an_extract_that_runs_and_changes_nothing_for_it(wide: WatchedTable, command: str) -> None:
    wide.sync()
    wide.source.execute("UPDATE t SET v = 'second' WHERE id % 3 = 0; DELETE FROM t WHERE id % 7 = 0")
    vacuum = wide.session()
    with wide.passage() as passage:
        passage.snapshot()
        passage.extract(snapshot_taken=lambda: vacuum.start(command))
        vacuum.finish()
        passage.stage()
        passage.merge()
    assert wide.sync().rows_extracted == moved(wide, command)


@rewriting
def test_a_plan_made_before_it_is_not_carried_out_after_it(table: WatchedTable, command: str) -> None:
    table.sync()
    table.source.execute("UPDATE t SET v = 'second' WHERE id = 1")
    with table.passage() as passage:
        passage.snapshot()
        table.source.execute(command)
        with pytest.raises(PlanOutdated):
            passage.extract()
    assert table.sync().rows_updated == max(1, moved(table, command))


@rewriting
def test_between_extract_and_merge_it_makes_no_difference(table: WatchedTable, command: str) -> None:
    table.sync()
    table.source.execute("UPDATE t SET v = 'second' WHERE id = 1; DELETE FROM t WHERE id = 2")
    with table.passage() as passage:
        passage.snapshot()
        passage.extract()
        table.source.execute(command)
        passage.stage()
        passage.merge()
    assert table.sync().rows_extracted == moved(table, command)
