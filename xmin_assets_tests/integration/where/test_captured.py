"""Functions and operators that a clause may find are not found by our own part of its statement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.integration.conftest import by_blocks
from xmin_assets_tests.replica import Replica

TYPES = ["int2", "int4", "int8", "numeric", "oid", "xid", "tid", "text", "name", "bool", "timestamptz", "stamp"]
OPERATORS = ["%", "&", "+", "-", "<<", "|", "=", "<>", "<", "<=", ">", ">=", "||"]
FUNCTIONS = [
    "abs(int8)",
    "abs(int4)",
    "age(xid)",
    "bool_or(bool)",
    "convert_to(text, text)",
    "count()",
    "current_database()",
    "current_setting(text, bool)",
    "format(text, text, text)",
    "hashtextextended(text, int4)",
    "make_interval(int4)",
    "max(int8)",
    "pg_relation_filenode(oid)",
    "set_config(text, text, bool)",
    "sum(int8)",
    "sum(numeric)",
    "to_regclass(text)",
    "unnest(oid[], text[], text[])",
]
"""As ours are called, or with types that fit better than PostgreSQL's."""

SETUP = """
CREATE SCHEMA shop;
CREATE DOMAIN shop.stamp AS timestamptz;
CREATE TABLE shop.items (id int PRIMARY KEY, changed shop.stamp NOT NULL, kept bool NOT NULL)
    WITH (autovacuum_enabled = off);
INSERT INTO shop.items SELECT i, '2024-02-29', i % 2 = 0 FROM generate_series(1, 3000) i;
"""


def set_traps(source: Database) -> None:
    """Whatever the server would rather take than its own raises an error."""
    trap = "LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'captured'; END $$;"
    source.execute(SETUP)
    source.execute("SET search_path = shop, public")
    statements = [f"CREATE FUNCTION shop.{function} RETURNS int8 {trap}" for function in FUNCTIONS]
    for left in TYPES:
        for right in TYPES:
            statements.append(f"CREATE FUNCTION shop.trap({left}, {right}) RETURNS int8 {trap}")
            statements.append(f"CREATE FUNCTION shop.no({left}, {right}) RETURNS bool {trap}")
            statements += [
                f"CREATE OPERATOR shop.{operator} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = "
                f"{'no' if set('=<>') & set(operator) and operator != '<<' else 'trap'});"
                for operator in OPERATORS
            ]
    source.execute(" ".join(statements))


def sync_twice(replica: Replica, table: dict[str, Any]) -> Any:
    replica.sync(table)
    replica.source.execute("UPDATE shop.items SET changed = '2024-03-01', kept = true WHERE id = 7")
    replica.source.execute("DELETE FROM shop.items WHERE id = 8")
    result = replica.sync(table)
    assert replica.target.fetch("SELECT count(*), sum(id) FROM shop.items") == [(1500, 2_251_500 - 8 + 7)]
    verified = replica.verify(table)
    assert (verified.status, verified.rows_source) == ("match", 1500)
    replica.target.execute("UPDATE shop.items SET changed = '2001-01-01' WHERE id = 100")
    verified = replica.verify(table)
    assert (verified.status, verified.different, verified.examples["different"]) == ("mismatch", 1, [{"id": "100"}])
    return result


@pytest.mark.parametrize(
    "options",
    [{}, {"mode": "full_sync"}, {"mode": "incremental_sync", "cursor": "changed", "cursor_lookback": "1 hour"}],
)
def test_what_is_in_the_tables_schema_changes_nothing_but_the_clause(replica: Replica, options: dict[str, Any]) -> None:
    set_traps(replica.source)

    sync_twice(replica, {"source": "shop.items", "where": "kept", **options})


@by_blocks
def test_nor_does_it_where_changed_blocks_are_read(
    options: dict[str, Any], summarizing_server: Cluster, target_db: Database, tmp_path: Path
) -> None:
    source = Database.create(summarizing_server)
    try:
        source.execute("CREATE EXTENSION pg_walinspect")
        set_traps(source)
        replica = Replica(source, target_db, tmp_path / "spool", {"workers": 2})

        result = sync_twice(replica, {"source": "shop.items", "where": "kept", **options})

        assert result.blocks_changed is not None, result.path
    finally:
        source.drop()
