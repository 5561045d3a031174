"""Merge: data and watermark commit together, once, and only onto the state that was planned for."""

from __future__ import annotations

from typing import Any

import pytest

from xmin_assets import sync_tables
from xmin_assets.demo.cluster import Cluster
from xmin_assets.errors import ForeignTarget, MassDelete, PlanOutdated, StaleExtract
from xmin_assets.replication.status import table_statuses
from xmin_assets.replication.sync import resync_tables
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.replica import Replica

SOFT: dict[str, Any] = {"source": "public.items", "deletes": "soft"}


@pytest.fixture
def items(replica: Replica) -> Replica:
    replica.source.execute(
        "CREATE TABLE items (id int PRIMARY KEY, n int); INSERT INTO items SELECT i, i FROM generate_series(1, 2000) i"
    )
    return replica


def state(items: Replica) -> tuple[Any, ...]:
    (row,) = items.target.fetch("SELECT revision, sync_id, watermark, rows, resync FROM xmin_assets.state")
    return row


def test_of_two_syncs_planned_from_one_state_only_one_merges(items: Replica) -> None:
    items.sync("public.items")
    items.source.execute("UPDATE items SET n = 0 WHERE id = 1")
    with items.stations("public.items") as stations:
        early = stations.up_to_extract()
        items.source.execute("UPDATE items SET n = 0 WHERE id = 2")
        stations.merge(stations.up_to_stage())
        after = state(items)

        with pytest.raises(StaleExtract):
            stations.merge(stations.stage(early))

    assert state(items) == after
    items.assert_equal("public.items")


def test_a_revision_of_the_same_number_that_another_sync_made_is_not_built_on(items: Replica) -> None:
    """The target was put back to an earlier day, and synced from there."""
    items.sync("public.items")
    items.source.execute("UPDATE items SET n = 0 WHERE id = 1")
    with items.stations("public.items") as stations:
        early = stations.up_to_stage()
        items.target.execute(
            "UPDATE xmin_assets.state SET facts = jsonb_set(facts, '{sync_id}', '\"of another sync\"')"
        )

        with pytest.raises(StaleExtract):
            stations.merge(early)


def test_merging_the_same_sync_again_does_nothing_and_reports_the_same(items: Replica) -> None:
    with items.stations("public.items") as stations:
        staged = stations.up_to_stage()
        first = stations.merge(staged)
        before = state(items)
        again = stations.merge(staged)

    assert again.repeated and not first.repeated
    assert (again.inserted, again.watermark, again.max_xmin) == (first.inserted, first.watermark, first.max_xmin)
    assert state(items) == before


def test_a_merge_that_fails_leaves_rows_and_watermark_as_they_were(items: Replica) -> None:
    items.sync("public.items")
    before = state(items)
    items.target.execute("ALTER TABLE items ADD CONSTRAINT small CHECK (n < 5000)")
    items.source.execute("UPDATE items SET n = 9999 WHERE id = 2000; DELETE FROM items WHERE id = 1")

    result = items.try_sync("public.items")

    assert result.status == "failed" and "small" in (result.error or "")
    assert state(items) == before
    assert items.target.fetch("SELECT count(*), max(n) FROM items") == [(2000, 2000)]
    items.target.execute("ALTER TABLE items DROP CONSTRAINT small")
    items.sync("public.items")
    items.assert_equal("public.items")


def test_a_target_with_foreign_rows_is_refused_and_left_alone(items: Replica) -> None:
    items.target.execute("CREATE TABLE items (id int PRIMARY KEY, mine text); INSERT INTO items VALUES (1, 'precious')")
    with items.stations("public.items") as stations, pytest.raises(ForeignTarget, match="adopt: true"):
        stations.snapshot()

    assert items.target.fetch("SELECT * FROM items") == [(1, "precious")]


def test_an_adopted_target_becomes_equal_and_writes_only_what_differs(items: Replica) -> None:
    items.target.execute(
        "CREATE TABLE items (id int, n int); INSERT INTO items SELECT i, i FROM generate_series(1, 1990) i"
    )
    items.target.execute("INSERT INTO items VALUES (9999, 1); UPDATE items SET n = -1 WHERE id = 5")

    result = items.sync({"source": "public.items", "adopt": True})

    assert (result.rows_inserted, result.rows_deleted) == (10, 1)
    items.assert_equal("public.items")
    assert items.target.fetch(
        "SELECT count(*) FROM pg_constraint WHERE contype = 'p' AND conrelid = 'items'::regclass"
    ) == [(1,)]


def test_an_empty_target_made_by_hand_is_filled(items: Replica) -> None:
    items.target.execute("CREATE TABLE items (n int, id int PRIMARY KEY, extra text NOT NULL DEFAULT 'kept')")

    result = items.sync("public.items")

    assert "empty table" in (result.reason or "")
    assert items.target.fetch("SELECT count(*), sum(n) FROM items WHERE extra = 'kept'") == [(2000, 2001000)]


def test_a_mass_delete_is_refused_until_it_is_allowed_once(items: Replica) -> None:
    items.sync("public.items")
    before = state(items)
    items.source.execute("DELETE FROM items WHERE id > 900")

    refused = items.try_sync("public.items")

    assert refused.status == "failed"
    assert "1100 of the target's 2000 rows" in (refused.error or "") and "--allow-mass-delete" in (refused.error or "")
    assert state(items) == before
    assert items.target.fetch("SELECT count(*) FROM items") == [(2000,)]
    assert items.sync("public.items", allow_mass_delete=True).rows_deleted == 1100
    items.assert_equal("public.items")


def test_a_small_table_may_be_emptied(items: Replica) -> None:
    items.source.execute("DELETE FROM items WHERE id > 900")
    items.sync("public.items")
    items.source.execute("TRUNCATE items")

    assert items.sync("public.items").rows_deleted == 900


def test_soft_deletes_mark_rows_and_unmark_those_that_return(items: Replica) -> None:
    items.sync(SOFT)
    items.source.execute("DELETE FROM items WHERE id <= 3")
    assert items.sync(SOFT).rows_deleted == 3
    marked = "SELECT id FROM items WHERE source_deleted_at IS NOT NULL ORDER BY id"
    assert items.target.fetch(marked) == [(1,), (2,), (3,)]
    items.source.execute("INSERT INTO items VALUES (2, 22)")

    items.sync(SOFT)

    assert items.target.fetch(marked) == [(1,), (3,)]
    assert items.target.fetch("SELECT n FROM items WHERE id = 2") == [(22,)]
    assert items.sync(SOFT).rows_extracted == 0


def test_ignored_deletes_stay(items: Replica) -> None:
    table = {"source": "public.items", "deletes": "ignore"}
    items.sync(table)
    items.source.execute("DELETE FROM items WHERE id <= 3; INSERT INTO items VALUES (5000, 1)")

    result = items.sync(table)

    assert (result.rows_inserted, result.rows_deleted) == (1, 0)
    assert items.target.fetch("SELECT count(*) FROM items") == [(2001,)]


def test_a_resync_compares_everything_and_writes_only_what_differs(items: Replica) -> None:
    items.sync("public.items")
    items.target.execute(
        "UPDATE items SET n = -1 WHERE id = 7; DELETE FROM items WHERE id = 8; INSERT INTO items VALUES (0, 0)"
    )
    assert resync_tables(items.config("public.items")) == ("public.items",)

    result = items.sync("public.items")

    assert (result.mode, result.reason) == ("full_sync", "a resync was asked for")
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (1, 1, 1)
    items.assert_equal("public.items")


def test_a_sync_under_way_does_not_undo_a_resync(items: Replica) -> None:
    items.sync("public.items")
    items.source.execute("UPDATE items SET n = 0 WHERE id = 1")
    with items.stations("public.items") as stations:
        staged = stations.up_to_stage()
        resync_tables(items.config("public.items"))
        with pytest.raises(StaleExtract):
            stations.merge(staged)

    assert items.sync("public.items").mode == "full_sync"


def test_rows_that_somebody_deleted_from_the_target_come_back_with_the_next_delete(items: Replica) -> None:
    """Counts tell that the target is not what the last sync left, and the sync begins again with everything."""
    items.sync("public.items")
    items.target.execute("DELETE FROM items WHERE id BETWEEN 10 AND 20")
    items.source.execute("DELETE FROM items WHERE id = 2000")

    result = items.sync("public.items")

    assert result.mode == "full_sync" and "the target had 1988 rows where the source had 1999" in (result.reason or "")
    items.assert_equal("public.items")


def test_a_target_that_was_dropped_is_made_again(items: Replica) -> None:
    items.sync("public.items")
    items.target.execute("DROP TABLE items")

    assert items.sync("public.items").reason == "the target table is gone"
    items.assert_equal("public.items")


def test_a_target_that_appears_after_the_plan_is_not_overwritten(items: Replica) -> None:
    with items.stations("public.items") as stations:
        staged = stations.up_to_stage()
        items.target.execute("CREATE TABLE items (mine int); INSERT INTO items VALUES (1)")
        with pytest.raises(PlanOutdated, match="appeared"):
            stations.merge(staged)

    assert items.target.fetch("SELECT * FROM items") == [(1,)]


def test_a_target_that_was_replaced_after_the_plan_is_not_merged_into(items: Replica) -> None:
    items.sync("public.items")
    items.source.execute("UPDATE items SET n = 0 WHERE id = 1")
    with items.stations("public.items") as stations:
        staged = stations.up_to_stage()
        items.target.execute(
            "ALTER TABLE items RENAME TO old; CREATE TABLE items (LIKE old); INSERT INTO items TABLE old"
        )
        with pytest.raises(PlanOutdated, match="replaced"):
            stations.merge(staged)

    assert items.target.fetch("SELECT n FROM items WHERE id = 1") == [(1,)]


def test_mass_delete_error_is_terminal(items: Replica) -> None:
    items.sync("public.items")
    items.source.execute("TRUNCATE items")
    with items.stations("public.items") as stations:
        staged = stations.up_to_stage()
        with pytest.raises(MassDelete):
            stations.merge(staged)
        assert stations.merge(staged, allow_mass_delete=True).deleted == 2000


def test_status_tells_the_last_sync(items: Replica) -> None:
    config = items.config("public.items")
    assert table_statuses(config)[0].state is None
    (result,) = sync_tables(config).tables

    (status,) = table_statuses(config)

    assert status.state and status.last
    assert (status.state.watermark, status.state.rows, status.last.inserted) == (result.watermark, 2000, 2000)


def test_source_and_target_must_not_be_the_same_table(items: Replica) -> None:
    items.target.execute("CREATE TABLE items (id int PRIMARY KEY)")
    same = Replica(items.target, items.target, items.spool)

    result = same.try_sync({"source": "public.items", "adopt": True})

    assert result.status == "failed" and "the same table" in (result.error or "")


def test_a_sync_planned_for_one_target_is_not_merged_into_another(items: Replica, target_server: Cluster) -> None:
    other = Database.create(target_server)
    try:
        with items.stations("public.items") as stations:
            extracted = stations.up_to_extract()
        elsewhere = Replica(items.source, other, items.spool, items.settings)
        with elsewhere.stations("public.items") as stations, pytest.raises(PlanOutdated, match="another target"):
            stations.stage(extracted)
    finally:
        other.drop()


def test_an_unlogged_target_is_refused(items: Replica) -> None:
    items.sync("public.items")
    items.target.execute("ALTER TABLE items SET UNLOGGED")

    result = items.try_sync("public.items")

    assert result.status == "failed" and "SET LOGGED" in (result.error or "")


@pytest.mark.parametrize("extension", ["citext", "ltree", "hstore"])
def test_a_key_of_an_extensions_type_is_compared_by_its_own_equality(replica: Replica, extension: str) -> None:
    for database in (replica.source, replica.target):
        database.execute(f"CREATE EXTENSION {extension}")
    values = {"citext": "'key' || i", "ltree": "('a.b' || i)::ltree", "hstore": "hstore('k', i::text)"}
    replica.source.execute(f"CREATE TABLE things (id {extension} PRIMARY KEY, n int)")
    replica.source.execute(f"INSERT INTO things SELECT {values[extension]}, i FROM generate_series(1, 20) i")
    replica.sync("public.things")
    replica.source.execute("UPDATE things SET n = 0 WHERE n = 3")
    assert replica.sync("public.things").rows_updated == 1
    replica.source.execute("DELETE FROM things WHERE n = 5")

    assert replica.sync("public.things").rows_deleted == 1
    replica.assert_equal("public.things")


def test_a_key_that_is_equal_but_written_otherwise_is_updated(replica: Replica) -> None:
    for database in (replica.source, replica.target):
        database.execute("CREATE EXTENSION citext")
    replica.source.execute("CREATE TABLE things (id citext PRIMARY KEY); INSERT INTO things VALUES ('Key')")
    replica.sync("public.things")
    replica.source.execute("UPDATE things SET id = 'KEY'")

    replica.sync("public.things")

    replica.assert_equal("public.things")
