"""What Dagster does about errors: what may pass is tried again, what needs a person is not."""

from __future__ import annotations

from email.message import Message
from typing import Any

import psycopg2
import pytest
import yaml
from dagster import (
    DagsterEventType,
    DagsterInstance,
    ExecuteInProcessResult,
    Failure,
    MetadataValue,
    RetryPolicy,
    build_asset_context,
)

from xmin_assets.errors import Cancelled, TableBusy
from xmin_assets.orchestration import failure_metadata
from xmin_assets.orchestration.failures import spool_errors, station_errors
from xmin_assets.replication.status import table_statuses
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.orchestration.conftest import Deployment, failure, key, numbers

NOWHERE = "postgresql://someone:s3cr3t-w0rd@127.0.0.1:1/db"


def retries(result: ExecuteInProcessResult) -> int:
    return sum(event.event_type is DagsterEventType.STEP_UP_FOR_RETRY for event in result.all_events)


def everything_logged(deployment: Deployment, result: ExecuteInProcessResult) -> str:
    return repr(deployment.instance.all_logs(result.run_id))


def test_an_error_that_may_pass_is_tried_again(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMIN_SOURCE_URL", NOWHERE)
    deployment.retry_policy = RetryPolicy(max_retries=2)
    result = deployment.run("source_snapshot", raise_on_error=False)
    assert not result.success
    assert retries(result) == 2


def test_a_retry_succeeds_when_the_cause_is_gone(deployment: Deployment, source_db: Database) -> None:
    locked = source_db.connect()
    locked.autocommit = False
    locked.cursor().execute("LOCK TABLE orders")

    class UnlockThenRetry(RetryPolicy):
        def calculate_delay(self, attempt_num: int) -> int:
            locked.rollback()
            return 0

    deployment.settings = {"lock_timeout": 0.2}
    deployment.retry_policy = UnlockThenRetry(max_retries=1)
    result = deployment.run()
    assert result.success
    assert retries(result) == 1


def test_an_error_that_needs_a_person_is_not_tried_again(deployment: Deployment, source_db: Database) -> None:
    source_db.execute("DROP TABLE orders")
    result = deployment.run(raise_on_error=False)
    assert retries(result) == 0
    assert "public.orders" in failure(result, "source_snapshot")


def test_missing_connection_strings_are_told_in_words(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XMIN_TARGET_URL")
    result = deployment.run(raise_on_error=False)
    assert "Set XMIN_TARGET_URL" in failure(result, "source_snapshot")
    assert retries(result) == 0


def test_no_password_reaches_the_event_log_or_the_spool(
    deployment: Deployment, source_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = psycopg2.extensions.parse_dsn(source_db.url)["password"]
    good = deployment.run()
    monkeypatch.setenv("XMIN_TARGET_URL", NOWHERE)
    bad = deployment.run(raise_on_error=False)
    for result in (good, bad):
        logged = everything_logged(deployment, result)
        assert password not in logged
        assert "s3cr3t-w0rd" not in logged
    written = b"".join(path.read_bytes() for path in deployment.spool.rglob("*.json"))
    assert b"public.orders" in written
    assert password.encode() not in written


def test_a_known_error_brings_no_traceback_of_ours(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMIN_SOURCE_URL", NOWHERE)
    result = deployment.run("source_snapshot", raise_on_error=False)
    logged = everything_logged(deployment, result)
    assert "No connection to the source" in logged
    assert "postgres/connection.py" not in logged
    assert "psycopg2" not in logged


def shown(result: ExecuteInProcessResult, op: str) -> dict[str, object]:
    """What the failed step shows beside its message."""
    data = result.failure_data_for_node(op)
    assert data is not None and data.user_failure_data is not None
    return {name.removeprefix("xmin_assets/"): value.value for name, value in data.user_failure_data.metadata.items()}


@pytest.mark.parametrize(("steps", "op"), [("stages", "public__orders"), ("table", "public__orders")])
def test_what_a_failure_shows_leads_out_of_it(
    deployment: Deployment, source_db: Database, target_db: Database, steps: str, op: str
) -> None:
    deployment.options = {"steps": steps}
    source_db.execute("INSERT INTO orders SELECT i, 'more', 1 FROM generate_series(1001, 3000) i")
    deployment.run()
    source_db.execute("DELETE FROM orders WHERE id > 50")

    found = shown(deployment.run(raise_on_error=False), op)

    assert found == {
        "error": "MassDelete",
        "command": "xmin-assets sync public.orders --allow-mass-delete",
        "run_config": f"ops: {{{op}: {{config: {{allow_mass_delete: true}}}}}}",
        "see": "docs/operations.md, What to do when",
    }
    assert deployment.run(run_config=yaml.safe_load(str(found["run_config"]))).success
    assert target_db.fetch("SELECT count(*) FROM orders") == [(50,)]


def test_a_failure_links_to_the_documentation_that_the_package_names(monkeypatch: pytest.MonkeyPatch) -> None:
    named = Message()
    named["Project-URL"] = "Documentation, https://docs.example/xmin/"
    monkeypatch.setattr(failure_metadata, "metadata", lambda _: named)
    failure_metadata._where_to_read_on.cache_clear()
    try:
        see = failure_metadata.failure_metadata(TableBusy("busy"))["xmin_assets/see"]
        assert see == MetadataValue.url("https://docs.example/xmin/operations.md#what-to-do-when")
    finally:
        failure_metadata._where_to_read_on.cache_clear()


@pytest.mark.parametrize(("steps", "op"), [("stages", "public__orders"), ("table", "public__orders")])
def test_another_sources_rows_are_refused_until_one_run_allows_them(
    deployment: Deployment,
    source_db: Database,
    target_db: Database,
    monkeypatch: pytest.MonkeyPatch,
    steps: str,
    op: str,
) -> None:
    deployment.options = {"steps": steps}
    source_db.execute("INSERT INTO orders SELECT i, 'more', 1 FROM generate_series(51, 1500) i")
    deployment.run()
    tenant = Database.create(source_db.cluster)
    try:
        tenant.execute("CREATE TABLE orders (id bigint PRIMARY KEY, item text NOT NULL, price numeric(10, 2))")
        tenant.execute("INSERT INTO orders SELECT i, 'of another tenant', 1 FROM generate_series(1, 1500) i")
        monkeypatch.setenv("XMIN_SOURCE_URL", tenant.url)

        refused = deployment.run(raise_on_error=False)
        found = shown(refused, op)

        assert (found["error"], retries(refused)) == ("MassChange", 0)
        assert found["command"] == "xmin-assets sync public.orders --allow-mass-change"
        assert target_db.fetch("SELECT count(*) FROM orders WHERE item = 'of another tenant'") == [(0,)]
        assert deployment.run(run_config=yaml.safe_load(str(found["run_config"]))).success
        assert target_db.fetch("SELECT count(*) FROM orders WHERE item = 'of another tenant'") == [(1500,)]
    finally:
        tenant.drop()


def test_a_failure_after_its_retries_shows_the_way_out_too(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.tables = [{"source": 'public."my orders"', "key": "id"}]
    monkeypatch.setenv("XMIN_SOURCE_URL", NOWHERE)
    result = deployment.run("source_snapshot", raise_on_error=False)
    (step,) = [event.step_key for event in result.all_events if event.is_step_failure]
    found = shown(result, str(step))
    assert found["error"] == "ConnectionFailed"
    assert found["command"] == "xmin-assets sync 'public.my orders' --debug"


def test_a_sync_that_was_stopped_does_not_begin_again_by_itself() -> None:
    policy = RetryPolicy(max_retries=5)
    with (
        build_asset_context() as context,
        pytest.raises(Failure),
        station_errors(context, "public.orders", "op", key("source_snapshot"), policy),
    ):
        raise Cancelled


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), spool_errors():
        1 / 0  # noqa: B018


DRIFT = {"run_retries": {"enabled": True, "max_retries": 2, "retry_on_asset_or_op_failure": False}}


@pytest.fixture
def retrying(tmp_path: Any) -> Any:
    with DagsterInstance.ephemeral(tempdir=str(tmp_path), settings=DRIFT) as opened:
        yield opened


def will_retry(deployment: Deployment, result: ExecuteInProcessResult) -> tuple[str | None, str | None]:
    run = deployment.instance.get_run_by_id(result.run_id)
    assert run is not None
    return run.tags.get("dagster/will_retry"), run.tags.get("dagster/retry_strategy")


def test_an_outdated_plan_is_not_retried_by_the_step_but_by_the_run_from_its_beginning(
    deployment: Deployment, retrying: DagsterInstance, source_db: Database, target_db: Database
) -> None:
    deployment.instance = retrying
    deployment.run()
    target_db.execute("DELETE FROM orders WHERE id IN (1, 2)")
    source_db.execute("UPDATE orders SET price = 0 WHERE id = 2; DELETE FROM orders WHERE id = 3")
    result = deployment.run(raise_on_error=False)
    assert "Materialize the four assets of public.orders together" in failure(result, "merged_target")
    assert retries(result) == 0
    assert will_retry(deployment, result) == ("true", "ALL_STEPS")
    assert numbers(deployment.run(), "merged_target")["xmin_assets/rows_inserted"] == 2


def test_a_stale_extract_is_refused_and_its_run_is_not_retried_in_vain(
    deployment: Deployment, retrying: DagsterInstance, source_db: Database, target_db: Database
) -> None:
    deployment.instance = retrying
    deployment.run("source_snapshot", "csv_extract", "staged_table")
    with DagsterInstance.ephemeral() as other:
        Deployment(other, deployment.spool.with_name("elsewhere")).run()
    result = deployment.run("merged_target", raise_on_error=False)
    assert "Materialize the four assets of public.orders together" in failure(result, "merged_target")
    assert retries(result) == 0
    assert will_retry(deployment, result) == ("false", None)


def test_a_person_is_asked_before_the_run_is_retried(
    deployment: Deployment, retrying: DagsterInstance, source_db: Database
) -> None:
    deployment.instance = retrying
    source_db.execute("DROP TABLE orders")
    assert will_retry(deployment, deployment.run(raise_on_error=False)) == ("false", None)


def test_a_mass_delete_is_refused_until_one_run_allows_it(
    deployment: Deployment, source_db: Database, target_db: Database
) -> None:
    source_db.execute("INSERT INTO orders SELECT i, 'more', 1 FROM generate_series(1001, 3000) i")
    deployment.run()
    source_db.execute("DELETE FROM orders WHERE id > 50")
    refused = deployment.run(raise_on_error=False)
    assert retries(refused) == 0
    assert target_db.fetch("SELECT count(*) FROM orders") == [(2050,)]
    allow = {"ops": {"public__orders": {"config": {"allow_mass_delete": True}}}}
    allowed = deployment.run("merged_target", run_config=allow)
    assert numbers(allowed, "merged_target")["xmin_assets/rows_deleted"] == 2000
    assert target_db.fetch("SELECT count(*) FROM orders") == [(50,)]


def test_a_manifest_of_another_table_is_not_taken_for_this_one(deployment: Deployment, source_db: Database) -> None:
    source_db.execute("CREATE TABLE other (id int PRIMARY KEY)")
    deployment.tables = [{"source": "public.orders", "target": "public.other"}]
    deployment.run("source_snapshot")
    deployment.tables = ["public.other"]
    result = deployment.run("csv_extract", raise_on_error=False)
    assert "copy of public.orders in public.other, not of public.other" in failure(result, "csv_extract", "other")


def test_status_knows_of_a_step_that_failed(deployment: Deployment, source_db: Database, target_db: Database) -> None:
    deployment.run()
    target_db.execute("ALTER TABLE orders ADD CHECK (price >= 0)")
    source_db.execute("UPDATE orders SET price = -1 WHERE id = 1")
    deployment.run(raise_on_error=False)
    (status,) = table_statuses(deployment.config)
    assert status.failed is not None
    assert "violates check constraint" in status.failed.error
    source_db.execute("UPDATE orders SET price = 1 WHERE id = 1")
    deployment.run()
    (status,) = table_statuses(deployment.config)
    assert status.failed is None
