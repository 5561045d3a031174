"""incremental_sync: changed rows found by a column that rises whenever a row changes; the rest by the keys."""

from __future__ import annotations

from typing import Any

import pytest

from xmin_assets import resync_tables, sync_tables
from xmin_assets.config import parse_config
from xmin_assets.errors import ConfigError
from xmin_assets_tests.integration.ledger import counts
from xmin_assets_tests.replica import Replica

TABLE: dict[str, Any] = {"source": "public.t", "mode": "incremental_sync", "cursor": "at"}

# Type of the cursor, and what gives its nth value.
TYPES = {
    "timestamptz": "timestamptz '2026-01-01 00:00:00.123456+00' + {} * interval '1 microsecond'",
    "timestamp(3)": "timestamp '2026-01-01' + {} * interval '1 ms'",
    "date": "date '2026-01-01' + {}",
    "smallint": "{}::smallint",
    "integer": "{} - 50",
    "bigint": "10000000000 + {}",
    "numeric": "{} / 1000.0",
    "numeric(20,3)": "{} / 1000.0",
    "float8": "{} / 3.0",
    "text": "lpad(({})::text, 9, '0')",
    "varchar(12)": "lpad(({})::text, 9, '0')",
    # Even ones are in small letters, odd ones in capitals, which come before them in plain text.
    "citext": "(CASE ({0}) % 2 WHEN 0 THEN 'a' ELSE 'A' END || lpad(({0})::text, 9, '0'))::citext",
    "uuid": "lpad(to_hex({}), 32, '0')::uuid",
    "bytea": "decode(lpad(to_hex({}), 8, '0'), 'hex')",
    "stamp": "timestamptz '2026-01-01' + {} * interval '1 s'",
    "pg_lsn": "'0/0'::pg_lsn + {}",
}


def at(n: int | str, kind: str = "integer") -> str:
    """The nth value of a cursor, as SQL."""
    return TYPES[kind].format(n)


def create(replica: Replica, kind: str = "integer", rows: int = 30, name: str = "t") -> None:
    """Rows 1 to `rows`, the row's number being its cursor's."""
    if kind == "citext":
        replica.source.execute("CREATE EXTENSION citext")
    if kind == "stamp":
        replica.source.execute("CREATE DOMAIN stamp AS timestamptz CHECK (value > '2000-01-01')")
    replica.source.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, v text DEFAULT 'new', at {kind})")
    replica.source.execute(f"INSERT INTO {name} SELECT i, 'new', {at('i', kind)} FROM generate_series(1, {rows}) i")


def touch(replica: Replica, row: int, n: int, kind: str = "integer", name: str = "t") -> None:
    replica.source.execute(f"UPDATE {name} SET v = 'changed', at = {at(n, kind)} WHERE id = {row}")


def watermark(replica: Replica, name: str = "t") -> str | None:
    """The highest cursor that the target remembers."""
    ((value,),) = replica.target.fetch(
        "SELECT facts::json ->> 'cursor' FROM xmin_assets.state WHERE target_table = %s", (name,)
    )
    return None if value is None else str(value)


def test_cursor_of_any_type_that_has_an_order(replica: Replica) -> None:
    replica.source.execute("SET timezone TO 'UTC'")
    names = {f"t{n}": kind for n, kind in enumerate(TYPES)}
    for name, kind in names.items():
        create(replica, kind, name=name)
    config = replica.config(*[{**TABLE, "source": f"public.{name}"} for name in names])
    first = sync_tables(config).tables
    for name, kind in names.items():
        touch(replica, 5, 31, kind, name)
        replica.source.execute(
            f"INSERT INTO {name} VALUES (31, 'new', {at(32, kind)}); DELETE FROM {name} WHERE id = 6"
        )

    changed = sync_tables(config).tables
    idle = sync_tables(config).tables

    assert [result.error for result in (*first, *changed, *idle)] == [None] * 3 * len(TYPES)
    assert {(result.mode, result.reason, counts(result)) for result in first} == {
        ("full_sync", "first sync", (30, 30, 0, 0))
    }
    # Row 30 was the highest, and is read again.
    assert {(result.mode, counts(result)) for result in changed} == {("incremental_sync", (3, 1, 1, 1))}
    assert {(result.mode, counts(result)) for result in idle} == {("incremental_sync", (1, 0, 0, 0))}
    for name in names:
        replica.assert_equal(f"public.{name}")
        assert replica.source.fetch(f"SELECT at::text FROM {name} WHERE id = 31") == [(watermark(replica, name),)]


def test_the_reason_says_from_where_on(replica: Replica) -> None:
    create(replica)
    table = {**TABLE, "cursor_lookback": 3}
    replica.sync(table)

    planned = replica.plan(table).snapshot
    result = replica.sync(table)

    assert planned is not None and planned.plan.reason == result.reason
    assert result.reason == "rows whose at is at least -20 less 3, or NULL"
    assert result.rows_extracted == 4


def test_rows_that_tie_with_the_highest_and_are_committed_later_are_read(replica: Replica) -> None:
    create(replica)
    replica.sync(TABLE)
    replica.source.execute(f"INSERT INTO t SELECT i, 'tie', {at(30)} FROM generate_series(31, 34) i")
    touch(replica, 3, 30)

    assert counts(replica.sync(TABLE)) == (6, 4, 1, 0)
    replica.assert_equal("public.t")


LOOKBACKS = [
    ("timestamptz", "5 microseconds", 25),
    ("timestamptz", 0.000005, 25),
    ("timestamp(3)", "5 ms", 25),
    ("timestamp(3)", 0.005, 25),
    ("date", "5 days", 25),
    ("date", 86400, 29),
    ("integer", 5, 25),
    ("smallint", 5.5, 24),
    ("bigint", 0, 30),
    ("numeric", 0.005, 25),
    ("stamp", "00:00:05", 25),
]


def test_a_change_committed_late_is_seen_within_the_lookback_and_not_beyond_it(replica: Replica) -> None:
    tables = []
    for number, (kind, lookback, _) in enumerate(LOOKBACKS):
        create(replica, kind, name=f"t{number}")
        tables.append({**TABLE, "source": f"public.t{number}", "cursor_lookback": lookback})
    sync_tables(replica.config(*tables))
    for number, (kind, _, within) in enumerate(LOOKBACKS):
        touch(replica, 1, within, kind, f"t{number}")
        touch(replica, 2, within - 1, kind, f"t{number}")

    results = sync_tables(replica.config(*tables)).tables

    assert [(result.error, result.mode) for result in results] == [(None, "incremental_sync")] * len(LOOKBACKS)
    for number in range(len(LOOKBACKS)):
        assert replica.target.fetch(f"SELECT id FROM t{number} WHERE v = 'changed'") == [(1,)], LOOKBACKS[number]


def test_rows_that_are_read_again_and_are_equal_are_not_written(replica: Replica) -> None:
    create(replica)
    table = {**TABLE, "cursor_lookback": 1000}
    replica.sync(table)
    before = replica.target.fetch("SELECT xmin::text, id FROM t ORDER BY id")

    assert counts(replica.sync(table)) == (30, 0, 0, 0)
    assert replica.target.fetch("SELECT xmin::text, id FROM t ORDER BY id") == before


def test_rows_without_a_cursor_are_read_every_time_and_reported(replica: Replica) -> None:
    create(replica)
    replica.source.execute("UPDATE t SET at = NULL WHERE id <= 4")
    first = replica.sync(TABLE)
    replica.source.execute("UPDATE t SET v = 'changed' WHERE id IN (1, 20)")

    result = replica.sync(TABLE)

    assert (first.reason or "").endswith("; 4 rows have no at and are read by every sync")
    assert (result.reason or "").endswith("; 4 rows have no at and are read by every sync")
    assert counts(result) == (5, 0, 1, 0)
    assert replica.target.fetch("SELECT id FROM t WHERE v = 'changed'") == [(1,)]


def test_without_any_cursor_everything_is_read(replica: Replica) -> None:
    create(replica)
    replica.source.execute("UPDATE t SET at = NULL")
    replica.sync(TABLE)

    again = replica.sync(TABLE)

    assert (again.mode, counts(again)) == ("full_sync", (30, 0, 0, 0))
    assert (again.reason or "").startswith("no at has been seen yet")


ENDLESS = [
    ("timestamptz", "infinity"),
    ("date", "infinity"),
    ("float8", "NaN"),
    ("numeric", "Infinity"),
    ("stamp", "infinity"),
]


def test_an_endless_cursor_hides_no_change(replica: Replica) -> None:
    for number, (kind, endless) in enumerate(ENDLESS):
        create(replica, kind, name=f"t{number}")
        replica.source.execute(f"UPDATE t{number} SET at = '{endless}' WHERE id = 1")
    config = replica.config(*[{**TABLE, "source": f"public.t{number}"} for number in range(len(ENDLESS))])
    sync_tables(config)
    for number, (kind, _) in enumerate(ENDLESS):
        touch(replica, 5, 31, kind, f"t{number}")
        replica.source.execute(f"UPDATE t{number} SET v = 'changed' WHERE id = 1")

    results = sync_tables(config).tables

    assert [(result.mode, counts(result)) for result in results] == [("incremental_sync", (3, 0, 2, 0))] * len(ENDLESS)


def test_an_empty_table_first(replica: Replica) -> None:
    create(replica, rows=0)
    replica.sync(TABLE)
    replica.source.execute("INSERT INTO t VALUES (1, 'new', 7)")

    filled = replica.sync(TABLE)
    replica.source.execute("INSERT INTO t VALUES (2, 'new', 8)")
    more = replica.sync(TABLE)

    assert (filled.mode, counts(filled)) == ("full_sync", (1, 1, 0, 0))
    assert (more.mode, counts(more)) == ("incremental_sync", (2, 1, 0, 0))


def test_a_table_that_is_emptied_keeps_its_watermark(replica: Replica) -> None:
    create(replica)
    replica.sync(TABLE)
    replica.source.execute("DELETE FROM t")
    emptied = replica.sync(TABLE)
    replica.source.execute(f"INSERT INTO t VALUES (1, 'again', {at(40)})")

    assert (emptied.mode, counts(emptied)) == ("incremental_sync", (0, 0, 0, 30))
    refilled = replica.sync(TABLE)
    assert (refilled.mode, counts(refilled)) == ("incremental_sync", (1, 1, 0, 0))
    replica.assert_equal("public.t")


def test_soft_deletes_mark_and_unmark(replica: Replica) -> None:
    create(replica)
    table = {**TABLE, "deletes": "soft"}
    replica.sync(table)
    replica.source.execute("DELETE FROM t WHERE id <= 3")
    marked = replica.sync(table)
    replica.source.execute(f"INSERT INTO t VALUES (2, 'back', {at(31)})")

    returned = replica.sync(table)

    assert counts(marked) == (1, 0, 0, 3)
    assert counts(returned) == (2, 0, 1, 0)
    assert replica.target.fetch("SELECT id FROM t WHERE source_deleted_at IS NOT NULL ORDER BY 1") == [(1,), (3,)]


def test_ignored_deletes_stay(replica: Replica) -> None:
    create(replica)
    table = {**TABLE, "deletes": "ignore"}
    replica.sync(table)
    replica.source.execute("DELETE FROM t WHERE id <= 3")
    touch(replica, 5, 31)

    assert counts(replica.sync(table)) == (2, 0, 1, 0)
    assert replica.target.fetch("SELECT count(*) FROM t") == [(30,)]


@pytest.mark.parametrize("deletes", ["hard", "soft"])
def test_a_row_that_comes_late_below_the_lookback_is_found_by_the_keys_in_the_same_sync(
    replica: Replica, deletes: str
) -> None:
    create(replica)
    table = {**TABLE, "deletes": deletes, "cursor_lookback": 2}
    replica.sync(table)
    replica.source.execute(f"INSERT INTO t VALUES (100, 'late', {at(3)}); DELETE FROM t WHERE id = 9")

    result = replica.sync(table)

    assert result.mode == "full_sync"
    assert "the target had 29 rows where the source had 30" in (result.reason or "")
    assert counts(result) == (30, 1, 0, 1)
    assert replica.target.fetch("SELECT v FROM t WHERE id = 100") == [("late",)]
    assert replica.sync(table).mode == "incremental_sync"


def test_a_row_that_was_marked_and_returns_with_an_old_cursor_is_found(replica: Replica) -> None:
    create(replica)
    table = {**TABLE, "deletes": "soft"}
    replica.sync(table)
    replica.source.execute("DELETE FROM t WHERE id = 4")
    replica.sync(table)
    replica.source.execute(f"INSERT INTO t VALUES (4, 'back', {at(4)})")

    assert replica.sync(table).rows_updated == 1
    assert replica.target.fetch("SELECT v, source_deleted_at FROM t WHERE id = 4") == [("back", None)]


def test_what_the_cursor_does_not_tell_a_resync_mends(replica: Replica) -> None:
    create(replica)
    replica.sync(TABLE)
    replica.source.execute("UPDATE t SET v = 'unseen' WHERE id = 3")
    assert counts(replica.sync(TABLE)) == (1, 0, 0, 0)
    resync_tables(replica.config(TABLE))

    assert counts(replica.sync(TABLE)) == (30, 0, 1, 0)
    replica.assert_equal("public.t")


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"cursor": "id"}, "changes are now found by id, not by at"),
        ({"mode": "xmin_incremental"}, "changes are now found by xmin, not by at"),
        ({"mode": "full_sync"}, "changes are now found by xmin, not by at"),
    ],
)
def test_another_way_of_finding_changes_begins_with_everything(
    replica: Replica, other: dict[str, str], reason: str
) -> None:
    create(replica)
    replica.sync(TABLE)
    replica.source.execute("UPDATE t SET v = 'unseen' WHERE id = 3")

    there = replica.sync({**TABLE, **other})
    back = replica.sync(TABLE)

    assert (there.mode, there.reason, counts(there)) == ("full_sync", reason, (30, 0, 1, 0))
    assert back.mode == "full_sync" and "by at, not by" in (back.reason or "")
    assert replica.sync(TABLE).mode == "incremental_sync"


def test_another_type_of_the_cursor_begins_with_everything(replica: Replica) -> None:
    create(replica, "integer")
    replica.sync(TABLE)
    replica.source.execute("ALTER TABLE t ALTER at TYPE bigint; UPDATE t SET at = at + 10000000000 WHERE id < 5")

    assert replica.sync(TABLE).mode == "full_sync"
    assert counts(replica.sync(TABLE)) == (1, 0, 0, 0)
    replica.assert_equal("public.t")


def test_a_column_that_is_added_is_filled(replica: Replica) -> None:
    create(replica)
    replica.sync(TABLE)
    replica.source.execute("ALTER TABLE t ADD COLUMN extra int DEFAULT 7; ALTER TABLE t RENAME v TO w")

    assert replica.sync(TABLE).mode == "full_sync"
    replica.assert_equal("public.t")


def test_a_where_clause_narrows_rows_and_cursors(replica: Replica) -> None:
    create(replica)
    table = {**TABLE, "where": "id % 2 = 1 OR v = 'changed'"}
    replica.sync(table)
    assert watermark(replica) == "-21"
    touch(replica, 2, 31)
    replica.source.execute("DELETE FROM t WHERE id = 3")

    assert counts(replica.sync(table)) == (2, 1, 0, 1)
    replica.assert_equal("public.t", where=table["where"])


def test_a_partitioned_table(replica: Replica) -> None:
    replica.source.execute(
        """
        CREATE TABLE t (id int, v text, at int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (1) TO (16);
        CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (16) TO (31);
        CREATE TABLE old (id int PRIMARY KEY, v text, at int);
        INSERT INTO t SELECT i, 'new', i FROM generate_series(1, 30) i;
        INSERT INTO old SELECT i, 'old', 0 FROM generate_series(31, 40) i;
        """
    )
    replica.sync(TABLE)
    replica.source.execute("UPDATE t SET v = 'changed', at = 31 WHERE id IN (2, 20); DELETE FROM t WHERE id = 3")
    changed = replica.sync(TABLE)
    replica.source.execute("ALTER TABLE t ATTACH PARTITION old FOR VALUES FROM (31) TO (41)")

    attached = replica.sync(TABLE)

    assert counts(changed) == (3, 0, 2, 1)
    assert attached.rows_inserted == 10
    replica.assert_equal("public.t")


def test_many_rows_are_read_and_their_keys_compared_by_several_workers(replica: Replica) -> None:
    create(replica)
    replica.source.execute("INSERT INTO t SELECT i, repeat('x', 200), i FROM generate_series(31, 30000) i")
    replica.sync(TABLE)
    replica.source.execute("UPDATE t SET v = 'changed', at = 40000 WHERE id % 3 = 0; DELETE FROM t WHERE id % 3 = 1")

    assert counts(replica.sync(TABLE)) == (10000, 0, 10000, 10000)
    replica.assert_equal("public.t")


REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({"cursor": "nowhere"}, "no column nowhere"),
    ({"cursor": "at", "columns": ["id", "v"]}, "the cursor column at must be among the columns that are copied"),
    ({"cursor": "at", "cursor_lookback": "10 minutes"}, "cursor_lookback must be a number, as at is integer"),
    ({"cursor": "v", "cursor_lookback": 5}, "cursor_lookback needs a cursor that is a time or a number; v is text"),
    ({"cursor": "day", "cursor_lookback": "ten minuets"}, "cursor_lookback 'ten minuets' is no interval"),
    ({"cursor": "day", "cursor_lookback": "-10 minutes"}, "cursor_lookback '-10 minutes' must not be negative"),
    ({"cursor": "data"}, "the cursor column data is json, whose values have no order"),
]


def test_a_cursor_that_cannot_serve_is_refused_with_the_reason(replica: Replica) -> None:
    create(replica)
    replica.source.execute("ALTER TABLE t ADD COLUMN day date, ADD COLUMN data json")

    for table, error in REFUSALS:
        assert error in (replica.try_sync({**TABLE, **table}).error or "")
    assert replica.target.fetch("SELECT to_regclass('t')") == [(None,)]


@pytest.mark.parametrize("lookback", [-1, -0.5, float("nan"), float("inf")])
def test_a_lookback_that_is_no_span_is_refused(lookback: float) -> None:
    with pytest.raises(ConfigError, match="not negative"):
        parse_config({"tables": [{**TABLE, "cursor_lookback": lookback}]})


def test_the_mode_needs_a_cursor() -> None:
    with pytest.raises(ConfigError, match="incremental_sync needs cursor"):
        parse_config({"tables": [{"source": "public.t", "mode": "incremental_sync"}]})
