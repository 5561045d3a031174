"""Many syncs at once: of one table, one works and the others wait; of many tables, connections stay within bounds."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg2
import pytest
from dagster import DagsterInstance, materialize

from xmin_assets.errors import ServerFull
from xmin_assets.orchestration.assets import build_xmin_assets
from xmin_assets.orchestration.definitions_builder import build_resources
from xmin_assets.postgres.connection import Database as Endpoint
from xmin_assets.replication.manifests.report import TableResult
from xmin_assets.replication.sync import sync_tables
from xmin_assets_tests.clusters import Database, Workshop
from xmin_assets_tests.integration.faults.failpoints import at_failpoint
from xmin_assets_tests.integration.faults.watched_table import TABLE, WatchedTable, count
from xmin_assets_tests.replica import Replica
from xmin_assets_tests.waiting import wait_until

CROWD = 8
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
def test_of_eight_commands_at_once_one_does_the_work_and_the_others_find_it_done(replica: Replica, first: bool) -> None:
    watched = WatchedTable.create(replica) if first else WatchedTable.synced(replica)

    crowd = [watched.start() for _ in range(CROWD)]
    ends = [(running, *running.communicate(timeout=120)) for running in crowd]

    assert [running.returncode for running, _, _ in ends] == [0] * CROWD, [stderr for *_, stderr in ends]
    tables = [json.loads(stdout)["tables"][0] for _, stdout, _ in ends]
    assert sum(table["rows_inserted"] for table in tables) == (4000 if first else 50)
    assert sum(table["rows_deleted"] for table in tables) == (0 if first else 40)
    assert all("Error" not in stderr for *_, stderr in ends)
    assert count(replica.target, DEADLOCKS) == 0
    watched.assert_well()


@pytest.mark.parametrize("steps", ["table", "stages"])
def test_commands_and_dagster_share_a_table(
    watched: WatchedTable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, steps: str
) -> None:
    replica = watched.replica
    monkeypatch.setenv("XMIN_SOURCE_URL", replica.source.url)
    monkeypatch.setenv("XMIN_TARGET_URL", replica.target.url)
    config = replica.config(TABLE).model_copy(update={"steps": steps})

    crowd = [watched.start() for _ in range(4)]
    with DagsterInstance.ephemeral(tempdir=str(tmp_path)) as instance:
        done = materialize(
            build_xmin_assets(config),
            instance=instance,
            resources=build_resources(config.settings),
            raise_on_error=False,
        )
        failures = [
            event.step_failure_data.user_failure_data.description
            for event in done.all_events
            if event.is_step_failure and event.step_failure_data.user_failure_data
        ]
    ends = [(running, *running.communicate(timeout=120)) for running in crowd]

    assert [running.returncode for running, _, _ in ends] == [0] * 4, [stderr for *_, stderr in ends]
    # A plan that a command has overtaken between two steps is refused, and said to be.
    assert done.success or (steps == "stages" and "Materialize the four assets" in str(failures)), failures
    assert count(replica.target, DEADLOCKS) == 0
    watched.sync()


def sync_in_background(replica: Replica) -> tuple[threading.Thread, list[TableResult]]:
    results: list[TableResult] = []
    running = threading.Thread(target=lambda: results.append(replica.try_sync(TABLE)))
    running.start()
    return running, results


def test_who_has_waited_for_long_enough_is_told_what_for(watched: WatchedTable) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        reached.set()
        assert go_on.wait(30)

    with at_failpoint("after the stage", hold):
        running, results = sync_in_background(watched.replica)
        assert reached.wait(30)
        began = time.monotonic()
        told: list[str] = []
        config = watched.replica.config(TABLE, queue_timeout=1.5)
        (impatient,) = sync_tables(config, on_progress=lambda progress: told.append(progress.note)).tables
        waited = time.monotonic() - began
        go_on.set()
        running.join()

    assert impatient.status == "failed"
    assert "another sync of this table was at work" in str(impatient.error)
    assert "queue_timeout" in str(impatient.error)
    assert 1.5 <= waited < 5
    assert any("waiting: another sync is at work (backend " in note for note in told)
    assert [result.status for result in results] == ["success"]
    watched.assert_well()


def test_a_turn_is_given_back_by_whoever_is_killed(watched: WatchedTable) -> None:
    with watched.start(failpoint="after the stage") as running:
        running.communicate(timeout=60)
    began = time.monotonic()

    watched.sync()

    assert time.monotonic() - began < 5


def test_a_turn_that_is_lost_does_no_harm(watched: WatchedTable) -> None:
    """The server ends the session that holds the turn; another sync merges; the first one's merge begins again."""

    def overtake() -> None:
        watched.replica.target.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2"
        )
        wait_until(lambda: watched.replica.target.fetch("SELECT FROM pg_locks WHERE locktype = 'advisory'") == [])
        assert watched.replica.try_sync(TABLE).rows_inserted == 50

    with at_failpoint("after the stage", overtake):
        result = watched.replica.sync(TABLE)

    assert result.rows_inserted == 0
    watched.assert_well()


@pytest.fixture
def narrow(workshop: Workshop, tmp_path: Path) -> Iterator[Replica]:
    """Source and target on one server that takes 20 connections, three of them for superusers."""
    server = workshop.start_target(f"narrow-{secrets.token_hex(4)}", max_connections="20")
    source, target = Database.create(server), Database.create(server)
    for database in (source, target):
        database.execute(f"CREATE ROLE owner_of_{database.name} LOGIN PASSWORD 'x'")
        database.execute(f"ALTER DATABASE {database.name} OWNER TO owner_of_{database.name}")
        database.execute(f"ALTER SCHEMA public OWNER TO owner_of_{database.name}")
    yield Replica(source, target, tmp_path / "spool", {"workers": 8})
    server.stop(immediate=True)


def test_help_is_not_asked_for_again_and_again_at_a_server_that_is_full(narrow: Replica) -> None:
    owner = narrow.source.url_as(f"owner_of_{narrow.source.name}", "x")
    with suppress(psycopg2.OperationalError):
        while True:
            narrow.source.connect(owner)
    with Endpoint(owner, "source") as full:
        with pytest.raises(ServerFull), full.spare_connection():
            pass
        full.prepare()
        wait_until(lambda: all(thread.name != "xmin-source-connect" for thread in threading.enumerate()))


@pytest.mark.parametrize("processes", [1, 3])
def test_hundreds_of_tables_within_twenty_connections(
    narrow: Replica, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    tables = [f"public.t{number}" for number in range(200 // processes)]
    for database, side in ((narrow.source, "SOURCE"), (narrow.target, "TARGET")):
        monkeypatch.setenv(f"XMIN_{side}_URL", database.url_as(f"owner_of_{database.name}", "x"))
    narrow.source.execute(f"SET ROLE owner_of_{narrow.source.name}")
    for table in tables:
        narrow.source.execute(
            f"CREATE TABLE {table} (id int PRIMARY KEY); INSERT INTO {table} SELECT generate_series(1, 5)"
        )
    results: list[TableResult] = []

    def sync() -> None:
        results.extend(sync_tables(narrow.config(*tables)).tables)

    crowd = [threading.Thread(target=sync) for _ in range(processes)]
    for running in crowd:
        running.start()
    for running in crowd:
        running.join()

    assert [result.error for result in results if result.error] == []
    assert len(results) == processes * len(tables)
    for table in tables[:: len(tables) // 10]:
        narrow.assert_equal(table)
