"""The target's history: one row per merge, in the merge's transaction, the newest ones kept."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from threading import Event

import pytest

from xmin_assets.errors import MassDelete
from xmin_assets.replication.state.history import PastMerge
from xmin_assets.replication.status import table_histories, table_statuses
from xmin_assets.replication.sync import resync_tables
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.integration.interleaving.sessions import Running
from xmin_assets_tests.replica import Replica

ITEMS = "CREATE TABLE items (id int PRIMARY KEY, n int); INSERT INTO items SELECT i, i FROM generate_series(1, 2000) i"


@pytest.fixture
def items(replica: Replica) -> Replica:
    replica.source.execute(ITEMS)
    return replica


def history(items: Replica, limit: int = 20) -> tuple[PastMerge, ...]:
    (table,) = table_histories(items.config("public.items"), limit=limit)
    assert table.error is None
    return table.merges


def back_to_version_1(target: Database) -> None:
    """What a target looks like that was last merged into before there was a history."""
    target.execute(
        "DROP TABLE xmin_assets.history, xmin_assets.types;"
        " COMMENT ON SCHEMA xmin_assets IS 'xmin_assets state, version 1'"
    )


def test_each_merge_appends_what_its_sync_reported(items: Replica) -> None:
    first = items.sync("public.items")
    items.source.execute("UPDATE items SET n = 0 WHERE id <= 3; DELETE FROM items WHERE id = 4")
    second = items.sync("public.items")

    newest, oldest = history(items)

    assert (oldest.mode, oldest.reason, oldest.rows_inserted, oldest.rows) == ("full_sync", first.reason, 2000, 2000)
    assert (oldest.watermark_before, oldest.watermark) == (None, first.watermark)
    assert (newest.mode, newest.rows_extracted, newest.rows_updated) == ("xmin_incremental", 3, 3)
    assert (newest.rows_deleted, newest.rows, newest.rows_unchanged) == (1, 1999, 0)
    assert (newest.watermark_before, newest.watermark) == (first.watermark, second.watermark)
    assert newest.max_xmin == second.max_xmin
    assert newest.bytes_extracted > 0
    assert {name: round(took, 4) for name, took in newest.seconds.items()} == second.seconds
    assert timedelta(0) < newest.merged_at - oldest.merged_at < timedelta(minutes=1)


def test_target_xid_is_the_transaction_that_wrote_the_rows_of_a_merge(items: Replica) -> None:
    items.sync("public.items")
    items.source.execute("UPDATE items SET n = 0 WHERE id <= 3")
    items.sync("public.items")

    written = items.target.fetch("SELECT DISTINCT xmin::text::int8 FROM items WHERE id <= 3")

    assert written == [(history(items)[0].target_xid,)]


def test_target_xid_is_right_while_others_write_in_the_target(items: Replica) -> None:
    items.sync("public.items")
    over = Event()

    def write() -> None:
        with closing(items.target.connect()) as connected, connected.cursor() as cursor:
            while not over.is_set():
                cursor.execute("SELECT pg_current_xact_id()")

    writing = Running(write)
    try:
        for number in range(5):
            items.source.execute(f"UPDATE items SET n = 0 WHERE id = {number + 1}")
            items.sync("public.items")
    finally:
        over.set()
        writing.result()

    written = items.target.fetch("SELECT xmin::text::int8 FROM items WHERE id <= 5 ORDER BY id DESC")
    assert written == [(merge.target_xid,) for merge in history(items)[:5]]


def test_an_idle_sync_is_in_it(items: Replica) -> None:
    items.sync("public.items")
    items.sync("public.items")

    assert [merge.rows_extracted for merge in history(items)] == [0, 2000]


def test_a_repeated_merge_appends_nothing(items: Replica) -> None:
    with items.stations("public.items") as stations:
        staged = stations.up_to_stage()
        stations.merge(staged)
        assert stations.merge(staged).repeated

    assert len(history(items)) == 1


def test_a_merge_that_fails_appends_nothing(items: Replica) -> None:
    items.sync("public.items")
    items.source.execute("DELETE FROM items WHERE id > 10")

    with items.stations("public.items") as stations, pytest.raises(MassDelete):
        stations.merge(stations.up_to_stage())

    assert len(history(items)) == 1


def test_the_newest_merges_are_kept_and_no_more_than_asked_for(items: Replica) -> None:
    items.settings["history_rows"] = 3
    watermarks = [items.sync("public.items").watermark]
    for _ in range(4):
        items.source.execute("UPDATE items SET n = n + 1 WHERE id = 1")
        watermarks.append(items.sync("public.items").watermark)
        resync_tables(items.config("public.items"))

    assert [merge.watermark for merge in history(items)] == watermarks[:-4:-1]
    assert items.target.fetch("SELECT count(*) FROM xmin_assets.history") == [(3,)]


def test_a_lower_number_takes_effect_with_the_next_merge(items: Replica) -> None:
    for _ in range(4):
        items.sync("public.items")
    items.settings["history_rows"] = 1
    items.sync("public.items")

    assert items.target.fetch("SELECT number FROM xmin_assets.history") == [(5,)]


def test_tables_have_histories_of_their_own(items: Replica) -> None:
    items.source.execute("CREATE TABLE others (id int PRIMARY KEY)")
    items.settings["history_rows"] = 2
    for table in ("public.others", "public.items", "public.items", "public.items"):
        items.sync(table)

    assert items.target.fetch("SELECT target_table, count(*) FROM xmin_assets.history GROUP BY 1 ORDER BY 1") == [
        ("items", 2),
        ("others", 1),
    ]


def test_a_target_of_version_1_has_no_history_and_gets_one_with_its_next_merge(items: Replica) -> None:
    items.sync("public.items")
    back_to_version_1(items.target)

    assert history(items) == ()
    (status,) = table_statuses(items.config("public.items"))
    assert status.error is None and status.state is not None
    assert items.target.fetch("SELECT to_regclass('xmin_assets.history')") == [(None,)]

    assert items.sync("public.items").mode == "xmin_incremental"
    assert [merge.rows_extracted for merge in history(items)] == [0]
