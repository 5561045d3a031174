"""Which of many tables have changed since their last sync: told by the WAL, where nothing is counted, too."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from xmin_assets.replication import change_detection
from xmin_assets.replication.changed_blocks import wal_summaries
from xmin_assets.replication.table_fingerprints import probe
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.integration.stations.test_changes import Watcher
from xmin_assets_tests.replica import Replica

TABLES = [f"t{number}" for number in range(6)]


@pytest.fixture
def uncounted(inspected: Replica) -> Watcher:
    """Six tables in sync, at a source that counts nothing."""
    inspected.source.execute(f"ALTER DATABASE {inspected.source.name} SET track_counts = off")
    inspected.source.disconnect()
    for name in TABLES:
        inspected.source.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, n int)")
        inspected.source.execute(f"INSERT INTO {name} SELECT i, 0 FROM generate_series(1, 50) i")
    watcher = Watcher(inspected, tuple(f"public.{name}" for name in TABLES))
    watcher.settle()
    return watcher


def changed(watcher: Watcher) -> set[str]:
    return set(watcher.reasons())


@pytest.mark.parametrize("checkpoint", [False, True])
def test_only_the_tables_whose_blocks_were_modified_are_named(uncounted: Watcher, checkpoint: bool) -> None:
    source = uncounted.replica.source
    if checkpoint:
        source.execute("CHECKPOINT")
    source.execute("UPDATE t2 SET n = 1 WHERE id = 1")
    source.execute("DELETE FROM t4 WHERE id = 1")
    if checkpoint:
        source.execute("CHECKPOINT")

    assert uncounted.reasons() == dict.fromkeys(("public.t2", "public.t4"), "blocks of it were modified")
    # To read rows for the first time may write hints beside them, which modifies blocks once more.
    uncounted.settle()
    assert changed(uncounted) == set()


def test_after_a_checkpoint_what_was_synced_before_it_is_not_named_again(uncounted: Watcher) -> None:
    uncounted.replica.source.execute("UPDATE t2 SET n = 1 WHERE id = 1")
    uncounted.settle()
    uncounted.replica.source.execute("CHECKPOINT")
    uncounted.replica.source.execute("UPDATE t3 SET n = 1 WHERE id = 1")

    assert changed(uncounted) == {"public.t3"}


def test_a_transaction_that_commits_after_the_sync_is_not_forgotten(uncounted: Watcher) -> None:
    writer = uncounted.replica.source.connect()
    writer.autocommit = False
    writer.cursor().execute("UPDATE t1 SET n = 5 WHERE id = 7")
    uncounted.tick()
    writer.commit()

    assert "public.t1" in changed(uncounted)
    uncounted.settle()
    assert uncounted.replica.target.fetch("SELECT n FROM t1 WHERE id = 7") == [(5,)]


def test_positions_of_another_start_of_the_source_tell_nothing(uncounted: Watcher) -> None:
    # As a copy of the data directory would: it has the same identity, and WAL of its own.
    uncounted.replica.target.execute(
        "UPDATE xmin_assets.state SET facts = jsonb_set(facts, '{source_started}', '\"2020-02-29T12:00:00Z\"')"
        " WHERE target_table = 't1'"
    )

    seen = probe(uncounted.config)

    assert {table.label for table in seen.changed} == {f"public.{name}" for name in TABLES} - {"public.t1"}


def test_an_unlogged_table_is_not_taken_for_unchanged(uncounted: Watcher) -> None:
    source = uncounted.replica.source
    source.execute("CREATE UNLOGGED TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1)")
    watcher = Watcher(uncounted.replica, ("public.u",))
    watcher.tick()
    source.execute("INSERT INTO u VALUES (2)")

    assert watcher.reasons() == {"public.u": "the source has new WAL, and does not count rows"}


def test_without_summaries_any_wal_may_be_of_any_table(uncounted: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal_summaries, "MOST_TAIL", 0)
    uncounted.replica.source.execute("UPDATE t2 SET n = 1 WHERE id = 1")

    assert changed(uncounted) == {f"public.{name}" for name in TABLES}


def test_a_table_without_a_modified_block_is_believed_for_as_long_as_it_is_so(
    inspected: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspected.source.execute("CREATE TABLE items (id int PRIMARY KEY); CREATE TABLE others (id int PRIMARY KEY)")
    watcher = Watcher(inspected)
    watcher.settle()
    inspected.source.execute("INSERT INTO others VALUES (1)")
    watcher.settle()
    seen = probe(watcher.config)
    later = replace(seen, at=seen.at + timedelta(seconds=2 * change_detection.TRUSTED))

    assert seen.changed[watcher.config.tables[0]] is False
    assert "public.items" not in watcher.reasons(later)
    assert "public.items" in watcher.reasons(replace(later, changed={}))


def test_all_tables_are_one_question(inspected: Replica, target_db: Database) -> None:
    names = [f"s{number}" for number in range(100)]
    for name in names:
        inspected.source.execute(f"CREATE TABLE {name} (id int PRIMARY KEY)")
    watcher = Watcher(inspected, tuple(f"public.{name}" for name in names))
    watcher.settle()
    inspected.source.execute("INSERT INTO s7 VALUES (1)")

    seen = probe(watcher.config)

    assert [table.label for table, modified in seen.changed.items() if modified] == ["public.s7"]
