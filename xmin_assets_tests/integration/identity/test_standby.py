"""A hot standby as the source, and its primary in turns: one history, read at two places."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets.errors import PlanOutdated, SourceBehind
from xmin_assets.replication.changed_blocks.block_ranges import BlockRanges
from xmin_assets.replication.changed_blocks.wal_summaries import Wal
from xmin_assets.replication.runtime.progress import Progress
from xmin_assets_tests.clusters import Database, Workshop
from xmin_assets_tests.integration.conftest import by_blocks, one_mode
from xmin_assets_tests.integration.ledger import TABLE, Ledger, counts
from xmin_assets_tests.replica import Replica
from xmin_assets_tests.servers import ask, await_flushed, await_replay, command, remove, standby_of, wait_until


@pytest.fixture(scope="module")
def primary(workshop: Workshop, summarizing: dict[str, str]) -> Iterator[Cluster]:
    server = workshop.start("primary", autovacuum="off", **summarizing)
    yield server
    remove([server])


@pytest.fixture(scope="module")
def standby(primary: Cluster, workshop: Workshop) -> Iterator[Cluster]:
    """A standby that goes before its readers: a query in the way of replay is cancelled at once."""
    server = standby_of(primary, workshop, "standby", max_standby_streaming_delay="0")
    yield server
    remove([server])


@pytest.fixture
def ledger(
    primary: Cluster, standby: Cluster, target_db: Database, tmp_path: Path, options: dict[str, Any]
) -> Iterator[Ledger]:
    """Twenty rows on the primary, replayed by the standby, never synced."""
    database = Database.create(primary)
    created = Ledger.create(Replica(database, target_db, tmp_path / "spool", {"workers": 2}), options)
    created.insert(1, 20)
    await_replay(standby, primary)
    yield created
    database.drop()


@pytest.fixture
def paused(standby: Cluster) -> Iterator[Cluster]:
    """The standby, which replays nothing until it is told to."""
    command(standby, "SELECT pg_wal_replay_pause()")
    wait_until(lambda: ask(standby, "SELECT pg_get_wal_replay_pause_state() = 'paused'"), "replay pauses")
    yield standby
    command(standby, "SELECT pg_wal_replay_resume()")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A standby that lags is asked twice, and not for eight seconds."""
    monkeypatch.setattr(SourceBehind, "attempts", 2)


def test_transaction_open_on_the_primary_arrives_through_the_standby_when_it_commits(
    ledger: Ledger, primary: Cluster, standby: Cluster
) -> None:
    there = ledger.read_from(standby)
    first = there.sync()
    with ledger.open_transaction() as late:
        late.execute("INSERT INTO ledger (id, note) VALUES (100, 'late')")
        ledger.change(1, 1)
        await_replay(standby, primary)
        before = there.sync()
    await_replay(standby, primary)
    after = there.sync()

    assert (first.mode, counts(first)) == ("full_sync", (20, 20, 0, 0))
    assert (before.mode, counts(before)) == ("xmin_incremental", (1, 0, 1, 0))
    assert (after.mode, after.rows_inserted) == ("xmin_incremental", 1)
    assert before.watermark < after.watermark


def test_standby_and_primary_take_turns_without_a_full_extract(
    ledger: Ledger, primary: Cluster, standby: Cluster
) -> None:
    there = ledger.read_from(standby)
    there.sync()
    results = []
    for step, source in enumerate((ledger, there, ledger, there), start=1):
        ledger.change(step, step)
        ledger.insert(100 + step, 100 + step)
        await_replay(standby, primary)
        results.append(source.sync())

    assert [(result.mode, counts(result)) for result in results] == [("xmin_incremental", (2, 1, 1, 0))] * 4
    assert [result.watermark for result in results] == sorted({result.watermark for result in results})


@one_mode
@pytest.mark.parametrize("quiet", ["SELECT 1", "SELECT pg_switch_wal()", "CHECKPOINT"])
def test_standby_of_an_idle_primary_is_not_behind(
    ledger: Ledger, primary: Cluster, standby: Cluster, quiet: str
) -> None:
    ledger.change(1, 20)
    command(primary, quiet)
    ledger.sync()
    await_flushed(standby, primary)

    result = ledger.read_from(standby).sync()

    assert (result.mode, counts(result)) == ("xmin_incremental", (0, 0, 0, 0))


@one_mode
@pytest.mark.usefixtures("impatient")
def test_standby_that_lags_behind_the_last_sync_is_refused_until_it_has_caught_up(
    ledger: Ledger, primary: Cluster, paused: Cluster
) -> None:
    there = ledger.read_from(paused)
    ledger.sync()
    ledger.change(1, 5, "the target has it already")
    ledger.sync()

    refused = there.replica.try_sync(TABLE)
    plan = there.replica.plan(TABLE)

    assert refused.status == "failed"
    assert "bytes of WAL behind what the last sync has copied" in str(refused.error)
    assert plan.snapshot is None
    assert "bytes of WAL behind what the last sync has copied" in str(plan.error)
    ledger.assert_true()

    command(paused, "SELECT pg_wal_replay_resume()")
    await_replay(paused, primary)
    assert counts(there.sync()) == (0, 0, 0, 0)


@one_mode
def test_standby_that_catches_up_between_two_attempts_is_read(
    ledger: Ledger, primary: Cluster, paused: Cluster
) -> None:
    ledger.sync()
    ledger.change(1, 5)
    ledger.sync()

    def catch_up(progress: Progress) -> None:
        if progress.is_retry:
            command(paused, "SELECT pg_wal_replay_resume()")
            await_replay(paused, primary)

    result = ledger.read_from(paused).replica.sync(TABLE, on_progress=catch_up)

    assert (result.mode, counts(result)) == ("xmin_incremental", (0, 0, 0, 0))


@one_mode
def test_extract_from_a_standby_that_lacks_what_the_plan_starts_from_is_refused(
    ledger: Ledger, primary: Cluster, paused: Cluster
) -> None:
    ledger.sync()
    ledger.change(1, 5)
    ledger.sync()
    with ledger.replica.stations(TABLE) as at_primary:
        planned = at_primary.snapshot()

    with (
        ledger.read_from(paused).replica.stations(TABLE) as at_standby,
        pytest.raises(PlanOutdated, match="its WAL ends before what the last sync saw"),
    ):
        at_standby.extract(planned)


def test_session_ended_by_a_recovery_conflict_is_retried(ledger: Ledger, primary: Cluster, standby: Cluster) -> None:
    there = ledger.read_from(standby)
    there.sync()
    ledger.change(1, 1)  # else the sync had nothing to read
    await_replay(standby, primary)
    retries = []

    def conflict(progress: Progress) -> None:
        if progress.is_retry:
            retries.append(progress.note)
        elif progress.station == "extract" and not retries:
            _remove_what_snapshots_see(ledger, primary, standby)

    result = there.replica.sync(there.config, on_progress=conflict)

    assert len(retries) == 1
    assert result.rows_updated == 20
    there.assert_true()


@one_mode
def test_query_cancelled_by_a_recovery_conflict_is_retried(ledger: Ledger, primary: Cluster, standby: Cluster) -> None:
    there = ledger.read_from(standby)
    # Every row waits for a lock, so the test decides how long the query runs.
    table = {"source": TABLE, "where": "pg_catalog.pg_advisory_xact_lock_shared(1) IS NOT NULL"}
    waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)"
    retries: list[str] = []

    with closing(standby.connect(ledger.source.name)) as holder, ThreadPoolExecutor(1) as pool:
        cursor = holder.cursor()
        cursor.execute("SELECT pg_advisory_lock(1)")
        syncing = pool.submit(
            there.replica.sync, table, on_progress=lambda step: retries.append(step.note) if step.is_retry else None
        )
        wait_until(lambda: ask(standby, waiting), "the extract reads")
        _remove_what_snapshots_see(ledger, primary, standby)
        wait_until(lambda: retries, "the sync is tried again")
        cursor.execute("SELECT pg_advisory_unlock(1)")
        result = syncing.result(timeout=30)

    assert len(retries) == 1
    assert "conflict with recovery" in retries[0]
    assert result.rows_inserted == 20
    there.assert_true()


@by_blocks
def test_recovery_conflict_while_the_changed_blocks_are_told_is_retried(
    ledger: Ledger, primary: Cluster, standby: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = ledger.read_from(standby)
    there.sync()
    ledger.change(1, 1)
    await_replay(standby, primary)
    conflicts: list[None] = []
    tell = Wal.ranges

    def conflict(wal: Wal, start: int, summarized: int, stop: int, most_blocks: float) -> tuple[BlockRanges, int]:
        if not conflicts:
            conflicts.append(_remove_what_snapshots_see(ledger, primary, standby))
        return tell(wal, start, summarized, stop, most_blocks)

    monkeypatch.setattr(Wal, "ranges", conflict)
    result = there.sync_once()

    assert (len(conflicts), result.rows_updated) == (1, 20)
    there.assert_true()


def _remove_what_snapshots_see(ledger: Ledger, primary: Cluster, standby: Cluster) -> None:
    """Let the standby replay the removal of row versions that an older snapshot still shows."""
    ledger.change(1, 20)
    command(primary, "VACUUM ledger", ledger.source.name)
    await_replay(standby, primary)


@one_mode
@pytest.mark.usefixtures("impatient")
def test_standby_is_compared_with_the_copy_once_it_has_replayed_what_the_copy_has(
    ledger: Ledger, primary: Cluster, paused: Cluster
) -> None:
    there = ledger.read_from(paused)
    ledger.sync()
    ledger.change(1, 5, "the target has it already")
    ledger.sync()

    refused = there.replica.verify(TABLE)

    assert refused.status == "failed"
    assert "bytes of WAL behind what the last sync has copied" in str(refused.error)

    ledger.change(6, 6, "the target does not have it yet")
    command(paused, "SELECT pg_wal_replay_resume()")
    await_replay(paused, primary)
    found = there.replica.verify(TABLE)
    assert (found.status, found.pending, found.note) == ("match", 1, None)
