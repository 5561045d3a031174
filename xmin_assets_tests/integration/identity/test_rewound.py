"""A source that went back in time: started again from an older copy, or crashed."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets.errors import PlanOutdated
from xmin_assets_tests.clusters import Workshop
from xmin_assets_tests.integration.conftest import CHANGED, EVERY, by_blocks, one_mode
from xmin_assets_tests.integration.ledger import Ledger, counts
from xmin_assets_tests.servers import ask, burn_to, cold_copy, command, next_xid, restart

WENT_BACK = "the source went back in time: its WAL ends before what the last sync saw (restored or crashed)"


@pytest.fixture
def copy_now(server: Cluster, workshop: Workshop, servers: list[Cluster]) -> Callable[[Ledger], Cluster]:
    """Copies the server, which is stopped for it."""

    def copy(ledger: Ledger) -> Cluster:
        ledger.source.disconnect()
        servers.append(cold_copy(server, workshop, f"{server.name}-copy"))
        return servers[-1]

    return copy


def answer_from(ledger: Ledger, copy: Cluster) -> Ledger:
    """Let a copy take the place of the server."""
    port = ledger.source.cluster.port
    ledger.source.disconnect()
    ledger.source.cluster.stop()
    assert copy.start(port) == port
    return ledger.read_from(copy)


def write_wal(server: Cluster, megabytes: int) -> None:
    """Write WAL that changes nothing, and takes no transaction id."""
    message = "pg_logical_emit_message(false, 'test', repeat('x', 1000000))"
    command(server, f"SELECT {message} FROM generate_series(1, {megabytes})")


def wal_end(server: Cluster) -> int:
    return int(ask(server, "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))


@pytest.mark.parametrize(
    ("blocks", "work"),
    [
        (EVERY, "none"),
        (EVERY, "a little"),
        (EVERY, "more than the source had done"),
        (EVERY, "and a checkpoint"),
        (CHANGED, "and a checkpoint"),
    ],
    indirect=["blocks"],
)
def test_restored_copy_is_read_in_full_however_much_it_has_done_since(
    ledger: Ledger, copy_now: Callable[[Ledger], Cluster], work: str
) -> None:
    copy = copy_now(ledger)
    ledger.change(1, 5, "only in the original")
    ledger.insert(101, 110, "only in the original")
    before = ledger.sync()
    restored = answer_from(ledger, copy)
    if work != "none":
        restored.change(4, 6, "only in the copy")
    if work in ("more than the source had done", "and a checkpoint"):
        restored.insert(201, 2200, "only in the copy")
        burn_to(copy, before.watermark + 100)
    if work == "and a checkpoint":
        command(copy, "CHECKPOINT")

    # The plan may only say that a checksum will tell; the sync goes on from there.
    result = restored.sync_once()
    restored.assert_true()
    later = restored.sync()

    assert result.mode == "full_sync"
    assert result.reason.startswith(("the source went back in time", "the source server was restarted"))
    assert result.rows_deleted == 10
    assert (later.mode, counts(later)) == ("xmin_incremental", (0, 0, 0, 0))


@by_blocks
def test_transaction_that_wrote_in_a_copy_where_the_original_had_less_wal_arrives(
    ledger: Ledger, server: Cluster, copy_now: Callable[[Ledger], Cluster]
) -> None:
    """What a sync of the original noted, that so late an id has written nothing before, is not true of a copy."""
    copy = copy_now(ledger)
    write_wal(server, 2)
    noted = wal_end(server)
    watermark = ledger.sync().watermark
    restored = answer_from(ledger, copy)
    burn_to(copy, watermark + 100)
    with restored.open_transaction() as late:
        late.execute("UPDATE ledger SET note = 'late', txid = DEFAULT WHERE id = 5")
        late.execute("DELETE FROM ledger WHERE id = 6")
        assert wal_end(copy) < noted
        write_wal(copy, 4)
        equal = restored.sync()

    result = restored.sync(whole="a transaction that was open at the last syncs may have written before them")
    restored.change(7, 7)
    later = restored.sync()

    assert (equal.mode, counts(equal)) == ("xmin_incremental", (0, 0, 0, 0))
    assert (result.mode, counts(result)) == ("xmin_incremental", (1, 0, 1, 1))
    assert counts(later) == (1, 0, 1, 0)


@by_blocks
def test_restored_copy_that_has_equal_rows_in_other_blocks_is_read_in_full(
    ledger: Ledger, server: Cluster, copy_now: Callable[[Ledger], Cluster]
) -> None:
    """By the blocks that the target knows of the original, a row that is deleted in the copy would not be found."""
    ledger.insert(21, 300, "x" * 100)
    ledger.sync()
    copy = copy_now(ledger)
    change = "UPDATE ledger SET note = repeat('y', 100) WHERE id = 5"
    ledger.source.execute(change)
    burn_to(server, next_xid(server) + 20)
    watermark = ledger.sync_once().watermark
    restored = answer_from(ledger, copy)
    restored.insert(1001, 2000, "x" * 100)
    restored.source.execute("DELETE FROM ledger WHERE id > 1000")
    restored.source.execute(change)
    assert next_xid(copy) < watermark
    burn_to(copy, watermark + 100)

    result = restored.sync_once()
    restored.assert_equal()
    restored.change(300, 300)
    restored.sync_once()
    restored.source.execute("DELETE FROM ledger WHERE id = 5")
    later = restored.sync_once()
    restored.assert_equal()

    assert result.mode == "full_sync"
    assert result.reason.startswith("the source server was restarted")
    assert counts(later) == (0, 0, 0, 1)


@one_mode
def test_copy_that_answers_after_the_plan_is_not_extracted_as_if_it_were_the_server(
    ledger: Ledger, copy_now: Callable[[Ledger], Cluster]
) -> None:
    copy = copy_now(ledger)
    ledger.change(1, 5, "only in the original")
    watermark = ledger.sync().watermark
    with ledger.replica.stations(ledger.config) as stations:
        planned = stations.snapshot()
    restored = answer_from(ledger, copy)
    restored.change(4, 6, "only in the copy")
    burn_to(copy, watermark + 100)
    write_wal(copy, 1)

    with (
        restored.replica.stations(ledger.config) as stations,
        pytest.raises(PlanOutdated, match="after the sync was planned, the source server was restarted"),
    ):
        stations.extract(planned)
    assert restored.replica.sync(ledger.config).mode == "full_sync"
    restored.assert_true()


def test_restart_of_the_source_costs_a_checksum_and_copies_only_what_changed(ledger: Ledger, server: Cluster) -> None:
    ledger.sync()
    ledger.change(1, 5)
    ledger.source.disconnect()
    restart(server)

    result = ledger.sync()

    assert (result.mode, counts(result)) == ("xmin_incremental", (5, 0, 5, 0))
    assert "restarted" in result.reason
    assert "restarted" not in ledger.sync().reason


def test_crash_of_the_source_takes_nothing_back_that_a_sync_has_seen(ledger: Ledger, server: Cluster) -> None:
    command(server, "ALTER SYSTEM SET wal_writer_delay = '500ms'")
    command(server, "ALTER SYSTEM SET synchronous_commit = off")
    command(server, "SELECT pg_reload_conf()")
    ledger.sync()
    ledger.change(1, 5, "committed asynchronously")
    ledger.replica.sync(ledger.config)
    ledger.source.disconnect()
    restart(server, crash=True)

    ledger.assert_true()
    result = ledger.sync()

    assert (result.mode, counts(result)) == ("xmin_incremental", (0, 0, 0, 0))


@one_mode
def test_id_of_a_transaction_rolled_back_just_before_a_crash_is_not_used_again(ledger: Ledger, server: Cluster) -> None:
    command(server, "ALTER SYSTEM SET wal_writer_delay = '500ms'")
    command(server, "SELECT pg_reload_conf()")
    ledger.sync()
    rolled_back = ledger.source.connect()
    rolled_back.autocommit = False
    with rolled_back.cursor() as cursor:
        cursor.execute("UPDATE ledger SET note = 'never' WHERE id = 1")
    rolled_back.rollback()
    watermark = ledger.replica.sync("public.ledger").watermark
    ledger.source.disconnect()
    restart(server, crash=True)

    assert next_xid(server) >= watermark
    ledger.change(2, 2)
    assert counts(ledger.sync()) == (1, 0, 1, 0)


@one_mode  # by blocks it waits: WAL is read as far as it is on disk
def test_sync_that_finds_nothing_leaves_the_watermark_rather_than_wait(ledger: Ledger, server: Cluster) -> None:
    first = ledger.sync()
    command(server, "ALTER SYSTEM SET wal_writer_delay = '10s'")
    command(server, "SELECT pg_reload_conf()")
    with closing(ledger.source.connect()) as rolled_back, rolled_back.cursor() as cursor:
        rolled_back.autocommit = False
        cursor.execute("UPDATE ledger SET note = 'never' WHERE id = 1")
        rolled_back.rollback()

    began = time.monotonic()
    idle = ledger.sync()
    seconds = time.monotonic() - began
    command(server, "CHECKPOINT")
    later = ledger.sync()

    assert (counts(idle), idle.watermark) == ((0, 0, 0, 0), first.watermark)
    assert seconds < 5
    assert (counts(later), later.watermark > first.watermark) == ((0, 0, 0, 0), True)
