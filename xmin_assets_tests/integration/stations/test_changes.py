"""Tables that may have changed are told from those that have not, by the servers' own counters."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from xmin_assets.config import ReplicationConfig
from xmin_assets.demo.cluster import Cluster
from xmin_assets.replication import change_detection
from xmin_assets.replication.change_detection import SyncRequest, next_request, sync_reason
from xmin_assets.replication.runtime.databases import open_target
from xmin_assets.replication.state.resync import resync
from xmin_assets.replication.sync import sync_tables
from xmin_assets.replication.table_fingerprints import SourceProbe, probe
from xmin_assets_tests.clusters import Database, Workshop
from xmin_assets_tests.replica import Replica
from xmin_assets_tests.servers import await_replay, have_counted, remove, standby_of
from xmin_assets_tests.waiting import wait_until

TABLES = """
CREATE TABLE items (id int PRIMARY KEY, n int);
CREATE TABLE others (id int PRIMARY KEY, n int);
INSERT INTO items SELECT i, i FROM generate_series(1, 100) i;
INSERT INTO others SELECT i, i FROM generate_series(1, 100) i;
"""

HOUR = timedelta(hours=1)


def write(source: Database, statement: str) -> None:
    """Run a statement and have it counted at once: a session that is idle would tell of it ten seconds later.

    Before PostgreSQL 15, a database's counters have a time of reset since its first session has told of something.
    """
    with closing(source.connect()) as session, session.cursor() as cursor:
        cursor.execute(statement)
        have_counted(source, session)


@dataclass
class Watcher:
    """What a sensor does: looks, remembers, requests. A request is answered at once by a sync of that table."""

    replica: Replica
    tables: tuple[str | dict[str, Any], ...] = ("public.items", "public.others")
    requested: dict[str, SyncRequest] = field(default_factory=dict)

    @property
    def config(self) -> ReplicationConfig:
        return self.replica.config(*self.tables)

    def reasons(self, seen: SourceProbe | None = None) -> dict[str, str]:
        """Which tables must be synced, and why."""
        seen = seen or probe(self.config)
        found = {table.label: sync_reason(table, seen, self.requested.get(table.label)) for table in self.config.tables}
        return {label: said for label, said in found.items() if said}

    def request(self) -> dict[str, str]:
        """One look; what must be synced is remembered, and not synced yet."""
        seen = probe(self.config)
        due = self.reasons(seen)
        for table in self.config.tables:
            if table.label in due:
                self.requested[table.label] = next_request(table, seen, self.requested.get(table.label))
        return due

    def write(self, statement: str) -> None:
        """Change something at the source, and have it counted before the next look."""
        write(self.replica.source, statement)

    def sync(self, *labels: str) -> None:
        report = sync_tables(self.config, tables=labels)
        assert [table.error for table in report.tables if table.error] == []

    def tick(self) -> dict[str, str]:
        """One look, and the syncs that it asks for."""
        due = self.request()
        if due:
            self.sync(*due)
        return due

    def settle(self) -> None:
        """Sync until nothing asks for it: other tests' transactions may hold the horizon back for a moment."""
        wait_until(lambda: not self.tick())

    def changed(self, label: str) -> str:
        """Why this table, and it alone, must be synced."""
        due = self.reasons()
        assert set(due) == {label}
        return due[label]


@pytest.fixture
def watcher(replica: Replica) -> Watcher:
    """Two tables that are in sync, and known to be."""
    write(replica.source, TABLES)
    made = Watcher(replica)
    made.settle()
    return made


def test_a_table_that_was_never_synced_must_be(replica: Replica) -> None:
    write(replica.source, TABLES)
    due = Watcher(replica).reasons()
    assert due == {"public.items": "it was never synced", "public.others": "it was never synced"}


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO items VALUES (101, 1)",
        "UPDATE items SET n = n WHERE id = 1",
        "DELETE FROM items WHERE id = 1",
        "COPY items FROM PROGRAM 'echo 101,1' (FORMAT csv)",
    ],
)
def test_the_table_that_changed_is_told_from_the_one_that_did_not(watcher: Watcher, statement: str) -> None:
    watcher.write(statement)

    assert watcher.changed("public.items") == "rows were inserted, updated or deleted"
    watcher.settle()
    watcher.replica.assert_equal("public.items")


def test_nothing_must_be_synced_while_nothing_changes(watcher: Watcher) -> None:
    assert watcher.reasons() == {}
    watcher.write(["CREATE TABLE elsewhere AS SELECT 1", " ANALYZE", " CHECKPOINT"][0])
    assert watcher.reasons() == {}


def test_a_change_during_the_sync_is_seen_by_the_next_look(watcher: Watcher) -> None:
    source = watcher.replica.source
    write(source, "UPDATE items SET n = 0 WHERE id = 1")
    watcher.changed("public.items")
    watcher.request()
    with watcher.replica.stations("public.items") as stations:
        staged = stations.up_to_stage()
        write(source, "UPDATE items SET n = 0 WHERE id = 2")
        stations.merge(staged)

    watcher.changed("public.items")
    watcher.settle()
    watcher.replica.assert_equal("public.items")


def test_a_change_committed_late_is_seen_when_it_is(watcher: Watcher) -> None:
    late = watcher.replica.source.connect()
    with late.cursor() as cursor:
        cursor.execute("BEGIN; UPDATE items SET n = -1 WHERE id = 1")
        watcher.settle()
        assert watcher.reasons() == {}
        cursor.execute("COMMIT")
    have_counted(watcher.replica.source, late)
    watcher.changed("public.items")
    watcher.settle()
    watcher.replica.assert_equal("public.items")


def test_a_transaction_that_was_open_during_the_sync_is_waited_for_even_if_nothing_is_counted(watcher: Watcher) -> None:
    uncounted = watcher.replica.source.connect()
    with uncounted.cursor() as cursor:
        cursor.execute("SET track_counts = off; BEGIN; UPDATE items SET n = -1 WHERE id = 1")
        watcher.write("UPDATE items SET n = -2 WHERE id = 2")
        watcher.changed("public.items")
        watcher.tick()
        assert watcher.reasons() == {}, "while it is open, another sync would read nothing new"
        cursor.execute("COMMIT")

    assert watcher.changed("public.items") == "a transaction that was open during its last sync may have changed it"
    watcher.settle()
    watcher.replica.assert_equal("public.items")


def test_a_transaction_that_stays_open_is_not_waited_for_forever(watcher: Watcher) -> None:
    with watcher.replica.source.connect().cursor() as cursor:
        cursor.execute("BEGIN; CREATE TABLE elsewhere ()")
        watcher.write("UPDATE items SET n = -2 WHERE id = 2")
        watcher.changed("public.items")
        watcher.tick()
        seen = replace(probe(watcher.config), counted_late=False)
        assert watcher.reasons(seen) == {}
        later = replace(seen, at=seen.at + timedelta(seconds=change_detection.HELD_BACK_PAUSE))
        assert set(watcher.reasons(later)) == {"public.items"}


def test_a_table_comes_to_rest_though_some_transaction_is_always_open(watcher: Watcher) -> None:
    first, second = watcher.replica.source.connect().cursor(), watcher.replica.source.connect().cursor()
    first.execute("BEGIN; CREATE TABLE elsewhere ()")
    watcher.write("UPDATE items SET n = -2 WHERE id = 2")
    watcher.changed("public.items")
    watcher.tick()
    second.execute("BEGIN; CREATE TABLE somewhere ()")
    first.execute("ROLLBACK")
    assert set(watcher.tick()) == {"public.items"}, "the first one had been open when the counters were read"

    assert watcher.reasons() == {}
    second.execute("ROLLBACK")
    assert watcher.reasons() == {}, "the second one had not"


def test_a_sync_that_was_planned_before_the_look_does_not_count(watcher: Watcher) -> None:
    source = watcher.replica.source
    with watcher.replica.stations("public.items") as stations:
        staged = stations.up_to_stage()
        write(source, "UPDATE items SET n = 0 WHERE id = 2")
        watcher.changed("public.items")
        watcher.request()
        stations.merge(staged)

    watcher.changed("public.items")


def test_a_sync_that_failed_is_asked_for_again(watcher: Watcher) -> None:
    with watcher.replica.source.connect().cursor() as cursor:
        cursor.execute("BEGIN; CREATE TABLE elsewhere ()")
        watcher.settle()
        watcher.write("UPDATE items SET n = 0 WHERE id = 2")
        watcher.changed("public.items")
        watcher.request()

        assert watcher.changed("public.items") == "the sync that was requested has not been merged"
        watcher.request()
        watcher.request()
        assert watcher.requested["public.items"].repeats == 2
    watcher.settle()
    watcher.write("UPDATE items SET n = 0 WHERE id = 3")
    watcher.request()
    assert watcher.requested["public.items"].repeats == 0


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("TRUNCATE items", "it was truncated"),
        ("ALTER TABLE items ADD COLUMN extra int DEFAULT 7", "its columns or their types were changed"),
        ("ALTER TABLE items RENAME COLUMN n TO m", "its columns or their types were changed"),
        ("ALTER TABLE items ALTER COLUMN n TYPE bigint", "its columns or their types were changed"),
        ("ALTER TABLE items DROP COLUMN n", "its columns or their types were changed"),
        ("DROP TABLE items", "there is no such table at the source"),
        (
            "DROP TABLE items; CREATE TABLE items (id int PRIMARY KEY, n int)",
            "it was truncated, rewritten or recreated",
        ),
    ],
)
def test_what_is_done_to_the_table_as_a_whole_is_seen(watcher: Watcher, statement: str, said: str) -> None:
    watcher.write(statement)
    assert watcher.changed("public.items").startswith(said)


def test_partitions_are_looked_at_like_their_table(replica: Replica) -> None:
    write(
        replica.source,
        "CREATE TABLE parted (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);"
        "CREATE TABLE first PARTITION OF parted FOR VALUES FROM (0) TO (100);"
        "CREATE TABLE second (id int PRIMARY KEY, n int); INSERT INTO second VALUES (100, 1); CREATE TABLE others ()",
    )
    watcher = Watcher(replica, ("public.parted",))
    watcher.settle()

    write(replica.source, "INSERT INTO first VALUES (1, 1)")
    assert watcher.changed("public.parted") == "rows were inserted, updated or deleted"
    watcher.settle()
    write(replica.source, "ALTER TABLE parted ATTACH PARTITION second FOR VALUES FROM (100) TO (200)")
    assert "partitions" in watcher.changed("public.parted")
    watcher.settle()
    replica.assert_equal("public.parted")
    write(replica.source, "TRUNCATE second")
    assert "truncated" in watcher.changed("public.parted")
    watcher.settle()
    write(replica.source, "ALTER TABLE parted DETACH PARTITION first")
    assert "partitions" in watcher.changed("public.parted")


def test_a_view_is_always_synced_and_a_materialized_one_when_it_was_refreshed(replica: Replica) -> None:
    write(
        replica.source,
        TABLES + "CREATE VIEW seen AS SELECT * FROM items; CREATE MATERIALIZED VIEW kept AS SELECT * FROM items;"
        "CREATE UNIQUE INDEX ON kept (id)",
    )
    tables = [{"source": f"public.{name}", "mode": "full_sync", "key": "id"} for name in ("seen", "kept")]
    watcher = Watcher(replica, tuple(tables))
    watcher.tick()
    wait_until(lambda: set(watcher.tick()) == {"public.seen"})
    assert watcher.reasons() == {"public.seen": "a view does not tell whether it has changed"}

    write(replica.source, "UPDATE items SET n = 0")
    assert set(watcher.reasons()) == {"public.seen"}
    write(replica.source, "REFRESH MATERIALIZED VIEW CONCURRENTLY kept")
    assert set(watcher.reasons()) == {"public.seen", "public.kept"}
    wait_until(lambda: set(watcher.tick()) == {"public.seen"})
    write(replica.source, "REFRESH MATERIALIZED VIEW kept")
    assert set(watcher.reasons()) == {"public.seen", "public.kept"}


def counted(source: Database, table: str) -> tuple[Any, ...]:
    (row,) = source.fetch(
        "SELECT n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables WHERE relname = %s", (table,)
    )
    return row


def test_counters_that_were_reset_and_counted_up_again_are_no_proof(watcher: Watcher) -> None:
    source = watcher.replica.source
    before = counted(source, "items")
    write(source, "SELECT pg_stat_reset()")
    write(source, "INSERT INTO items SELECT i, i FROM generate_series(101, 200) i")
    assert counted(source, "items") == before == (100, 0, 0)

    said = "the source was restarted, or its counters were reset"
    assert watcher.reasons() == {"public.items": said, "public.others": said}
    watcher.settle()
    watcher.replica.assert_equal("public.items")


def test_counters_that_a_crash_has_thrown_away_are_no_proof(
    workshop: Workshop, target_db: Database, tmp_path: Path
) -> None:
    server = workshop.start("crashing")
    source = Database.create(server)
    write(source, TABLES)
    watcher = Watcher(Replica(source, target_db, tmp_path / "spool", {"workers": 2}))
    watcher.settle()

    os.kill(source.connect().info.backend_pid, signal.SIGKILL)
    source.disconnect()
    # It answers until it has noticed.
    wait_until(lambda: "reinitializing" in server.log.read_text())
    wait_until(lambda: answers(source))
    write(source, "INSERT INTO items SELECT i, i FROM generate_series(101, 200) i")

    assert counted(source, "items") == (100, 0, 0)
    assert "restarted" in watcher.reasons()["public.items"]
    remove([server])


def answers(database: Database) -> bool:
    try:
        return database.fetch("SELECT 1") == [(1,)]
    except psycopg2.OperationalError:
        database.disconnect()
        return False


def test_counters_are_not_believed_forever(watcher: Watcher) -> None:
    uncounted = watcher.replica.source.connect()
    with uncounted.cursor() as cursor:
        cursor.execute("SET track_counts = off; UPDATE items SET n = -1 WHERE id = 1")
    # Before PostgreSQL 15 an idle session may keep for itself what it has counted.
    seen = replace(probe(watcher.config), counted_late=False)
    assert watcher.reasons(seen) == {}

    later = replace(seen, at=seen.at + timedelta(seconds=change_detection.TRUSTED))

    assert set(watcher.reasons(later)) == {"public.items", "public.others"}
    assert "6 h ago" in watcher.reasons(later)["public.items"]
    idle = replace(later, next_xid=min(merged.watermark for merged in seen.merged.values()))
    assert watcher.reasons(idle) == {}


def test_what_an_idle_session_does_not_tell_of_is_not_missed_for_long(watcher: Watcher) -> None:
    """Before PostgreSQL 15 a session that has just reported is idle with what it counts next, for as long as it is."""
    source = watcher.replica.source
    if source.connect().server_version >= 150000:
        pytest.skip("since PostgreSQL 15 an idle session reports what it has counted")
    session = source.connect().cursor()
    for _ in range(2):
        session.execute("UPDATE items SET n = n + 1 WHERE id = 1")

    later = probe(watcher.config)
    later = replace(later, at=later.at + timedelta(minutes=10))

    assert "counters are not believed" in watcher.reasons(later)["public.items"]


def test_a_source_that_counts_nothing_is_judged_by_its_wal(watcher: Watcher) -> None:
    source = watcher.replica.source
    source.execute("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET track_counts = off', current_database()); END $$")
    assert set(watcher.reasons()) == {"public.items", "public.others"}
    wait_until(lambda: not watcher.tick())
    source.connect().cursor().execute("UPDATE items SET n = -1 WHERE id = 1")

    due = watcher.reasons()

    assert due["public.items"] == due["public.others"] == "the source has new WAL, and does not count rows"


def test_deletes_that_were_not_looked_for_are_not_forgotten(replica: Replica) -> None:
    write(replica.source, TABLES)
    watcher = Watcher(replica, ({"source": "public.items", "delete_detection": "1 hour"},))
    watcher.settle()
    assert watcher.reasons(replace(probe(watcher.config), at=probe(watcher.config).at + HOUR)) == {}
    write(replica.source, "DELETE FROM items WHERE id = 1")
    watcher.changed("public.items")
    watcher.settle()
    seen = probe(watcher.config)

    assert watcher.reasons(seen) == {}
    assert "deleted rows" in watcher.reasons(replace(seen, at=seen.at + HOUR))["public.items"]


def test_what_is_asked_for_at_the_target_is_seen(watcher: Watcher) -> None:
    items = watcher.config.tables[0]
    with open_target(watcher.config) as target:
        resync(target, items, "somebody asked for it")
    watcher.replica.target.execute("DROP TABLE others")

    assert watcher.reasons() == {
        "public.items": "somebody asked for it",
        "public.others": "the target table is gone, or another one has its name",
    }


def test_a_table_that_is_to_be_copied_otherwise_must_be_synced(watcher: Watcher) -> None:
    watcher.tables = ({"source": "public.items", "where": "id > 10"}, "public.others")
    assert watcher.changed("public.items") == "its configuration was changed"


def test_names_that_need_quotes_are_found(replica: Replica) -> None:
    write(replica.source, 'CREATE SCHEMA "a.b"; CREATE TABLE "a.b"."It""s, {1}" (id int PRIMARY KEY)')
    watcher = Watcher(replica, ('"a.b"."It""s, {1}"',))
    watcher.settle()
    write(replica.source, 'INSERT INTO "a.b"."It""s, {1}" VALUES (1)')
    assert list(watcher.reasons().values()) == ["rows were inserted, updated or deleted"]


@pytest.fixture
def standby(source_server: Cluster, workshop: Workshop) -> Iterator[Cluster]:
    server = standby_of(source_server, workshop, "sensor_standby")
    yield server
    remove([server])


def test_a_standby_is_judged_by_what_it_has_replayed(
    source_db: Database, target_db: Database, source_server: Cluster, standby: Cluster, tmp_path: Path
) -> None:
    source_db.execute(TABLES)
    await_replay(standby, source_server)
    watcher = Watcher(Replica(Database(standby, source_db.name), target_db, tmp_path / "spool", {"workers": 2}))
    watcher.settle()
    assert watcher.reasons() == {}

    source_db.execute("UPDATE items SET n = -1 WHERE id = 1")
    await_replay(standby, source_server)

    assert watcher.reasons()["public.items"] == "the source has new WAL, and does not count rows"
    watcher.settle()
    watcher.replica.source.disconnect()


def test_three_hundred_tables_are_looked_at_in_a_moment(replica: Replica) -> None:
    write(
        replica.source,
        "DO $$ BEGIN FOR i IN 1 .. 300 LOOP"
        " EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, a text, b text, c int, d numeric)', i);"
        " END LOOP; END $$",
    )
    watcher = Watcher(replica, tuple(f"public.t{number}" for number in range(1, 301)))
    config = watcher.config
    probe(config)
    began = time.monotonic()
    seen = probe(config)
    seconds = time.monotonic() - began

    assert len({mark.storage for mark in seen.fingerprints.values()}) == 300
    assert seconds < 5


@pytest.mark.parametrize("statement", ["RENAME VALUE 'a' TO 'b'", "ADD VALUE 'c'"])
def test_a_type_that_changed_is_a_change_of_the_tables_that_have_it(replica: Replica, statement: str) -> None:
    write(replica.source, "CREATE TYPE mood AS ENUM ('a'); CREATE TABLE items (id int PRIMARY KEY, m mood[])")
    write(replica.source, "CREATE TABLE others (id int PRIMARY KEY); INSERT INTO items VALUES (1, '{a}')")
    watcher = Watcher(replica)
    watcher.settle()

    watcher.write(f"ALTER TYPE mood {statement}")

    assert watcher.reasons() == {"public.items": "its columns or their types were changed"}
    watcher.settle()
    replica.assert_equal("public.items")


def test_a_type_that_a_where_may_name_is_looked_at_whoever_has_it(replica: Replica) -> None:
    write(replica.source, "CREATE TYPE mood AS ENUM ('a'); CREATE TABLE items (id int PRIMARY KEY, m text)")
    watcher = Watcher(replica, ({"source": "public.items", "where": "m::mood = 'a'"},))
    watcher.settle()

    watcher.write("ALTER TYPE mood RENAME VALUE 'a' TO 'b'")

    assert watcher.reasons() == {"public.items": "its columns or their types were changed"}


def test_a_partition_that_was_altered_while_it_was_detached_is_seen(replica: Replica) -> None:
    write(
        replica.source,
        "CREATE TABLE items (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);"
        "CREATE TABLE low PARTITION OF items FOR VALUES FROM (0) TO (9); INSERT INTO items VALUES (1, 'old')",
    )
    watcher = Watcher(replica, ("public.items",))
    watcher.settle()

    watcher.write(
        "ALTER TABLE items DETACH PARTITION low; ALTER TABLE low DROP COLUMN v, ADD COLUMN v text DEFAULT 'new';"
        "ALTER TABLE items ATTACH PARTITION low FOR VALUES FROM (0) TO (9)"
    )

    assert watcher.changed("public.items").startswith("it was truncated, rewritten or recreated")
    watcher.settle()
    replica.assert_equal("public.items")
