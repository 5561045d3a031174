"""``status --history``: what earlier syncs did, for people and for programs."""

from __future__ import annotations

import pytest

from xmin_assets_tests.acceptance.conftest import Cli
from xmin_assets_tests.clusters import Database


@pytest.fixture
def orders(source_db: Database, cli: Cli) -> Database:
    source_db.execute("CREATE TABLE orders (id int PRIMARY KEY, note text)")
    source_db.execute("INSERT INTO orders SELECT i, 'note' FROM generate_series(1, 100) AS i")
    source_db.execute("CREATE TABLE items (id int PRIMARY KEY)")
    cli.configure("public.orders", "public.items")
    return source_db


def test_history_lists_the_merges_of_a_table_newest_first(cli: Cli, orders: Database) -> None:
    first = cli("sync", "orders", "--json").table
    orders.execute("UPDATE orders SET note = 'new' WHERE id <= 7")
    second = cli("sync", "orders", "--json").table

    run = cli("status", "--history", "orders", "--json")

    assert run.status == 0
    newest, oldest = run.table["history"]
    assert (newest["rows_updated"], oldest["rows_inserted"]) == (7, 100)
    assert (newest["watermark_before"], newest["watermark"]) == (first["watermark"], second["watermark"])
    assert {name: round(took, 4) for name, took in newest["seconds"].items()} == second["seconds"]
    lines = cli("status", "--history", "orders").stdout.splitlines()
    assert lines[0] == "public.orders:"
    assert lines[3].strip() == f"xmin_incremental: {second['reason']}"
    assert lines[5].strip() == "full_sync: first sync"


def test_a_table_that_was_never_merged_has_no_history(cli: Cli, orders: Database) -> None:
    cli("sync", "orders")

    run = cli("status", "--history")

    assert run.status == 0
    assert "public.items: no merge is remembered" in run.stdout.splitlines()
    assert [table["history"] for table in cli("status", "--history", "--json", "items").json["tables"]] == [[]]


def test_a_target_that_cannot_be_read_is_an_error(cli: Cli, orders: Database, target_db: Database) -> None:
    cli("sync", "orders")
    target_db.execute("COMMENT ON SCHEMA xmin_assets IS 'mine'")

    run = cli("status", "--history", "orders")

    assert (run.status, run.stdout) == (1, "")
    assert run.stderr.startswith("Error: public.orders: The target database has a schema xmin_assets")
