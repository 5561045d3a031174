"""What Dagster writes of a run goes over connections that are kept."""

from __future__ import annotations

import shutil
import sqlite3.dbapi2
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from dagster import DagsterEventType, DagsterInstance
from dagster._core.storage.event_log import SqliteEventLogStorage

from xmin_assets.orchestration import event_log
from xmin_assets.orchestration.event_log import MAX_OPEN_FILES, keep_files_open, remember_schema
from xmin_assets.orchestration.storage import PooledPostgresStorage
from xmin_assets_tests.clusters import Cluster, Database
from xmin_assets_tests.orchestration.conftest import Deployment, key

DAGSTER_YAML = Path(__file__).parents[2] / "dagster.yaml"
IN_PROJECT = pytest.mark.skipif(not DAGSTER_YAML.exists(), reason="installed without its project folder")
PLAIN = "storage:\n  postgres:\n    postgres_url: {env: DAGSTER_POSTGRES_URL}\n"


@pytest.fixture
def storage_db(target_server: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """An empty database for Dagster's own storage."""
    database = Database.create(target_server)
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", database.url)
    yield database
    database.drop()


class Connections:
    """Counts the connections that this process opens."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: Any, to: str) -> None:
        self.count = 0
        connect = module.connect

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.count += to in f"{args} {kwargs}"
            return connect(*args, **kwargs)

        monkeypatch.setattr(module, "connect", counted)


def materialized(instance: DagsterInstance) -> int:
    return len(instance.fetch_materializations(key("merged_target"), limit=10).records)


@IN_PROJECT
def test_dagster_yaml_keeps_the_connections_from_the_start(
    deployment: Deployment, storage_db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(DAGSTER_YAML, tmp_path)
    with DagsterInstance.from_config(str(tmp_path)) as deployment.instance:
        opened = Connections(monkeypatch, psycopg2, storage_db.name)
        assert deployment.run().success
        # One for runs and one for events; a second one where an event is written while another is read.
        assert 1 <= opened.count <= 6
        with deployment.instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "off"
        assert deployment.run().success
        assert materialized(deployment.instance) == 2


@IN_PROJECT
def test_a_kept_connection_that_was_cut_is_recreated(
    deployment: Deployment, storage_db: Database, tmp_path: Path
) -> None:
    shutil.copy(DAGSTER_YAML, tmp_path)
    with DagsterInstance.from_config(str(tmp_path)) as deployment.instance:
        assert deployment.run().success
        cut = storage_db.fetch(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert cut
        assert deployment.run().success
        assert materialized(deployment.instance) == 2


@IN_PROJECT
def test_the_storage_is_handed_to_other_processes_as_it_is(storage_db: Database, tmp_path: Path) -> None:
    shutil.copy(DAGSTER_YAML, tmp_path)
    with (
        DagsterInstance.from_config(str(tmp_path)) as instance,
        DagsterInstance.from_ref(instance.get_ref()) as another,
    ):
        assert isinstance(instance.get_ref().storage, PooledPostgresStorage)
        assert another.get_runs_count() == 0


def test_with_dagsters_own_storage_the_first_step_keeps_the_connections(
    deployment: Deployment, storage_db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dagster.yaml").write_text(PLAIN)
    with DagsterInstance.from_config(str(tmp_path)) as deployment.instance:
        assert deployment.run().success
        opened = Connections(monkeypatch, psycopg2, storage_db.name)
        assert deployment.run().success
        assert opened.count <= 6
        assert materialized(deployment.instance) == 2


def test_files_of_sqlite_are_kept_open(deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    with DagsterInstance.local_temp(str(tmp_path / "home")) as deployment.instance:
        assert isinstance(deployment.instance.event_log_storage, SqliteEventLogStorage)
        opened = Connections(monkeypatch, sqlite3.dbapi2, "history/runs/")
        assert deployment.run().success
        first = opened.count
        assert deployment.run().success
        # The file of another run is its own: it is opened to be made, and to be kept.
        assert opened.count - first < 12
        assert materialized(deployment.instance) == 2
        logged = deployment.instance.all_logs(deployment.instance.get_runs()[0].run_id)
        assert [entry for entry in logged if entry.dagster_event_type is DagsterEventType.RUN_SUCCESS]


def test_files_that_dagster_removes_are_let_go(deployment: Deployment, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    with DagsterInstance.local_temp(str(tmp_path / "home")) as deployment.instance:
        run = deployment.run()
        assert run.success
        deployment.instance.wipe()
        assert not deployment.instance.all_logs(run.run_id)
        assert deployment.run().success
        assert materialized(deployment.instance) == 1


def test_a_process_that_looks_at_many_runs_keeps_few_files_open(tmp_path: Path) -> None:
    keep_files_open()
    with DagsterInstance.local_temp(str(tmp_path)) as instance:
        storage = instance.event_log_storage
        for _ in range(2):
            for run in range(3 * MAX_OPEN_FILES):
                with storage.run_connection(f"run{run}") as connection:  # type: ignore[attr-defined]
                    # In SQLite's write-ahead log, 1 is NORMAL; the first time is Dagster's own connection.
                    synchronous = connection.exec_driver_sql("PRAGMA synchronous").scalar()
        assert synchronous == 1
        assert len(event_log._files[storage]) == MAX_OPEN_FILES


def test_what_a_schema_has_is_asked_once_and_what_it_lacks_every_time(instance: DagsterInstance) -> None:
    storage = instance.event_log_storage
    requested: list[str] = []
    look = storage.has_table  # type: ignore[attr-defined]

    def has_table(name: str) -> bool:
        requested.append(name)
        return bool(look(name))

    storage.has_table = has_table  # type: ignore[attr-defined]
    remember_schema(storage)
    for _ in range(3):
        assert storage.has_table("event_logs")  # type: ignore[attr-defined]
        assert not storage.has_table("not_yet")  # type: ignore[attr-defined]
    assert requested == ["event_logs", "not_yet", "not_yet", "not_yet"]
