"""A source that was restarted, and whose WAL shows whether its history is the one that the last sync saw."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg2
import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets.postgres import wal_records
from xmin_assets.replication.planning import wal_proof
from xmin_assets_tests.clusters import Workshop
from xmin_assets_tests.integration.conftest import one_mode
from xmin_assets_tests.integration.identity.test_crashes import async_change, kill_one_process, no_wal_writer
from xmin_assets_tests.integration.ledger import Ledger, counts
from xmin_assets_tests.servers import (
    ask,
    await_replay,
    burn_to,
    cold_copy,
    command,
    next_xid,
    reset_xid,
    restart,
    standby_of,
)

PROVEN = "and its WAL is the one that the last sync saw"
ANOTHER = "its WAL is another one than the last sync saw"


@pytest.fixture
def ledger(server: Cluster, make_ledger: Callable[[Cluster], Ledger]) -> Ledger:
    """Twenty rows on a server that shows its WAL."""
    made = make_ledger(server)
    made.source.execute("CREATE EXTENSION IF NOT EXISTS pg_walinspect")
    made.insert(1, 20)
    return made


def start_in_place_of(ledger: Ledger, copy: Cluster) -> Ledger:
    """Let another data directory answer at the server's address."""
    port = ledger.source.cluster.port
    ledger.source.disconnect()
    ledger.source.cluster.stop(immediate=True)
    assert copy.start(port) == port
    return ledger.read_from(copy)


def write_wal(server: Cluster, megabytes: int = 4) -> None:
    message = "pg_logical_emit_message(false, 'test', repeat('x', 1000000))"
    command(server, f"SELECT {message} FROM generate_series(1, {megabytes})")


def noted(ledger: Ledger) -> Any:
    """What the state has of the source's WAL."""
    ((found,),) = ledger.replica.target.fetch("SELECT facts -> 'wal_records' FROM xmin_assets.state")
    return found


@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "crashed"])
def test_a_restart_that_lost_nothing_costs_nothing(ledger: Ledger, server: Cluster, crash: bool) -> None:
    ledger.sync()
    ledger.change(1, 5)
    ledger.source.disconnect()
    restart(server, crash=crash)

    result = ledger.sync()
    ledger.source.disconnect()
    restart(server, crash=crash)
    idle = ledger.sync()
    ledger.source.disconnect()
    restart(server, crash=crash)
    ledger.change(6, 6)
    ledger.source.execute("DELETE FROM ledger WHERE id = 7")
    later = ledger.sync()

    assert [counts(each)[1:] for each in (result, idle, later)] == [(0, 5, 0), (0, 0, 0), (0, 1, 1)]
    for each in (result, idle, later):
        assert each.mode == "xmin_incremental" and PROVEN in (each.reason or "")
        assert "checksum" not in (each.reason or "")


@one_mode
@pytest.mark.parametrize("deletes", ["ignore", "soft"])
def test_a_copy_that_keeps_deleted_rows_is_not_read_in_full(ledger: Ledger, server: Cluster, deletes: str) -> None:
    ledger.sync(deletes=deletes)
    ledger.source.disconnect()
    restart(server)
    ledger.change(1, 2)

    result = ledger.sync(deletes=deletes)

    assert (result.mode, counts(result)) == ("xmin_incremental", (2, 0, 2, 0))


def test_what_a_crash_has_undone_is_not_proven(ledger: Ledger, server: Cluster) -> None:
    ledger.sync()
    with no_wal_writer(server) as writer:
        async_change(ledger, 3, 5, "never was")
        ledger.replica.sync(ledger.config)
        assert noted(ledger) is None
        ledger.source.disconnect()
        kill_one_process(server, writer)
    ledger.change(5, 7, "with ids of before")
    write_wal(server)

    planned = ledger.replica.plan(ledger.config).snapshot
    ledger.sync_once(whole="this sync is not about what changed")

    ledger.assert_true()
    assert planned and "the last sync could note nothing of its WAL" in planned.plan.reason


def test_a_copy_that_went_another_way_is_not_proven(
    ledger: Ledger, server: Cluster, workshop: Workshop, servers: list[Cluster]
) -> None:
    ledger.sync()
    ledger.source.disconnect()
    copy = cold_copy(server, workshop, f"{server.name}-copy")
    servers.append(copy)
    ledger.change(1, 5, "only in the original")
    before = ledger.sync()
    restored = start_in_place_of(ledger, copy)
    # The same statement: the records have the same lengths, ids and places.
    restored.change(1, 5, "only in a copy of i")
    burn_to(copy, before.watermark + 100)
    write_wal(copy)

    planned = restored.replica.plan(restored.config).snapshot
    result = restored.sync_once()
    restored.assert_true()

    assert planned and ANOTHER in planned.plan.reason
    assert result.mode == "full_sync"


def test_a_copy_of_what_came_after_the_last_sync_is_proven(
    ledger: Ledger, server: Cluster, workshop: Workshop, servers: list[Cluster]
) -> None:
    ledger.sync()
    ledger.change(1, 2, "in both")
    ledger.source.disconnect()
    copy = cold_copy(server, workshop, f"{server.name}-copy")
    servers.append(copy)
    ledger.change(3, 4, "only in the original")
    copied = start_in_place_of(ledger, copy)
    copied.change(5, 6, "only in the copy")

    result = copied.sync()

    assert PROVEN in (result.reason or "")
    assert counts(result) == (4, 0, 4, 0)


@one_mode
def test_an_id_that_a_crash_took_after_the_last_end_of_a_transaction_is_not_lost_in_a_copy(
    ledger: Ledger, server: Cluster, workshop: Workshop, servers: list[Cluster]
) -> None:
    """The copy has the last end of a transaction that the sync saw, but not the crash after it."""
    ledger.sync()
    ledger.source.disconnect()
    copy = cold_copy(server, workshop, f"{server.name}-copy")
    servers.append(copy)
    writer = server.connect(ledger.source.name)  # which is open until the crash
    writer.autocommit = False
    with writer.cursor() as cursor:
        cursor.execute("UPDATE ledger SET note = 'crashed', txid = DEFAULT WHERE id = 1")
        lost = next_xid(server) - 1
        command(server, "CHECKPOINT")
        ledger.source.disconnect()
        restart(server, crash=True)
    with suppress(psycopg2.Error):
        writer.close()
    assert next_xid(server) > lost
    before = ledger.sync()
    assert before.watermark > lost
    restored = start_in_place_of(ledger, copy)
    burn_to(copy, lost)
    restored.change(1, 1, "by the id that was lost")
    burn_to(copy, before.watermark + 10)
    write_wal(copy)

    planned = restored.replica.plan(restored.config).snapshot
    restored.sync_once()

    restored.assert_true()
    assert planned and ANOTHER in planned.plan.reason


@one_mode
def test_wal_that_was_reset_proves_nothing(ledger: Ledger, server: Cluster) -> None:
    ledger.sync()
    ledger.source.disconnect()
    reset_xid(server, next_xid(server) + 1000)
    ledger.change(1, 2)

    result = ledger.sync()

    assert counts(result) == (2, 0, 2, 0)
    assert "its WAL is not shown" in (result.reason or "") and "checksum" in (result.reason or "")


@one_mode
def test_wal_that_is_gone_proves_nothing(ledger: Ledger, server: Cluster) -> None:
    command(server, "ALTER SYSTEM SET max_wal_size = '32MB'")
    command(server, "ALTER SYSTEM SET min_wal_size = '32MB'")
    command(server, "ALTER SYSTEM SET wal_keep_size = 0")
    ledger.sync()
    for _ in range(4):
        command(server, "SELECT pg_switch_wal()")
        command(server, "SELECT pg_logical_emit_message(true, 'test', 'x')")
        command(server, "CHECKPOINT")
    ledger.source.disconnect()
    restart(server)

    result = ledger.sync()

    assert "its WAL is not shown" in (result.reason or "") and "checksum" in (result.reason or "")


@one_mode
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_server_that_does_not_show_its_wal_proves_nothing(ledger: Ledger, server: Cluster, when: str) -> None:
    drop = "DROP EXTENSION pg_walinspect"
    if when == "before":
        ledger.source.execute(drop)
    ledger.sync()
    if when == "after":
        ledger.source.execute(drop)
    ledger.source.disconnect()
    restart(server)

    reason = ledger.sync().reason or ""

    assert "checksum" in reason
    expected = {"before": "could note nothing of its WAL", "after": "pg_walinspect, which is not there or not granted"}
    assert expected[when] in reason


@one_mode
def test_a_standby_that_is_started_as_a_primary_on_its_timeline_is_not_proven(
    ledger: Ledger, server: Cluster, workshop: Workshop, servers: list[Cluster]
) -> None:
    standby = standby_of(server, workshop, f"{server.name}-standby")
    servers.append(standby)
    await_replay(standby, server)
    standby.stop()
    ledger.change(1, 5, "only on the primary")
    before = ledger.sync()
    (standby.data_dir / "standby.signal").unlink()
    other = start_in_place_of(ledger, standby)
    other.change(4, 6, "only on the other one")
    burn_to(standby, before.watermark + 100)
    write_wal(standby)

    planned = other.replica.plan(other.config).snapshot
    other.sync_once()
    other.assert_true()

    assert planned and ANOTHER in planned.plan.reason
    assert ask(standby, "SELECT timeline_id FROM pg_control_checkpoint()") == 1


@one_mode
def test_a_table_that_was_recreated_is_read_in_full(ledger: Ledger, server: Cluster) -> None:
    ledger.sync()
    ledger.source.execute("CREATE TABLE other (LIKE ledger INCLUDING ALL)")
    ledger.source.execute("DROP TABLE ledger; ALTER TABLE other RENAME TO ledger")
    ledger.insert(5, 9, "of the new one")
    ledger.source.disconnect()
    restart(server)

    assert ledger.sync_once().mode == "full_sync"
    ledger.assert_true()


@one_mode
def test_an_unlogged_table_is_not_proven_by_wal(ledger: Ledger, server: Cluster) -> None:
    ledger.source.execute("ALTER TABLE ledger SET UNLOGGED")
    ledger.sync_once()
    ledger.source.disconnect()
    restart(server, crash=True)

    reason = ledger.sync_once().reason or ""

    assert "of an UNLOGGED table no WAL tells" in reason
    assert ledger.replica.target.fetch("SELECT count(*) FROM ledger") == [(0,)]


@one_mode
def test_records_of_a_start_after_the_extract_are_not_noted(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pooler keeps our connection while the server behind it recovers, and loses what the extract saw."""
    monkeypatch.setattr(wal_proof, "started", lambda _: "after a crash")
    ledger.replica.sync(ledger.config)

    assert noted(ledger) is None


@one_mode
@pytest.mark.parametrize("most", [wal_records.MOST_STEPS, 1], ids=["near", "far"])
def test_the_end_of_a_transaction_is_looked_for_in_files_before(
    ledger: Ledger, server: Cluster, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(wal_records, "MOST_STEPS", most)
    command(server, "ALTER SYSTEM SET wal_keep_size = '1GB'")
    command(server, "SELECT pg_reload_conf()")
    for _ in range(2):
        command(server, "SELECT pg_switch_wal()")
        command(server, "SELECT pg_logical_emit_message(false, 'test', repeat('x', 200000))")
    command(server, "CHECKPOINT")
    ledger.sync()
    ledger.source.disconnect()
    restart(server)

    assert (PROVEN in (ledger.sync().reason or "")) is (most > 1)


@one_mode
@pytest.mark.parametrize("how", [{}, {"mode": "incremental_sync", "cursor": "txid"}], ids=["xmin", "cursor"])
def test_a_plan_is_proven_for_the_start_that_it_looked_at(ledger: Ledger, server: Cluster, how: dict[str, Any]) -> None:
    config = {**ledger.config, **how}
    ledger.replica.sync(config)
    ledger.source.disconnect()
    restart(server)
    with ledger.replica.stations(config) as stations:
        planned = stations.snapshot()
        assert planned.plan.mode.value != "full_sync"
    ledger.source.disconnect()
    restart(server)
    with (
        ledger.replica.stations(config) as stations,
        pytest.raises(Exception, match="after the sync was planned, the source server was restarted"),
    ):
        stations.extract(planned)


@one_mode
def test_verify_knows_a_proven_history(ledger: Ledger, server: Cluster) -> None:
    ledger.sync()
    ledger.replica.target.execute("UPDATE ledger SET note = 'by somebody' WHERE id = 1")
    ledger.source.disconnect()
    restart(server)

    found = ledger.replica.verify(ledger.config)

    assert (found.status, found.different, found.pending) == ("mismatch", 1, 0)
    assert "restarted" not in (found.note or "")
