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
