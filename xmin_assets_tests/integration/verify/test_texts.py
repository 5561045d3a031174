"""A value's text is what its output function writes: whatever a cast to text makes of it, equal rows are equal.

COPY writes values by the output functions of their types. That of boolean, char(n) and inet is another than their cast
to text, and anybody may make a cast for a type of his own.
"""

from __future__ import annotations

from typing import Any

import pytest

from xmin_assets_tests.integration.verify.conftest import counts
from xmin_assets_tests.replica import Replica

# Of its four labels two have one text by the cast, and the other two have each other's.
CAST = """
CREATE FUNCTION shown(mood) RETURNS text IMMUTABLE LANGUAGE sql
    AS $$ SELECT CASE $1 WHEN 'sad' THEN 'bad' WHEN 'bad' THEN 'sad' ELSE 'well' END $$;
CREATE CAST (mood AS text) WITH FUNCTION shown(mood);
"""
TYPES = "CREATE TYPE mood AS ENUM ('ok', 'fine', 'sad', 'bad'); CREATE TYPE pair AS (a int, b text);" + CAST

VALUES = {
    "boolean": ("boolean", "true", "false"),
    "char": ("char(5)", "'a'", "'b'"),
    "inet": ("inet", "'10.0.0.1'", "'10.0.0.2'"),
    "cidr": ("cidr", "'10.0.0.0/24'", "'10.0.1.0/24'"),
    "one byte": ('"char"', "'a'", "'b'"),
    "name": ("name", "'a'", "'b'"),
    "enum": ("mood", "'ok'", "'fine'"),
    "swapped enum": ("mood", "'sad'", "'bad'"),
    "enums": ("mood[]", "'{ok,sad}'", "'{fine,sad}'"),
    "nulls": ("pair", "ROW(NULL, NULL)", "ROW(NULL, '')"),
    "xid": ("xid8", "'5'", "'6'"),
}
"""A type, and two values of it."""

OVERRIDES: list[dict[str, str]] = [{}, {"v": "text"}]


@pytest.fixture(params=VALUES, ids=str)
def kind(request: pytest.FixtureRequest) -> tuple[str, str, str]:
    return VALUES[request.param]


def cast_there(replica: Replica) -> None:
    """Make the cast in the target as well, as whoever looks at the copy may have done."""
    if replica.target.fetch("SELECT FROM pg_type WHERE typname = 'mood'"):
        replica.target.execute(CAST)


def restarted(replica: Replica) -> None:
    """Let the state have another start of the server than the one that answers, as after a restart."""
    replica.target.execute(
        "UPDATE xmin_assets.state SET facts = jsonb_set(facts, '{source_started}', '\"2026-01-01T00:00:00Z\"')"
    )


@pytest.mark.parametrize("overrides", OVERRIDES, ids=["as it is", "as text"])
def test_values_are_equal_where_their_texts_are_those_that_copy_writes(
    replica: Replica, kind: tuple[str, str, str], overrides: dict[str, str]
) -> None:
    type_, one, other = kind
    replica.source.execute(TYPES + f"CREATE TABLE t (id int PRIMARY KEY, v {type_}, w {type_})")
    replica.source.execute(f"INSERT INTO t VALUES (1, {one}, {one}), (2, {other}, {other}), (3, NULL, NULL)")
    table = {"source": "public.t", "type_overrides": overrides}
    replica.sync(table)
    cast_there(replica)

    assert counts(replica.verify(table)) == (0, 0, 0, 0)

    restarted(replica)
    again = replica.sync(table)
    assert (again.mode, again.rows_extracted) == ("xmin_incremental", 0), again.reason
    assert "checksum" in (again.reason or "")

    replica.target.execute("UPDATE t SET v = (SELECT v FROM t WHERE id = 2) WHERE id = 1")
    assert counts(replica.verify(table)) == (0, 0, 1, 0)
    restarted(replica)
    mended = replica.sync(table)
    assert (mended.mode, mended.rows_updated) == ("full_sync", 1)
    assert counts(replica.verify(table)) == (0, 0, 0, 0)


@pytest.mark.parametrize("overrides", OVERRIDES, ids=["as it is", "as text"])
@pytest.mark.parametrize("name", [name for name in VALUES if name != "nulls"])
def test_keys_are_equal_where_their_texts_are_those_that_copy_writes(
    replica: Replica, name: str, overrides: dict[str, str]
) -> None:
    type_, one, other = VALUES[name]
    replica.source.execute(TYPES + f"CREATE TABLE t (v {type_} PRIMARY KEY, n int)")
    replica.source.execute(f"INSERT INTO t VALUES ({one}, 1), ({other}, 2)")
    table = {"source": "public.t", "type_overrides": overrides}
    replica.sync(table)

    assert counts(replica.verify(table)) == (0, 0, 0, 0)

    replica.target.execute("DELETE FROM t WHERE n = 1; UPDATE t SET n = 3 WHERE n = 2")
    found = replica.verify(table)
    assert counts(found) == (1, 0, 1, 0)
    (key,) = replica.target.fetch("SELECT format('%s', v) FROM t")
    assert found.examples["different"] == [{"v": key[0]}]


@pytest.mark.parametrize(
    ("type_", "override", "value"),
    [
        ("int", "text", "7"),
        ("text", "int", "'007'"),
        ("text", "numeric(6,2)", "'1.5'"),
        ("bigint", "int", "7"),
        ("int", "bigint", "7"),
    ],
)
def test_a_key_of_another_type_in_the_target_is_found_there(
    replica: Replica, type_: str, override: str, value: str
) -> None:
    replica.source.execute(f"CREATE TABLE t (v {type_} PRIMARY KEY, n int); INSERT INTO t VALUES ({value}, 1)")
    table = {"source": "public.t", "type_overrides": {"v": override}}
    replica.sync(table)

    assert counts(replica.verify(table)) == (0, 0, 0, 0)

    replica.target.execute("UPDATE t SET n = 2")
    assert counts(replica.verify(table)) == (0, 0, 1, 0)


@pytest.mark.parametrize("overrides", OVERRIDES, ids=["as it is", "as text"])
def test_rows_without_a_key_are_told_apart_though_a_cast_prints_them_alike(
    replica: Replica, overrides: dict[str, str]
) -> None:
    replica.source.execute(TYPES + "CREATE TABLE t (v mood); INSERT INTO t VALUES ('ok'), ('ok'), ('fine')")
    table: dict[str, Any] = {"source": "public.t", "mode": "full_sync", "type_overrides": overrides}
    replica.sync(table)
    cast_there(replica)
    replica.source.execute("UPDATE t SET v = 'fine' WHERE ctid = (SELECT min(ctid) FROM t WHERE v = 'ok')")
    assert counts(replica.verify(table)) == (0, 0, 0, 2)

    result = replica.sync(table)

    assert (result.rows_inserted, result.rows_deleted) == (1, 1)
    assert counts(replica.verify(table)) == (0, 0, 0, 0)
    assert replica.target.fetch("SELECT format('%s', v), count(*) FROM t GROUP BY 1 ORDER BY 1") == [
        ("fine", 2),
        ("ok", 1),
    ]


def test_a_cursor_is_remembered_as_its_output_function_writes_it(replica: Replica) -> None:
    replica.source.execute(TYPES + "CREATE TABLE t (id int PRIMARY KEY, v mood); INSERT INTO t VALUES (1, 'sad')")
    table = {"source": "public.t", "mode": "incremental_sync", "cursor": "v"}
    replica.sync(table)
    replica.source.execute("INSERT INTO t VALUES (2, 'sad')")

    result = replica.sync(table)

    assert (result.mode, result.rows_inserted, result.rows_extracted) == ("incremental_sync", 1, 2)
