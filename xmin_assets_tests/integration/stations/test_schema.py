"""Columns that change at the source: noticed by attnum, carried over in the merge."""

from __future__ import annotations

import pytest

from xmin_assets_tests.replica import Replica


@pytest.fixture
def items(replica: Replica) -> Replica:
    replica.source.execute(
        "CREATE TABLE items (id int PRIMARY KEY, a int, b text);"
        "INSERT INTO items SELECT i, i, 'b' FROM generate_series(1, 50) i"
    )
    replica.sync("public.items")
    return replica


def test_a_new_column_with_a_fast_default_is_filled_in_all_rows(items: Replica) -> None:
    items.source.execute("ALTER TABLE items ADD COLUMN c int DEFAULT 42")

    result = items.sync("public.items")

    assert result.mode == "full_sync" and "column c added" in (result.reason or "")
    assert result.rows_updated == 50
    items.assert_equal("public.items")


def test_a_renamed_column_is_renamed_and_no_row_is_copied(items: Replica) -> None:
    items.source.execute("ALTER TABLE items RENAME COLUMN b TO beta")

    result = items.sync("public.items")

    assert (result.mode, result.rows_extracted) == ("xmin_incremental", 0)
    items.assert_equal("public.items")


def test_columns_that_swap_their_names_swap_them_in_the_target(items: Replica) -> None:
    items.source.execute("ALTER TABLE items ADD COLUMN c text DEFAULT 'c'")
    items.sync("public.items")
    items.source.execute(
        "ALTER TABLE items RENAME b TO x; ALTER TABLE items RENAME c TO b; ALTER TABLE items RENAME x TO c"
    )

    assert items.sync("public.items").rows_extracted == 0
    items.assert_equal("public.items")


def test_a_dropped_column_stays_in_the_target_and_new_rows_leave_it_null(items: Replica) -> None:
    items.source.execute("ALTER TABLE items DROP COLUMN b; INSERT INTO items VALUES (51, 51)")

    assert items.sync("public.items").rows_inserted == 1
    assert items.target.fetch("SELECT b FROM items WHERE id IN (50, 51) ORDER BY id") == [("b",), (None,)]


def test_a_dropped_and_added_column_of_the_same_name_is_not_taken_for_the_old_one(items: Replica) -> None:
    items.source.execute("ALTER TABLE items DROP COLUMN b; ALTER TABLE items ADD COLUMN b text DEFAULT 'new'")

    items.sync("public.items")

    items.assert_equal("public.items")


def test_a_widened_type_is_widened_in_the_target(items: Replica) -> None:
    items.source.execute("ALTER TABLE items ALTER a TYPE bigint; UPDATE items SET a = 5000000000 WHERE id = 1")

    items.sync("public.items")

    items.assert_equal("public.items")


def test_schema_changes_fail_refuses_and_changes_nothing(items: Replica) -> None:
    items.source.execute("ALTER TABLE items ADD COLUMN c int; UPDATE items SET a = 0")

    result = items.try_sync({"source": "public.items", "schema_changes": "fail"})

    assert result.status == "failed" and "column c added" in (result.error or "")
    assert items.target.fetch("SELECT sum(a) FROM items") == [(1275,)]


def test_another_primary_key_becomes_the_targets_too(items: Replica) -> None:
    items.source.execute(
        "ALTER TABLE items DROP CONSTRAINT items_pkey, ALTER a SET NOT NULL, ADD PRIMARY KEY (id, a);"
        "INSERT INTO items VALUES (1, 1000, 'same id')"
    )

    result = items.sync("public.items")

    assert "the key is now id, a" in (result.reason or "")
    items.assert_equal("public.items")


def test_a_column_that_takes_the_name_of_a_dropped_one_keeps_both_apart(items: Replica) -> None:
    items.source.execute("ALTER TABLE items DROP COLUMN a; ALTER TABLE items RENAME COLUMN b TO a")

    items.sync("public.items")

    items.assert_equal("public.items")
    assert items.target.fetch("SELECT a, a_dropped FROM items WHERE id = 7") == [("b", 7)]


def test_a_column_dropped_and_added_with_another_type_keeps_both_apart(items: Replica) -> None:
    items.source.execute("ALTER TABLE items DROP COLUMN a; ALTER TABLE items ADD COLUMN a date DEFAULT '2026-01-01'")

    items.sync("public.items")

    items.assert_equal("public.items")
    assert items.target.fetch("SELECT a_dropped FROM items WHERE id = 7") == [(7,)]


def test_another_expression_of_a_virtual_column_is_copied(items: Replica) -> None:
    ((version,),) = items.source.fetch("SELECT current_setting('server_version_num')::int")
    if version < 180000:
        pytest.skip("virtual generated columns came with PostgreSQL 18")
    items.source.execute("ALTER TABLE items ADD COLUMN twice int GENERATED ALWAYS AS (a * 2) VIRTUAL")
    items.sync("public.items")
    items.source.execute("ALTER TABLE items ALTER COLUMN twice SET EXPRESSION AS (a * 3)")

    items.sync("public.items")

    items.assert_equal("public.items")
