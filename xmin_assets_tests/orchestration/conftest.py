"""A small deployment of the assets over two real databases, and a way to run them in this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from dagster import (
    AssetKey,
    AssetSelection,
    DagsterInstance,
    ExecuteInProcessResult,
    RetryPolicy,
    materialize,
)

from xmin_assets.config import ReplicationConfig, parse_config
from xmin_assets.orchestration.assets import build_xmin_assets
from xmin_assets.orchestration.definitions_builder import build_resources
from xmin_assets.orchestration.names import STATIONS, StationName, station_key
from xmin_assets.orchestration.specs import STATION_TAG
from xmin_assets_tests.clusters import Database

ORDERS = """
CREATE TABLE orders (id bigint PRIMARY KEY, item text NOT NULL, price numeric(10, 2));
INSERT INTO orders SELECT i, 'item ' || i, i * 1.5 FROM generate_series(1, 50) i;
"""


@dataclass
class Deployment:
    """The assets of a configuration, with an instance that remembers their runs."""

    instance: DagsterInstance
    spool: Path
    tables: Sequence[object] = ("public.orders",)
    settings: Mapping[str, object] = field(default_factory=dict)
    checks: Mapping[str, object] = field(default_factory=dict)
    options: Mapping[str, object] = field(default_factory=dict)
    retry_policy: RetryPolicy = field(default_factory=lambda: RetryPolicy(max_retries=1))

    @property
    def config(self) -> ReplicationConfig:
        settings = {"spool": str(self.spool), **self.settings}
        said = {"tables": list(self.tables), "settings": settings, "checks": dict(self.checks), **self.options}
        return parse_config(said)

    def run(self, *stations: str, **options: Any) -> ExecuteInProcessResult:
        """Materialize these stations of every table in one run, or all four."""
        assets = build_xmin_assets(self.config, retry_policy=self.retry_policy)
        keys = [
            spec.key for asset in assets for spec in asset.specs if spec.tags[STATION_TAG] in (stations or STATIONS)
        ]
        return materialize(
            assets,
            selection=AssetSelection.assets(*keys),
            instance=self.instance,
            resources=build_resources(self.config.settings),
            **options,
        )


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral(tempdir=str(tmp_path)) as opened:
        yield opened


@pytest.fixture
def deployment(
    source_db: Database,
    target_db: Database,
    instance: DagsterInstance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Deployment:
    """One table of 50 rows, never synced."""
    monkeypatch.setenv("XMIN_SOURCE_URL", source_db.url)
    monkeypatch.setenv("XMIN_TARGET_URL", target_db.url)
    # Should a test lose its spool setting, the default one is not in this user's home either.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source_db.execute(ORDERS)
    return Deployment(instance, tmp_path / "spool")


def key(station: str, table: str = "orders") -> AssetKey:
    return station_key(AssetKey(["public", table]), cast("StationName", station))


def numbers(result: ExecuteInProcessResult, station: str, table: str = "orders") -> dict[str, float]:
    """The numeric metadata of an asset's materialization in this run."""
    (event,) = [
        event.step_materialization_data.materialization
        for event in result.get_asset_materialization_events()
        if event.asset_key == key(station, table)
    ]
    return {
        name: value.value
        for name, value in event.metadata.items()
        if isinstance(value.value, (int, float)) and not isinstance(value.value, bool)
    }


def failure(result: ExecuteInProcessResult, station: str, table: str = "orders") -> str:
    """What the failed step says to the user."""
    data = result.failure_data_for_node(key(station, table).to_python_identifier())
    assert data is not None
    if data.user_failure_data is not None:
        return str(data.user_failure_data.description)
    return str(data.error.message)
