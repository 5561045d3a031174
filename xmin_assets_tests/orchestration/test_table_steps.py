"""``steps: table``: one step of a run makes all four assets of a table."""

from __future__ import annotations

from pathlib import Path

import pytest
from dagster import DagsterInstance, RetryPolicy

from xmin_assets.orchestration.definitions_builder import build_definitions
from xmin_assets.orchestration.names import STATIONS
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.orchestration.conftest import Deployment, key, numbers
from xmin_assets_tests.orchestration.test_checks import evaluations

ROWS = "SELECT id, item, price FROM orders ORDER BY id"


@pytest.fixture
def by_table(deployment: Deployment) -> Deployment:
    deployment.options = {"steps": "table"}
    return deployment


def test_one_step_materializes_all_four_assets_in_their_order(
    by_table: Deployment, source_db: Database, target_db: Database
) -> None:
    result = by_table.run()

    made = [event.asset_key for event in result.get_asset_materialization_events()]
    assert made == [key(station) for station in STATIONS]
    assert len([event for event in result.all_events if event.event_type_value == "STEP_SUCCESS"]) == 1
    assert target_db.fetch(ROWS) == source_db.fetch(ROWS)


def test_its_metadata_and_checks_are_those_of_the_stages(deployment: Deployment, source_db: Database) -> None:
    by_stages = deployment.run()
    deployment.options = {"steps": "table"}
    source_db.execute("UPDATE orders SET price = 0 WHERE id <= 3")
    by_table = deployment.run()

    for station in STATIONS:
        assert set(numbers(by_table, station)) == set(numbers(by_stages, station))
    assert set(evaluations(by_table)) == set(evaluations(by_stages))
    assert numbers(by_table, "merged_target")["xmin_assets/rows_updated"] == 3


def test_nothing_is_left_in_the_spool_and_no_manifest_is_needed(by_table: Deployment) -> None:
    by_table.run()

    assert not [path for path in Path(by_table.spool).rglob("*") if path.is_file()]


def test_an_outdated_plan_is_recreated_by_the_step_itself(
    by_table: Deployment, source_db: Database, target_db: Database
) -> None:
    by_table.retry_policy = RetryPolicy(max_retries=1, delay=0)
    by_table.run()
    target_db.execute("DELETE FROM orders WHERE id IN (1, 2)")
    source_db.execute("UPDATE orders SET price = 0 WHERE id = 2; DELETE FROM orders WHERE id = 3")

    result = by_table.run()

    assert result.success
    assert [event for event in result.all_events if event.event_type_value == "STEP_RESTARTED"]
    assert target_db.fetch(ROWS) == source_db.fetch(ROWS)


def test_a_key_that_repeats_fails_its_check_and_makes_nothing(
    by_table: Deployment, source_db: Database, target_db: Database
) -> None:
    source_db.execute("ALTER TABLE orders DROP CONSTRAINT orders_pkey; INSERT INTO orders SELECT * FROM orders LIMIT 1")
    by_table.tables = [{"source": "public.orders", "key": "id"}]

    result = by_table.run(raise_on_error=False)

    assert not evaluations(result)["key_identifies_rows"].passed
    assert not result.get_asset_materialization_events()
    assert target_db.fetch("SELECT to_regclass('orders')") == [(None,)]


def test_a_mass_delete_can_be_allowed_for_one_run(
    by_table: Deployment, source_db: Database, target_db: Database
) -> None:
    source_db.execute("INSERT INTO orders SELECT i, 'more', 1 FROM generate_series(100, 2000) i")
    by_table.run()
    source_db.execute("DELETE FROM orders WHERE id >= 100")
    assert not by_table.run(raise_on_error=False).success

    by_table.run(run_config={"ops": {"public__orders": {"config": {"allow_mass_delete": True}}}})

    assert target_db.fetch("SELECT count(*) FROM orders") == [(50,)]


def test_the_job_of_all_tables_runs_a_step_for_each(by_table: Deployment, instance: DagsterInstance) -> None:
    result = build_definitions(by_table.config).resolve_job_def("sync_all_tables").execute_in_process(instance=instance)

    assert result.success
    assert len(result.get_asset_materialization_events()) == 4
