"""The four assets move a table: together, one by one, and again."""

from __future__ import annotations

from xmin_assets_tests.clusters import Database
from xmin_assets_tests.orchestration.conftest import Deployment, failure, key, numbers

ROWS = "SELECT id, item, price FROM orders ORDER BY id"
STATIONS = ("source_snapshot", "csv_extract", "staged_table", "merged_target")


def test_one_run_makes_the_target_equal_to_the_source(
    deployment: Deployment, source_db: Database, target_db: Database
) -> None:
    result = deployment.run()
    assert {event.asset_key for event in result.get_asset_materialization_events()} == {key(s) for s in STATIONS}
    assert target_db.fetch(ROWS) == source_db.fetch(ROWS)
    assert len(target_db.fetch(ROWS)) == 50


def test_the_four_assets_can_be_materialized_one_by_one_in_separate_runs(
    deployment: Deployment, source_db: Database, target_db: Database
) -> None:
    for station in STATIONS:
        assert target_db.fetch("SELECT to_regclass('public.orders')") == [(None,)]
        result = deployment.run(station)
        assert [event.asset_key for event in result.get_asset_materialization_events()] == [key(station)]
    assert target_db.fetch(ROWS) == source_db.fetch(ROWS)


def test_merged_target_alone_repeats_its_result_and_changes_nothing(
    deployment: Deployment, source_db: Database, target_db: Database
) -> None:
    first = numbers(deployment.run(), "merged_target")
    source_db.execute("UPDATE orders SET price = 0 WHERE id = 1")
    again = deployment.run("merged_target")
    assert numbers(again, "merged_target") == first
    assert target_db.fetch("SELECT price FROM orders WHERE id = 1") != [(0,)]


def test_an_asset_whose_upstream_was_never_materialized_says_what_to_do(deployment: Deployment) -> None:
    result = deployment.run("csv_extract", raise_on_error=False)
    assert "Materialize public/orders_source_snapshot first." in failure(result, "csv_extract")


def test_the_csv_files_of_a_merged_sync_are_gone(deployment: Deployment) -> None:
    deployment.run("source_snapshot", "csv_extract", "staged_table")
    assert list((deployment.spool / "syncs").rglob("*.csv"))
    deployment.run("merged_target")
    assert not list((deployment.spool / "syncs").iterdir())


def test_a_table_that_fails_does_not_stop_another(
    deployment: Deployment, source_db: Database, target_db: Database
) -> None:
    deployment.tables = ["public.nowhere", "public.orders"]
    result = deployment.run(raise_on_error=False)
    assert not result.success
    assert target_db.fetch(ROWS) == source_db.fetch(ROWS)
    assert "public.nowhere" in failure(result, "source_snapshot", "nowhere")


def test_one_table_is_finished_before_the_next_is_begun(deployment: Deployment, source_db: Database) -> None:
    source_db.execute("CREATE TABLE other (id int PRIMARY KEY)")
    deployment.tables = ["public.orders", "public.other"]
    events = deployment.run().get_asset_materialization_events()
    tables = [event.asset_key.path[1].partition("_")[0] for event in events if event.asset_key]
    assert tables == ["orders"] * 4 + ["other"] * 4


def test_the_assets_keep_as_many_merges_in_the_history_as_the_settings_say(
    deployment: Deployment, target_db: Database
) -> None:
    deployment.settings = {"history_rows": 2}
    for _ in range(3):
        assert deployment.run().success

    assert target_db.fetch("SELECT number FROM xmin_assets.history ORDER BY number") == [(2,), (3,)]
