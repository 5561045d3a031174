"""Columns that change at the source while rows do, too: followed, shown as SQL beforehand, or refused with ways out."""

from __future__ import annotations

from typing import Any

import pytest

from xmin_assets.errors import PlanOutdated, SchemaChangeRefused
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.integration.ledger import counts
from xmin_assets_tests.replica import Replica


@pytest.fixture
def items(replica: Replica) -> Replica:
    replica.source.execute(
        "CREATE TABLE items (id int PRIMARY KEY, a int, b varchar(10), c numeric(6,2), d date);"
        "INSERT INTO items SELECT i, i, 'b' || i, i / 4.0, date '2026-01-01' + i FROM generate_series(1, 50) i"
    )
    replica.sync("public.items")
    return replica


def columns(items: Replica) -> dict[str, str]:
    """The target's columns and their types."""
    return types_of(items.target)


def types_of(database: Database, table: str = "items") -> dict[str, str]:
    rows = database.fetch(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
        f" WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
    )
    return dict(rows)


def contents(items: Replica) -> list[Any]:
    return items.target.fetch("SELECT i::text FROM items i ORDER BY id")


def synced(items: Replica, table: str | dict[str, Any] = "public.items") -> tuple[str, ...]:
    """A sync that succeeds and makes the target equal; the statements that its plan has shown.

    That they are exactly what is done is checked by doing them by hand to a copy of the target's definition.
    """
    planned = items.plan(table).snapshot
    assert planned is not None
    items.target.execute("DROP SCHEMA IF EXISTS by_hand CASCADE; CREATE SCHEMA by_hand")
    items.target.execute("CREATE TABLE by_hand.items (LIKE public.items INCLUDING DEFAULTS)")
    for statement in planned.plan.statements:
        items.target.execute(statement.replace('"public"."items"', '"by_hand"."items"'))
    result = items.sync(table)
    assert (result.mode, result.reason) == (planned.plan.mode.value, planned.plan.reason)
    definition = (
        "SELECT attnum, attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute"
        " WHERE attrelid = '{}.items'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attname"
    )
    by_hand = [row[1:] for row in items.target.fetch(definition.format("by_hand"))]
    assert [row[1:] for row in items.target.fetch(definition.format("public"))] == by_hand
    items.assert_equal("public.items")
    return planned.plan.statements


def test_eight_changes_in_a_row_among_changes_of_rows(items: Replica) -> None:
    steps = [
        "ALTER TABLE items ADD COLUMN e int NOT NULL DEFAULT 42",
        "ALTER TABLE items RENAME b TO beta",
        "ALTER TABLE items ALTER a TYPE bigint, ALTER beta TYPE varchar(50)",
        "ALTER TABLE items DROP COLUMN c",
        "ALTER TABLE items ADD COLUMN c text DEFAULT 'another c'",
        "ALTER TABLE items RENAME a TO x; ALTER TABLE items RENAME e TO a; ALTER TABLE items RENAME x TO e",
        "ALTER TABLE items ALTER d TYPE timestamp, ALTER a TYPE text",
        "ALTER TABLE items RENAME id TO key; ALTER TABLE items ALTER beta TYPE text, ALTER key TYPE bigint",
    ]
    for number, step in enumerate(steps, 1):
        items.source.execute(step)
        key = "key" if "TO key" in step else "id"
        items.source.execute(f"UPDATE items SET d = d + interval '1 day' WHERE {key} % 10 = {number}")
        items.source.execute(
            f"DELETE FROM items WHERE {key} = {number}; INSERT INTO items ({key}) VALUES ({100 + number})"
        )

        assert bool(synced(items)) == ("DROP" not in step)
        assert items.sync("public.items").rows_extracted == 0

    assert columns(items) == {
        "key": "bigint",
        "e": "bigint",
        "beta": "text",
        "c_dropped": "numeric(6,2)",
        "d": "timestamp without time zone",
        "source_xmin": "bigint",
        "a": "text",
        "c": "text",
    }


WIDENED = [
    ("int", "bigint", "bigint"),
    ("int", "text", "text"),
    ("int", "numeric(13,3)", "numeric(13,3)"),
    ("smallint", "float8", "double precision"),
    ("varchar(10)", "varchar(50)", "character varying(50)"),
    ("varchar(10)", "text", "text"),
    ("varchar(9)", "char(9)", "character(9)"),
    ("numeric(6,2)", "numeric(10,4)", "numeric(10,4)"),
    ("numeric(6,2)", "numeric", "numeric"),
    ("numeric(6,2)", "int", "integer"),
    ("date", "timestamp", "timestamp without time zone"),
    ("date", "timestamptz", "timestamp with time zone"),
    ("timestamp(3)", "timestamptz(6)", "timestamp(6) with time zone"),
    ("int[]", "bigint[]", "bigint[]"),
    ("json", "jsonb", "jsonb"),
]


def test_a_type_that_the_old_one_converts_to_is_followed(replica: Replica) -> None:
    """By the source with an offset from UTC that the target knows nothing of."""
    values = {
        "date": "'2026-07-01'",
        "timestamp(3)": "'2026-07-01 12:00:00.123'",
        "int[]": "'{1,NULL}'",
        "json": "'[1]'",
    }
    old = [f"c{number} {was} DEFAULT {values.get(was, 7)}" for number, (was, _, _) in enumerate(WIDENED)]
    new = [f"ALTER c{number} TYPE {kind}" for number, (_, kind, _) in enumerate(WIDENED)]
    replica.source.execute(
        f"CREATE TABLE items (id int PRIMARY KEY, {', '.join(old)}); INSERT INTO items VALUES (1), (2)"
    )
    replica.sync("public.items")
    drop = [f"ALTER c{number} DROP DEFAULT" for number in range(len(WIDENED))]
    replica.source.execute(f"SET timezone TO 'America/New_York'; ALTER TABLE items {', '.join(drop)}")
    replica.source.execute(f"ALTER TABLE items {', '.join(new)}, ALTER id TYPE text; SET timezone TO 'UTC'")

    assert synced(replica) == (
        'ALTER TABLE "public"."items" ALTER COLUMN "id" TYPE text',
        *(
            f'ALTER TABLE "public"."items" ALTER COLUMN "c{number}" TYPE {shown}'
            for number, (_, _, shown) in enumerate(WIDENED)
        ),
    )


def test_a_time_that_gets_a_zone_has_the_instant_that_the_source_made_of_it(items: Replica) -> None:
    items.source.execute("ALTER TABLE items ALTER d TYPE timestamp; UPDATE items SET d = d + interval '5 hours'")
    items.sync("public.items")
    items.source.execute("SET timezone TO 'Asia/Tokyo'; ALTER TABLE items ALTER d TYPE timestamptz; RESET timezone")

    synced(items)


@pytest.fixture
def retyped(items: Replica) -> Replica:
    """b is a number at the source now, by an expression that the target knows nothing of; and row 1 has changed."""
    items.source.execute(
        "ALTER TABLE items ALTER b TYPE int USING substr(b, 2)::int; UPDATE items SET a = -1 WHERE id = 1"
    )
    return items


def test_a_type_that_needs_an_expression_stops_the_sync_before_anything_is_read(retyped: Replica) -> None:
    before = contents(retyped), columns(retyped)
    planned = retyped.plan("public.items")

    result = retyped.try_sync("public.items")

    for error in (planned.error or "", result.error or ""):
        assert "the column b is integer at the source now and character varying(10) in the target" in error
        assert "sync TABLE --refill b" in error and "convert: [b]" in error
        assert "TYPE integer USING ..." in error
        assert "type_overrides: {b: text}" in error and "exclude_columns: [b]" in error
    with (
        retyped.stations("public.items") as stations,
        pytest.raises(SchemaChangeRefused, match="the column b is integer"),
    ):
        stations.snapshot()
    assert (contents(retyped), columns(retyped)) == before
    assert list(retyped.spool.rglob("*.csv")) == []


def test_way_out_convert_the_targets_column_by_hand(retyped: Replica) -> None:
    retyped.target.execute("ALTER TABLE items ALTER b TYPE int USING 0")

    retyped.sync("public.items")

    retyped.assert_equal("public.items")


def test_way_out_drop_the_targets_column(retyped: Replica) -> None:
    retyped.target.execute("ALTER TABLE items DROP COLUMN b")

    assert retyped.sync("public.items").mode == "full_sync"
    retyped.assert_equal("public.items")


@pytest.mark.parametrize("convert", ["refill", ["b"]], ids=str)
def test_way_out_read_its_values_again(retyped: Replica, convert: object) -> None:
    table = {"source": "public.items", "convert": convert}
    statement = 'ALTER TABLE "public"."items" ALTER COLUMN "b" TYPE integer USING NULL'
    planned = retyped.plan(table).snapshot
    assert planned is not None and planned.plan.statements == (statement,)

    result = retyped.sync(table)

    assert (result.mode, result.reason) == (
        "full_sync",
        "column b is now integer and filled again: values may have changed without a new xmin",
    )
    retyped.assert_equal("public.items")
    assert columns(retyped)["b"] == "integer"
    assert counts(retyped.sync(table)) == (0, 0, 0, 0)


def test_a_column_that_demands_a_value_does_so_when_it_is_filled_again(retyped: Replica) -> None:
    retyped.target.execute("ALTER TABLE items ALTER b SET NOT NULL")

    retyped.sync({"source": "public.items", "convert": "refill"})

    retyped.assert_equal("public.items")
    not_null = "SELECT attnotnull FROM pg_attribute WHERE attrelid = 'items'::regclass AND attname = 'b'"
    assert retyped.target.fetch(not_null) == [(True,)]


def test_a_row_that_is_kept_loses_the_value_that_cannot_be_read_again(retyped: Replica) -> None:
    retyped.source.execute("DELETE FROM items WHERE id = 2")
    retyped.target.execute("ALTER TABLE items ALTER b SET NOT NULL")

    retyped.sync({"source": "public.items", "convert": "refill", "deletes": "ignore"})

    assert retyped.target.fetch("SELECT id, b FROM items WHERE id IN (2, 3) ORDER BY id") == [(2, None), (3, 3)]


def test_a_column_that_is_refilled_along_with_other_changes(retyped: Replica) -> None:
    retyped.source.execute("ALTER TABLE items RENAME b TO e; ALTER TABLE items ADD b text DEFAULT 'new'")
    retyped.source.execute("ALTER TABLE items ALTER c TYPE text; ALTER TABLE items DROP COLUMN d")
    retyped.target.execute("CREATE INDEX ON items (b)")

    retyped.sync({"source": "public.items", "convert": "refill"})

    retyped.assert_equal("public.items")


def test_only_the_columns_that_are_named_are_refilled(retyped: Replica) -> None:
    error = retyped.plan({"source": "public.items", "convert": ["a"]}).error
    assert "the column b is integer" in str(error)
    error = retyped.plan({"source": "public.items", "convert": ["bb"]}).error
    assert "public.items has no column bb" in str(error)


def test_a_key_is_not_refilled(replica: Replica) -> None:
    replica.source.execute("CREATE TABLE t (id text PRIMARY KEY, v int); INSERT INTO t VALUES ('1', 1), ('2', 2)")
    replica.sync("public.t")
    replica.source.execute("ALTER TABLE t ALTER id TYPE int USING id::int")

    error = str(replica.plan({"source": "public.t", "convert": "refill"}).error)

    assert "It is in the key, by which rows are found" in error and "refill" not in error
    replica.target.execute("ALTER TABLE t ALTER id TYPE int USING id::int")
    replica.sync("public.t")
    replica.assert_equal("public.t")


def test_way_out_store_it_as_text(retyped: Replica) -> None:
    table = {"source": "public.items", "type_overrides": {"b": "text"}}

    retyped.sync(table)

    retyped.assert_equal("public.items")
    assert columns(retyped)["b"] == "text"
    assert counts(retyped.sync(table)) == (0, 0, 0, 0)


def test_way_out_leave_it_out(retyped: Replica) -> None:
    result = retyped.sync({"source": "public.items", "exclude_columns": "b"})

    # USING wrote every row anew.
    assert (result.mode, counts(result)) == ("xmin_incremental", (50, 0, 50, 0))
    assert retyped.target.fetch("SELECT a, b FROM items WHERE id = 1") == [(-1, "b1")]


CROSSED = {
    "more digits behind the point, fewer before": ("numeric(10,2)", "1234567.89", "numeric(6,4)", "12.3456"),
    "integer to numeric": ("int", "2000000000", "numeric(10,2)", "1.25"),
    "numeric to integer": ("numeric(12,2)", "9999999999.99", "int", "2000000000"),
    "float to integer": ("float8", "1e300", "bigint", "9007199254740993"),
    "text to char": ("text", "'much too long'", "char(5)", "'abc'"),
    "bit to longer bit": ("bit(4)", "B'1010'", "bit(8)", "B'11110000'"),
}


@pytest.mark.parametrize("how", ["UPDATE", "DELETE"])
@pytest.mark.parametrize(("was", "old", "type_", "new"), CROSSED.values(), ids=[*CROSSED])
def test_a_type_that_neither_holds_nor_is_held_is_followed(
    replica: Replica, was: str, old: str, type_: str, new: str, how: str
) -> None:
    """Old rows do not fit the new type, and new ones not the old."""
    replica.source.execute(f"CREATE TABLE t (id int PRIMARY KEY, v {was})")
    replica.source.execute(f"INSERT INTO t VALUES (1, {old}), (2, NULL), (3, {old})")
    replica.sync("public.t")
    replica.source.execute("DELETE FROM t WHERE id <> 2" if how == "DELETE" else "UPDATE t SET v = NULL")
    replica.source.execute(f"ALTER TABLE t ALTER v TYPE {type_} USING NULL")
    replica.source.execute(f"INSERT INTO t VALUES (4, {new}); UPDATE t SET v = {new} WHERE id = 2")

    replica.sync("public.t")

    replica.assert_equal("public.t")
    assert types_of(replica.target, "t")["v"] == types_of(replica.source, "t")["v"]
    assert counts(replica.sync("public.t")) == (0, 0, 0, 0)


def test_a_key_column_that_is_renamed_is_renamed(items: Replica) -> None:
    items.source.execute("ALTER TABLE items RENAME id TO nr")
    items.source.execute("UPDATE items SET a = 0 WHERE nr = 1; DELETE FROM items WHERE nr = 2")

    assert synced(items) == ('ALTER TABLE "public"."items" RENAME COLUMN "id" TO "nr"',)
    key = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'items_pkey'"
    assert items.target.fetch(key) == [("PRIMARY KEY (nr)",)]


def test_key_columns_that_swap_their_names(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TABLE items (id int, a int, b text, PRIMARY KEY (id, a));"
        "INSERT INTO items SELECT i, -i FROM generate_series(1, 9) i"
    )
    replica.sync("public.items")
    replica.source.execute(
        "ALTER TABLE items RENAME id TO x; ALTER TABLE items RENAME a TO id; ALTER TABLE items RENAME x TO a;"
        "UPDATE items SET b = 'x' WHERE a = 1"
    )

    synced(replica)


@pytest.mark.parametrize("dropped", ["keep", "drop"])
def test_a_dropped_column(items: Replica, dropped: str) -> None:
    items.source.execute("ALTER TABLE items DROP COLUMN b; INSERT INTO items VALUES (51)")

    result = items.sync({"source": "public.items", "dropped_columns": dropped})

    assert (result.mode, counts(result)) == ("xmin_incremental", (1, 1, 0, 0))
    items.assert_equal("public.items")
    if dropped == "keep":
        assert items.target.fetch("SELECT b FROM items WHERE id IN (50, 51) ORDER BY id") == [("b50",), (None,)]
    else:
        assert "b" not in columns(items)


def test_a_dropped_column_of_an_adopted_table_may_be_null_from_then_on(items: Replica) -> None:
    items.target.execute("ALTER TABLE items ALTER b SET NOT NULL")
    items.source.execute("ALTER TABLE items DROP COLUMN b; INSERT INTO items VALUES (51)")

    assert synced(items) == ('ALTER TABLE "public"."items" ALTER COLUMN "b" DROP NOT NULL',)


def test_a_column_is_left_out_and_taken_in_again(items: Replica) -> None:
    items.sync({"source": "public.items", "exclude_columns": "b"})
    items.source.execute("UPDATE items SET b = 'new' WHERE id <= 5; INSERT INTO items VALUES (51, 51, 'b51')")
    without = items.sync({"source": "public.items", "exclude_columns": "b"})

    again = items.sync("public.items")

    assert counts(without) == (6, 1, 5, 0)
    assert (again.mode, counts(again)) == ("full_sync", (51, 0, 6, 0))
    items.assert_equal("public.items")


def test_a_column_is_left_out_dropped_and_taken_in_again(items: Replica) -> None:
    table = {"source": "public.items", "dropped_columns": "drop"}
    items.sync({**table, "exclude_columns": "b"})
    assert "b" not in columns(items)

    assert synced(items, table) == ('ALTER TABLE "public"."items" ADD COLUMN "b" character varying(10)',)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("ADD COLUMN e int", "column e added"),
        ("DROP COLUMN b", "column b dropped"),
        ("RENAME b TO beta", "column b renamed to beta"),
        ("ALTER a TYPE bigint", "column a is now bigint"),
        ("ALTER a TYPE date USING NULL", "column a is now date"),
    ],
)
def test_any_change_is_refused_where_that_is_asked_for(items: Replica, change: str, words: str) -> None:
    items.source.execute(f"ALTER TABLE items {change}; UPDATE items SET c = 0 WHERE id = 1")
    before = contents(items)
    table = {"source": "public.items", "schema_changes": "fail", "dropped_columns": "drop"}

    error = items.try_sync(table).error or ""

    assert words in error and "schema_changes: apply" in error
    assert contents(items) == before


def test_a_column_that_is_dropped_at_the_source_is_refused_even_if_the_targets_is_kept(items: Replica) -> None:
    items.source.execute("ALTER TABLE items DROP COLUMN b")
    strict = {"source": "public.items", "schema_changes": "fail"}

    assert "column b dropped" in (items.try_sync(strict).error or "")
    items.sync("public.items")
    items.sync(strict)


@pytest.mark.parametrize("narrow", [{"exclude_columns": "b"}, {"columns": ["id", "a", "c", "d"]}])
def test_a_column_that_is_only_left_out_is_not_refused(items: Replica, narrow: dict[str, Any]) -> None:
    strict = {"source": "public.items", "schema_changes": "fail", **narrow}

    assert counts(items.sync(strict)) == (0, 0, 0, 0)
    assert counts(items.sync(strict)) == (0, 0, 0, 0)


VIEW = "CREATE VIEW report AS SELECT id, b FROM items WHERE b <> ''"


@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED VIEW"])
@pytest.mark.parametrize(
    ("change", "dropped"), [("ALTER b TYPE text", "keep"), ("DROP COLUMN b", "drop")], ids=["alter", "drop"]
)
def test_a_view_on_a_column_that_must_change_is_named_and_nothing_is_lost(
    items: Replica, kind: str, change: str, dropped: str
) -> None:
    items.target.execute("CREATE SCHEMA reports")
    items.target.execute(VIEW.replace("VIEW report", f'{kind} reports."all of b"'))
    items.source.execute(f"ALTER TABLE items {change}; UPDATE items SET a = 0 WHERE id = 1")
    table = {"source": "public.items", "dropped_columns": dropped}
    before = contents(items), columns(items)

    planned = items.plan(table).error or ""
    error = items.try_sync(table).error or ""

    assert planned == error
    assert 'reports."all of b" in the target depends on the column b' in error
    assert (contents(items), columns(items)) == before
    items.target.execute(f'DROP {kind} reports."all of b"')
    items.sync(table)
    items.assert_equal("public.items")


def test_a_view_follows_a_column_that_is_renamed_or_kept(items: Replica) -> None:
    items.target.execute(VIEW)
    items.source.execute("ALTER TABLE items RENAME b TO beta; UPDATE items SET beta = 'new' WHERE id = 1")
    items.sync("public.items")
    items.source.execute("ALTER TABLE items DROP COLUMN beta; ALTER TABLE items ADD COLUMN b int")
    items.sync("public.items")

    items.assert_equal("public.items")
    assert items.target.fetch("SELECT b FROM report WHERE id IN (1, 2) ORDER BY id") == [("new",), ("b2",)]


def test_a_view_on_a_column_that_is_renamed_and_retyped_is_named_by_its_old_name(items: Replica) -> None:
    items.target.execute(VIEW)
    items.source.execute("ALTER TABLE items RENAME b TO beta; ALTER TABLE items ALTER beta TYPE text")

    error = items.try_sync("public.items").error or ""

    assert "public.report in the target depends on the column b" in error


def test_a_merge_that_fails_leaves_the_targets_columns_as_they_were(items: Replica) -> None:
    items.target.execute("ALTER TABLE items ADD CHECK (a < 1000)")
    items.source.execute(
        "ALTER TABLE items RENAME b TO beta; ALTER TABLE items ALTER a TYPE bigint; ALTER TABLE items ADD e int;"
        "ALTER TABLE items DROP COLUMN c; UPDATE items SET a = 5000 WHERE id = 1"
    )
    before = contents(items), columns(items)

    assert items.try_sync({"source": "public.items", "dropped_columns": "drop"}).status == "failed"

    assert (contents(items), columns(items)) == before
    items.source.execute("UPDATE items SET a = 500 WHERE id = 1")
    items.sync("public.items")
    items.assert_equal("public.items")


def test_a_plan_changes_nothing(items: Replica) -> None:
    items.source.execute(
        "ALTER TABLE items ADD e int; ALTER TABLE items ALTER b TYPE text; ALTER TABLE items DROP COLUMN c"
    )
    before = contents(items), columns(items)

    items.plan({"source": "public.items", "dropped_columns": "drop"})

    assert (contents(items), columns(items)) == before


def test_columns_that_change_after_the_plan_make_it_outdated_and_the_sync_plans_again(items: Replica) -> None:
    with items.stations("public.items") as stations:
        planned = stations.snapshot()
        items.source.execute("ALTER TABLE items ALTER a TYPE bigint")
        with pytest.raises(PlanOutdated):
            stations.extract(planned)
    items.sync("public.items")
    items.assert_equal("public.items")


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE items ADD e int",
        "ALTER TABLE items ADD e int, ADD f text; UPDATE items SET e = id WHERE id > 45",
        "ALTER TABLE items ADD e int; ALTER TABLE items ALTER e SET DEFAULT 5; INSERT INTO items (id) VALUES (60)",
        "ALTER TABLE items ALTER b TYPE varchar(50)",
        "ALTER TABLE items ALTER b TYPE varchar",
        "ALTER TABLE items ALTER b TYPE text",
        "ALTER TABLE items ALTER c TYPE numeric(12, 2)",
        "ALTER TABLE items ALTER c TYPE numeric",
    ],
)
def test_a_change_that_the_catalog_proves_to_change_no_value_reads_no_other_row(items: Replica, change: str) -> None:
    items.source.execute(f"{change}; UPDATE items SET d = d + 1 WHERE id = 7")
    planned = items.plan("public.items").snapshot
    assert planned is not None

    assert synced(items) != ()
    assert planned.plan.mode.value == "xmin_incremental"
    assert "column" in planned.plan.reason


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE items ADD e int DEFAULT 5",
        "ALTER TABLE items ADD e float8 DEFAULT random()",
        "ALTER TABLE items ADD e int DEFAULT 5; VACUUM FULL items",
        "ALTER TABLE items ADD e int; ALTER TABLE items ALTER a TYPE bigint",
        "ALTER TABLE items ADD e int GENERATED ALWAYS AS IDENTITY",
        "ALTER TABLE items ADD e int GENERATED ALWAYS AS (a * 2) STORED",
        "CREATE DOMAIN five AS int DEFAULT 5; ALTER TABLE items ADD e five",
        "ALTER TABLE items ALTER b TYPE varchar(9)",
        "ALTER TABLE items ALTER c TYPE numeric(10, 1)",
        "ALTER TABLE items ALTER d TYPE timestamp",
        'ALTER TABLE items ALTER b TYPE varchar(10) COLLATE "C"',
    ],
)
def test_a_change_that_may_have_changed_values_reads_every_row(items: Replica, change: str) -> None:
    for statement in change.split("; "):
        items.source.execute(statement)
    planned = items.plan("public.items").snapshot
    assert planned is not None

    synced(items)
    assert planned.plan.mode.value == "full_sync"


def test_a_virtual_column_that_is_added_reads_every_row(items: Replica) -> None:
    ((version,),) = items.source.fetch("SELECT current_setting('server_version_num')::int")
    if version < 180000:
        pytest.skip("virtual generated columns came with PostgreSQL 18")
    items.source.execute("ALTER TABLE items ADD e int GENERATED ALWAYS AS (a * 2)")

    assert items.sync("public.items").mode == "full_sync"
    items.assert_equal("public.items")


def test_a_column_that_was_there_and_is_taken_in_reads_every_row(items: Replica) -> None:
    """Its number alone tells it from one that is new; rows of long ago have values of it."""
    items.source.execute("ALTER TABLE items ADD e int; UPDATE items SET e = id")
    narrow = {"source": "public.items", "exclude_columns": ["e"]}
    items.sync(narrow)
    items.source.execute("ALTER TABLE items ADD f int")

    result = items.sync("public.items")

    assert result.mode == "full_sync"
    items.assert_equal("public.items")


def test_a_column_that_comes_while_a_sync_that_does_not_read_it_is_under_way(items: Replica) -> None:
    """Between plan and extract it is added and filled; the next sync takes it in, and must not take it for new."""
    table = {"source": "public.items", "columns": ["id", "a"]}
    with items.stations(table) as stations:
        planned = stations.snapshot()
        items.source.execute("ALTER TABLE items ADD e int; UPDATE items SET e = 1 WHERE id = 1")
        with pytest.raises(PlanOutdated):
            stations.extract(planned)
        stations.merge(stations.stage(stations.extract(stations.snapshot())))

    assert items.sync("public.items").mode == "full_sync"
    items.assert_equal("public.items")


def test_a_column_that_heirs_had_before_reads_every_row(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE heir (e int, PRIMARY KEY (id)) INHERITS (t);"
        "INSERT INTO t SELECT i FROM generate_series(1, 9) i;"
        "INSERT INTO heir SELECT i, i FROM generate_series(10, 19) i"
    )
    table = {"source": "public.t", "key": ["id"]}
    replica.sync(table)
    replica.source.execute("ALTER TABLE t ADD e int")

    assert replica.sync(table).mode == "full_sync"
    replica.assert_equal("public.t")


def test_partitions_tell_each_for_itself(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id);"
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10);"
        "CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (20);"
        "INSERT INTO t SELECT i FROM generate_series(1, 19) i"
    )
    replica.sync("public.t")
    replica.source.execute("ALTER TABLE t ADD e int; UPDATE t SET e = 1 WHERE id = 5")
    assert replica.sync("public.t").mode == "xmin_incremental"
    replica.assert_equal("public.t")

    replica.source.execute(
        "ALTER TABLE t DETACH PARTITION t2; ALTER TABLE t2 ADD f int DEFAULT 7; ALTER TABLE t ADD f int;"
        "ALTER TABLE t ATTACH PARTITION t2 FOR VALUES FROM (10) TO (20)"
    )
    replica.sync("public.t")
    replica.assert_equal("public.t")


def test_a_targets_column_that_somebody_retyped_has_lost_how_its_values_print(items: Replica) -> None:
    items.source.execute("UPDATE items SET b = '007'")
    items.sync("public.items")
    items.target.execute("ALTER TABLE items ALTER b TYPE int USING b::int")
    items.source.execute("ALTER TABLE items ALTER b TYPE text")

    items.sync("public.items")

    items.assert_equal("public.items")


NARROWED = [
    ("varchar(50)", "repeat('x', 40)", "varchar(5)", "'short'"),
    ("text", "repeat('x', 40)", "varchar(5)", "'short'"),
    ("bigint", "9999999999", "int", "7"),
    ("numeric(10,2)", "12345678.90", "numeric(4,2)", "12.34"),
    ("float8", "1e300", "real", "1.5"),
]


@pytest.mark.parametrize(("old", "large", "new", "small"), NARROWED)
@pytest.mark.parametrize("how", ["UPDATE", "DELETE"])
def test_a_narrower_type_is_followed_once_the_values_fit(
    replica: Replica, old: str, large: str, new: str, small: str, how: str
) -> None:
    replica.source.execute(
        f"CREATE TABLE items (id int PRIMARY KEY, v {old});"
        f"INSERT INTO items SELECT i, CASE WHEN i = 1 THEN {large} ELSE {small} END FROM generate_series(1, 9) i"
    )
    replica.sync("public.items")
    change = f"UPDATE items SET v = {small} WHERE id = 1" if how == "UPDATE" else "DELETE FROM items WHERE id = 1"
    replica.source.execute(f"{change}; ALTER TABLE items ALTER v TYPE {new}")

    statements = synced(replica)

    assert len(statements) == 1
    assert replica.sync("public.items").rows_extracted == 0


def test_a_narrower_key_is_followed(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TABLE items (id bigint, code varchar(50), v int, PRIMARY KEY (id, code));"
        "INSERT INTO items SELECT i, 'c' || i, i FROM generate_series(1, 9) i;"
        "INSERT INTO items VALUES (9999999999, repeat('x', 40), 0)"
    )
    replica.sync("public.items")
    replica.source.execute(
        "DELETE FROM items WHERE v = 0; ALTER TABLE items ALTER id TYPE int, ALTER code TYPE varchar(5)"
    )

    synced(replica)

    assert columns(replica)["id"] == "integer"
    assert columns(replica)["code"] == "character varying(5)"


def test_a_kept_row_that_a_narrower_type_cannot_hold_stops_the_sync_with_the_way_out(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TABLE items (id int PRIMARY KEY, v bigint); INSERT INTO items VALUES (1, 9999999999), (2, 2)"
    )
    table = {"source": "public.items", "deletes": "soft"}
    replica.sync(table)
    replica.source.execute("DELETE FROM items WHERE id = 1; ALTER TABLE items ALTER v TYPE int")

    error = replica.try_sync(table).error or ""

    assert "out of range" in error and "type_overrides" in error
    assert columns(replica)["v"] == "bigint"


@pytest.mark.parametrize(
    ("made", "type_"),
    [
        ("CREATE EXTENSION citext", "citext"),
        ("CREATE SCHEMA kinds; CREATE DOMAIN kinds.word AS text", "kinds.word"),
    ],
)
def test_a_type_that_the_target_lacks_is_made_for_a_column_that_changes_to_it(
    items: Replica, made: str, type_: str
) -> None:
    items.source.execute(f"{made}; ALTER TABLE items ALTER b TYPE {type_}; UPDATE items SET b = 'x' WHERE id = 1")

    planned = items.plan("public.items").snapshot
    assert planned is not None
    assert planned.plan.statements[-1].startswith('ALTER TABLE "public"."items" ALTER COLUMN "b" TYPE ')
    assert items.target.fetch("SELECT 1 FROM pg_type WHERE typname IN ('citext', 'word')") == []
    items.sync("public.items")

    items.assert_equal("public.items")


def test_a_type_that_postgresql_does_not_convert_to_is_said_to_be_so_though_the_target_lacks_it(items: Replica) -> None:
    items.source.execute(
        "CREATE SCHEMA kinds; CREATE TYPE kinds.kind AS ENUM ('a', 'b');"
        "ALTER TABLE items ALTER b TYPE kinds.kind USING 'a'"
    )

    error = items.plan("public.items").error or ""

    assert "PostgreSQL does not convert the one into the other by itself" in error
    assert items.target.fetch("SELECT 1 FROM pg_namespace WHERE nspname = 'kinds'") == []
    items.target.execute("ALTER TABLE items DROP COLUMN b")
    items.sync("public.items")
    items.assert_equal("public.items")


def test_all_columns_that_postgresql_does_not_convert_are_named_at_once(items: Replica) -> None:
    items.source.execute("ALTER TABLE items ALTER a TYPE date USING NULL, ALTER b TYPE jsonb USING NULL")

    error = items.plan("public.items").error or ""

    assert "a (integer to date), b (character varying(10) to jsonb)" in error
    assert "exclude_columns: [a, b]" in error
    items.target.execute("ALTER TABLE items DROP COLUMN a, DROP COLUMN b")
    items.sync("public.items")
    items.assert_equal("public.items")


def test_a_column_that_is_renamed_and_retyped_is_named_as_the_target_calls_it(items: Replica) -> None:
    items.source.execute("ALTER TABLE items RENAME b TO beta; ALTER TABLE items ALTER beta TYPE jsonb USING NULL")

    assert "the target still calls it b." in (items.plan("public.items").error or "")
    items.target.execute("ALTER TABLE items ALTER b TYPE jsonb USING NULL")
    items.sync("public.items")
    items.assert_equal("public.items")


def test_an_override_that_is_taken_away_is_said_to_be_no_change_at_the_source(items: Replica) -> None:
    items.sync({"source": "public.items", "type_overrides": {"a": "text"}})

    error = items.plan("public.items").error or ""

    assert (
        "the column a is integer at the source, type_overrides no longer names it, and it is text in the target"
        in error
    )
