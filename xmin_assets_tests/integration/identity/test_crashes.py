"""What a source had shown and not yet written to its disk, and what a crash makes of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import psycopg2
import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets.errors import PlanOutdated, StaleExtract
from xmin_assets.postgres import xid
from xmin_assets.postgres.server import Server, observe_server
from xmin_assets.replication.planning import observation, snapshot
from xmin_assets_tests.clusters import Database, Workshop
from xmin_assets_tests.integration.conftest import EVERY, by_blocks, one_mode
from xmin_assets_tests.integration.ledger import Ledger, counts
from xmin_assets_tests.replica import Replica
from xmin_assets_tests.servers import ask, burn_to, cold_copy, command, create_database, next_xid, restart, wait_until

NOT_ON_DISK = "every block, because what the snapshot shows is not in the WAL on the source's disk yet"

asynchronously = "SET LOCAL synchronous_commit = off; "


@contextmanager
def no_wal_writer(server: Cluster) -> Iterator[int]:
    """Stop the server's WAL writer, whose process id this is: nothing of an asynchronous commit gets to the disk."""
    pid = int(ask(server, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"))
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):  # killed meanwhile, and another one started
            os.kill(pid, signal.SIGCONT)


def kill_one_process(server: Cluster, pid: int) -> None:
    """Let the server lose a process and recover; the postmaster goes on."""
    started = ask(server, "SELECT pg_postmaster_start_time()")
    os.kill(pid, signal.SIGKILL)

    def recovered() -> bool:
        with suppress(psycopg2.OperationalError):
            now = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"
            return bool(ask(server, now) != pid)
        return False

    wait_until(recovered, "the server has recovered")
    assert ask(server, "SELECT pg_postmaster_start_time()") == started


def async_change(ledger: Ledger, first: int, last: int, note: str) -> None:
    ledger.source.execute(
        f"{asynchronously} UPDATE ledger SET note = %s, txid = DEFAULT WHERE id BETWEEN %s AND %s", (note, first, last)
    )


def test_what_a_crash_of_one_process_undoes_is_undone_in_the_copy(ledger: Ledger, server: Cluster) -> None:
    first = ledger.sync()
    with no_wal_writer(server) as writer:
        async_change(ledger, 3, 5, "never was")
        ledger.source.execute(f"{asynchronously} DELETE FROM ledger WHERE id = 6; INSERT INTO ledger VALUES (21, 'no')")
        seen = ledger.replica.sync(ledger.config)
        assert (counts(seen)[1:], seen.watermark) == ((1, 3, 1), first.watermark)
        ledger.source.disconnect()
        kill_one_process(server, writer)

    assert next_xid(server) < seen.max_xmin
    ledger.change(5, 7, "with ids of before")
    result = ledger.sync_once(whole="this sync is not about what changed")

    ledger.assert_true()
    assert "recovered from a crash" in (result.reason or "") or "went back in time" in (result.reason or "")


@by_blocks
def test_wal_that_is_not_on_disk_ends_no_map_and_moves_no_watermark(ledger: Ledger, server: Cluster) -> None:
    ledger.sync()
    ledger.change(1, 1)
    second = ledger.sync()
    with no_wal_writer(server):
        async_change(ledger, 3, 5, "on disk later")
        unflushed = ledger.replica.sync(ledger.config)
        ledger.assert_true()
        assert (unflushed.path, unflushed.watermark) == (NOT_ON_DISK, second.watermark)
        assert str(unflushed.reason).endswith(
            "had not written all that was read to its disk yet, so the watermark stays"
        )
    flushed = "SELECT pg_current_wal_flush_lsn() >= pg_current_wal_insert_lsn() FROM pg_sleep(0.01)"
    wait_until(lambda: ask(server, flushed), "WAL is flushed")

    resumed = ledger.plan().plan
    later = ledger.sync()

    assert (resumed.watermark or 0) > second.watermark, "what is on disk by now is not read again"
    assert counts(later) == (0, 0, 0, 0)


@one_mode
def test_a_first_sync_of_what_is_not_on_disk_is_resumed_where_it_was_when_it_is(
    ledger: Ledger, server: Cluster
) -> None:
    with no_wal_writer(server):
        async_change(ledger, 3, 5, "on disk later")
        first = ledger.replica.sync(ledger.config)
        again = ledger.replica.sync(ledger.config)
        ledger.assert_true()
    command(server, "CHECKPOINT")
    later = ledger.sync()

    assert (first.watermark, again.watermark) == (xid.FIRST_NORMAL, xid.FIRST_NORMAL)
    assert (counts(again), counts(later)) == ((20, 0, 0, 0), (0, 0, 0, 0))
    assert later.watermark > first.max_xmin


@one_mode
def test_verify_says_that_a_crash_may_be_the_reason(ledger: Ledger, server: Cluster) -> None:
    ledger.sync()
    with no_wal_writer(server) as writer:
        async_change(ledger, 3, 5, "never was")
        ledger.replica.sync(ledger.config)
        ledger.source.disconnect()
        kill_one_process(server, writer)
    ledger.source.execute("SELECT pg_logical_emit_message(false, 'test', repeat('x', 100000))")

    found = ledger.replica.verify(ledger.config)
    ledger.sync_once()

    assert (found.status, found.different) == ("mismatch", 3)
    assert "recovered from a crash since the last sync" in (found.note or "")
    assert ledger.replica.verify(ledger.config).note is None


@one_mode
def test_a_row_lost_from_a_copy_is_missing_though_its_watermark_had_to_wait(ledger: Ledger, server: Cluster) -> None:
    with no_wal_writer(server):
        async_change(ledger, 3, 5, "on disk later")
        assert ledger.replica.sync(ledger.config).watermark == xid.FIRST_NORMAL
    command(server, "CHECKPOINT")
    ledger.replica.target.execute("DELETE FROM ledger WHERE id = 7")

    found = ledger.replica.verify(ledger.config)

    assert (found.status, found.missing, found.pending) == ("mismatch", 1, 0)


@one_mode
def test_a_first_sync_of_what_is_then_lost_is_mended(ledger: Ledger, server: Cluster) -> None:
    with no_wal_writer(server) as writer:
        async_change(ledger, 3, 5, "never was")
        ledger.replica.sync(ledger.config)
        ledger.source.disconnect()
        kill_one_process(server, writer)

    ledger.sync_once()
    ledger.assert_true()


@pytest.mark.parametrize("lost", ["rows", "key"])
@pytest.mark.parametrize("options", [{}, {"deletes": "soft"}], ids=["hard", "soft"])
def test_a_first_load_of_which_a_crash_of_the_target_has_lost_a_part_is_not_merged(
    server: Cluster, source_server: Cluster, tmp_path: Any, options: dict[str, Any], lost: str
) -> None:
    """The table that is to become the target is logged, but its commits need not be on disk."""
    source = Database.create(source_server)
    source.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
    source.execute("INSERT INTO t SELECT i, repeat('x', 50) FROM generate_series(1, 20000) i")
    replica, table = Replica(source, create_database(server, "copies"), tmp_path / "spool"), {"source": "public.t"}
    replica.target.execute("ALTER DATABASE copies SET synchronous_commit = off")
    replica.target.disconnect()
    with replica.stations({**table, **options}) as stations:
        extracted = stations.up_to_extract()
        with no_wal_writer(server):
            staged = stations.stage(extracted)
            if lost == "key":
                command(server, "CHECKPOINT", "copies")  # as if only what came last had been lost
                command(server, f"ALTER TABLE xmin_assets.{staged.name} DROP CONSTRAINT {staged.name}_pkey", "copies")
            server.stop(immediate=True)
    server.start()
    replica.target.disconnect()

    with replica.stations({**table, **options}) as stations, pytest.raises(StaleExtract, match="server crashed"):
        stations.merge(staged)
    replica.sync({**table, **options})

    replica.assert_equal("public.t")
    source.drop()


def test_by_a_cursor_what_a_crash_undoes_is_undone_too(server: Cluster, target_db: Database, tmp_path: Any) -> None:
    source = create_database(server, "shop")
    source.execute("CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL); INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)")
    replica, table = Replica(source, target_db, tmp_path / "spool"), {"source": "public.t"}
    by_cursor = {**table, "mode": "incremental_sync", "cursor": "n"}
    replica.sync(by_cursor)
    with no_wal_writer(server) as writer:
        source.execute(f"{asynchronously} UPDATE t SET n = 9 WHERE id = 1")
        replica.sync(by_cursor)
        source.disconnect()
        kill_one_process(server, writer)

    result = replica.sync(by_cursor)

    replica.assert_equal("public.t")
    assert target_db.fetch("SELECT n FROM t ORDER BY id") == [(1,), (2,), (3,)]
    assert result.mode == "full_sync"


@one_mode
def test_a_crash_between_the_facts_and_the_snapshot_makes_the_plan_outdated(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pooler keeps our connection while the server behind it recovers."""
    ledger.sync()

    def observe(cursor: Any) -> Server:
        return replace(observe_server(cursor), started="of before the crash")

    with ledger.replica.stations(ledger.config) as stations:
        planned = stations.snapshot()
        for module in (observation, snapshot):
            monkeypatch.setattr(module, "observe_server", observe)
        with pytest.raises(PlanOutdated, match="restarted just now"):
            stations.extract(planned)
        with pytest.raises(PlanOutdated, match="restarted just now"):
            stations.snapshot()


@one_mode
def test_statistics_that_somebody_resets_are_no_crash(ledger: Ledger, server: Cluster) -> None:
    ledger.sync()
    for kind in ("bgwriter", "wal"):
        command(server, f"SELECT pg_stat_reset_shared('{kind}')")

    assert "crash" not in (ledger.sync().reason or "")


@one_mode
@pytest.mark.parametrize("noticed", [True, False])
def test_an_unlogged_table_that_a_crash_has_emptied_is_emptied(ledger: Ledger, server: Cluster, noticed: bool) -> None:
    ledger.source.execute("ALTER TABLE ledger SET UNLOGGED")
    first = ledger.sync_once()
    ledger.source.disconnect()
    restart(server, crash=True)
    assert next_xid(server) == first.watermark, "no transaction has written since"
    if not noticed:
        ledger.replica.target.execute(
            "UPDATE xmin_assets.state SET facts = facts || jsonb_build_object('source_started', %s::text)",
            (ledger.source_start(),),
        )

    result = ledger.sync_once()

    assert ("crash" in (result.reason or "")) is noticed
    assert (result.rows_deleted, ledger.replica.target.fetch("SELECT count(*) FROM ledger")) == (20, [(0,)])


def test_id_that_both_histories_of_a_restored_copy_have_given_out_hides_no_change(
    server: Cluster, workshop: Workshop, servers: list[Cluster], target_db: Database, tmp_path: Any, blocks: str
) -> None:
    """The copy is equal when it is checked, and not when a transaction ends that bears an id of the other history."""
    source = create_database(server, "shop")
    source.execute("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    options: dict[str, Any] = {"source": "public.t"}
    if blocks != EVERY:
        source.execute("CREATE EXTENSION pg_walinspect")
        options["track_blocks"] = True
    original = Replica(source, target_db, tmp_path / "spool")
    original.sync(options)
    source.disconnect()
    copy = cold_copy(server, workshop, f"{server.name}-copy")
    servers.append(copy)

    holder = source.connect()
    holder.autocommit = False
    with holder.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id()::text::int8")
        ((held,),) = cursor.fetchall()
    source.execute("UPDATE t SET v = v WHERE id = 1")  # by the id after it, with no other value
    assert original.sync(options).watermark == held
    assert original.source_xmins("public.t")[-1] == held + 1
    port = server.port
    holder.close()
    source.disconnect()
    server.stop()
    copy.start(port)

    restored = Replica(Database(copy, "shop"), target_db, tmp_path / "spool")
    command(copy, "SELECT pg_logical_emit_message(false, 'test', repeat('x', 1000000)) FROM generate_series(1, 4)")
    burn_to(copy, held + 1)
    late = restored.source.connect()
    late.autocommit = False
    with late.cursor() as cursor:
        cursor.execute("UPDATE t SET v = 'of the copy' WHERE id = 1 RETURNING pg_current_xact_id()::text::int8")
        assert cursor.fetchall() == [(held + 1,)]
    checked = restored.sync(options)
    between = restored.sync(options)
    late.commit()
    result = restored.sync(options)

    restored.assert_equal("public.t")
    assert "by a checksum" in (checked.reason or "")
    assert (checked.mode, between.mode, result.mode) == ("xmin_incremental",) * 3
    assert result.rows_updated == 1
