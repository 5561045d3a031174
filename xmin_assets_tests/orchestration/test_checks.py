"""The asset checks: what they say of a healthy table, of a sick one, and what they stop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetCheckSeverity,
    AssetSelection,
    DagsterInstance,
    ExecuteInProcessResult,
    materialize,
)
from dagster._core.loader import LoadingContextForTest

from xmin_assets.errors import ConnectionFailed
from xmin_assets.orchestration import table_assets
from xmin_assets.orchestration.assets import build_xmin_assets, build_xmin_checks
from xmin_assets.orchestration.definitions_builder import build_definitions, build_resources
from xmin_assets.orchestration.names import STATIONS
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.orchestration.conftest import Deployment, failure, key


def evaluations(result: Any) -> dict[str, AssetCheckEvaluation]:
    return {found.check_name: found for found in result.get_asset_check_evaluations()}


def verify(deployment: Deployment, *, with_target: bool = False) -> AssetCheckEvaluation:
    """The check of the merged target alone, or as materializing it in the UI has it run."""
    config = deployment.config
    assets, checks = build_xmin_assets(config), build_xmin_checks(config)
    result = materialize(
        [*assets, *checks],
        selection=AssetSelection.assets(*assets) if with_target else AssetSelection.checks(*checks),
        instance=deployment.instance,
        resources=build_resources(config.settings),
        raise_on_error=False,
    )
    return evaluations(result)["target_equals_source"]


def test_a_healthy_table_passes_all_checks_of_its_run(deployment: Deployment) -> None:
    found = evaluations(deployment.run())

    assert set(found) == {
        "far_from_wraparound",
        "watermark_is_not_held_back",
        "columns_match_the_target",
        "rows_are_complete",
        "key_identifies_rows",
    }
    assert all(evaluation.passed for evaluation in found.values())
    assert found["rows_are_complete"].metadata["rows_loaded"].value == 50


def test_a_key_that_repeats_fails_its_check_and_stops_the_merge(
    deployment: Deployment, source_db: Database, target_db: Database
) -> None:
    source_db.execute("ALTER TABLE orders DROP CONSTRAINT orders_pkey; INSERT INTO orders SELECT * FROM orders LIMIT 1")
    deployment.tables = [{"source": "public.orders", "key": "id"}]

    result = deployment.run(raise_on_error=False)

    assert not evaluations(result)["key_identifies_rows"].passed
    assert "is duplicated" in str(evaluations(result)["key_identifies_rows"].description)
    assert "does not identify its rows" in failure(result, "staged_table")
    assert target_db.fetch("SELECT to_regclass('orders')") == [(None,)]


def test_a_file_that_was_cut_fails_the_check_of_the_rows(deployment: Deployment) -> None:
    deployment.run("source_snapshot", "csv_extract")
    (part,) = deployment.spool.rglob("rows-*.csv")
    part.write_bytes(b"".join(part.read_bytes().splitlines(keepends=True)[:-1]))

    result = deployment.run("staged_table", raise_on_error=False)

    assert not evaluations(result)["rows_are_complete"].passed


def test_columns_that_differ_are_warned_of_with_the_statements(deployment: Deployment, source_db: Database) -> None:
    deployment.run()
    source_db.execute("ALTER TABLE orders ADD COLUMN note text")

    found = evaluations(deployment.run())["columns_match_the_target"]

    assert (found.passed, found.severity) == (False, AssetCheckSeverity.WARN)
    assert 'ADD COLUMN "note" text' in str(found.metadata["statements"].value)
    assert evaluations(deployment.run())["columns_match_the_target"].passed


def test_an_open_transaction_is_warned_of(deployment: Deployment, source_db: Database) -> None:
    deployment.settings = {"held_back_warning": 0}
    with source_db.connect().cursor() as cursor:
        cursor.execute("BEGIN; CREATE TABLE other ()")
        found = evaluations(deployment.run())["watermark_is_not_held_back"]
        cursor.execute("ROLLBACK")

    assert (found.passed, found.severity) == (False, AssetCheckSeverity.WARN)
    assert "pid" in str(found.metadata["by"].value)


def test_the_distance_to_wraparound_can_be_an_error(deployment: Deployment) -> None:
    deployment.checks = {"wraparound": {"transactions": 1, "severity": "ERROR"}}

    found = evaluations(deployment.run(raise_on_error=False))["far_from_wraparound"]

    assert (found.passed, found.severity) == (False, AssetCheckSeverity.ERROR)
    assert found.metadata["age_transactions"].value >= 1


def test_a_target_that_equals_its_source_passes_with_the_counts(deployment: Deployment) -> None:
    deployment.run()

    found = verify(deployment)

    assert found.passed
    assert found.description == "50 rows compared: 0 missing, 0 extra, 0 different, 0 pending."
    assert found.metadata["rows_in_target"].value == 50


def test_a_target_that_does_not_equal_its_source_fails_with_examples(
    deployment: Deployment, source_db: Database, target_db: Database
) -> None:
    deployment.run()
    target_db.execute("DELETE FROM orders WHERE id = 7; UPDATE orders SET item = 'x' WHERE id = 9")
    source_db.execute("INSERT INTO orders VALUES (51, 'new', 1)")

    found = verify(deployment)

    assert (found.passed, found.severity) == (False, AssetCheckSeverity.ERROR)
    counts = [found.metadata[f"rows_{name}"].value for name in ("missing", "extra", "different", "pending")]
    assert counts == [1, 0, 1, 1]
    assert "missing: `id` = `7`" in str(found.metadata["examples"].value)


@pytest.mark.parametrize("steps", ["stages", "table"])
def test_a_good_result_stands_for_its_time_and_a_bad_one_does_not(
    deployment: Deployment, target_db: Database, steps: str
) -> None:
    deployment.options = {"steps": steps}
    first = verify(deployment, with_target=True)
    assert first.metadata["rows_in_target"].value == 50
    target_db.execute("UPDATE orders SET item = 'x' WHERE id = 7")

    again = verify(deployment, with_target=True)
    assert again.passed
    assert "not compared again since. A good result stands for 1 day" in str(again.description)
    assert again.metadata["verified_at"] == first.metadata["verified_at"]
    assert "rows_in_target" not in again.metadata
    deployment.checks = {"target_equals_source": {"every": 0, "severity": "WARN"}}
    now = verify(deployment, with_target=True)
    assert (now.passed, now.severity) == (False, AssetCheckSeverity.WARN)
    deployment.checks = {}
    assert not verify(deployment, with_target=True).passed


def latest(deployment: Deployment) -> tuple[AssetCheckEvaluation, bool]:
    """The check's last evaluation, and whether Dagster's pages take it for one of the latest materialization."""
    target = AssetCheckKey(key("merged_target"), "target_equals_source")
    (record,) = deployment.instance.event_log_storage.get_asset_check_execution_history(target, limit=1)
    assert record.evaluation
    return record.evaluation, asyncio.run(
        record.targets_latest_materialization(LoadingContextForTest(deployment.instance))
    )


@pytest.mark.parametrize("steps", ["stages", "table"])
def test_a_failure_stands_after_a_sync_until_it_is_compared_again(
    deployment: Deployment, source_db: Database, target_db: Database, steps: str
) -> None:
    deployment.options = {"steps": steps}
    deployment.run()
    target_db.execute("UPDATE orders SET item = 'x' WHERE id = 7")
    failed = verify(deployment)
    assert not failed.passed

    for change in (8, 9):
        source_db.execute(f"UPDATE orders SET item = 'y' WHERE id = {change}")
        assert deployment.run().success
        found, of_the_latest = latest(deployment)
        assert (found.passed, of_the_latest, found.severity) == (False, True, AssetCheckSeverity.ERROR)
        assert found.metadata["verified_at"] == failed.metadata["verified_at"]
        assert str(found.description).startswith("As of ")
        assert str(found.description).count("1 different") == 1
        assert "this stands until it is compared again" in str(found.description)
    target_db.execute("UPDATE orders SET item = 'item 7' WHERE id = 7")
    assert verify(deployment).passed
    assert deployment.run().success
    assert latest(deployment)[0].passed


def test_a_good_result_stands_after_a_sync_as_of_when_it_was_found(deployment: Deployment) -> None:
    deployment.run()
    good = verify(deployment)
    assert deployment.run().success

    found, of_the_latest = latest(deployment)
    assert (found.passed, of_the_latest) == (True, True)
    assert set(found.metadata) == {"verified_at", "digest_of_what_was_compared"}
    assert found.metadata["verified_at"] == good.metadata["verified_at"]
    deployment.checks = {"target_equals_source": {"every": 0}}
    assert deployment.run().success
    assert not latest(deployment)[1]


def test_a_failure_stands_however_often_it_could_not_be_compared_again(
    deployment: Deployment, target_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.run()
    target_db.execute("UPDATE orders SET item = 'x' WHERE id = 7")
    verify(deployment)
    with monkeypatch.context() as out_of_reach:
        out_of_reach.setenv("XMIN_SOURCE_URL", "host=127.0.0.1 port=1 user=nobody dbname=nothing")
        for _ in range(6):
            with pytest.raises(KeyError):
                verify(deployment)

    assert deployment.run().success
    found, of_the_latest = latest(deployment)
    assert (found.passed, of_the_latest) == (False, True)


@pytest.mark.parametrize("steps", ["stages", "table"])
def test_a_sync_looks_at_the_target_once_more_only_where_a_good_result_may_stand(
    deployment: Deployment, target_db: Database, monkeypatch: pytest.MonkeyPatch, steps: str
) -> None:
    asked: list[str] = []

    def unreachable(*_: object) -> str:
        asked.append("")
        raise ConnectionFailed("The target is gone.")

    deployment.options = {"steps": steps}
    monkeypatch.setattr(table_assets, "comparison_basis", unreachable)
    assert deployment.run().success
    target_db.execute("UPDATE orders SET item = 'x' WHERE id = 7")
    assert not verify(deployment).passed
    assert deployment.run().success
    assert latest(deployment)[1]
    assert not asked

    target_db.execute("UPDATE orders SET item = 'item 7' WHERE id = 7")
    assert verify(deployment).passed
    assert deployment.run().success, "what is merged is merged, whatever becomes of the check's result"
    assert (latest(deployment)[1], asked) == (False, [""])


def test_a_run_that_compares_has_one_result(deployment: Deployment) -> None:
    verify(deployment, with_target=True)
    deployment.checks = {"target_equals_source": {"every": 0}}
    assert verify(deployment, with_target=True).metadata["rows_in_target"].value == 50


@pytest.mark.parametrize("steps", ["stages", "table"])
def test_checks_can_be_left_out_of_a_selection_and_guard_it_all_the_same(
    deployment: Deployment, source_db: Database, target_db: Database, steps: str
) -> None:
    deployment.options = {"steps": steps}
    assets = build_xmin_assets(deployment.config, retry_policy=deployment.retry_policy)
    some = {"resources": build_resources(deployment.config.settings), "instance": deployment.instance}
    selection = AssetSelection.assets(*assets).without_checks()

    result = materialize(assets, selection=selection, **some)
    assert evaluations(result) == {}
    assert target_db.fetch("SELECT count(*) FROM orders") == [(50,)]

    source_db.execute("ALTER TABLE orders DROP CONSTRAINT orders_pkey; INSERT INTO orders SELECT * FROM orders LIMIT 1")
    deployment.tables = [{"source": "public.orders", "key": "id"}]
    assets = build_xmin_assets(deployment.config, retry_policy=deployment.retry_policy)
    result = materialize(assets, selection=selection, raise_on_error=False, **some)
    assert not result.success
    assert evaluations(result) == {}
    assert target_db.fetch("SELECT count(*) FROM orders") == [(50,)]


def checks_alone(deployment: Deployment, station: str) -> ExecuteInProcessResult:
    """A run of the checks that come with an asset, without it."""
    assets = build_xmin_assets(deployment.config, retry_policy=deployment.retry_policy)
    (made,) = [asset for asset in assets if key(station) in asset.keys]
    return materialize(
        assets,
        selection=AssetSelection.checks(*made.check_keys),
        instance=deployment.instance,
        resources=build_resources(deployment.config.settings),
        raise_on_error=False,
    )


def test_the_checks_of_a_plan_can_be_asked_for_alone(deployment: Deployment) -> None:
    result = checks_alone(deployment, "source_snapshot")

    assert result.success
    assert {found.check_name for found in result.get_asset_check_evaluations()} == {
        "far_from_wraparound",
        "watermark_is_not_held_back",
        "columns_match_the_target",
    }
    assert not result.get_asset_materialization_events()


def test_the_checks_of_a_staged_table_come_with_it_alone(deployment: Deployment) -> None:
    deployment.run()

    result = checks_alone(deployment, "staged_table")

    assert "Materialize public/orders_staged_table, and they come with it." in failure(result, "staged_table")


def test_one_asset_of_a_table_that_is_one_step_syncs_the_whole_table(deployment: Deployment) -> None:
    deployment.options = {"steps": "table"}

    result = deployment.run("merged_target")
    made = {event.asset_key for event in result.get_asset_materialization_events()}
    assert made == {key(station) for station in STATIONS}


def test_a_good_result_does_not_stand_for_another_configuration(deployment: Deployment, target_db: Database) -> None:
    assert verify(deployment, with_target=True).passed
    target_db.execute("UPDATE orders SET item = 'x' WHERE id = 7")
    assert verify(deployment, with_target=True).passed
    deployment.tables = [{"source": "public.orders", "max_delete_share": 0.4}]

    assert not verify(deployment, with_target=True).passed


def test_the_check_alone_compares_though_a_good_result_is_young(deployment: Deployment, target_db: Database) -> None:
    assert verify(deployment, with_target=True).passed
    target_db.execute("UPDATE orders SET item = 'x' WHERE id = 7")
    assert not verify(deployment).passed


def test_checks_can_be_left_out_and_verify_has_a_schedule(deployment: Deployment) -> None:
    deployment.checks = {
        "schema_drift": {"enabled": False},
        "target_equals_source": {"schedule": "0 3 * * *"},
    }
    assert "columns_match_the_target" not in evaluations(deployment.run())

    definitions = build_definitions(deployment.config)
    (schedule,) = definitions.schedules or ()
    assert (schedule.job_name, schedule.cron_schedule) == ("verify_all_tables", "0 3 * * *")
    deployment.checks = {"target_equals_source": {"enabled": False}}
    assert not build_definitions(deployment.config).schedules
    assert not build_xmin_checks(deployment.config)


def test_a_sync_of_all_tables_does_not_verify_and_the_job_that_verifies_does_nothing_else(
    deployment: Deployment, instance: DagsterInstance
) -> None:
    definitions = build_definitions(deployment.config)

    synced = definitions.resolve_job_def("sync_all_tables").execute_in_process(instance=instance)
    verified = definitions.resolve_job_def("verify_all_tables").execute_in_process(instance=instance)

    assert "target_equals_source" not in evaluations(synced)
    assert set(evaluations(verified)) == {"target_equals_source"}
    assert not verified.get_asset_materialization_events()


@pytest.mark.parametrize(
    "wrong",
    [{"target_equals_source": {"schedule": "often"}}, {"wraparound": {"severity": "BAD"}}, {"no_such": {}}],
)
def test_a_check_that_is_set_wrong_is_said(deployment: Deployment, wrong: dict[str, object]) -> None:
    deployment.checks = wrong
    with pytest.raises(Exception, match="checks"):
        _ = deployment.config
