"""A hot standby as the source, and its primary in turns: one history, read at two places."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets.replication.progress import Progress
from xmin_assets_tests.clusters import Database, Workshop
from xmin_assets_tests.integration.ledger import TABLE, Ledger, counts
from xmin_assets_tests.replica import Replica
from xmin_assets_tests.servers import ask, await_flushed, await_replay, command, remove, standby_of, wait_until


@pytest.fixture(scope="module")
def primary(workshop: Workshop) -> Iterator[Cluster]:
    server = workshop.start("primary", autovacuum="off")
    yield server
    remove([server])


@pytest.fixture(scope="module")
def standby(primary: Cluster, workshop: Workshop) -> Iterator[Cluster]:
    """A standby that goes before its readers: a query in the way of replay is cancelled at once."""
    server = standby_of(primary, workshop, "standby", max_standby_streaming_delay="0")
    yield server
    remove([server])


@pytest.fixture
def ledger(primary: Cluster, standby: Cluster, target_db: Database, tmp_path: Path) -> Iterator[Ledger]:
    """Twenty rows on the primary, replayed by the standby, never synced."""
    database = Database.create(primary)
    created = Ledger.create(Replica(database, target_db, tmp_path / "spool", {"workers": 2}))
    created.insert(1, 20)
    await_replay(standby, primary)
    print(ask(standby, "select string_agg(to_json(a)::text, E'\n') from pg_stat_activity a where backend_type='client backend' and pid<>pg_backend_pid()"))
    yield created
    database.drop()


@pytest.fixture
def paused(standby: Cluster) -> Iterator[Cluster]:
    """The standby, which replays nothing until it is told to."""
    command(standby, "SELECT pg_wal_replay_pause()")
    wait_until(lambda: ask(standby, "SELECT pg_get_wal_replay_pause_state() = 'paused'"), "replay pauses")
    yield standby
    command(standby, "SELECT pg_wal_replay_resume()")


def test_session_ended_by_a_recovery_conflict_is_retried(ledger: Ledger, primary: Cluster, standby: Cluster) -> None:
    there = ledger.read_from(standby)
    there.sync()
    retries = []

    def conflict(progress: Progress) -> None:
        if progress.is_retry:
            retries.append(progress.note)
        elif progress.station == "extract" and not retries:
            print("STEP", progress)
            _remove_what_snapshots_see(ledger, primary, standby)

    result = there.replica.sync(TABLE, report=conflict)

    assert len(retries) == 1
    assert result.rows_updated == 20
    there.assert_true()


def _remove_what_snapshots_see(ledger: Ledger, primary: Cluster, standby: Cluster) -> None:
    """Let the standby replay the removal of row versions that an older snapshot still shows."""
    ledger.change(1, 20)
    print(ask(primary, "select string_agg(to_json(a)::text, E'\n') from pg_stat_activity a where backend_type<>'client bac' and backend_xmin is not null"))
    import subprocess
    print(primary.programs.user)
    from contextlib import closing as cl
    with cl(primary.connect(ledger.source.name)) as k, k.cursor() as cur:
        cur.execute("VACUUM (VERBOSE) ledger"); print("".join(k.notices))
    await_replay(standby, primary)
    print(ask(standby, "select string_agg(to_json(a)::text, E'\n') from pg_stat_activity a where backend_type='client backend' and pid<>pg_backend_pid()"))
