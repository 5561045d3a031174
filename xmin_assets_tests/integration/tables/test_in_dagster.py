"""Every mode as assets: views, tables without a key, cursors, columns of ours by other names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance, materialize

from xmin_assets.orchestration.assets import build_xmin_assets
from xmin_assets.orchestration.definitions_builder import build_resources
from xmin_assets_tests.replica import Replica

TABLES: list[dict[str, Any]] = [
    {"source": "public.t", "mode": "incremental_sync", "cursor": "at", "cursor_lookback": 5},
    {"source": "public.shown", "mode": "incremental_sync", "cursor": "at", "key": "id"},
    {"source": "public.shown", "target": "copies.whole", "mode": "full_sync"},
    {"source": "public.t", "target": "copies.soft", "deletes": "soft", "deleted_at_column": "gone", "xmin_column": "x"},
]


def test_tables_of_every_mode_are_materialized_and_say_how_they_are_read(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XMIN_SOURCE_URL", replica.source.url)
    monkeypatch.setenv("XMIN_TARGET_URL", replica.target.url)
    replica.source.execute(
        "CREATE TABLE t (id int PRIMARY KEY, at int); INSERT INTO t SELECT i, i FROM generate_series(1, 9) i"
    )
    replica.source.execute("CREATE VIEW shown AS SELECT id, at FROM t")
    config = replica.config(*TABLES)
    assets = build_xmin_assets(config)

    with DagsterInstance.ephemeral(tempdir=str(tmp_path)) as instance:
        for change in ("SELECT", "UPDATE t SET at = 20 WHERE id = 1; DELETE FROM t WHERE id = 2"):
            replica.source.execute(change)
            assert materialize(assets, instance=instance, resources=build_resources(config.settings)).success

    for target in ("public.t", "public.shown", "copies.whole"):
        replica.assert_equal("public.t", target)
    assert replica.target.fetch("SELECT id FROM copies.soft WHERE gone IS NOT NULL") == [(2,)]
    said = "\n".join(text or "" for asset in assets for text in asset.descriptions_by_key.values())
    assert "by `at`" in said and "all rows, every time" in said and "marked in `gone`" in said


@pytest.mark.parametrize("steps", ["table", "stages"])
def test_a_table_is_loaded_by_chunks_and_its_pages_say_so(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, steps: str
) -> None:
    monkeypatch.setenv("XMIN_SOURCE_URL", replica.source.url)
    monkeypatch.setenv("XMIN_TARGET_URL", replica.target.url)
    replica.source.execute("""
        CREATE TABLE t (id int PRIMARY KEY, filler text);
        INSERT INTO t SELECT i, repeat('x', 300) FROM generate_series(1, 2000) i;
    """)
    options = {"load_chunk": "64 KiB", "deletes": "soft"}
    config = replica.config({"source": "public.t", **options}).model_copy(update={"steps": steps})
    assets = build_xmin_assets(config)

    with DagsterInstance.ephemeral(tempdir=str(tmp_path)) as instance:
        run = materialize(assets, instance=instance, resources=build_resources(config.settings))
        assert run.success
        pages = [
            event.metadata for event in run.get_asset_materialization_events() for event in [event.materialization]
        ]
    replica.assert_equal("public.t")
    (planned,) = [page for page in pages if "xmin_assets/load" in page]
    assert "chunks, each under a snapshot of its own" in str(planned["xmin_assets/load"].value)
    merged = pages[-1]
    assert merged["xmin_assets/rows_inserted"].value == merged["xmin_assets/rows_extracted"].value == 2000
    columns = {column.name for column in merged["dagster/column_schema"].value.columns}
    assert "source_deleted_at" in columns
