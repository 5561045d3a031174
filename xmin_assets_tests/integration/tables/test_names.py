"""Names that PostgreSQL allows and that nobody quotes by accident: schemas, tables and columns called anything."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance, materialize
from psycopg2 import sql

from xmin_assets import plan_tables, resync_tables, sync_tables
from xmin_assets.config import Mode
from xmin_assets.orchestration.assets import build_xmin_assets
from xmin_assets.orchestration.definitions_builder import build_resources
from xmin_assets.postgres.identifiers import QualifiedName, as_text
from xmin_assets.replication.manifests.report import TableResult
from xmin_assets.replication.status import table_statuses
from xmin_assets_tests.acceptance.conftest import Cli, cli, unconnected_cli
from xmin_assets_tests.integration.ledger import counts
from xmin_assets_tests.replica import Replica, contents

__all__ = ["cli", "unconnected_cli"]

NAMES = [
    "two words",
    'quo"te',
    "apo'strophe",
    "100%",
    "%s",
    "%(name)s %% %d",
    "CamelCase",
    "select",
    "dotted.name",
    "n" * 63,
    "größe テーブル",
    "{} {0} {name}",
    "back\\slash",
    " spaces around ",
    "[red]; DROP TABLE x; --",
    "line\nbreak",
    "a, b: c",
]

# Names that the engine's own statements use, and those of system columns that a user's column may have.
OURS = ["t", "s", "row", "number", "place", "relation", "here", "there", "done", "action", "excluded", "xid", "key"]


def named(name: str) -> QualifiedName:
    """A table of this name in a schema of this name."""
    return QualifiedName(name, name)


def second(name: str) -> str:
    """The name of the other column: as long, and as hard."""
    return name[:-1] + "2"


def create(replica: Replica, name: str) -> str:
    """A table whose columns are called so, too, with rows 1 to 20; its name as people write it."""
    replica.source.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    replica.source.execute(
        sql.SQL("CREATE TABLE {} ({} int, {} text, PRIMARY KEY ({}))").format(
            named(name).sql, sql.Identifier(name), sql.Identifier(second(name)), sql.Identifier(name)
        )
    )
    insert(replica, name, 1, 20)
    return str(named(name))


def insert(replica: Replica, name: str, first: int, last: int) -> None:
    statement = sql.SQL("INSERT INTO {} SELECT i, 'new' FROM generate_series({}, {}) i")
    replica.source.execute(statement.format(named(name).sql, sql.Literal(first), sql.Literal(last)))


def change(replica: Replica, name: str) -> None:
    """Row 1 is updated, row 2 deleted, row 21 inserted."""
    key, other = sql.Identifier(name), sql.Identifier(second(name))
    update = sql.SQL("UPDATE {} SET {} = 'changed' WHERE {} = 1")
    replica.source.execute(update.format(named(name).sql, other, key))
    replica.source.execute(sql.SQL("DELETE FROM {} WHERE {} = 2").format(named(name).sql, key))
    insert(replica, name, 21, 21)


def sync_all(replica: Replica, tables: list[Any]) -> list[TableResult]:
    """All of them in one call, none of which may fail."""
    results = sync_tables(replica.config(*tables)).tables
    assert [result.error for result in results] == [None] * len(tables)
    return list(results)


def test_anything_can_be_the_name_of_schema_table_key_and_column(replica: Replica) -> None:
    tables: list[Any] = [create(replica, name) for name in NAMES]

    first = sync_all(replica, tables)
    for name in NAMES:
        change(replica, name)
    plans = plan_tables(replica.config(*tables))
    second = sync_all(replica, tables)
    resync_tables(replica.config(*tables))
    third = sync_all(replica, tables)

    assert [plan.error for plan in plans] == [None] * len(NAMES)
    assert [result.table for result in first] == tables
    assert {result.mode for result in second} == {"xmin_incremental"}
    assert {counts(result) for result in first} == {(20, 20, 0, 0)}
    assert {counts(result) for result in second} == {(2, 1, 1, 1)}
    assert {counts(result) for result in third} == {(20, 0, 0, 0)}
    statuses = table_statuses(replica.config(*tables))
    assert [(status.table, status.error) for status in statuses] == [(table, None) for table in tables]
    for table in tables:
        replica.assert_equal(table)


def test_anything_can_be_a_name_in_every_setting_that_takes_one(replica: Replica) -> None:
    tables = [
        {
            "source": create(replica, name),
            "target": str(QualifiedName(second(name), second(name))),
            "deletes": "soft",
            "key": [name],
            "columns": [name, second(name)],
            "type_overrides": {name: "bigint", second(name): "varchar(20)"},
            "where": as_text(sql.SQL("{} <> ''").format(sql.Identifier(second(name)))),
            "xmin_column": name[:-1] + "3",
            "deleted_at_column": name[:-1] + "4",
        }
        for name in NAMES
    ]
    sync_all(replica, tables)
    for name in NAMES:
        change(replica, name)

    results = sync_all(replica, tables)

    assert {counts(result) for result in results} == {(2, 1, 1, 1)}
    for name in NAMES:
        gone = sql.SQL("SELECT {}, {} FROM {} WHERE {} IS NOT NULL").format(
            sql.Identifier(name),
            sql.Identifier(second(name)),
            sql.Identifier(second(name), second(name)),
            sql.Identifier(name[:-1] + "4"),
        )
        assert replica.target.fetch(gone) == [(2, "new")]


@pytest.mark.parametrize("mode", [Mode.FULL_SYNC, Mode.INCREMENTAL_SYNC])
def test_columns_may_have_the_names_that_statements_give_their_own_things(replica: Replica, mode: Mode) -> None:
    columns = [sql.SQL("{} int DEFAULT 1").format(sql.Identifier(name)) for name in OURS]
    replica.source.execute(sql.SQL("CREATE TABLE odd ({})").format(sql.SQL(", ").join(columns)))
    replica.source.execute("INSERT INTO odd (t) SELECT generate_series(1, 9)")
    table: dict[str, Any] = {"source": "public.odd", "mode": mode.value}
    if mode is Mode.INCREMENTAL_SYNC:
        table |= {"cursor": "key", "key": ["t", "s", "row"]}
    replica.sync(table)
    replica.source.execute("UPDATE odd SET number = 2 WHERE t < 3; DELETE FROM odd WHERE t = 9")

    replica.sync(table)

    replica.assert_equal("public.odd")


def test_composite_key_of_hard_names_in_the_order_of_the_key(replica: Replica) -> None:
    replica.source.execute(
        'CREATE TABLE t ("100%" int, "a""b" text, "ä.ö" date, v int, PRIMARY KEY ("ä.ö", "100%", "a""b"))'
    )
    replica.source.execute("INSERT INTO t SELECT i, 'x' || i, '2026-01-01', i FROM generate_series(1, 9) i")
    replica.sync("public.t")
    replica.source.execute('UPDATE t SET v = 0 WHERE "100%" < 3')
    replica.source.execute('DELETE FROM t WHERE "100%" = 9')

    assert counts(replica.sync("public.t")) == (2, 0, 2, 1)
    key = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'p' AND conrelid = 't'::regclass"
    assert replica.target.fetch(key) == replica.source.fetch(key)


@pytest.mark.parametrize(
    "where", ["note LIKE 'a%'", "id % 2 = 0", "note LIKE '%s' OR id %2=0 /* 100% */", "note ~ '%(x)s|a'"]
)
def test_where_may_have_percent_signs(replica: Replica, where: str) -> None:
    replica.source.execute(
        "CREATE TABLE t (id int PRIMARY KEY, note text);"
        "INSERT INTO t SELECT i, CASE WHEN i % 3 = 0 THEN 'a' ELSE 'b' END FROM generate_series(1, 30) i"
    )
    table = {"source": "public.t", "where": where}
    replica.sync(table)
    replica.source.execute("UPDATE t SET note = 'abc' WHERE id < 5; DELETE FROM t WHERE id > 25")

    replica.sync(table)

    replica.assert_equal("public.t", where=where)


@pytest.mark.parametrize(("name", "key"), [("ä" * 31, "ä" * 29 + "_pkey"), ("n" * 63, "n" * 58 + "_pkey")])
def test_a_name_too_long_for_the_key_of_its_target_is_cut_between_characters(
    replica: Replica, name: str, key: str
) -> None:
    replica.source.execute(sql.SQL("CREATE TABLE {} (id int PRIMARY KEY)").format(sql.Identifier(name)))

    replica.sync(f"public.{name}")

    found = "SELECT conname FROM pg_constraint WHERE contype = 'p' AND connamespace = 'public'::regnamespace"
    assert replica.target.fetch(found) == [(key,)]


def test_the_command_takes_and_prints_such_names(cli: Cli, replica: Replica) -> None:
    tables = [create(replica, name) for name in NAMES]
    cli.write_config(json.dumps({"tables": tables}))

    planned = cli("plan", "--json")
    synced = cli("sync", "--json")
    one = cli("sync", tables[3], "--json")
    shown = cli("status")

    assert [run.status for run in (planned, synced, one, shown)] == [0, 0, 0, 0], synced.stderr
    assert [table["table"] for table in planned.json["tables"]] == tables
    assert [table["table"] for table in synced.json["tables"]] == tables
    assert one.table["table"] == tables[3]
    assert all(re.sub(r"\s", "", table[:12]) in re.sub(r"\s", "", shown.stdout) for table in tables)
    assert "Traceback" not in synced.stderr


def test_every_such_table_gets_assets_of_legal_and_stable_keys(replica: Replica) -> None:
    config = replica.config(*[str(named(name)) for name in NAMES])

    keys = [key for asset in build_xmin_assets(config) for key in asset.keys]

    assert len(set(keys)) == 4 * len(NAMES)
    assert all(re.fullmatch(r"[A-Za-z0-9_]+", part) for key in keys for part in key.path)
    assert keys == [key for asset in build_xmin_assets(config) for key in asset.keys]


def test_assets_of_such_tables_are_materialized(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XMIN_SOURCE_URL", replica.source.url)
    monkeypatch.setenv("XMIN_TARGET_URL", replica.target.url)
    tables = [create(replica, name) for name in ('%(name)s "quoted" {}', "größe.[red]")]
    config = replica.config(*tables)

    with DagsterInstance.ephemeral(tempdir=str(tmp_path)) as instance:
        result = materialize(build_xmin_assets(config), instance=instance, resources=build_resources(config.settings))

    assert result.success
    for table in tables:
        replica.assert_equal(table)


def test_a_row_that_is_refused_is_named_by_the_column_whatever_that_is_called(replica: Replica) -> None:
    replica.source.execute('CREATE TABLE t ("100% {}" int PRIMARY KEY, "%s, line 3" text)')
    replica.source.execute("INSERT INTO t VALUES (7, 'no number')")
    table = {"source": "public.t", "type_overrides": {"%s, line 3": "int"}}

    error = replica.try_sync(table).error or ""

    assert "(100% {})=(7)" in error
    assert "column %s, line 3" in error
    assert contents(replica.source, QualifiedName("public", "t"), ["100% {}"]) == ["(7)"]
