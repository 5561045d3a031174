"""What the UI shows: true numbers, and the same ones on every run."""

from __future__ import annotations

from typing import Any

from dagster import ExecuteInProcessResult, TableColumnLineage, TableSchema

from xmin_assets.orchestration.assets import build_xmin_assets
from xmin_assets.orchestration.names import STATIONS
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.orchestration.conftest import Deployment, key, numbers

CHANGE = """
UPDATE orders SET price = price + 1 WHERE id <= 10;
INSERT INTO orders VALUES (51, '', NULL), (52, 'new', 1);
DELETE FROM orders WHERE id = 50;
"""


def metadata(result: ExecuteInProcessResult, station: str) -> dict[str, Any]:
    (event,) = [e for e in result.get_asset_materialization_events() if e.asset_key == key(station)]
    return {k: v.value for k, v in event.step_materialization_data.materialization.metadata.items()}


def test_every_run_has_the_same_numbers_whether_anything_changed_or_not(
    deployment: Deployment, source_db: Database
) -> None:
    first = deployment.run()
    source_db.execute(CHANGE)
    changing = deployment.run()
    idle = deployment.run()
    source_db.execute("UPDATE orders SET price = 0")
    changing_again = deployment.run()
    for station in STATIONS:
        kept = [set(numbers(run, station)) for run in (first, changing, idle, changing_again)]
        assert kept[0] == kept[1] == kept[2] == kept[3]
        assert {"xmin_assets/max_xmin", "xmin_assets/watermark", "xmin_assets/seconds"} <= kept[0]


def test_the_first_sync_counts_its_inserts(deployment: Deployment) -> None:
    merged = numbers(deployment.run(), "merged_target")
    assert merged["xmin_assets/rows_inserted"] == 50
    assert merged["xmin_assets/rows_extracted"] == 50
    assert merged["dagster/row_count"] == 50


def test_a_later_sync_counts_what_changed(deployment: Deployment, source_db: Database) -> None:
    deployment.run()
    source_db.execute(CHANGE)
    result = deployment.run()
    merged = numbers(result, "merged_target")
    assert merged["xmin_assets/rows_extracted"] == 12
    assert merged["xmin_assets/rows_updated"] == 10
    assert merged["xmin_assets/rows_inserted"] == 2
    assert merged["xmin_assets/rows_deleted"] == 1
    assert merged["xmin_assets/rows_unchanged"] == 0
    assert merged["dagster/row_count"] == 51
    extracted = numbers(result, "csv_extract")
    assert extracted["xmin_assets/rows_extracted"] == 12
    assert extracted["xmin_assets/rows_at_source"] == 51
    assert extracted["xmin_assets/bytes"] == merged["xmin_assets/bytes"] > 0
    assert numbers(result, "staged_table")["xmin_assets/rows_loaded"] == 12


def test_the_max_xmin_is_the_highest_source_xmin_of_the_target(
    deployment: Deployment, source_db: Database, target_db: Database
) -> None:
    for change in ("SELECT 1", "UPDATE orders SET price = 2 WHERE id = 7", "SELECT 1"):
        source_db.execute(change)
        result = deployment.run()
        ((highest,),) = target_db.fetch("SELECT max(source_xmin) FROM orders")
        assert numbers(result, "merged_target")["xmin_assets/max_xmin"] == highest
        assert numbers(result, "csv_extract")["xmin_assets/max_xmin"] == highest


def test_the_mode_and_its_reason_are_what_was_done(deployment: Deployment) -> None:
    first, second = deployment.run(), deployment.run()
    for station in STATIONS:
        done = metadata(first, station)
        assert (done["xmin_assets/mode"], done["xmin_assets/reason"]) == ("full_sync", "first sync")
        assert metadata(second, station)["xmin_assets/mode"] == "xmin_incremental"


def test_the_target_has_its_columns_and_where_they_come_from(deployment: Deployment) -> None:
    found = metadata(deployment.run(), "merged_target")
    schema, lineage = found["dagster/column_schema"], found["dagster/column_lineage"]
    assert isinstance(schema, TableSchema)
    assert isinstance(lineage, TableColumnLineage)
    assert [(column.name, column.type) for column in schema.columns] == [
        ("id", "bigint"),
        ("item", "text"),
        ("price", "numeric(10,2)"),
        ("source_xmin", "bigint"),
    ]
    assert schema.columns[0].constraints.nullable is False
    assert [dep.asset_key for dep in lineage.deps_by_column["price"]] == [key("staged_table")]
    assert "source_xmin" not in lineage.deps_by_column


def test_a_soft_deleting_target_shows_the_column_that_marks_rows(deployment: Deployment) -> None:
    deployment.tables = [{"source": "public.orders", "deletes": "soft"}]
    schema = metadata(deployment.run(), "merged_target")["dagster/column_schema"]
    assert [column.name for column in schema.columns][-2:] == ["source_xmin", "source_deleted_at"]


def test_only_the_target_claims_to_be_the_table_of_that_name(deployment: Deployment) -> None:
    deployment.tables = [{"source": "public.orders", "target": "copies.orders"}]
    names = {
        asset.key.path[-1]: asset.metadata_by_key[asset.key].get("dagster/table_name")
        for asset in build_xmin_assets(deployment.config)
    }
    assert {station: name for station, name in names.items() if name} == {"merged_target": "copies.orders"}


def test_a_description_tells_how_the_table_is_replicated() -> None:
    from xmin_assets.config import parse_config

    table = {"source": "public.t", "target": "copy.t", "key": ["a", "b"], "deletes": "soft", "where": "x\n || y"}
    (*_, merged) = build_xmin_assets(parse_config({"tables": [table]}))
    text = merged.descriptions_by_key[merged.key]
    for fact in ("`public.t`", "`copy.t`", "`a`, `b`", "source_deleted_at", "`xmin`", "`x \\|\\| y`"):
        assert fact in text


def test_a_held_back_watermark_is_shown_with_who_holds_it(deployment: Deployment, source_db: Database) -> None:
    assert metadata(deployment.run(), "source_snapshot")["xmin_assets/held_back"] == "not held back"
    writer = source_db.connect()
    writer.autocommit = False
    writer.cursor().execute("UPDATE orders SET price = 1 WHERE id = 1")

    shown = metadata(deployment.run(), "source_snapshot")

    assert shown["xmin_assets/held_back_transactions"] == 1
    assert f"pid {writer.info.backend_pid}" in shown["xmin_assets/held_back"]
