"""Two components of one project, from two sources into one target, with dbt models below them.

The project is what create-dagster makes, with an executor and a logger of its own. Nothing in it says that the models
stand below the copies but the names of dbt's sources.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import pytest
from dagster import (
    AssetKey,
    DagsterInstance,
    DagsterRunStatus,
    Definitions,
    EvaluateAutomationConditionsResult,
    evaluate_automation_conditions,
    load_from_defs_folder,
)
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from psycopg2.extensions import parse_dsn

from xmin_assets.demo.cluster import Cluster
from xmin_assets_tests.clusters import Database

pytestmark = [
    pytest.mark.timeout(600),
    # Dagster itself makes checks of a component's with a parameter that it calls beta.
    pytest.mark.filterwarnings("ignore::dagster_shared.utils.warnings.BetaWarning"),
]

CONSOLE = '{"loggers": {"console": {}}}'
HERE = Path(__file__).parent / "warehouse"
ROOT = Path(__file__).parents[2]

SHOP = """
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE orders (id int PRIMARY KEY, customer_id int NOT NULL, price numeric(10, 2) NOT NULL);
CREATE TABLE "Order Lines" (id int PRIMARY KEY, "order" int NOT NULL);
INSERT INTO "Order Lines" VALUES (1, 1), (2, 1), (3, 2);
INSERT INTO customers VALUES (1, 'Ada'), (2, 'Grace');
INSERT INTO orders VALUES (1, 1, 10), (2, 1, 20), (3, 2, 5);
"""
BILLING = """
CREATE TABLE invoices (id int PRIMARY KEY, customer text NOT NULL, paid numeric(10, 2) NOT NULL);
INSERT INTO invoices VALUES (1, 'Ada', 12), (2, 'Grace', 5);
"""


@dataclass
class Warehouse:
    """A copy of the project, and what it is run with."""

    folder: Path
    environment: dict[str, str]
    shop: Database
    copies: Database
    definitions: Definitions
    """What the project defines, loaded into this process."""

    @property
    def instance(self) -> DagsterInstance:
        """The instance that the runs are of."""
        return DagsterInstance.from_config(self.environment["DAGSTER_HOME"])

    def due(self, before: EvaluateAutomationConditionsResult | None) -> EvaluateAutomationConditionsResult:
        """What the automation conditions ask for now."""
        with self.instance as instance:
            return evaluate_automation_conditions(self.definitions, instance, cursor=before and before.cursor)


@pytest.fixture(scope="module")
def warehouse(
    source_server: Cluster, target_server: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Warehouse]:
    place = tmp_path_factory.mktemp("warehouse")
    folder, home = place / "project", place / "dagster_home"
    shutil.copytree(HERE, folder, ignore=shutil.ignore_patterns("target", "logs", "__pycache__"))
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    shop, billing, copies = (Database.create(server) for server in (source_server, source_server, target_server))
    shop.execute(SHOP)
    billing.execute(BILLING)
    where = parse_dsn(copies.url)
    settings = {
        "SHOP_URL": shop.url,
        "BILLING_URL": billing.url,
        "COPIES_URL": copies.url,
        **{f"COPIES_{part.upper()}": where[part] for part in ("host", "port", "user", "password", "dbname")},
        "SPOOL": str(place / "spool"),
    }
    environment = {
        **os.environ,
        **settings,
        "DAGSTER_HOME": str(home),
        "HOME": str(place),
        "DO_NOT_TRACK": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(folder / "src"), str(ROOT)]),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        patch.syspath_prepend(str(folder / "src"))
        # It has dbt read its project, too, which nothing does that is loaded here.
        run(folder, environment, "dg", "check", "defs")
        definitions = load_from_defs_folder(path_within_project=folder / "src/warehouse")
        yield Warehouse(folder, environment, shop, copies, definitions)
    for name in [name for name in sys.modules if name.partition(".")[0] == "warehouse"]:
        del sys.modules[name]
    for database in (shop, billing, copies):
        database.drop()


def run(folder: Path, environment: dict[str, str], *command: str) -> str:
    """Run a program of Dagster's in the project and return what it prints."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name(command[0])), *command[1:]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def launch(warehouse: Warehouse, *command: str) -> str:
    """Have a program launch a run, which must succeed, and return what it prints."""
    printed = run(warehouse.folder, warehouse.environment, *command)
    with warehouse.instance as instance:
        (launched,) = instance.get_runs(limit=1)
        assert launched.status == DagsterRunStatus.SUCCESS
    return printed


def materialize(warehouse: Warehouse, selection: str) -> str:
    """Have the project's executor make these assets. What dg does for that takes as long again."""
    return launch(warehouse, "dagster", "asset", "materialize", "-m", "warehouse.definitions", "--select", selection)


def execute(warehouse: Warehouse, job: str) -> None:
    """Run a job in this process."""
    definition = warehouse.definitions.get_repository_def().get_job(job)
    with warehouse.instance as instance:
        assert definition.execute_in_process(instance=instance).success


def names(keys: AbstractSet[AssetKey]) -> set[str]:
    return {key.to_user_string() for key in keys}


def requested(result: EvaluateAutomationConditionsResult) -> set[str]:
    return names({one.key for one in result.results if isinstance(one.key, AssetKey) and one.true_subset.size})


def test_models_stand_below_the_copies_by_the_names_of_their_sources(warehouse: Warehouse) -> None:
    graph = warehouse.definitions.resolve_asset_graph()

    assert names(graph.get(AssetKey("spent")).parent_keys) == {"public/customers", "public/orders"}
    assert names(graph.get(AssetKey("owed")).parent_keys) == {"billing/invoices", "spent"}
    assert names(graph.get(AssetKey("lines")).parent_keys) == {"public/Order_Lines_d02b9b46"}
    assert names(graph.external_asset_keys) == {
        "shop/public/customers",
        "shop/public/orders",
        "shop/public/Order_Lines_d02b9b46",
        "billing/public/invoices",
    }


def test_models_follow_what_was_synced(warehouse: Warehouse) -> None:
    nothing = warehouse.due(None)
    assert requested(nothing) == set()

    # By the component's job, with the project's logger.
    log = launch(warehouse, "dg", "launch", "--job", "shop_sync_all_tables", "--config-json", CONSOLE)
    assert "[warehouse] INFO" in log
    assert "multiprocess" not in log
    assert "multiprocess" in materialize(warehouse, "group:billing__invoices")
    models = warehouse.due(nothing)
    assert requested(models) == {"spent", "owed", "lines"}
    materialize(warehouse, "spent,owed,lines")
    assert warehouse.copies.fetch("SELECT order_id, number FROM reports.lines ORDER BY 1") == [(1, 2), (2, 1)]
    assert dict(warehouse.copies.fetch("SELECT customer, total FROM reports.owed")) == {"Ada": 18, "Grace": 0}
    quiet = warehouse.due(models)
    assert requested(quiet) == set()

    warehouse.shop.execute("INSERT INTO orders VALUES (4, 2, 7)")
    execute(warehouse, "shop_sync_all_tables")
    assert requested(warehouse.due(quiet)) == {"spent", "owed", "lines"}


def test_checks_of_copies_and_models_lie_side_by_side(warehouse: Warehouse) -> None:
    for name in ("shop", "billing"):
        execute(warehouse, f"{name}_verify_all_tables")
    checks = warehouse.definitions.resolve_asset_graph().asset_check_keys
    assert {key.name for key in checks if key.asset_key == AssetKey("spent")} == {
        "unique_spent_customer",
        "not_null_spent_customer",
    }
    with warehouse.instance as instance:
        found = instance.event_log_storage.get_latest_asset_check_execution_by_key([*checks])
    assert {key: found[key].status for key in checks if key in found} == dict.fromkeys(
        checks, AssetCheckExecutionRecordStatus.SUCCEEDED
    )
