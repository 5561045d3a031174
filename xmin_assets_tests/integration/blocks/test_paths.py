"""Which blocks a sync reads, what it finds in them, and what it says where it must read them all."""

from __future__ import annotations

import pytest

from xmin_assets.replication.changed_blocks import block_map, block_ranges
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.integration.blocks.conftest import TABLE, Tracked
from xmin_assets_tests.integration.ledger import counts
from xmin_assets_tests.replica import Replica


def test_changes_are_found_in_their_blocks(tracked: Tracked) -> None:
    tracked.source.execute(
        "UPDATE items SET n = 1 WHERE id = 5; DELETE FROM items WHERE id IN (1000, 2000);"
        "INSERT INTO items VALUES (9000, 1, 'new')"
    )
    extracted = tracked.extract()

    assert extracted.block_map is not None, extracted.blocks_read
    assert extracted.block_map.changed <= 6
    assert extracted.block_map.in_all == 364
    assert extracted.rows == 2
    assert counts(tracked.sync()) == (2, 1, 1, 2)


def test_an_idle_table_is_not_read_at_all(tracked: Tracked) -> None:
    tracked.source.execute("CREATE TABLE other (id int); INSERT INTO other VALUES (1)")
    extracted = tracked.extract()

    assert extracted.block_map is not None, extracted.blocks_read
    assert (extracted.block_map.changed, extracted.rows, extracted.key_parts) == (0, 0, None)
    assert counts(tracked.sync()) == (0, 0, 0, 0)


@pytest.mark.parametrize("checkpoints", ["none", "before", "between", "after"])
def test_summaries_and_the_rest_of_the_wal_together_tell_all_changes(tracked: Tracked, checkpoints: str) -> None:
    if checkpoints == "before":
        tracked.source.execute("CHECKPOINT")
    tracked.source.execute("UPDATE items SET n = n + 1 WHERE id % 500 = 0")
    if checkpoints == "between":
        tracked.source.execute("CHECKPOINT")
    tracked.source.execute("DELETE FROM items WHERE id % 700 = 0")
    if checkpoints == "after":
        tracked.source.execute("CHECKPOINT")

    assert tracked.extract().block_map is not None
    assert counts(tracked.sync())[1:] == (0, 7, 5)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("most_ranges", [block_ranges.MOST_RANGES, 4])
def test_several_rounds_with_everything_that_happens_to_a_table(
    tracked: Tracked, monkeypatch: pytest.MonkeyPatch, most_ranges: int
) -> None:
    monkeypatch.setattr(block_ranges, "MOST_RANGES", most_ranges)
    for turn in range(6):
        tracked.source.execute(f"UPDATE items SET n = {turn} WHERE id % 97 = {turn}")
        tracked.source.execute(f"DELETE FROM items WHERE id % 89 = {turn}")
        series = "generate_series(9000, 9100) i"
        tracked.source.execute(f"INSERT INTO items SELECT i, 0, 'new' FROM {series} WHERE i % 6 = {turn}")
        tracked.source.execute(f"UPDATE items SET id = id + 100000 WHERE id % 113 = {turn} AND id < 9000")
        if turn % 2:
            tracked.source.execute("VACUUM items")
        if turn % 3:
            tracked.source.execute("CHECKPOINT")
        assert tracked.extract().block_map is not None
        tracked.sync()


def test_a_rewrite_moves_all_rows_and_the_copy_learns_their_new_blocks(tracked: Tracked) -> None:
    tracked.source.execute("DELETE FROM items WHERE id < 100")
    tracked.source.execute("VACUUM FULL items")

    assert tracked.extract().block_map is None
    tracked.sync()
    tracked.source.execute("UPDATE items SET n = 7 WHERE id = 500; DELETE FROM items WHERE id = 600")
    assert tracked.extract().block_map is not None
    assert counts(tracked.sync()) == (1, 0, 1, 1)


def test_a_transaction_that_wrote_before_the_last_sync_and_commits_after_it_is_found(tracked: Tracked) -> None:
    """Nobody else has an id meanwhile: the snapshot's xmax is the writer's own, and it has written before that."""
    writer = tracked.source.connect()
    writer.autocommit = False
    with writer.cursor() as cursor:
        cursor.execute("UPDATE items SET n = 1 WHERE id = 17")
        cursor.execute("DELETE FROM items WHERE id = 3017")
        tracked.sync()
        tracked.sync()
        writer.commit()

    assert counts(tracked.sync()) == (1, 0, 1, 1)


def test_a_writer_that_is_open_for_many_syncs_is_found_at_last(tracked: Tracked) -> None:
    writer = tracked.source.connect()
    writer.autocommit = False
    with writer.cursor() as cursor:
        cursor.execute("UPDATE items SET n = 1 WHERE id = 17")
        for turn in range(5):
            tracked.source.execute(f"UPDATE items SET n = {turn} WHERE id = 2000")
            tracked.source.execute("CHECKPOINT")
            assert tracked.sync().rows_updated == 1
        cursor.execute("DELETE FROM items WHERE id = 3999")
        writer.commit()

    assert tracked.extract().block_map is not None
    assert counts(tracked.sync())[1:] == (0, 1, 1)


@pytest.mark.usefixtures("always")
def test_partitions_have_blocks_of_their_own(inspected: Replica) -> None:
    inspected.source.execute(
        "CREATE TABLE items (id int, part int, v text, PRIMARY KEY (id, part)) PARTITION BY LIST (part);"
        "CREATE TABLE items_0 PARTITION OF items FOR VALUES IN (0); CREATE TABLE items_1 PARTITION OF items DEFAULT;"
        "INSERT INTO items SELECT i, i % 3, repeat('x', 500) FROM generate_series(1, 900) i"
    )
    config = {"source": TABLE, "track_blocks": True}
    inspected.sync(config)
    for change in ("UPDATE items SET part = 1 WHERE id = 3", "DELETE FROM items WHERE id = 300"):
        inspected.source.execute(change)
    inspected.source.execute("UPDATE items SET v = 'y' WHERE id = 400")
    with inspected.stations(config) as stations:
        assert stations.up_to_extract().block_map is not None

    result = inspected.sync(config)

    assert counts(result)[1:] == (1, 1, 2)
    inspected.assert_equal(TABLE)


def test_soft_deletes_are_marked_by_blocks_too(inspected: Replica) -> None:
    inspected.source.execute("CREATE TABLE items (id int PRIMARY KEY, v text)")
    inspected.source.execute("INSERT INTO items SELECT i, repeat('x', 500) FROM generate_series(1, 900) i")
    config = {"source": TABLE, "track_blocks": True, "deletes": "soft"}
    inspected.sync(config)
    inspected.source.execute("DELETE FROM items WHERE id IN (5, 500)")
    with inspected.stations(config) as stations:
        assert stations.up_to_extract().block_map is not None
    inspected.sync(config)
    marked = "SELECT id FROM items WHERE source_deleted_at IS NOT NULL ORDER BY 1"
    assert inspected.target.fetch(marked) == [(5,), (500,)]

    inspected.source.execute("INSERT INTO items VALUES (5, 'back')")
    inspected.sync(config)

    assert inspected.target.fetch(marked) == [(500,)]


def test_a_where_that_a_row_leaves_deletes_it(inspected: Replica) -> None:
    inspected.source.execute("CREATE TABLE items (id int PRIMARY KEY, open bool, v text)")
    inspected.source.execute("INSERT INTO items SELECT i, true, repeat('x', 500) FROM generate_series(1, 900) i")
    config = {"source": TABLE, "track_blocks": True, "where": "open"}
    inspected.sync(config)
    inspected.source.execute("UPDATE items SET open = false WHERE id = 7")

    assert counts(inspected.sync(config)) == (0, 0, 0, 1)


def path_of(replica: Replica, **options: object) -> str:
    planned = replica.plan({"source": TABLE, "track_blocks": True, **options})
    assert planned.snapshot is not None, planned.error
    return planned.snapshot.plan.blocks_read


def test_the_plan_says_which_blocks_are_read(tracked: Tracked) -> None:
    tracked.source.execute("UPDATE items SET n = 1 WHERE id = 1")

    assert path_of(tracked.replica).startswith("blocks changed since WAL position ")
    assert path_of(tracked.replica, wal_summaries=False) == "every block, because wal_summaries is off"
    assert "deleted rows are looked for by their keys" in path_of(tracked.replica, track_blocks=False)


def test_without_a_way_to_the_present_every_block_is_read(tracked: Tracked) -> None:
    tracked.source.execute("DROP EXTENSION pg_walinspect")
    tracked.source.execute("UPDATE items SET n = 1 WHERE id = 1; DELETE FROM items WHERE id = 2")

    assert "neither by pg_walinspect nor summarized by a checkpoint" in path_of(tracked.replica)
    assert tracked.extract().block_map is None
    assert counts(tracked.sync()) == (1, 0, 1, 1)
    tracked.options["checkpoint"] = True
    # The summary in which the table was made says that it was truncated then.
    tracked.source.execute("UPDATE items SET n = 3 WHERE id = 1")
    assert "truncated" in tracked.extract().blocks_read
    tracked.sync()
    tracked.source.execute("UPDATE items SET n = 2 WHERE id = 1; DELETE FROM items WHERE id = 3")
    assert tracked.extract().block_map is not None
    assert counts(tracked.sync()) == (1, 0, 1, 1)


def test_more_wal_than_table_is_not_read(tracked: Tracked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_map, "LEAST_BYTES", 0)
    tracked.source.execute("CREATE TABLE other AS SELECT i, repeat('x', 500) AS v FROM generate_series(1, 20000) i")

    assert "more to read than the table" in path_of(tracked.replica)
    tracked.sync()


def test_most_blocks_changed_is_no_use_for_a_map(tracked: Tracked) -> None:
    tracked.source.execute("UPDATE items SET n = 1 WHERE id % 3 = 0")
    extracted = tracked.extract()

    assert extracted.block_map is None
    assert "blocks changed" in extracted.blocks_read
    tracked.sync()


def test_a_vacuum_that_truncates_is_found_whole(tracked: Tracked) -> None:
    tracked.source.execute("DELETE FROM items WHERE id > 3000")
    for statement in ("CHECKPOINT", "VACUUM items", "CHECKPOINT"):
        tracked.source.execute(statement)
    tracked.source.execute("UPDATE items SET n = 1 WHERE id = 1")
    extracted = tracked.extract()

    assert extracted.block_map is None
    assert "truncated by a vacuum" in extracted.blocks_read
    assert counts(tracked.sync()) == (1, 0, 1, 1000)


def test_summaries_that_were_removed_are_missed(tracked: Tracked) -> None:
    tracked.source.execute("UPDATE items SET n = 1 WHERE id = 1")
    tracked.source.execute("CHECKPOINT")
    folder = tracked.source.cluster.data_dir / "pg_wal/summaries"
    tracked.source.execute("SELECT pg_sleep(0.3)")
    for file in folder.iterdir():
        file.unlink()
    tracked.source.execute("UPDATE items SET n = 2 WHERE id = 2")

    assert "is in no summary" in path_of(tracked.replica)
    assert counts(tracked.sync()) == (2, 0, 2, 0)


@pytest.mark.parametrize("persistence", ["UNLOGGED"])
def test_an_unlogged_table_is_read_whole(inspected: Replica, persistence: str) -> None:
    inspected.source.execute(f"CREATE {persistence} TABLE items (id int PRIMARY KEY); INSERT INTO items VALUES (1)")
    inspected.sync({"source": TABLE, "track_blocks": True})
    inspected.source.execute("INSERT INTO items VALUES (2)")

    assert "UNLOGGED" in path_of(inspected)
    inspected.sync({"source": TABLE, "track_blocks": True})
    inspected.assert_equal(TABLE)


def test_a_source_without_summaries_is_read_whole(source_db: Database, replica: Replica) -> None:
    source_db.execute("CREATE TABLE items (id int PRIMARY KEY); INSERT INTO items VALUES (1)")
    config = {"source": TABLE, "track_blocks": True}
    replica.sync(config)
    source_db.execute("INSERT INTO items VALUES (2)")

    path = path_of(replica)
    assert "summarize_wal is off" in path or "WAL summaries come with 17" in path
    assert replica.sync(config).rows_inserted == 1


def test_turned_on_later_the_copy_learns_all_blocks_first(inspected: Replica) -> None:
    inspected.source.execute("CREATE TABLE items (id int PRIMARY KEY, v text)")
    inspected.source.execute("INSERT INTO items SELECT i, repeat('x', 500) FROM generate_series(1, 900) i")
    inspected.sync(TABLE)
    config = {"source": TABLE, "track_blocks": True}
    result = inspected.sync(config)

    assert "track_blocks was turned on" in str(result.reason)
    assert inspected.target.fetch("SELECT count(*) FROM items WHERE source_block IS NULL") == [(0,)]
    inspected.source.execute("DELETE FROM items WHERE id = 5")
    with inspected.stations(config) as stations:
        assert stations.up_to_extract().block_map is not None
    assert counts(inspected.sync(config)) == (0, 0, 0, 1)
    assert counts(inspected.sync(TABLE)) == (0, 0, 0, 0)


def test_rows_deleted_while_nobody_looked_are_found_when_somebody_does(tracked: Tracked) -> None:
    tracked.source.execute("DELETE FROM items WHERE id = 5")
    assert counts(tracked.replica.sync({**tracked.config, "delete_detection": "1 hour"})) == (0, 0, 0, 0)
    tracked.source.execute("UPDATE items SET n = 1 WHERE id = 3000")

    assert "did not look for deleted rows" in path_of(tracked.replica)
    assert counts(tracked.sync()) == (1, 0, 1, 1)
    tracked.source.execute("DELETE FROM items WHERE id = 6")
    assert tracked.extract().block_map is not None
    assert counts(tracked.sync()) == (0, 0, 0, 1)


def test_deletes_that_are_not_looked_for_need_no_blocks_in_the_target(inspected: Replica) -> None:
    inspected.source.execute("CREATE TABLE items (id int PRIMARY KEY, v text)")
    inspected.source.execute("INSERT INTO items SELECT i, repeat('x', 500) FROM generate_series(1, 900) i")
    config = {"source": TABLE, "delete_detection": "1 hour"}
    inspected.sync(config)
    inspected.source.execute("UPDATE items SET v = 'y' WHERE id = 5")
    with inspected.stations(config) as stations:
        extracted = stations.up_to_extract()

    assert extracted.block_map is not None, extracted.blocks_read
    assert counts(inspected.sync(config)) == (1, 0, 1, 0)


def test_a_key_that_no_index_guarantees_is_proven_over_all_blocks(tracked: Tracked) -> None:
    """The blocks that changed do not have the row whose key is repeated."""
    tracked.source.execute("ALTER TABLE items DROP CONSTRAINT items_pkey")
    tracked.options["key"] = "id"
    tracked.source.execute("INSERT INTO items VALUES (5, 1, 'second'); DELETE FROM items WHERE id = 3000")

    refused = tracked.replica.try_sync(tracked.config)

    assert "(id)=(5)" in (refused.error or "")
    tracked.source.execute("DELETE FROM items WHERE filler = 'second'; INSERT INTO items VALUES (5000, 1, 'new')")
    assert "no unique index guarantees its key" in (tracked.sync().path or "")
    tracked.source.execute("ALTER TABLE items ADD PRIMARY KEY (id); UPDATE items SET n = 1 WHERE id = 7")
    assert tracked.extract().block_map is not None


@pytest.mark.usefixtures("always")
def test_a_partition_altered_while_it_was_detached_is_read_though_no_block_of_it_changed(inspected: Replica) -> None:
    inspected.source.execute(
        "CREATE TABLE items (id int PRIMARY KEY, a text, b text) PARTITION BY RANGE (id);"
        "CREATE TABLE low PARTITION OF items FOR VALUES FROM (0) TO (100);"
        "INSERT INTO items SELECT i, 'a', 'b' FROM generate_series(0, 99) i"
    )
    tracked = Tracked(inspected, {})
    inspected.sync(tracked.config)
    inspected.source.execute(
        "ALTER TABLE items DETACH PARTITION low; ALTER TABLE low RENAME a TO x; ALTER TABLE low RENAME b TO a;"
        "ALTER TABLE low RENAME x TO b; ALTER TABLE items ATTACH PARTITION low FOR VALUES FROM (0) TO (100)"
    )

    result = inspected.sync(tracked.config)

    inspected.assert_equal("public.items")
    assert (result.rows_updated, result.path) == (100, "every block, because all rows of a partition are read")
