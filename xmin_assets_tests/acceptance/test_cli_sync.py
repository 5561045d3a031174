"""The main job, from the command line: a first sync, an idle one, and one that brings changes."""

from __future__ import annotations

from typing import Any

import pytest

from xmin_assets_tests.acceptance.conftest import Cli
from xmin_assets_tests.clusters import Database

KEYS = {
    "table",
    "status",
    "mode",
    "reason",
    "rows_extracted",
    "rows_inserted",
    "rows_updated",
    "rows_deleted",
    "max_xmin",
    "watermark",
    "seconds",
    "error",
    "path",
    "blocks_changed",
}


@pytest.fixture
def orders(source_db: Database, cli: Cli) -> Database:
    source_db.execute("CREATE TABLE orders (id int PRIMARY KEY, note text, amount numeric(12, 2))")
    source_db.execute("INSERT INTO orders SELECT i, 'note ' || i, i / 100.0 FROM generate_series(1, 1000) AS i")
    cli.configure("public.orders")
    return source_db


def rows(database: Database) -> list[tuple[Any, ...]]:
    return database.fetch("SELECT id, note, amount::text FROM orders ORDER BY id")


def counts(table: dict[str, Any]) -> tuple[int, ...]:
    return tuple(table[f"rows_{what}"] for what in ("extracted", "inserted", "updated", "deleted"))


def test_a_first_sync_copies_everything_and_says_so(cli: Cli, orders: Database, target_db: Database) -> None:
    run = cli("sync", "--json")

    assert run.status == 0
    assert set(run.table) == KEYS
    assert (run.table["table"], run.table["status"], run.table["error"]) == ("public.orders", "success", None)
    assert run.table["mode"] == "full_sync"
    assert run.table["reason"] == "first sync"
    assert counts(run.table) == (1000, 1000, 0, 0)
    assert set(run.table["seconds"]) == {"snapshot", "extract", "stage", "merge"}
    assert rows(target_db) == rows(orders)


def test_an_idle_sync_is_incremental_and_all_its_counts_are_zero(cli: Cli, orders: Database) -> None:
    first = cli("sync", "--json").table

    idle = cli("sync", "--json").table

    assert (idle["mode"], idle["status"]) == ("xmin_incremental", "success")
    assert counts(idle) == (0, 0, 0, 0)
    assert idle["max_xmin"] == first["max_xmin"]
    assert idle["watermark"] >= first["watermark"]


def test_the_counts_of_changes_are_those_of_the_source(cli: Cli, orders: Database, target_db: Database) -> None:
    cli("sync")
    orders.execute("UPDATE orders SET amount = amount + 1 WHERE id <= 100")
    orders.execute(
        "INSERT INTO orders VALUES (2001, %s, NULL), (2002, '', 0), (-1, NULL, 1)",
        ('said "yes", its\n\\.\n\\N\r\n\ttwice',),
    )
    orders.execute("DELETE FROM orders WHERE id = -1 OR id = 500")

    changed = cli("sync", "--json").table

    assert changed["mode"] == "xmin_incremental"
    assert counts(changed) == (102, 2, 100, 1)
    assert rows(target_db) == rows(orders)
    assert target_db.fetch("SELECT note IS NULL, note = '' FROM orders WHERE id = 2002") == [(False, True)]


def test_a_null_and_an_empty_text_stay_apart(cli: Cli, orders: Database, target_db: Database) -> None:
    orders.execute("INSERT INTO orders VALUES (3001, NULL, 1), (3002, '', 2), (3003, '\\N', 3), (3004, '\\.', 4)")

    cli("sync")

    assert target_db.fetch("SELECT note FROM orders WHERE id > 3000 ORDER BY id") == [
        (None,),
        ("",),
        ("\\N",),
        ("\\.",),
    ]


def test_max_xmin_is_the_highest_source_xmin_of_the_target(cli: Cli, orders: Database, target_db: Database) -> None:
    cli("sync")
    orders.execute("UPDATE orders SET note = 'new' WHERE id = 7")

    reported = cli("sync", "--json").table["max_xmin"]

    assert target_db.fetch("SELECT max(source_xmin) FROM orders") == [(reported,)]
    assert orders.fetch("SELECT xmin::text::bigint FROM orders WHERE id = 7") == [(reported,)]


def test_the_target_gets_the_source_primary_key(cli: Cli, orders: Database, target_db: Database) -> None:
    cli("sync")

    key = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'orders'::regclass AND contype = 'p'"
    assert target_db.fetch(key) == orders.fetch(key) == [("PRIMARY KEY (id)",)]


def test_without_json_people_get_a_table_of_what_was_done(cli: Cli, orders: Database) -> None:
    run = cli("sync")

    assert run.status == 0
    heads, row, note = run.stdout.splitlines()
    assert heads.split() == ["table", "extracted", "inserted", "updated", "deleted", "seconds"]
    assert row.split()[:5] == ["public.orders", "1,000", "1,000", "0", "0"]
    assert note.strip() == "full_sync: first sync"
    assert run.errors == ["public.orders: full_sync: first sync"]
    assert max(map(len, run.stdout.splitlines())) <= 80


def test_of_many_tables_those_without_changes_are_only_counted(cli: Cli, source_db: Database) -> None:
    for number in range(21):
        source_db.execute(f"CREATE TABLE t{number} (id int PRIMARY KEY)")
    source_db.execute("INSERT INTO t7 VALUES (1)")
    cli.configure(*(f"t{number}" for number in range(21)))

    heads, row, note, rest = cli("sync").stdout.splitlines()

    assert heads.startswith("table")
    assert row.split()[:3] == ["public.t7", "1", "1"]
    assert note == "  full_sync: first sync"
    assert rest == "20 tables had no changes."


def test_the_named_tables_alone_are_synced(cli: Cli, orders: Database, target_db: Database) -> None:
    orders.execute("CREATE TABLE items (id int PRIMARY KEY)")
    cli.configure("public.orders", "public.items")

    run = cli("sync", "items", "--json")

    assert [table["table"] for table in run.json["tables"]] == ["public.items"]
    assert target_db.fetch("SELECT to_regclass('orders')") == [(None,)]


def test_a_table_that_fails_does_not_stop_the_others(cli: Cli, orders: Database, target_db: Database) -> None:
    cli.configure("public.missing", "public.orders")

    run = cli("sync", "--json")

    assert run.status == 1
    missing, copied = run.json["tables"]
    assert (missing["table"], missing["status"], copied["status"]) == ("public.missing", "failed", "success")
    assert "missing" in missing["error"]
    assert rows(target_db) == rows(orders)


def test_settings_on_the_command_line_go_before_the_file(cli: Cli, orders: Database) -> None:
    cli.write_config("tables: [public.orders]\nsettings: {workers: 3, batch_size: 7, spool: /nonexistent/spool}")
    spool = cli.folder / "elsewhere"

    run = cli("sync", "--workers", "2", "--batch-size", "500", "--spool", str(spool), "--json")

    assert run.status == 0
    assert run.table["rows_inserted"] == 1000
    assert spool.is_dir()


def test_a_mass_delete_is_refused_until_it_is_allowed(cli: Cli, orders: Database, target_db: Database) -> None:
    cli("sync")
    orders.execute("DELETE FROM orders WHERE id > 10")

    refused = cli("sync", "--json")
    assert refused.status == 1
    assert "--allow-mass-delete" in refused.table["error"]
    assert target_db.fetch("SELECT count(*) FROM orders") == [(1000,)]

    allowed = cli("sync", "--allow-mass-delete", "--json")
    assert (allowed.status, allowed.table["rows_deleted"]) == (0, 990)
    assert rows(target_db) == rows(orders)


def test_a_column_that_does_not_convert_is_refilled_once(cli: Cli, orders: Database, target_db: Database) -> None:
    cli("sync")
    orders.execute("ALTER TABLE orders ALTER note TYPE bytea USING note::bytea")

    refused = cli("sync")
    refilled = cli("sync", "orders", "--refill", "note", "--json")

    assert (refused.status, "xmin-assets sync TABLE --refill note" in refused.stderr) == (1, True)
    assert (refilled.status, refilled.table["rows_updated"]) == (0, 1000)
    assert rows(target_db) == rows(orders)


def test_another_tenants_rows_are_refused_until_they_are_allowed(
    cli: Cli, orders: Database, target_db: Database
) -> None:
    cli("sync")
    tenant = Database.create(orders.cluster)
    try:
        tenant.execute("CREATE TABLE orders (id int PRIMARY KEY, note text, amount numeric(12, 2))")
        tenant.execute("INSERT INTO orders SELECT i, 'of another tenant', 1 FROM generate_series(1, 1000) AS i")
        address = {"XMIN_SOURCE_URL": tenant.url}

        planned = cli("plan", **address)
        refused = cli("sync", "--json", **address)
        said = cli("sync", **address)

        assert "careful: the copy was made from public.orders in the database" in planned.stdout
        assert (refused.status, refused.table["status"]) == (1, "failed")
        assert orders.name in refused.table["error"] and tenant.name in refused.table["error"]
        assert "1000 of the target's 1000 rows" in refused.table["error"]
        assert (said.status, "--allow-mass-change" in said.stderr) == (1, True)
        assert rows(target_db) == rows(orders)
        allowed = cli("sync", "--allow-mass-change", "--json", **address)
        assert (allowed.status, allowed.table["rows_updated"]) == (0, 1000)
        assert rows(target_db) == rows(tenant)
    finally:
        tenant.drop()


@pytest.mark.parametrize(
    "arguments",
    [("--json", "--config", "other.yaml", "sync"), ("sync", "--json", "--config", "other.yaml")],
    ids=["before the command", "after the command"],
)
def test_common_options_stand_before_or_after_the_command(
    cli: Cli, orders: Database, arguments: tuple[str, ...]
) -> None:
    (cli.folder / "other.yaml").write_text("tables: [orders]")

    run = cli(*arguments, XMIN_CONFIG="/nonexistent.yaml")

    assert run.table["rows_inserted"] == 1000
