"""Extract: one snapshot for all workers, a lock before it, and only the keys that are needed."""

from __future__ import annotations

import csv
import os
import stat
import threading
from pathlib import Path

import pytest

from xmin_assets.errors import PlanOutdated, SpoolError, UnsupportedTable
from xmin_assets.replication.extraction import table_reader
from xmin_assets.replication.manifests.extract import CsvExtract
from xmin_assets.replication.manifests.state import WalPosition
from xmin_assets.replication.runtime.progress import Progress
from xmin_assets.replication.scan.ranges import CtidRange
from xmin_assets_tests.replica import Replica
from xmin_assets_tests.waiting import wait_until

WIDE = """
CREATE TABLE wide (id int PRIMARY KEY, pad text);
ALTER TABLE wide ALTER pad SET STORAGE PLAIN;
INSERT INTO wide SELECT i, repeat('x', 1000) FROM generate_series(1, 6000) i;
"""


@pytest.fixture
def wide(replica: Replica) -> Replica:
    """A table of some 860 blocks: several ranges, several batches."""
    replica.source.execute(WIDE)
    return replica


def ids(extracted: CsvExtract) -> list[int]:
    rows = []
    for part in extracted.parts:
        with Path(part.uri).open(newline="") as file:
            rows += [int(row[0]) for row in csv.reader(file)]
    return sorted(rows)


def test_all_workers_read_the_same_snapshot(wide: Replica) -> None:
    once = threading.Event()

    def change_meanwhile(progress: Progress) -> None:
        if progress.done and not once.is_set():
            once.set()
            wide.source.execute("DELETE FROM wide WHERE id % 2 = 0; INSERT INTO wide VALUES (0, 'late')")

    with wide.stations("public.wide", workers=4, batch_size=100) as stations:
        extracted = stations.extract(stations.snapshot(), change_meanwhile)

        assert once.is_set()
        assert extracted.workers > 1
        assert ids(extracted) == list(range(1, 6001))


def test_a_table_that_grew_after_its_last_analyze_is_read_to_its_end(wide: Replica) -> None:
    wide.source.execute("ANALYZE wide")
    wide.source.execute("INSERT INTO wide SELECT i, repeat('y', 1000) FROM generate_series(6001, 12000) i")

    with wide.stations("public.wide") as stations:
        assert ids(stations.up_to_extract()) == list(range(1, 12001))


def test_workers_without_a_connection_leave_the_work_to_the_coordinator(wide: Replica) -> None:
    with wide.stations("public.wide", workers=4) as stations:
        stations.source._most = 1
        extracted = stations.extract(stations.snapshot())

        assert (extracted.workers, extracted.rows) == (1, 6000)


def test_a_connection_is_prepared_though_another_one_is_idle(wide: Replica) -> None:
    with wide.stations("public.wide", workers=2) as stations:
        with stations.source.connection():
            pass
        stations.source.prepare()
        with stations.source.connection(), stations.source.spare_connection() as prepared:
            assert prepared is not None
            stations.source.prepare()  # one more than there may be
            with stations.source.spare_connection() as further:
                assert further is None


def test_a_worker_that_is_killed_loses_no_row_and_repeats_none(wide: Replica) -> None:
    killed = []

    def kill_a_helper(progress: Progress) -> None:
        if progress.done and not killed:
            rows = wide.source.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'xmin_assets'"
                " AND datname = current_database() AND query NOT LIKE '%%pg_export_snapshot%%'"
                " AND pid <> (SELECT min(pid) FROM pg_stat_activity WHERE application_name = 'xmin_assets'"
                " AND datname = current_database())"
            )
            killed.extend(rows)

    with wide.stations("public.wide", workers=4, batch_size=50) as stations:
        extracted = stations.extract(stations.snapshot(), kill_a_helper)

        assert killed
        assert ids(extracted) == list(range(1, 6001))
        assert sum(part.rows for part in extracted.parts) == 6000


@pytest.mark.parametrize("key", ["id", None])
def test_a_worker_that_is_killed_after_its_batch_repeats_no_row(
    wide: Replica, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    """The rows are in its file, and what else it has to ask about them fails: another worker copies them again."""
    killed: list[int] = []

    def ask(reader: table_reader.ReadWorker, ctid_range: CtidRange) -> bool:
        pid = reader.cursor.connection.info.backend_pid
        if threading.current_thread().name.startswith("xmin-reader") and not killed:
            killed.append(pid)
            wide.source.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))
        return is_flagged(reader, ctid_range)

    is_flagged = table_reader._is_flagged
    monkeypatch.setattr(table_reader, "_is_flagged", ask)
    if key is None:
        wide.source.execute("ALTER TABLE wide DROP CONSTRAINT wide_pkey")
    table = {"source": "public.wide", "mode": "full_sync"}

    with wide.stations(table, workers=4, batch_size=50) as stations:
        extracted = stations.extract(stations.snapshot())

        assert killed
        assert ids(extracted) == list(range(1, 6001))
        assert (extracted.rows, extracted.source_rows) == (6000, 6000)
        stations.merge(stations.stage(extracted))
    wide.assert_equal("public.wide")


def test_a_waiting_alter_table_does_not_deadlock_with_the_workers(wide: Replica) -> None:
    """The ALTER queues behind the coordinator's lock; helpers that queued behind the ALTER would never be served."""
    session = wide.source.connect()
    altering = threading.Thread(
        target=lambda: session.cursor().execute("ALTER TABLE wide ADD COLUMN more int DEFAULT 7")
    )

    def queue_an_alter(progress: Progress) -> None:
        if not altering.ident:
            altering.start()
            wait_until(lambda: wide.source.fetch("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(1,)])

    with wide.stations("public.wide", workers=4, lock_timeout=20) as stations:
        # The first report comes from the coordinator before any helper is called.
        extracted = stations.extract(stations.snapshot(), queue_an_alter)
    altering.join()

    assert extracted.rows == 6000
    assert extracted.workers == 1


def test_a_plan_is_refused_when_the_table_changed_after_it(wide: Replica) -> None:
    with wide.stations("public.wide") as stations:
        planned = stations.snapshot()
        wide.source.execute("ALTER TABLE wide ADD COLUMN more int")

        with pytest.raises(PlanOutdated, match="changed after the sync was planned"):
            stations.extract(planned)

        assert not stations.spool.sync_folder(planned.sync_id).exists()


def test_keys_are_read_only_when_rows_were_deleted(wide: Replica) -> None:
    wide.sync("public.wide")
    with wide.stations("public.wide") as stations:
        assert stations.up_to_extract().key_parts is None
        wide.source.execute("UPDATE wide SET pad = '' WHERE id <= 10; INSERT INTO wide VALUES (7000, 'new')")
        assert stations.up_to_extract().key_parts is None
        wide.source.execute("DELETE FROM wide WHERE id = 5000; INSERT INTO wide VALUES (7001, 'hides the delete')")
        extracted = stations.up_to_extract()

    assert extracted.key_parts is not None
    assert sum(part.rows for part in extracted.key_parts) == extracted.source_rows == 6001
    assert extracted.rows == 12


def test_without_a_target_to_ask_keys_come_with_every_change(wide: Replica) -> None:
    wide.sync("public.wide")
    wide.source.execute("UPDATE wide SET pad = '' WHERE id = 1")

    with wide.stations("public.wide") as stations:
        extracted = stations.extract(stations.snapshot(), probe=False)

    assert extracted.key_parts is not None


def test_spool_files_are_private_from_the_first_moment(wide: Replica) -> None:
    seen = set()

    def look(progress: Progress) -> None:
        for path in wide.spool.rglob("*"):
            seen.add((path.is_dir(), stat.S_IMODE(path.stat().st_mode)))

    previous = os.umask(0)
    try:
        with wide.stations("public.wide") as stations:
            stations.extract(stations.snapshot(), look)
    finally:
        os.umask(previous)

    assert seen == {(True, 0o700), (False, 0o600)}


def test_a_spool_that_others_can_enter_is_refused(wide: Replica) -> None:
    wide.spool.mkdir(mode=0o755)
    wide.spool.chmod(0o755)

    with pytest.raises(SpoolError, match="chmod 700"), wide.stations("public.wide"):
        pass


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("CREATE VIEW thing AS SELECT 1 AS id", "is a view"),
        ("CREATE MATERIALIZED VIEW thing AS SELECT 1 AS id", "is a materialized view"),
        ("CREATE SEQUENCE thing", "is a sequence"),
        ("CREATE TABLE thing (id int)", "no primary key"),
        ("CREATE TABLE thing (id int PRIMARY KEY, source_xmin bigint)", "exclude_columns: .source_xmin."),
    ],
)
def test_what_cannot_be_replicated_is_refused_with_the_way_out(replica: Replica, statement: str, message: str) -> None:
    replica.source.execute(statement)

    with replica.stations("public.thing") as stations, pytest.raises(UnsupportedTable, match=message):
        stations.snapshot()


def test_a_unique_index_over_not_null_columns_serves_as_key(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TABLE thing (a int NOT NULL, b text NOT NULL, c int UNIQUE, UNIQUE (b, a));"
        "INSERT INTO thing SELECT i, 'b', i FROM generate_series(1, 10) i"
    )

    replica.sync("public.thing")

    keys = replica.target.fetch("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'p'")
    assert ("PRIMARY KEY (b, a)",) in keys
    replica.assert_equal("public.thing")


def notes_of_a_sync(replica: Replica) -> list[str]:
    """What a sync of the wide table says while it reads."""
    notes: list[str] = []
    with replica.stations("public.wide") as stations:
        extracted = stations.extract(stations.snapshot(), lambda progress: notes.append(progress.note))
        stations.merge(stations.stage(extracted))
    replica.assert_equal("public.wide")
    return notes


def reads_nothing_once_nobody_writes(replica: Replica) -> bool:
    """Whether a sync after another one reads nothing. Should autovacuum come in between, it is tried again."""
    next_id = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text"
    before = None
    while before != (before := replica.source.fetch(next_id)):
        notes_of_a_sync(replica)
        notes = notes_of_a_sync(replica)
    return notes == ["no transaction has written since the last sync"]


def test_where_no_transaction_has_written_nothing_is_read(wide: Replica) -> None:
    assert "looking for changes" in notes_of_a_sync(wide)
    assert reads_nothing_once_nobody_writes(wide)


@pytest.mark.parametrize(
    "written",
    [
        "CREATE TABLE another (id int)",
        "SELECT pg_current_xact_id()",
        "DELETE FROM wide WHERE id = 1",
        "INSERT INTO wide VALUES (0, 'new')",
    ],
)
def test_whatever_takes_a_transaction_id_lets_the_next_sync_read(wide: Replica, written: str) -> None:
    notes_of_a_sync(wide)
    wide.source.execute(written)
    assert "looking for changes" in notes_of_a_sync(wide)
    assert reads_nothing_once_nobody_writes(wide)


def test_a_transaction_that_was_open_is_read_when_it_is_over_though_none_came_after_it(wide: Replica) -> None:
    open_one = wide.source.connect()
    open_one.autocommit = False
    with open_one.cursor() as cursor:
        cursor.execute("INSERT INTO wide VALUES (0, 'late')")
        notes_of_a_sync(wide)
        open_one.commit()
    assert "looking for changes" in notes_of_a_sync(wide)


FLUSHED = "SELECT (pg_current_wal_flush_lsn() - '0/0')::int8"
INSERTED = "SELECT (pg_current_wal_insert_lsn() - '0/0')::int8"


def test_an_extract_waits_for_no_wal_that_nothing_it_shows_is_in(wide: Replica) -> None:
    open_one = wide.source.connect()
    open_one.autocommit = False
    with open_one.cursor() as cursor, wide.stations("public.wide") as stations:
        # The end of a page that no commit is in stays in memory, so nothing is known to be on disk; unless a record
        # ends where its page does, which happens.
        cursor.execute("DELETE FROM wide WHERE id = 1")
        if stations.snapshot().flushed is not None:
            cursor.execute("DELETE FROM wide WHERE id = 2")
        assert stations.snapshot().flushed is None

        wide.source.execute("INSERT INTO wide VALUES (0, 'on disk')")
        planned = stations.snapshot()
        cursor.execute("DELETE FROM wide WHERE id > 5000")
        extracted = stations.extract(planned)

        assert planned.flushed is not None
        assert extracted.source_lsn == planned.flushed.lsn
        assert extracted.wal_positions == (WalPosition(planned.flushed.lsn, extracted.horizon + 2),)
        open_one.rollback()


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_a_transaction_that_ended_since_the_plan_is_on_disk_when_the_extract_is_over(wide: Replica, end: str) -> None:
    with wide.stations("public.wide") as stations:
        planned = stations.snapshot()
        wide.source.execute("SET synchronous_commit = off; BEGIN; DELETE FROM wide")
        ((position,),) = wide.source.fetch(INSERTED)
        wide.source.execute(end)
        extracted = stations.extract(planned)

        ((flushed,),) = wide.source.fetch(FLUSHED)
        assert position < extracted.source_lsn <= flushed
