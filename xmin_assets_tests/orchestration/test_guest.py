"""Several configurations beside each other, and beside what a project has of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster import (
    AssetSelection,
    DagsterInstance,
    Definitions,
    asset,
    build_sensor_context,
    colored_console_logger,
    job,
    load_from_defs_folder,
    multiprocess_executor,
    op,
)

from xmin_assets import build_definitions, parse_config
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.orchestration.test_scaffold import project

__all__ = ["project"]

COMPONENT = """
type: xmin_assets.XminReplicationComponent
attributes:
  tables: [{tables}]
  sensor: {{}}
  schedule: "0 * * * *"
  cleanup: "@daily"
  automation: eager
  settings: {{spool: {spool}, workers: 2}}
"""


@pytest.fixture
def databases(source_db: Database, target_db: Database, monkeypatch: pytest.MonkeyPatch) -> tuple[Database, Database]:
    """Two tables at the source, never synced."""
    monkeypatch.setenv("XMIN_SOURCE_URL", source_db.url)
    monkeypatch.setenv("XMIN_TARGET_URL", target_db.url)
    source_db.execute("CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders SELECT generate_series(1, 10)")
    source_db.execute("CREATE TABLE items (id int PRIMARY KEY); INSERT INTO items SELECT generate_series(1, 20)")
    return source_db, target_db


def component(project: Path, folder: str, *tables: str, extra: str = "") -> None:
    """Write a component; the second one of a folder becomes another document of the file."""
    file = project / "warehouse/defs" / folder / "defs.yaml"
    file.parent.mkdir(exist_ok=True)
    text = COMPONENT.format(tables=", ".join(tables), spool=project / "spool") + extra
    file.write_text(f"{file.read_text()}\n---\n{text}" if file.exists() else text)


@pytest.fixture
def importable(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(project))
    yield project
    for name in [name for name in sys.modules if name.partition(".")[0] == "warehouse"]:
        del sys.modules[name]


def load(project: Path) -> Definitions:
    return load_from_defs_folder(path_within_project=project / "warehouse")


def host() -> Definitions:
    """What a project may have of its own."""

    @op
    def sweep() -> None:
        """Do nothing."""

    @job
    def clean_up() -> None:
        sweep()

    @asset(deps=[["public", "orders"]])
    def report() -> None:
        """Stand below a merged target."""

    return Definitions(
        assets=[report], jobs=[clean_up], executor=multiprocess_executor, loggers={"console": colored_console_logger}
    )


# Dagster itself makes checks of a component's with a parameter that it calls beta.
@pytest.mark.filterwarnings("ignore::dagster_shared.utils.warnings.BetaWarning")
def test_components_of_a_project_lie_side_by_side(importable: Path) -> None:
    component(importable, "sales", "public.orders")
    component(importable, "shop", "public.items")
    component(importable, "shop", "public.customers")
    component(importable, "two words", "public.more", extra="  name: others\n")

    made = Definitions.merge(load(importable), host())

    Definitions.validate_loadable(made)
    repository = made.get_repository_def()
    assert {name for name in repository.job_names if not name.startswith("__")} == {
        "clean_up",
        *(
            f"{name}_{what}"
            for name in ("sales", "shop", "shop_2", "others")
            for what in ("sync_all_tables", "verify_all_tables", "clean_up")
        ),
    }
    assert {sensor.name for sensor in repository.sensor_defs} >= {
        "sales_source_change_sensor",
        "shop_automation_sensor",
    }
    assert {schedule.name for schedule in repository.schedule_defs} >= {"others_sync_all_tables_schedule"}


def test_each_has_its_own_tables(
    importable: Path, databases: tuple[Database, Database], instance: DagsterInstance
) -> None:
    source, target = databases
    component(importable, "sales", "public.orders")
    component(importable, "shop", "public.items")
    repository = Definitions.merge(load(importable), host()).get_repository_def()

    context = build_sensor_context(instance, repository_def=repository)
    (request,) = repository.get_sensor_def("sales_source_change_sensor").evaluate_tick(context).run_requests or ()
    assert request.tags["xmin_assets/table"] == "public.orders"
    chosen = repository.get_job("sales_sync_all_tables").get_subset(asset_selection={*(request.asset_selection or ())})
    assert chosen.executor_def.name == "in_process"
    assert chosen.execute_in_process(instance=instance).success
    assert target.fetch("SELECT count(*) FROM orders") == source.fetch("SELECT count(*) FROM orders")
    assert target.fetch("SELECT to_regclass('public.items')") == [(None,)]

    settings = {"shop_replication_settings": {"config": {"batch_size": 7}}}
    shop = repository.get_job("shop_sync_all_tables")
    assert shop.execute_in_process(instance=instance, run_config={"resources": settings}).success
    assert target.fetch("SELECT count(*) FROM items") == source.fetch("SELECT count(*) FROM items")
    assert repository.get_job("shop_clean_up").execute_in_process(instance=instance).success


def test_what_is_built_in_python_is_merged(databases: tuple[Database, Database], tmp_path: Path) -> None:
    settings = {"spool": str(tmp_path / "spool")}
    configs = [
        parse_config({"name": name, "tables": [f"public.{table}"], "sensor": {}, "settings": settings})
        for name, table in (("shop", "items"), ("sales", "orders"))
    ]

    made = Definitions.merge(*(build_definitions(config) for config in configs), host())

    Definitions.validate_loadable(made)
    downstream = AssetSelection.assets(["shop", "public", "items"], ["sales", "public", "orders"]).downstream()
    found = {key.to_user_string() for key in downstream.resolve(made.resolve_asset_graph())}
    assert {"public/items", "public/orders", "report"} <= found


def test_nothing_is_said_of_the_whole_location() -> None:
    made = build_definitions(parse_config({"tables": ["public.orders"]}))
    assert made.executor is None
    assert not made.loggers
