"""Full syncs that are read in chunks, with everything happening between two of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from xmin_assets.config.load_window import LoadWindow
from xmin_assets.errors import StaleExtract
from xmin_assets.replication.chunked_load import read_source_table
from xmin_assets.replication.clean import clean
from xmin_assets.replication.manifests.extract import Part
from xmin_assets.replication.runtime.progress import Progress
from xmin_assets.replication.staging.load_table import ChunkLoader
from xmin_assets.replication.state.table_lock import TableLocks
from xmin_assets.replication.status import table_statuses
from xmin_assets.replication.sync import resync_tables
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.replica import Replica
from xmin_assets_tests.servers import restart

TABLE = "public.t"
CHUNKED = {"source": TABLE, "load_chunk": "64 KiB"}


@dataclass
class Between:
    """Does something before each chunk."""

    replica: Replica
    steps: dict[int, Callable[[], Any]] = field(default_factory=dict)
    chunks: int = 0
    notes: list[str] = field(default_factory=list)
    every: Callable[[int], Any] | None = None

    def __call__(self, step: Progress) -> None:
        if step.note:
            self.notes.append(step.note)
        if not step.note.startswith("loading by chunks"):
            return
        self.chunks += 1
        if self.every:
            self.every(self.chunks)
        if then := self.steps.get(self.chunks):
            then()

    def sync(self, **options: Any) -> Any:
        return self.replica.sync({**CHUNKED, **options}, on_progress=self)


@pytest.fixture
def between(replica: Replica, source_db: Database) -> Between:
    source_db.execute("""
        CREATE TABLE t (id int PRIMARY KEY, n int, filler text);
        INSERT INTO t SELECT i, 0, repeat('x', 300) FROM generate_series(1, 2000) i;
    """)
    return Between(replica)


def left_behind(target: Database) -> list[Any]:
    return target.fetch("""
        SELECT relname::text FROM pg_class WHERE relnamespace = 'xmin_assets'::regnamespace
           AND (relname LIKE 'load\\_%' OR relname LIKE 'staged%') AND relkind = 'r'
         UNION ALL SELECT load_id FROM xmin_assets.loads UNION ALL SELECT load_id FROM xmin_assets.loaded_ranges
         UNION ALL SELECT target_table FROM xmin_assets.state WHERE target_schema = 'xmin_assets'
    """)


def test_a_large_table_is_loaded_in_chunks_and_equal(between: Between, replica: Replica, target_db: Database) -> None:
    result = between.sync()

    assert between.chunks > 5
    assert (result.rows_extracted, result.rows_inserted) == (2000, 2000)
    replica.assert_equal(TABLE)
    assert left_behind(target_db) == []
    assert replica.sync(CHUNKED).rows_extracted == 0
    assert replica.verify(TABLE).status == "match"


def test_what_changes_between_chunks_is_in_the_copy(between: Between, replica: Replica, source_db: Database) -> None:
    source_db.execute("INSERT INTO t SELECT i, 0, repeat('y', 300) FROM generate_series(2001, 4000) i")

    def change(chunk: int) -> None:
        source_db.execute(f"UPDATE t SET n = {chunk} WHERE id % 97 = {chunk}")
        source_db.execute(f"DELETE FROM t WHERE id % 89 = {chunk}")
        source_db.execute(f"UPDATE t SET id = -id WHERE id % 83 = {chunk}")
        source_db.execute(f"INSERT INTO t VALUES ({10000 + chunk}, {chunk}, 'new')")
        source_db.execute("VACUUM t")

    between.every = change
    between.sync()

    assert between.chunks > 10
    replica.assert_equal(TABLE)
    assert replica.verify(TABLE).status == "match"


def test_until_the_load_is_closed_there_is_no_target(between: Between, target_db: Database) -> None:
    seen: list[Any] = []
    between.every = lambda _: seen.append(target_db.fetch("SELECT to_regclass('public.t') IS NULL")[0])
    between.sync()

    assert seen and all(row[0] for row in seen)


@pytest.mark.parametrize("cut", [1, 4])
def test_a_load_that_is_cut_off_goes_on_elsewhere(
    between: Between, replica: Replica, source_db: Database, tmp_path: Path, cut: int
) -> None:
    cut_off(between, cut + 1)
    source_db.execute("DELETE FROM t WHERE id % 10 = 0")
    planned = replica.plan({"source": TABLE}).snapshot
    (status,) = table_statuses(replica.config(TABLE))
    assert planned and planned.load and planned.load.loaded_rows
    assert status.load and 0 < status.load.share < 1 and status.load.rows == planned.load.loaded_rows
    again = Between(replace(replica, spool=tmp_path / "of another machine"))
    again.sync()

    assert any("are loaded" in note and "0 % are loaded" not in note for note in again.notes[:4])
    replica.assert_equal(TABLE)


def test_a_table_that_is_rewritten_meanwhile_is_begun_anew(
    between: Between, replica: Replica, source_db: Database
) -> None:
    between.steps[3] = lambda: source_db.execute("VACUUM FULL t")
    result = replica.try_sync(CHUNKED, on_progress=between)

    assert result.status == "success", result.error
    assert any("begins anew: public.t was rewritten" in note for note in between.notes)
    replica.assert_equal(TABLE)


def test_a_table_that_is_truncated_meanwhile_is_equal(between: Between, replica: Replica, source_db: Database) -> None:
    between.steps[3] = lambda: source_db.execute("TRUNCATE t; INSERT INTO t VALUES (1, 1, 'new')")
    between.sync()

    replica.assert_equal(TABLE)


def test_a_column_that_is_added_meanwhile_is_in_the_copy(
    between: Between, replica: Replica, source_db: Database
) -> None:
    between.steps[3] = lambda: source_db.execute("ALTER TABLE t ADD COLUMN late int DEFAULT 7")
    between.sync()

    assert any("begins anew: its columns" in note for note in between.notes)
    replica.assert_equal(TABLE)


@pytest.mark.parametrize("deletes", ["hard", "soft"])
def test_a_resync_of_a_table_that_exists_goes_by_chunks(
    between: Between, replica: Replica, source_db: Database, target_db: Database, deletes: str
) -> None:
    options = {"deletes": deletes}
    replica.sync({"source": TABLE, **options})
    target_db.execute("UPDATE t SET n = 99 WHERE id % 7 = 0")
    source_db.execute("DELETE FROM t WHERE id % 3 = 0")
    resync_tables(replica.config({"source": TABLE, **options}))
    between.steps[4] = lambda: source_db.execute("DELETE FROM t WHERE id % 5 = 0; UPDATE t SET n = 1 WHERE id % 11 = 0")
    between.sync(**options)

    assert between.chunks > 5
    live = "source_deleted_at IS NULL" if deletes == "soft" else "true"
    assert target_db.fetch(f"SELECT id, n FROM t WHERE {live} ORDER BY id") == source_db.fetch(
        "SELECT id, n FROM t ORDER BY id"
    )
    assert left_behind(target_db) == []


def test_partitions_are_loaded_one_after_the_other_and_may_come_and_go(replica: Replica, source_db: Database) -> None:
    source_db.execute("""
        CREATE TABLE t (id int PRIMARY KEY, n int, filler text) PARTITION BY RANGE (id);
        CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (1000);
        CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (1000) TO (2000);
        CREATE TABLE t3 PARTITION OF t FOR VALUES FROM (2000) TO (3000);
        INSERT INTO t SELECT i, 0, repeat('x', 300) FROM generate_series(0, 2999) i;
    """)
    between = Between(replica)
    between.steps[2] = lambda: source_db.execute("UPDATE t SET id = id + 2000 WHERE id < 10 AND id + 2000 < 0")
    between.steps[3] = lambda: source_db.execute("ALTER TABLE t DETACH PARTITION t3")
    between.steps[5] = lambda: source_db.execute("""
        CREATE TABLE t4 PARTITION OF t FOR VALUES FROM (3000) TO (4000);
        INSERT INTO t SELECT i, 0, 'new' FROM generate_series(3000, 3100) i;
        DELETE FROM t3 WHERE id % 2 = 0;
        ALTER TABLE t ATTACH PARTITION t3 FOR VALUES FROM (2000) TO (3000);
    """)
    between.sync()

    assert between.chunks > 5
    replica.assert_equal(TABLE)


def test_a_transaction_that_was_open_when_the_load_began_arrives(
    between: Between, replica: Replica, source_db: Database
) -> None:
    with closing(source_db.connect()) as session, session.cursor() as cursor:
        session.autocommit = False
        cursor.execute("UPDATE t SET n = 5 WHERE id = 7")
        cursor.execute("DELETE FROM t WHERE id = 8")
        between.steps[2] = session.commit
        between.sync()

    replica.assert_equal(TABLE)


def test_a_small_table_is_read_in_one_piece(between: Between, replica: Replica) -> None:
    replica.sync({"source": TABLE}, on_progress=between)

    assert between.chunks == 0


class Cut(Exception):
    """The end of a process, as far as a test needs it."""


def cut_off(between: Between, before_chunk: int = 4) -> None:
    def stop() -> None:
        raise Cut

    between.steps[before_chunk] = stop
    assert between.replica.try_sync(CHUNKED, on_progress=between).status == "failed"


def test_a_load_begins_anew_when_that_is_asked_for(between: Between, replica: Replica) -> None:
    cut_off(between)
    config = replica.config(CHUNKED)
    assert resync_tables(config) == ()
    assert resync_tables(config, restart=True) == (TABLE,)
    again = Between(replica)
    result = again.sync()

    assert "loading by chunks: 0 % are loaded" in again.notes
    assert result.rows_extracted == 2000
    replica.assert_equal(TABLE)


def test_a_load_that_is_given_up_leaves_nothing_after_clean(between: Between, target_db: Database) -> None:
    cut_off(between)
    config = between.replica.config(CHUNKED)
    assert clean(config, older_than=3600).staged_tables == ()
    (dropped,) = clean(config, older_than=0).staged_tables

    assert dropped.startswith("xmin_assets.load_")
    assert left_behind(target_db) == []


def test_after_a_crash_of_the_source_the_load_goes_on_and_the_copy_is_checked(
    between: Between, replica: Replica, source_db: Database
) -> None:
    def crash() -> None:
        source_db.disconnect()
        restart(source_db.cluster, crash=True)

    cut_off(between)
    crash()
    source_db.execute("UPDATE t SET n = 3 WHERE id % 4 = 0")
    again = Between(replica)
    again.sync()

    assert "loading by chunks: 0 % are loaded" not in again.notes
    replica.assert_equal(TABLE)


def test_what_a_second_process_has_loaded_is_not_loaded_twice(between: Between, replica: Replica) -> None:
    def other() -> None:
        rival = Between(replica)
        rival.steps[2] = lambda: (_ for _ in ()).throw(Cut())
        with patch.object(TableLocks, "hold", lambda *_: nullcontext()):
            replica.try_sync(CHUNKED, on_progress=rival)

    between.steps[3] = other
    between.sync()

    replica.assert_equal(TABLE)


def test_a_load_stops_outside_its_window_and_goes_on_in_it(
    between: Between, replica: Replica, source_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LoadWindow, "is_open", lambda *_: between.chunks < 3)
    nightly = replace(replica, settings={**replica.settings, "load_window": "22:00-06:00 Europe/Berlin"})
    result = nightly.try_sync(CHUNKED, on_progress=between)
    assert result.status == "paused" and result.error is None
    assert result.reason and "is loaded. The load stops until its window opens, 20" in result.reason
    assert between.chunks == 3
    (status,) = table_statuses(nightly.config(TABLE))
    assert status.failed is None and status.load

    source_db.execute("CREATE TABLE small (id int PRIMARY KEY); INSERT INTO small VALUES (1)")
    assert nightly.sync("public.small").rows_inserted == 1
    monkeypatch.undo()
    replica.sync(CHUNKED)
    replica.assert_equal(TABLE)


def test_a_load_reads_and_loads_no_faster_than_its_rates(between: Between, replica: Replica) -> None:
    slow = replace(replica, settings={**replica.settings, "max_read_rate": "512 KiB/s"})
    began = time.monotonic()
    slow.sync(CHUNKED)
    took = time.monotonic() - began

    # The chunks read the table once; the closing sync finds that nothing was written since.
    assert took > 0.7 * 700 / 512
    replica.assert_equal(TABLE)


@pytest.mark.parametrize(
    "change",
    ["ALTER TABLE t SET UNLOGGED", "CREATE TABLE heir () INHERITS (t); INSERT INTO heir VALUES (9999, 1, 'heir')"],
)
def test_a_table_that_is_no_longer_loaded_by_chunks_leaves_nothing(
    between: Between, replica: Replica, source_db: Database, target_db: Database, change: str
) -> None:
    cut_off(between)
    source_db.execute(change)
    replica.sync({**CHUNKED, "key": "id"})

    assert left_behind(target_db) == []
    rows = "SELECT count(*), sum(n) FROM t"
    assert target_db.fetch(rows) == source_db.fetch(rows)


def test_a_plan_that_was_merged_or_overtaken_loads_nothing(
    between: Between, replica: Replica, source_db: Database, target_db: Database
) -> None:
    with replica.stations(CHUNKED) as stations:
        planned = stations.snapshot()
        replica.sync(CHUNKED)
        with pytest.raises(StaleExtract, match="Nothing was loaded"):
            read_source_table(
                stations.source, planned, stations.spool, stations.config.settings, target=stations.target
            )

    assert left_behind(target_db) == []


def test_the_highest_xmin_is_not_too_low_after_a_cut_within_a_chunk(
    replica: Replica, source_db: Database, target_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    source_db.execute("""
        CREATE TABLE t (id int PRIMARY KEY, n int, filler text);
        INSERT INTO t SELECT i, 0, repeat('x', 300) FROM generate_series(1, 4000) i;
    """)
    source_db.execute("DELETE FROM t WHERE id <= 300")
    source_db.execute("VACUUM t")
    source_db.execute("INSERT INTO t SELECT i, 1, repeat('x', 300) FROM generate_series(1, 300) i")
    load_part = ChunkLoader._load_part

    def cut(loader: ChunkLoader, part: Part) -> None:
        if not any(r.start == 0 for r in part.ranges):
            raise Cut
        load_part(loader, part)

    table = {"source": TABLE, "load_chunk": "1 MiB"}
    with monkeypatch.context() as patched:
        patched.setattr(ChunkLoader, "_load_part", cut)
        assert replica.try_sync(table).status == "failed"
    replica.sync(table)

    ((highest,),) = source_db.fetch("SELECT max(xmin::text::int8) FROM t")
    ((noted,),) = target_db.fetch("SELECT max_xmin FROM xmin_assets.state")
    assert noted >= highest
    replica.assert_equal(TABLE)
