"""The demo's two servers: up, down, up again, and what its roles may do."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import closing
from functools import partialmethod
from pathlib import Path

import psycopg2
import pytest
from dagster import DagsterInstance
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.instance.config import PoolGranularity
from dagster._core.scheduler.instigation import TickStatus
from dotenv import dotenv_values

from xmin_assets.demo import LoadReport, ServerPair, down, load, memory, up
from xmin_assets.demo.cluster import Cluster
from xmin_assets.demo.equality import compare
from xmin_assets.demo.errors import DemoError
from xmin_assets.demo.sample import TABLES
from xmin_assets.demo.server_pair import SETTINGS
from xmin_assets.errors import TransientError
from xmin_assets_tests.clusters import Workshop
from xmin_assets_tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root drops its rights")


@pytest.fixture(scope="module", autouse=True)
def nothing_flushed() -> Iterator[None]:
    """What is made here is deleted soon: the only thing that is not as it is for people."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SETTINGS, "fsync", "off")
        patch.setattr(Cluster, "init", partialmethod(Cluster.init, sync=False))
        yield


@pytest.fixture(scope="module")
def project(nothing_flushed: None, workshop: Workshop) -> Iterator[Path]:
    """A folder with a demo that has been up once; below the workshop's, so that its servers are guarded too."""
    folder = workshop.folder / "project"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    up(folder)
    yield folder
    down(folder, purge=True)


@pytest.fixture
def demo(project: Path) -> ServerPair:
    return up(project)


def rows(url: str, statement: str) -> list[tuple[object, ...]]:
    with closing(psycopg2.connect(url)) as connected, connected.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def test_up_twice_finds_the_pair_running(demo: ServerPair, project: Path) -> None:
    again = up(project)
    assert again.started == ()
    assert again.environment == demo.environment


def test_up_after_down_goes_on_with_the_same_data_and_addresses(demo: ServerPair, project: Path) -> None:
    before = demo.environment
    with closing(psycopg2.connect(demo.app_url)) as connected, connected, connected.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS left_here AS SELECT 42 AS answer")
    assert down(project) == ("source", "target")
    assert down(project) == ()
    again = up(project)
    assert again.started == ("source", "target")
    assert again.environment == before
    assert rows(again.app_url, "SELECT answer FROM left_here") == [(42,)]


def test_one_server_that_died_is_started_beside_the_other(demo: ServerPair, project: Path) -> None:
    demo.target.stop(immediate=True)
    assert up(project).started == ("target",)


def test_the_environment_file_opens_all_three_databases(demo: ServerPair, project: Path) -> None:
    values = dotenv_values(project / ".env")
    assert values == demo.environment
    who = "SELECT current_user::text, current_database()::text"
    assert rows(values["XMIN_SOURCE_URL"] or "", who) == [("xmin_reader", "source")]
    assert rows(values["XMIN_TARGET_URL"] or "", who) == [("xmin_writer", "target")]
    assert rows(values["DAGSTER_POSTGRES_URL"] or "", who) == [("dagster", "dagster")]
    assert stat.S_IMODE((project / ".env").stat().st_mode) == 0o600


def test_dagster_keeps_its_runs_in_the_demo_as_dagster_yaml_says(
    demo: ServerPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", demo.dagster_url)
    with DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.get_runs_count() == 0
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled
        # What is written there is read: Dagster takes no notice of some keys that it does not know.
        concurrency = instance.get_concurrency_config()
        assert concurrency.pool_config.default_pool_limit == 4
        assert concurrency.pool_config.pool_granularity is PoolGranularity.OP
        assert concurrency.run_queue_config is not None
        assert concurrency.run_queue_config.max_concurrent_runs == 4
        assert instance.run_monitoring_enabled and instance.run_monitoring_max_runtime_seconds == 43200
        assert instance.run_retries_enabled and instance.run_retries_max_retries == 2
        ticks = instance.get_tick_retention_settings(InstigatorType.SENSOR)
        assert (ticks[TickStatus.SKIPPED], ticks[TickStatus.SUCCESS]) == (3, 30)
    made = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename IN ('runs', 'event_logs', 'jobs')"
    assert rows(demo.dagster_url, made) == [(3,)]


def test_passwords_are_private_and_in_no_representation(demo: ServerPair, project: Path) -> None:
    assert stat.S_IMODE((project / ".demo/pair.json").stat().st_mode) == 0o600
    for role, password in demo.remembered.passwords.items():
        assert password not in repr(demo), role
    logs = demo.source.log.read_text() + demo.target.log.read_text()
    assert not [role for role, password in demo.remembered.passwords.items() if password in logs]


def test_the_sample_tables_have_rows_and_a_primary_key(demo: ServerPair) -> None:
    counts = {table: rows(demo.source_url, f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}
    assert counts == {"public.securities": 200_000, "public.orders": 300_000, "public.customers": 50_000}
    keyed = rows(
        demo.source_url,
        "SELECT conrelid::regclass::text FROM pg_constraint WHERE contype = 'p' "
        "AND connamespace = 'public'::regnamespace ORDER BY 1",
    )
    assert [f"public.{name}" for (name,) in keyed] == sorted(TABLES)


def test_the_reader_reads_what_there_is_and_what_will_be(demo: ServerPair) -> None:
    with closing(psycopg2.connect(demo.app_url)) as connected, connected, connected.cursor() as cursor:
        cursor.execute("CREATE TABLE later AS SELECT 1 AS id")
    assert rows(demo.source_url, "SELECT id FROM later") == [(1,)]
    with closing(psycopg2.connect(demo.app_url)) as connected, connected, connected.cursor() as cursor:
        cursor.execute("DROP TABLE later")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO public.customers VALUES ('EMEA', -1, 'x', NULL, NULL, current_date)",
        "UPDATE public.orders SET paid = paid",
        "DELETE FROM public.securities",
        "TRUNCATE public.securities",
        "CREATE TABLE public.mine ()",
        "CREATE SCHEMA mine",
        "CREATE TEMP TABLE mine ()",
    ],
)
def test_the_reader_changes_nothing(demo: ServerPair, statement: str) -> None:
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        rows(demo.source_url, statement)


def test_no_role_of_the_environment_file_is_a_superuser(demo: ServerPair) -> None:
    for url in demo.environment.values():
        assert rows(url, "SELECT rolsuper OR rolcreaterole OR rolcreatedb FROM pg_roles WHERE rolname = current_user")[
            0
        ] == (False,)


def test_the_workload_counts_what_it_committed(demo: ServerPair, project: Path) -> None:
    count = "SELECT " + " + ".join(f"(SELECT count(*) FROM {table})" for table in TABLES)
    before = rows(demo.source_url, count)[0][0]
    told: list[LoadReport] = []
    report = load(project, seconds=2, rate=100, sessions=4, progress=told.append)
    assert report.transactions > report.late > 0
    assert report.inserted > 0
    assert report.updated > 0
    assert report.deleted > 0
    assert rows(demo.source_url, count)[0][0] == before + report.inserted - report.deleted  # type: ignore[operator]
    assert told[-1] == report
    open_ones = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'xmin-assets demo load'"
    assert rows(demo.app_url, open_ones) == [(0,)]


def test_a_signal_ends_the_workload_with_its_transactions_ended(demo: ServerPair, project: Path) -> None:
    told: list[LoadReport] = []

    def interrupt(report: LoadReport) -> None:
        told.append(report)
        if len(told) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(project, seconds=60, rate=50, progress=interrupt)
    assert told[-1].transactions >= told[0].transactions
    open_ones = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'xmin-assets demo load'"
    # A backend leaves the list a moment after its client has hung up.
    wait_until(lambda: rows(demo.app_url, open_ones) == [(0,)])


def test_a_workload_whose_server_goes_away_says_so(demo: ServerPair, project: Path) -> None:
    def crash(_: LoadReport) -> None:
        demo.source.stop(immediate=True)

    with pytest.raises(TransientError, match="lost its server"):
        load(project, seconds=60, rate=50, progress=crash)


def test_a_workload_without_servers_says_how_to_start_them(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="xmin-assets demo up"):
        load(tmp_path)


def test_the_comparison_sees_one_changed_value_and_one_row_too_many(demo: ServerPair) -> None:
    # The reader on both sides: a table is equal to itself, and to nothing else.
    with closing(psycopg2.connect(demo.app_url)) as connected, connected, connected.cursor() as cursor:
        cursor.execute("CREATE SCHEMA IF NOT EXISTS other")
        cursor.execute("CREATE TABLE other.t (id int, v text)")
        cursor.execute("INSERT INTO other.t VALUES (1, ''), (2, NULL), (2, NULL)")
    with closing(psycopg2.connect(demo.target_url)) as connected, connected, connected.cursor() as cursor:
        cursor.execute("CREATE SCHEMA IF NOT EXISTS other")
        cursor.execute("CREATE TABLE other.t (id int, v text, source_xmin bigint)")
        cursor.execute("INSERT INTO other.t VALUES (2, NULL, 8), (1, '', 7), (2, NULL, 9)")
    assert compare(demo.app_url, demo.target_url, ("other.t",))[0].same
    for change in ("UPDATE other.t SET v = NULL", "INSERT INTO other.t VALUES (2, NULL)"):
        with closing(psycopg2.connect(demo.target_url)) as connected, connected.cursor() as cursor:
            cursor.execute(change)
            connected.commit()
        assert not compare(demo.app_url, demo.target_url, ("other.t",))[0].same, change
        with closing(psycopg2.connect(demo.target_url)) as connected, connected, connected.cursor() as cursor:
            cursor.execute("TRUNCATE other.t")
            cursor.execute("INSERT INTO other.t VALUES (2, NULL, 8), (1, '', 7), (2, NULL, 9)")
    for url in (demo.app_url, demo.target_url):
        with closing(psycopg2.connect(url)) as connected, connected, connected.cursor() as cursor:
            cursor.execute("DROP SCHEMA other CASCADE")


def test_down_without_a_demo_does_nothing(tmp_path: Path) -> None:
    assert down(tmp_path) == ()
    assert list(tmp_path.iterdir()) == []


def test_purge_leaves_nothing_behind(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = workshop.folder / "purged"
    folder.mkdir()
    folder.chmod(0o755)
    monkeypatch.setattr("xmin_assets.demo.server_pair.create_sample", lambda _: True)
    demo = up(folder)
    assert down(folder, purge=True) == ("source", "target")
    assert list(folder.iterdir()) == []
    assert not demo.source.data_dir.exists()


def test_a_damaged_memory_is_named(tmp_path: Path) -> None:
    (tmp_path / ".demo").mkdir()
    (tmp_path / ".demo/pair.json").write_text("{")
    with pytest.raises(DemoError, match="damaged"):
        up(tmp_path)


@as_root
def test_a_project_that_the_servers_cannot_enter_keeps_its_data_elsewhere(
    tmp_path: Path, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "ELSEWHERE", (workshop.folder,))
    monkeypatch.setattr("xmin_assets.demo.server_pair.create_sample", lambda _: True)
    tmp_path.chmod(0o700)
    parents = [tmp_path, *tmp_path.parents]
    before = [(path.stat().st_mode, path.stat().st_uid) for path in parents]

    demo = up(tmp_path)
    assert demo.source.data_dir.parent.parent == workshop.folder
    assert up(tmp_path).started == ()
    assert down(tmp_path) == ("source", "target")
    assert up(tmp_path).source.data_dir == demo.source.data_dir

    assert [(path.stat().st_mode, path.stat().st_uid) for path in parents] == before
    assert down(tmp_path, purge=True) == ("source", "target")
    assert not demo.source.data_dir.parent.exists()


@as_root
def test_the_demo_of_another_account_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".demo").mkdir()
    os.chown(tmp_path / ".demo", 65534, 65534)
    for command in (up, down):
        with pytest.raises(DemoError, match="another user"):
            command(tmp_path)
