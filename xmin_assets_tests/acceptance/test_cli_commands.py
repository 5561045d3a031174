"""What the other commands promise: plan, status, resync, clean, workers, init, and how all of them start."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from xmin_assets_tests.acceptance.conftest import COMMAND, Cli
from xmin_assets_tests.clusters import Database


@pytest.fixture
def orders(source_db: Database, cli: Cli) -> Database:
    source_db.execute("CREATE TABLE orders (id int PRIMARY KEY, note text)")
    source_db.execute("INSERT INTO orders SELECT i, 'note' FROM generate_series(1, 100) AS i")
    cli.configure("public.orders")
    return source_db


def test_plan_says_what_a_sync_would_do_and_does_nothing(cli: Cli, orders: Database, target_db: Database) -> None:
    planned = cli("plan", "--json")

    assert planned.status == 0
    assert (planned.table["mode"], planned.table["reason"]) == ("full_sync", "first sync")
    assert (planned.table["watermark"], planned.table["create_target"]) == (None, True)
    assert planned.table["bytes"] > 0
    assert target_db.fetch("SELECT to_regclass('orders')") == [(None,)]

    done = cli("sync", "--json").table
    assert (done["mode"], done["reason"]) == (planned.table["mode"], planned.table["reason"])


def test_a_second_plan_starts_from_the_watermark_of_the_first_sync(cli: Cli, orders: Database) -> None:
    watermark = cli("sync", "--json").table["watermark"]

    run = cli("plan")

    first, second, *_ = run.stdout.splitlines()
    assert re.fullmatch(r"1 table: 1 searched for what changed \([\d.]+ KiB\)", first)
    assert second.startswith("public.orders  xmin_incremental: ")
    assert f"watermark {watermark}" in run.stdout
    assert cli("plan", "--json").table["watermark"] == watermark


def test_plan_lists_the_changes_that_change_the_target(cli: Cli, orders: Database) -> None:
    cli("sync")
    orders.execute("ALTER TABLE orders ADD COLUMN paid boolean")

    run = cli("plan")

    assert 'ADD COLUMN "paid"' in run.stdout
    assert 'ADD COLUMN "paid"' in cli("plan", "--json").table["statements"][0]


def test_status_tells_never_synced_from_synced(cli: Cli, orders: Database) -> None:
    orders.execute("CREATE TABLE items (id int PRIMARY KEY)")
    cli.configure("public.orders", "public.items")
    synced = cli("sync", "orders", "--json").table

    run = cli("status", "--json")

    assert run.status == 0
    one, other = run.json["tables"]
    assert (one["table"], one["rows"], one["needs_full_sync"]) == ("public.orders", 100, None)
    assert (one["watermark"], one["max_xmin"]) == (synced["watermark"], synced["max_xmin"])
    assert one["last_sync"] is not None
    assert (other["table"], other["last_sync"], other["rows"]) == ("public.items", None, None)
    assert "never synced" in other["needs_full_sync"]
    assert "never synced" in cli("status").stdout


def test_a_plan_begins_with_what_is_read_and_about_how_long(cli: Cli, orders: Database) -> None:
    orders.execute("CREATE TABLE items (id int PRIMARY KEY)")
    cli.configure("public.orders", "public.items")
    assert re.match(r"2 tables: 2 read in full \([\d.]+ KiB\); about 1 s\n", cli("plan").stdout)
    cli("sync", "orders")
    cli("sync", "orders")

    first = cli("plan", "orders", "items").stdout.splitlines()[0]
    assert re.fullmatch(r"2 tables: 1 read in full \(.*\), 1 searched for what changed \(.*\); about 1 s", first)
    cli.configure("public.orders", "public.nowhere")
    assert re.match(r"2 tables: 1 searched for what changed \(.*\), 1 not planned; about 1 s\n", cli("plan").stdout)


def test_status_tells_how_old_a_copy_is_and_how_far_behind(cli: Cli, orders: Database) -> None:
    cli("sync")
    orders.execute("UPDATE orders SET note = 'x' WHERE id = 1; UPDATE orders SET note = 'y' WHERE id = 1")
    orders.execute("UPDATE orders SET note = 'z' WHERE id = 1")

    table = cli("status", "--json").table
    assert datetime.fromisoformat(table["as_of"]) < datetime.fromisoformat(table["last_sync"])
    assert table["transactions_behind"] >= 2
    heads, cells, *notes = cli("status").stdout.splitlines()
    assert heads.split() == ["table", "last", "sync", "age", "rows", "watermark", "max", "xmin", "behind"]
    assert int(cells.split()[-1]) >= 2
    assert notes == []


def metrics(cli: Cli) -> dict[tuple[str, ...], float]:
    """The values of `status --format prometheus`, by name and labels other than the target."""
    run = cli("status", "--format", "prometheus")
    assert (run.status, run.stderr) == (0, "")
    if promtool := shutil.which("promtool"):
        checked = subprocess.run([promtool, "check", "metrics"], input=run.stdout, capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, "")
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(run.stdout):
        for sample in family.samples:
            labels = [sample.labels[label] for label in ("table", "change", "station") if label in sample.labels]
            found[(sample.name.removeprefix("xmin_assets_"), *labels)] = sample.value
    return found


def test_metrics_tell_how_every_copy_is(cli: Cli, orders: Database, target_db: Database) -> None:
    orders.execute("CREATE TABLE items (id int PRIMARY KEY)")
    cli.configure("public.orders", "public.items")
    cli("sync", "orders")
    orders.execute("UPDATE orders SET note = 'x' WHERE id <= 3")
    cli("sync", "orders")

    found = metrics(cli)
    assert found["up", "public.orders"] == found["up", "public.items"] == found[("source_up",)] == 1
    assert (found["rows", "public.orders"], found["needs_full_sync", "public.items"]) == (100, 1)
    assert ("rows", "public.items") not in found and ("last_verify_matched", "public.orders") not in found
    assert found["last_sync_rows", "public.orders", "updated"] == 3
    assert 0 < found["lag_seconds", "public.orders"] < 60
    assert abs(found["last_sync_timestamp_seconds", "public.orders"] - time.time()) < 60
    assert found["last_sync_seconds", "public.orders", "merge"] > 0
    assert found[("held_back_seconds",)] == 0
    assert found["transactions_behind", "public.orders"] >= 0

    assert cli("verify", "orders").status == 0
    assert metrics(cli)["last_verify_matched", "public.orders"] == 1
    assert "found equal to the source" in cli("status", "orders").stdout
    target_db.execute("UPDATE orders SET note = 'meddled' WHERE id = 5")
    orders.execute("DROP TABLE items")
    assert cli("verify", "orders").status == 1
    assert cli("sync", "items").status == 1
    found = metrics(cli)
    assert (found["last_verify_matched", "public.orders"], found["sync_failed", "public.items"]) == (0, 1)
    assert cli("status", "--json").json["tables"][0]["verified"] == "mismatch"
    assert cli("status", "--format", "prometheus", "--history").status == 2


def test_metrics_are_printed_without_a_source(cli: Cli, orders: Database) -> None:
    cli("sync")
    del cli.environment["XMIN_SOURCE_URL"]

    found = metrics(cli)
    assert (found["up", "public.orders"], found[("source_up",)]) == (1, 0)
    assert ("transactions_behind", "public.orders") not in found


def test_status_tells_of_the_target_when_the_source_is_unknown(cli: Cli, orders: Database) -> None:
    cli("sync")
    del cli.environment["XMIN_SOURCE_URL"]

    assert cli("status", "--json").table["rows"] == 100


def test_a_resync_makes_the_next_sync_compare_everything(cli: Cli, orders: Database, target_db: Database) -> None:
    cli("sync")
    target_db.execute("UPDATE orders SET note = 'meddled' WHERE id = 5")
    assert cli("sync", "--json").table["rows_updated"] == 0

    asked = cli("resync", "orders", "--json")
    assert (asked.status, asked.json) == (0, {"tables": ["public.orders"]})
    assert cli("status", "--json").table["needs_full_sync"] is not None

    mended = cli("sync", "--json").table
    assert (mended["mode"], mended["rows_updated"]) == ("full_sync", 1)
    assert target_db.fetch("SELECT note FROM orders WHERE id = 5") == [("note",)]


def test_a_resync_of_what_was_never_synced_has_nothing_to_forget(cli: Cli, orders: Database) -> None:
    run = cli("resync", "--all")

    assert run.status == 0
    assert run.stdout.startswith("Nothing to forget")


def test_clean_leaves_what_is_young_and_removes_what_is_old(cli: Cli, orders: Database) -> None:
    cli("sync")
    left_over = Path(cli.environment["XMIN_SPOOL"], "syncs", "20200101T000000.000000-0123456789ab-0123456789abcdef")
    left_over.mkdir(parents=True)

    young = cli("clean", "--json")
    assert (young.status, young.json) == (0, {"staged_tables": [], "spool": []})

    old = cli("clean", "--older-than", "0", "--json")
    assert (old.status, len(old.json["spool"])) == (0, 1)
    assert not left_over.exists()
    assert "Nothing is left over" in cli("clean").stdout


def test_workers_needs_no_configuration(unconnected_cli: Cli) -> None:
    run = unconnected_cli("workers", "--json")

    assert run.status == 0
    assert 2 <= run.json["workers"] <= 8
    assert run.json["reason"]
    assert run.json["configured"] is None
    assert "recommended" in unconnected_cli("workers").stdout


def test_workers_knows_the_configured_number_and_bounds(unconnected_cli: Cli) -> None:
    unconnected_cli.write_config("tables: [orders]\nsettings: {workers: 7, min_workers: 5, max_workers: 5}")

    said = unconnected_cli("workers", "--json").json

    assert (said["workers"], said["configured"]) == (5, 7)


def test_init_writes_a_configuration_that_syncs(cli: Cli, orders: Database, target_db: Database) -> None:
    orders.execute('CREATE SCHEMA "odd.schema"')
    orders.execute('CREATE TABLE "odd.schema"."it\'s ""it""" (id int PRIMARY KEY)')
    orders.execute("CREATE TABLE log (line text)")
    file = cli.folder / "folder" / "tables.yaml"

    run = cli("init", "--json", "--config", str(file))

    assert (run.status, run.json["file"]) == (0, str(file))
    assert yaml.safe_load(file.read_text())["tables"] == [
        {"source": '"odd.schema"."it\'s ""it"""'},
        {"source": "public.log", "mode": "full_sync"},
        {"source": "public.orders"},
    ]
    target_db.execute('CREATE SCHEMA "odd.schema"')
    assert cli("sync", "--config", str(file)).status == 0


def test_init_overwrites_nothing_without_force(cli: Cli, orders: Database) -> None:
    cli.write_config("# mine\n")

    run = cli("init")

    assert run.status == 2
    assert "--force" in run.stderr
    assert Path(cli.environment["XMIN_CONFIG"]).read_text() == "# mine\n"
    assert cli("init", "--force").status == 0


def test_the_env_file_gives_what_is_not_set(cli: Cli, orders: Database) -> None:
    source = cli.environment.pop("XMIN_SOURCE_URL")
    (cli.folder / ".env").write_text(f"XMIN_SOURCE_URL={source}\nXMIN_TARGET_URL=postgresql://127.0.0.1:1/nowhere\n")

    assert cli("sync", "--json").table["rows_inserted"] == 100


def test_a_sync_does_not_import_dagster(cli: Cli, orders: Database) -> None:
    program = (
        "import sys; from xmin_assets.cli.main import main; status = main(['sync']); "
        "sys.exit(status or any(name.split('.')[0] == 'dagster' for name in sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=cli.folder, env=cli.environment, check=False)

    assert done.returncode == 0


@pytest.mark.parametrize("command", [[COMMAND], [sys.executable, "-m", "xmin_assets"]], ids=["script", "module"])
def test_the_command_and_the_module_are_the_same(unconnected_cli: Cli, command: list[str]) -> None:
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)

    assert done.stdout.startswith("xmin-assets ")


@pytest.mark.parametrize(
    "command", ["init", "plan", "sync", "status", "verify", "resync", "workers", "clean", "demo up", "demo load"]
)
def test_every_command_has_help_and_the_common_options(unconnected_cli: Cli, command: str) -> None:
    run = unconnected_cli(*command.split(), "--help")

    assert run.status == 0
    for option in ("--config", "--json", "--debug"):
        assert option in run.stdout


def test_a_reader_that_leaves_early_is_no_error(cli: Cli, orders: Database) -> None:
    with cli.start("status") as running:
        assert running.stdout is not None
        running.stdout.close()
        assert running.stderr is not None
        assert running.stderr.read() == ""
    assert running.returncode == 141


def test_json_survives_a_terminal_that_knows_only_ascii(cli: Cli, source_db: Database) -> None:
    source_db.execute('CREATE TABLE "Bücher" (id int PRIMARY KEY)')
    cli.configure("public.Bücher")

    run = cli("sync", "--json", PYTHONIOENCODING="ascii")

    assert (run.status, run.table["table"]) == (0, "public.Bücher")
    assert json.loads(run.stdout)
    assert cli("sync", PYTHONIOENCODING="ascii").status == 0


def test_plan_and_status_name_who_holds_the_watermark_back(cli: Cli, orders: Database) -> None:
    writer = orders.connect()
    writer.autocommit = False
    writer.cursor().execute("UPDATE orders SET note = 'open' WHERE id = 1")
    pid = str(writer.info.backend_pid)

    for held_back in (cli("plan", "--json").table["held_back"], cli("status", "--json").json["source"]["held_back"]):
        assert held_back["transactions"] >= 1
        assert held_back["by"][0]["name"] == pid
    assert f"by pid {pid}" in cli("plan").stdout
    assert f"by pid {pid}" in cli("status").stdout


def test_a_sync_warns_when_the_watermark_is_held_back_for_too_long(cli: Cli, orders: Database, tmp_path: Path) -> None:
    writer = orders.connect()
    writer.autocommit = False
    writer.cursor().execute("UPDATE orders SET note = 'open' WHERE id = 1")
    config = tmp_path / "warning.yaml"
    config.write_text("settings: {held_back_warning: 0}\ntables: [public.orders]\n")

    run = cli("sync", "--config", str(config))

    assert run.status == 0
    assert "warning: the watermark is held back" in run.stderr


def test_init_puts_the_tables_in_the_place_of_a_pattern(cli: Cli, orders: Database) -> None:
    orders.execute("CREATE TABLE order_items (id int PRIMARY KEY); CREATE TABLE order_old (id int PRIMARY KEY)")
    cli.write_config(
        "# ours\nattributes:\n  settings:\n    workers: 2 # few\n  tables:\n    schema: public\n"
        "    include: ['order*']\n    exclude: '*_old'\n  schedule: '0 * * * *'\n"
    )
    said = cli("sync")
    assert (said.status, "run xmin-assets init" in said.stderr) == (2, True)

    assert cli("init").status == 0

    text = Path(cli.environment["XMIN_CONFIG"]).read_text()
    assert text == (
        "# ours\nattributes:\n  settings:\n    workers: 2 # few\n  tables:\n    - source: public.order_items\n"
        "    - source: public.orders\n  schedule: '0 * * * *'\n"
    )
    assert cli("sync").status == 0


def test_init_narrows_to_patterns(cli: Cli, orders: Database) -> None:
    orders.execute(
        "CREATE SCHEMA sales; CREATE TABLE sales.a (id int PRIMARY KEY); CREATE TABLE sales.b (id int PRIMARY KEY)"
    )
    file = cli.folder / "narrow.yaml"

    run = cli("init", "--config", str(file), "--schema", "sales", "--exclude", "b", "--json")

    assert run.json["tables"] == ["sales.a"]
    none = cli("init", "--config", str(cli.folder / "none.yaml"), "--include", "zzz*")
    assert (none.status, "No table of the source fits" in none.stderr) == (2, True)


def test_a_wrong_pattern_is_said(cli: Cli, orders: Database) -> None:
    cli.write_config("tables: {schema: public, includes: ['*']}\n")

    run = cli("init")

    assert run.status == 2
    assert "Did you mean include?" in run.stderr


def test_a_sync_that_failed_is_told_by_status_until_one_is_merged(
    cli: Cli, source_db: Database, target_db: Database
) -> None:
    source_db.execute("CREATE TABLE orders (id int PRIMARY KEY, note text); INSERT INTO orders VALUES (1, 'a')")
    cli.configure("public.orders")
    cli("sync")
    assert cli("status").status == 0
    target_db.execute("ALTER TABLE orders ADD CHECK (note <> 'bad')")
    source_db.execute("UPDATE orders SET note = 'bad'")
    cli("sync")

    said = cli("status")
    (table,) = cli("status", "--json").json["tables"]

    assert said.status == 1
    assert "the last sync failed" in said.stdout and "violates check constraint" in said.stdout
    assert "violates check constraint" in table["failure"] and table["failed_at"] and table["error"] is None
    source_db.execute("UPDATE orders SET note = 'good'")
    cli("sync")
    said = cli("status")
    (table,) = cli("status", "--json").json["tables"]
    assert (said.status, "failed" in said.stdout) == (0, False)
    assert (table["failed_at"], table["failure"]) == (None, None)


def test_a_first_sync_that_failed_is_told_by_status(cli: Cli) -> None:
    cli.configure("public.nowhere")
    cli("sync")

    said = cli("status")

    assert said.status == 1
    assert "there is no such table" in said.stdout and "never synced" in said.stdout
