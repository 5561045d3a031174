"""Several configurations beside each other, and beside what a project has of its own."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster import (
    AssetKey,
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
from xmin_assets.errors import ConfigError
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
    file.parent.mkdir(parents=True, exist_ok=True)
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


ODD = """
CREATE SCHEMA "ünï"; CREATE SCHEMA "select"; CREATE SCHEMA "a.b";
CREATE TABLE "ünï"."Bestel lungen" ("key" int PRIMARY KEY, "group" text, "näme, x" text);
INSERT INTO "ünï"."Bestel lungen" VALUES (1, 'x', 'y');
CREATE TABLE "select"."from" ("where" int PRIMARY KEY); INSERT INTO "select"."from" VALUES (1);
CREATE TABLE "a.b"."c""d" ("e.f" int PRIMARY KEY); INSERT INTO "a.b"."c""d" VALUES (1);
CREATE TABLE "名前" (id int PRIMARY KEY); INSERT INTO "名前" VALUES (1);
CREATE TABLE orders_staged_table (id int PRIMARY KEY); INSERT INTO orders_staged_table VALUES (1);
"""


@pytest.mark.filterwarnings("ignore::dagster_shared.utils.warnings.BetaWarning")
def test_odd_names_run_beside_each_other(
    importable: Path, databases: tuple[Database, Database], instance: DagsterInstance
) -> None:
    source, target = databases
    source.execute(ODD)
    odd = ['"ünï.Bestel lungen"', "select.from", '\'"a.b"."c""d"\'', "public.名前", "public.orders_staged_table"]
    component(importable, "名前 x/class.1", *odd, "public.orders")
    moved = [f"{{source: {name}, target: '\"two.words\".t{number}'}}" for number, name in enumerate(odd)]
    component(importable, "two", *moved, extra="  steps: table\n")
    component(importable, "two", "{source: public.orders, target: again.orders}")
    repository = Definitions.merge(load(importable), host()).get_repository_def()

    for what in ("sync_all_tables", "verify_all_tables", "clean_up"):
        jobs = [name for name in repository.job_names if name.endswith(f"_{what}")]
        assert len(jobs) == 3
        for name in jobs:
            result = repository.get_job(name).execute_in_process(instance=instance)
            assert all(check.passed for check in result.get_asset_check_evaluations())

    context = build_sensor_context(instance, repository_def=repository)
    looking = [sensor for sensor in repository.sensor_defs if sensor.name.endswith("_source_change_sensor")]
    requested = [sensor.evaluate_tick(context).run_requests or () for sensor in looking]
    assert sorted(len(runs) for runs in requested) == [1, len(odd), len(odd) + 1]
    assert target.fetch('SELECT "e.f" FROM "a.b"."c""d"') == target.fetch('SELECT "e.f" FROM "two.words".t2') == [(1,)]


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


POST_PROCESSING = """
post_processing:
  assets:
    - target: "tag:xmin_assets/station=merged_target"
      attributes: {owners: ["team:data"], group_name: hub}
"""


@pytest.mark.filterwarnings("ignore::dagster_shared.utils.warnings.BetaWarning")
def test_what_dagster_does_with_any_components_assets_it_does_with_these(importable: Path) -> None:
    component(importable, "sales", "public.orders", extra=POST_PROCESSING)
    made = load(importable)
    Definitions.validate_loadable(made)
    graph = made.resolve_asset_graph()
    owned = {node.key.to_user_string(): node.group_name for node in graph.asset_nodes if node.owners}
    assert owned == {"public/orders": "hub"}
    synced = made.get_repository_def().get_job("sales_sync_all_tables").asset_layer.selected_asset_keys
    assert AssetKey(["public", "orders"]) in synced


@pytest.mark.filterwarnings("ignore::dagster_shared.utils.warnings.BetaWarning")
def test_hundreds_of_tables_load_in_seconds(importable: Path) -> None:
    component(importable, "many", *(f"public.t{number}" for number in range(300)))

    began = time.process_time()
    Definitions.validate_loadable(load(importable))

    # Some three when nothing else runs; every process of Dagster's loads them.
    assert time.process_time() - began < 12


PYTHON_COMPONENTS = """
from dagster import component_instance
from xmin_assets import XminReplicationComponent, parse_config

@component_instance
def first(context):
    return XminReplicationComponent(parse_config({"tables": ["python.orders"]}))

@component_instance
def second(context):
    return XminReplicationComponent(parse_config({"tables": ["python.items"]}))
"""


@pytest.mark.filterwarnings("ignore::dagster_shared.utils.warnings.BetaWarning")
def test_folders_of_any_name_and_depth_make_names_of_their_own(importable: Path) -> None:
    folders = ["sales", "europe/sales", "asia/sales", "2024", "two words", "da-sh.dot", "ünï", "名前", "class"]
    for number, folder in enumerate(folders):
        component(importable, folder, f"{{source: public.orders, target: s{number}.orders}}")
    component(importable, "asia/sales", "{source: public.items, target: s.items}")
    (importable / "warehouse/defs/python").mkdir()
    (importable / "warehouse/defs/python/component.py").write_text(PYTHON_COMPONENTS)
    (importable / "warehouse/defs/single.py").write_text(PYTHON_COMPONENTS.replace("python.", "single."))

    made = load(importable)

    Definitions.validate_loadable(made)
    jobs = made.get_repository_def().job_names
    syncing = {name.removesuffix("_sync_all_tables") for name in jobs if name.endswith("_sync_all_tables")}
    assert syncing >= {"sales", "europe__sales", "asia__sales", "asia__sales_2", "_2024", "class"}
    assert syncing >= {"python__first", "python__second", "single__first", "single__second"}
    assert len(syncing) == 14


@pytest.mark.parametrize(
    ("name", "said"),
    [(None, "Two configurations of this project have no name"), ("sales", "have the same name, sales")],
)
def test_configurations_without_names_of_their_own_are_told_so(name: str | None, said: str) -> None:
    one, other = (parse_config({"name": name, "tables": [table]}) for table in ("public.orders", "public.items"))

    with pytest.raises(ConfigError, match=f"{said}: each needs a `name:` of its own") as caught:
        Definitions.merge(host(), build_definitions(one), build_definitions(other))

    assert "\n" not in str(caught.value)
    # Of two one may go without.
    Definitions.validate_loadable(
        Definitions.merge(build_definitions(one), build_definitions(other.model_copy(update={"name": "shop"})))
    )


def test_two_databases_with_targets_of_one_name_are_told_apart_by_keys() -> None:
    one = parse_config({"name": "shop", "tables": ["public.orders"]})
    said = {"key": "second/{{ table.schema }}/{{ table.name }}", "deps": ["public/orders"]}
    other = parse_config({"name": "archive", "tables": ["public.orders"], "translation": said})

    graph = Definitions.merge(build_definitions(one), build_definitions(other)).resolve_asset_graph()

    planned = AssetKey(["second", "public", "orders_source_snapshot"])
    parents = {key.to_user_string() for key in graph.get(planned).parent_keys}
    assert parents == {"archive/public/orders", "public/orders"}


def test_a_key_that_is_the_sources_is_refused_by_name() -> None:
    said = {"key": "shop/{{ table.schema }}/{{ table.name }}"}
    config = parse_config({"name": "shop", "tables": ["public.orders"], "translation": said})

    with pytest.raises(
        ConfigError, match=r"the source's public.orders and merged_target of public.orders the same key"
    ):
        build_definitions(config)


def test_a_name_is_part_of_identifiers() -> None:
    for name in ("1a", "a b", "a-b", "ünï", ""):
        with pytest.raises(ConfigError, match="name may have letters, digits and underscores only, and begins with no"):
            parse_config({"name": name, "tables": ["public.orders"]})


def test_nothing_is_said_of_the_whole_location() -> None:
    made = build_definitions(parse_config({"tables": ["public.orders"]}))
    assert made.executor is None
    assert not made.loggers
