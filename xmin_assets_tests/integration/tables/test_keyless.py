"""Tables without a key: their contents are compared and replaced as a whole, each row as often as it is there."""

from __future__ import annotations

from typing import Any

import pytest

from xmin_assets import sync_tables
from xmin_assets_tests.integration.ledger import counts
from xmin_assets_tests.replica import Replica

TABLE: dict[str, Any] = {"source": "public.log", "mode": "full_sync"}


@pytest.fixture
def log(replica: Replica) -> Replica:
    """Twenty rows: (0, a) to (4, e), each of them four times."""
    replica.source.execute("CREATE TABLE log (n int, line text)")
    replica.source.execute("INSERT INTO log SELECT i % 5, chr(97 + i % 5) FROM generate_series(1, 20) i")
    return replica


def xmins(database: Replica) -> list[Any]:
    """The transactions that wrote the target's rows."""
    return database.target.fetch("SELECT xmin::text, count(*) FROM log GROUP BY 1 ORDER BY 2 DESC")


def test_first_and_idle_sync(log: Replica) -> None:
    planned = log.plan(TABLE).snapshot
    first = log.sync(TABLE)
    before = xmins(log)
    idle = log.sync(TABLE)

    assert planned is not None
    assert planned.plan.statements == ('CREATE TABLE "public"."log" ("n" integer, "line" text, "source_xmin" bigint)',)
    assert (first.reason, counts(first)) == ("first sync", (20, 20, 0, 0))
    assert (idle.reason, counts(idle)) == ("mode full_sync reads everything every time", (20, 0, 0, 0))
    assert xmins(log) == before
    log.assert_equal("public.log")


def test_only_rows_that_differ_are_written(log: Replica) -> None:
    log.sync(TABLE)
    log.source.execute("UPDATE log SET line = 'changed' WHERE ctid IN (SELECT ctid FROM log WHERE n = 1 LIMIT 2)")
    log.source.execute("DELETE FROM log WHERE ctid = (SELECT ctid FROM log WHERE n = 2 LIMIT 1)")
    log.source.execute("INSERT INTO log SELECT 3, 'd' FROM generate_series(1, 5)")

    result = log.sync(TABLE)

    # Two rows are replaced, one goes, five come.
    assert counts(result) == (24, 7, 0, 3)
    assert xmins(log)[0][1] == 17
    log.assert_equal("public.log")
    assert log.target.fetch("SELECT count(*) FROM log WHERE n = 3") == [(9,)]


def test_rows_that_are_alike_are_kept_as_often_as_at_the_source(log: Replica) -> None:
    log.source.execute("TRUNCATE log; INSERT INTO log SELECT 1, 'x' FROM generate_series(1, 7)")
    log.sync(TABLE)
    log.source.execute("DELETE FROM log WHERE ctid IN (SELECT ctid FROM log LIMIT 3)")

    result = log.sync(TABLE)

    assert counts(result) == (4, 0, 0, 3)
    log.assert_equal("public.log")


VALUES = [
    ("json", """'{"a": 1}'""", """'{"a":  1}'"""),
    ("jsonb", """'{"a": 1}'""", """'{"a": 2}'"""),
    ("point", "'(1,2)'", "'(1,3)'"),
    ("numeric", "1.0", "1.00"),
    ("float8", "0.0", "'-0'"),
    ("float8", "'NaN'", "'Infinity'"),
    ("text", "''", "NULL"),
    ("text", "NULL", "'NULL'"),
    ("text", "'a,b'", "'\"a,b\"'"),
    ("text[]", "'{NULL}'", "'{\"NULL\"}'"),
    ("bytea", r"'\x00'", r"'\x0000'"),
]


def test_values_are_told_apart_by_their_text_whether_or_not_they_have_an_equality(replica: Replica) -> None:
    names = [f"log{number}" for number in range(len(VALUES))]
    for name, (kind, before, _) in zip(names, VALUES, strict=True):
        replica.source.execute(f"CREATE TABLE {name} (v {kind}, w {kind})")
        replica.source.execute(f"INSERT INTO {name} SELECT {before}::{kind} FROM generate_series(1, 2)")
    config = replica.config(*[{**TABLE, "source": f"public.{name}"} for name in names])
    sync_tables(config)
    idle = sync_tables(config).tables
    for name, (kind, _, after) in zip(names, VALUES, strict=True):
        replica.source.execute(f"UPDATE {name} SET v = {after}::{kind} WHERE ctid = '(0,1)'")

    changed = sync_tables(config).tables

    assert [counts(result) for result in idle] == [(2, 0, 0, 0)] * len(VALUES)
    assert [counts(result) for result in changed] == [(2, 1, 0, 1)] * len(VALUES)
    for name in names:
        replica.assert_equal(f"public.{name}")


def test_an_empty_table_stays_empty_fills_and_empties_again(log: Replica) -> None:
    log.source.execute("TRUNCATE log")
    empty = log.sync(TABLE)
    log.source.execute("INSERT INTO log VALUES (NULL, NULL), (NULL, NULL)")
    filled = log.sync(TABLE)
    log.source.execute("TRUNCATE log")
    emptied = log.sync(TABLE)

    assert [counts(result) for result in (empty, filled, emptied)] == [(0, 0, 0, 0), (2, 2, 0, 0), (0, 0, 0, 2)]
    log.assert_equal("public.log")


def test_a_reader_with_an_older_snapshot_sees_the_old_contents(log: Replica) -> None:
    log.sync(TABLE)
    reader = log.target.connect()
    reader.autocommit = False
    reader.set_session(isolation_level="REPEATABLE READ", readonly=True)
    with reader, reader.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM log")
        log.source.execute("TRUNCATE log; INSERT INTO log VALUES (1, 'new')")

        assert counts(log.sync(TABLE)) == (1, 1, 0, 20)

        cursor.execute("SELECT count(*), count(*) FILTER (WHERE line = 'new') FROM log")
        assert cursor.fetchall() == [(20, 0)]
    log.assert_equal("public.log")


def test_a_replacement_that_fails_leaves_the_old_contents(log: Replica) -> None:
    log.sync(TABLE)
    log.target.execute("ALTER TABLE log ADD CHECK (n < 100)")
    log.source.execute("DELETE FROM log WHERE n < 4; INSERT INTO log VALUES (100, 'too much')")

    assert log.try_sync(TABLE).status == "failed"
    assert log.target.fetch("SELECT count(*), max(n) FROM log") == [(20, 4)]


def test_a_mass_delete_is_one_of_rows_that_nothing_replaces(log: Replica) -> None:
    log.source.execute("TRUNCATE log; INSERT INTO log SELECT i, 'x' FROM generate_series(1, 2000) i")
    log.sync(TABLE)
    log.source.execute("UPDATE log SET line = 'y'")
    replaced = log.sync(TABLE)
    log.source.execute("DELETE FROM log WHERE n > 500")

    refused = log.try_sync(TABLE)
    allowed = log.sync(TABLE, allow_mass_delete=True)

    assert counts(replaced) == (2000, 2000, 0, 2000)
    assert "would delete 1500 of the target's 2000 rows" in (refused.error or "")
    assert counts(allowed) == (500, 0, 0, 1500)


def test_rows_that_somebody_changed_in_the_target_are_mended(log: Replica) -> None:
    log.sync(TABLE)
    log.target.execute(
        "UPDATE log SET line = 'mine' WHERE n = 1; DELETE FROM log WHERE n = 2; INSERT INTO log VALUES (9)"
    )

    assert counts(log.sync(TABLE)) == (20, 8, 0, 5)
    log.assert_equal("public.log")


@pytest.mark.parametrize("mode", ["xmin_incremental", "incremental_sync"])
def test_other_modes_are_refused_with_the_choices(log: Replica, mode: str) -> None:
    error = log.try_sync({"source": "public.log", "mode": mode, "cursor": "n"}).error or ""

    assert "no primary key and no unique index over NOT NULL columns" in error
    assert "key: [a, b]" in error and "mode: full_sync" in error


@pytest.mark.parametrize("deletes", ["soft", "ignore"])
def test_deletes_that_are_not_carried_out_need_a_key(log: Replica, deletes: str) -> None:
    error = log.try_sync({**TABLE, "deletes": deletes}).error or ""

    assert "deletes: hard" in error and "key: [a, b]" in error
    assert log.target.fetch("SELECT to_regclass('log')") == [(None,)]


def test_columns_that_change_are_followed(log: Replica) -> None:
    log.sync(TABLE)
    log.source.execute("ALTER TABLE log RENAME line TO text; ALTER TABLE log ALTER n TYPE bigint")
    log.source.execute("ALTER TABLE log ADD COLUMN extra int DEFAULT 5, ADD COLUMN same json DEFAULT '{}'")

    result = log.sync(TABLE)

    assert counts(result)[0] == 20
    log.assert_equal("public.log")
    assert counts(log.sync(TABLE)) == (20, 0, 0, 0)


def test_an_adopted_table_keeps_the_rows_that_are_right(log: Replica) -> None:
    log.target.execute("CREATE TABLE log (line text, mine date, n int)")
    log.target.execute("INSERT INTO log (n, line) VALUES (1, 'b'), (1, 'b'), (7, 'wrong')")

    assert "adopt: true" in (log.try_sync(TABLE).error or "")
    result = log.sync({**TABLE, "adopt": True})

    assert counts(result) == (20, 20, 0, 3)  # rows without source_xmin are none of ours yet
    log.assert_equal("public.log")
    assert counts(log.sync(TABLE)) == (20, 0, 0, 0)


def test_where_and_columns_make_rows_alike(log: Replica) -> None:
    table = {**TABLE, "columns": "line", "where": "n < 2"}
    log.sync(table)
    log.source.execute("UPDATE log SET n = 0 WHERE n = 1; UPDATE log SET n = 1 WHERE n = 4")

    log.sync(table)

    assert log.target.fetch("SELECT line, count(*) FROM log GROUP BY 1 ORDER BY 1") == [("a", 4), ("b", 4), ("e", 4)]


def test_a_partitioned_table_without_a_key(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TABLE log (n int, line text) PARTITION BY LIST (n);"
        "CREATE TABLE log_1 PARTITION OF log FOR VALUES IN (1);"
        "CREATE TABLE log_2 PARTITION OF log DEFAULT; INSERT INTO log SELECT i % 3, 'x' FROM generate_series(1, 30) i"
    )
    replica.sync(TABLE)
    replica.source.execute("UPDATE log SET n = 1 WHERE n = 0")

    assert counts(replica.sync(TABLE)) == (30, 10, 0, 10)
    replica.assert_equal("public.log")
