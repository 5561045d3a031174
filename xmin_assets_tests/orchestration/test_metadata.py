"""What the UI shows: true numbers, and the same ones on every run."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from dagster import ExecuteInProcessResult, TableColumnLineage, TableSchema

from xmin_assets import resync_tables
from xmin_assets.config import parse_config
from xmin_assets.orchestration.assets import build_xmin_assets
from xmin_assets.orchestration.metadata import of_csv_extract
from xmin_assets.orchestration.names import STATIONS
from xmin_assets.orchestration.specs import source_specs, table_specs
from xmin_assets.replication.manifests.extract import BlockMap
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


KINDS = """
CREATE TABLE by_cursor AS SELECT * FROM orders;
ALTER TABLE by_cursor ADD PRIMARY KEY (id);
CREATE TABLE in_full AS SELECT * FROM orders;
ALTER TABLE in_full ADD PRIMARY KEY (id);
CREATE TABLE no_key AS SELECT * FROM orders;
CREATE VIEW seen AS SELECT * FROM orders;
CREATE TABLE no_rows (id int PRIMARY KEY);
"""
KINDS_TABLES = [
    {"source": "public.orders", "deletes": "soft"},
    {"source": "public.by_cursor", "mode": "incremental_sync", "cursor": "id"},
    {"source": "public.in_full", "mode": "full_sync"},
    {"source": "public.no_key", "mode": "full_sync"},
    {"source": "public.seen", "mode": "full_sync", "key": "id"},
    {"source": "public.no_rows"},
]


def test_every_run_has_the_same_numbers_whatever_the_table_the_steps_and_the_changes(
    deployment: Deployment, source_db: Database
) -> None:
    source_db.execute(KINDS)
    deployment.tables = KINDS_TABLES
    for steps in ("stages", "table"):
        deployment.options = {"steps": steps}
        for table in ("orders", "by_cursor", "in_full", "no_key"):
            source_db.execute(CHANGE.replace("orders", table))
        deployment.run()
        deployment.run()
        source_db.execute("UPDATE orders SET price = 0; DELETE FROM orders WHERE id > 50")
        deployment.run()
        # The other steps begin with a first sync, too.
        resync_tables(deployment.config)
        source_db.execute(
            "".join(f"DELETE FROM {table} WHERE id > 50;" for table in ("by_cursor", "in_full", "no_key"))
        )

    for station in STATIONS:
        made = [
            {name: value.value for name, value in record.asset_materialization.metadata.items()}
            for table in KINDS_TABLES
            for record in deployment.instance.fetch_materializations(
                key(station, table["source"].removeprefix("public.")), limit=100
            ).records
            if record.asset_materialization
        ]
        assert len(made) == len(KINDS_TABLES) * 6
        found = {frozenset(name for name, value in facts.items() if type(value) in (int, float)) for facts in made}
        assert len(found) == 1
        assert {"xmin_assets/max_xmin", "xmin_assets/watermark_xid", "xmin_assets/seconds"} <= found.pop()
        assert not {"xmin_assets/blocks_changed", "xmin_assets/wal_bytes", "xmin_assets/seconds_saved"} & made[0].keys()
        assert {facts["xmin_assets/mode"] for facts in made} == {"full_sync", "xmin_incremental", "incremental_sync"}


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
    summary = metadata(result, "merged_target")["xmin_assets/summary"]
    assert summary.startswith("2 inserted, 10 updated, 1 deleted, 0 unchanged; 51 rows; ")
    extracted = numbers(result, "csv_extract")
    assert extracted["xmin_assets/rows_extracted"] == 12
    assert extracted["xmin_assets/rows_at_source"] == 51
    assert extracted["xmin_assets/bytes"] == merged["xmin_assets/bytes"] > 0
    assert numbers(result, "staged_table")["xmin_assets/rows_loaded"] == 12


def test_blocks_are_counted_where_they_were_looked_up(deployment: Deployment) -> None:
    made = deployment.run().asset_value(key("csv_extract"))
    shown = of_csv_extract(replace(made, block_map=BlockMap((), 3, 400, 8192)), key("source_snapshot"))
    assert (shown["xmin_assets/blocks_changed"], shown["xmin_assets/blocks_at_source"]) == (3, 400)
    assert shown["xmin_assets/wal_bytes"] == 8192


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
    result = deployment.run()
    found = metadata(result, "merged_target")
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
    upstream = []
    for station in STATIONS:
        of_station = metadata(result, station)["dagster/column_lineage"]
        assert isinstance(of_station, TableColumnLineage)
        upstream += [dep.asset_key.to_user_string() for dep in of_station.deps_by_column["price"]]
    assert upstream[0] == "source/public/orders"
    assert upstream[1:] == [key(station).to_user_string() for station in STATIONS[:-1]]


def test_comments_of_the_source_describe_columns_and_tables(deployment: Deployment, source_db: Database) -> None:
    source_db.execute("COMMENT ON TABLE orders IS 'What customers have bought.'")
    source_db.execute("COMMENT ON COLUMN orders.item IS 'Its name.'")
    for expected in ("Its name.", "Another."):
        result = deployment.run()
        for station in STATIONS:
            schema = metadata(result, station)["dagster/column_schema"]
            assert isinstance(schema, TableSchema)
            described = {column.name: column.description for column in schema.columns if column.name != "source_xmin"}
            assert described == {"id": None, "item": expected, "price": None}
        source_db.execute("COMMENT ON COLUMN orders.item IS 'Another.'")
    assert metadata(result, "merged_target")["xmin_assets/key"] == "id"
    assert metadata(result, "merged_target")["xmin_assets/comment"] == "What customers have bought."

    (specs,) = table_specs(deployment.config, None).values()
    assert (specs["merged_target"].description or "").startswith(
        "What customers have bought.\n\npublic.orders: the copy"
    )
    (source,) = source_specs(deployment.config)
    assert (source.description or "").startswith(
        "What customers have bought.\n\npublic.orders, as it is at the source."
    )


def test_a_soft_deleting_target_shows_the_column_that_marks_rows(deployment: Deployment) -> None:
    deployment.tables = [{"source": "public.orders", "deletes": "soft"}]
    schema = metadata(deployment.run(), "merged_target")["dagster/column_schema"]
    assert [column.name for column in schema.columns][-2:] == ["source_xmin", "source_deleted_at"]


def test_only_the_target_claims_to_be_the_table_of_that_name(deployment: Deployment) -> None:
    deployment.tables = [{"source": "public.orders", "target": "copies.orders"}]
    names = {
        asset.key.to_user_string(): asset.metadata_by_key[asset.key].get("dagster/table_name")
        for asset in build_xmin_assets(deployment.config)
    }
    assert {key: name for key, name in names.items() if name} == {"copies/orders": "copies.orders"}


def test_a_description_tells_how_the_table_is_replicated() -> None:
    table = {"source": "public.t", "target": "copy.t", "key": ["a", "b"], "deletes": "soft", "where": "x\n || y"}
    (*others, merged) = build_xmin_assets(parse_config({"tables": [table]}))
    text = merged.descriptions_by_key[merged.key]
    assert text.startswith("copy.t: ")
    assert all(other.descriptions_by_key[other.key].startswith("public.t: ") for other in others)
    for fact in ("`public.t`", "`copy.t`", "`a`, `b`", "source_deleted_at", "`xmin`", "`x || y`"):
        assert fact in text


def test_a_name_that_markdown_would_change_is_shown_as_it_is() -> None:
    (*_, merged) = build_xmin_assets(parse_config({"tables": ["public._t_"]}))
    assert merged.descriptions_by_key[merged.key].startswith("`public._t_`: ")


def test_every_kind_has_an_icon_in_the_ui() -> None:
    folder = resources.files("dagster_webserver") / "webapp/build/_next/static/chunks"
    scripts = "".join(path.read_text(errors="replace") for path in Path(str(folder)).rglob("*.js"))
    known = set(re.findall(r"[,{](\w+):\{icon:", scripts))
    if "postgresql" not in known:
        pytest.skip("this webserver keeps its icons elsewhere")
    assets = build_xmin_assets(parse_config({"tables": ["public.t"]}))
    used = {kind for asset in assets for spec in asset.specs for kind in spec.kinds}
    assert used <= known


def test_a_held_back_watermark_is_shown_with_who_holds_it(deployment: Deployment, source_db: Database) -> None:
    assert metadata(deployment.run(), "source_snapshot")["xmin_assets/held_back"] == "not held back"
    writer = source_db.connect()
    writer.autocommit = False
    writer.cursor().execute("UPDATE orders SET price = 1 WHERE id = 1")

    shown = metadata(deployment.run(), "source_snapshot")

    assert shown["xmin_assets/held_back_transactions"] == 1
    assert f"pid {writer.info.backend_pid}" in shown["xmin_assets/held_back"]
