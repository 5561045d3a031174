"""``verify``: its exit status, its JSON, what people read, and what it does with mistakes."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest

from xmin_assets_tests.acceptance.conftest import Cli
from xmin_assets_tests.acceptance.test_cli_terminal import on_a_terminal
from xmin_assets_tests.clusters import Database


@pytest.fixture
def orders(source_db: Database, cli: Cli) -> Database:
    """Two tables, synced; `items` is configured and never was."""
    source_db.execute("CREATE TABLE orders (id int PRIMARY KEY, note text)")
    source_db.execute("INSERT INTO orders SELECT i, 'note' FROM generate_series(1, 100) AS i")
    source_db.execute("CREATE TABLE lines (order_id int, line int, PRIMARY KEY (order_id, line))")
    source_db.execute("INSERT INTO lines SELECT i, 1 FROM generate_series(1, 100) AS i")
    source_db.execute("CREATE TABLE items (id int PRIMARY KEY)")
    cli.configure("public.orders", "public.lines", "public.items")
    assert cli("sync", "orders", "lines").status == 0
    return source_db


def test_tables_that_match_end_with_0(cli: Cli, orders: Database) -> None:
    orders.execute("DELETE FROM orders WHERE id = 1")

    run = cli("verify", "orders", "lines", "--json")

    assert (run.status, run.stderr.count("Error")) == (0, 0)
    one, other = run.json["tables"]
    assert other["seconds"] > 0
    del one["seconds"]
    assert one == {
        "table": "public.orders",
        "status": "match",
        "missing": 0,
        "extra": 0,
        "different": 0,
        "pending": 1,
        "rows_source": 99,
        "rows_target": 100,
        "examples": {"missing": [], "extra": [], "different": [], "pending": [{"id": "1"}]},
        "note": None,
        "error": None,
    }
    assert cli("verify", "orders", "lines").stdout.splitlines()[1].split()[:3] == ["public.orders", "match", "99"]


def test_a_mismatch_ends_with_1_and_says_which_rows_and_what_to_do(
    cli: Cli, orders: Database, target_db: Database
) -> None:
    target_db.execute("UPDATE lines SET line = 2 WHERE order_id = 7; DELETE FROM orders WHERE id > 90")

    run = cli("verify", "orders", "lines")

    assert run.status == 1
    assert "  missing: (id=100), (id=91), (id=92), (id=93), (id=94)" in run.stdout.splitlines()
    assert "  missing: (order_id=7, line=1)" in run.stdout.splitlines()
    assert "  extra: (order_id=7, line=2)" in run.stdout.splitlines()
    for table in ("public.orders", "public.lines"):
        assert f"xmin-assets resync {table} && xmin-assets sync {table}" in run.stdout
        assert cli("resync", table).status == cli("sync", table).status == 0
    assert cli("verify", "orders", "lines").status == 0


def test_what_to_do_can_be_pasted_into_a_shell(cli: Cli, orders: Database, target_db: Database) -> None:
    orders.execute('CREATE TABLE "it\'s odd" (id int PRIMARY KEY)')
    cli.configure("public.it's odd")
    assert cli("sync").status == 0
    target_db.execute('INSERT INTO "it\'s odd" VALUES (1)')

    line = cli("verify").stdout.splitlines()[-1]

    assert shlex.split(line.partition(": ")[2])[:3] == ["xmin-assets", "resync", "public.it's odd"]


def test_a_table_that_fails_ends_with_1_and_the_others_are_compared(cli: Cli, orders: Database) -> None:
    run = cli("verify", "--json")

    assert run.status == 1
    assert [table["status"] for table in run.json["tables"]] == ["match", "match", "failed"]
    assert run.json["tables"][2]["error"] == "public.items: it was never synced. Run xmin-assets sync first."
    text = cli("verify")
    assert (text.status, len(text.stdout.splitlines())) == (1, 3)
    assert "Error: public.items: it was never synced" in text.stderr


def test_a_sample_compares_a_share_of_the_rows(cli: Cli, orders: Database, target_db: Database) -> None:
    target_db.execute("UPDATE orders SET note = 'meddled'")

    found = cli("verify", "orders", "--sample", "0.3", "--json").table

    assert 0 < found["different"] == found["rows_target"] < 60
    assert found["note"].startswith("a sample")


@pytest.mark.parametrize("share", ["0", "-0.5", "1.5", "all", "nan"])
def test_a_sample_that_is_no_share_is_a_mistake_in_the_command(cli: Cli, orders: Database, share: str) -> None:
    run = cli("verify", "--sample", share)

    assert (run.status, run.stdout) == (2, "")
    assert "sample" in run.stderr


def test_a_table_that_is_not_configured_is_a_mistake_in_the_command(cli: Cli, orders: Database) -> None:
    run = cli("verify", "order")

    assert (run.status, run.stdout) == (2, "")
    assert "Did you mean" in run.stderr


def test_an_unreachable_server_fails_all_tables_in_one_line(cli: Cli, orders: Database) -> None:
    run = cli("verify", XMIN_SOURCE_URL="postgresql://127.0.0.1:1/nowhere")

    assert (run.status, run.stdout) == (1, "")
    assert run.stderr.count("Error: ") == 1


def test_a_verify_does_not_import_dagster(cli: Cli, orders: Database) -> None:
    program = (
        "import sys; from xmin_assets.cli.main import main; status = main(['verify', 'orders']); "
        "sys.exit(status or any(name.split('.')[0] == 'dagster' for name in sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=cli.folder, env=cli.environment, check=False)

    assert done.returncode == 0


def test_bars_name_the_table_and_stdout_stays_json(cli: Cli, orders: Database) -> None:
    printed, shown = on_a_terminal(cli, "verify", "orders", "--json")

    assert json.loads(printed)["tables"][0]["status"] == "match"
    assert "public.orders" in shown
    assert "verify" in shown
