"""Whatever the table is like: keys of all kinds, filters, marks, partitions, columns that changed since the sync."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg2 import sql

from xmin_assets.postgres import catalog
from xmin_assets.replication.runtime.progress import Progress
from xmin_assets.replication.sync import resync_tables
from xmin_assets.replication.verification import verify
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.integration.verify.conftest import ROWS, counts, ids
from xmin_assets_tests.replica import Replica

MOOD = "CREATE TYPE public.mood AS ENUM ('sad', 'ok', 'glad', 'Ärger', 'zzz')"
KEYS = {
    "smallint": ("k smallint", "i - 150"),
    "bigint": ("k bigint", "(i - 150) * 4294967296"),
    "text": ("k text", "chr(64 + i % 60) || i || 'ß''\"\\,'"),
    "uuid": ("k uuid", "md5(i::text)::uuid"),
    "numeric": ("k numeric", "i / 8.0 - 20"),
    "timestamp": ("k timestamptz", "'2024-03-31 00:00Z'::timestamptz + i * interval '1 hour'"),
    "bytea": ("k bytea", "sha256(i::text::bytea)"),
    "array": ("k int[]", "ARRAY[i, NULL, -i]"),
}


def assert_finds_one_of_each(replica: Replica, table: str, first: str, others: str) -> None:
    """A row is changed, lost, and gone at the source, too; then others go there."""
    assert counts(replica.verify(table)) == (0, 0, 0, 0)
    replica.target.execute(f"UPDATE t SET v = 'changed' WHERE {first}")
    assert counts(replica.verify(table)) == (0, 0, 1, 0)
    replica.target.execute(f"DELETE FROM t WHERE {first}")
    assert counts(replica.verify(table)) == (1, 0, 0, 0)
    replica.source.execute(f"DELETE FROM t WHERE {first}")
    assert counts(replica.verify(table)) == (0, 0, 0, 0)
    replica.source.execute(f"DELETE FROM t WHERE {others}")
    assert counts(replica.verify(table)) == (0, 0, 0, 99)
    resync_tables(replica.config(table))
    replica.sync(table)
    assert counts(replica.verify(table)) == (0, 0, 0, 0)


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_may_be_of_any_type(replica: Replica, kind: str) -> None:
    column, value = KEYS[kind]
    replica.source.execute(f"CREATE TABLE t ({column} PRIMARY KEY, n int, v text)")
    replica.source.execute(f"INSERT INTO t SELECT {value}, i, 'v' FROM generate_series(1, 300) i")
    replica.sync("public.t")

    assert_finds_one_of_each(replica, "public.t", "n = 10", "n > 201")


def test_a_key_may_have_several_columns(replica: Replica) -> None:
    replica.source.execute("CREATE TABLE t (a int, b text, n int, v text, PRIMARY KEY (b, a))")
    replica.source.execute(
        "INSERT INTO t SELECT i % 7, repeat(chr(97 + i % 5), i % 3) || i / 21, i, 'v' FROM generate_series(1, 300) i"
    )
    replica.sync("public.t")

    assert_finds_one_of_each(replica, "public.t", "n = 10", "n > 201")


def test_a_key_may_be_an_enum_whose_oids_and_order_differ(replica: Replica) -> None:
    replica.target.execute("CREATE TYPE public.other AS ENUM ('a')")
    replica.source.execute(MOOD)
    replica.target.execute("CREATE TYPE public.mood AS ENUM ('zzz', 'Ärger', 'glad', 'ok', 'sad')")
    replica.source.execute("CREATE TABLE t (k public.mood PRIMARY KEY, v text)")
    replica.source.execute("INSERT INTO t SELECT unnest(enum_range(NULL::public.mood)), 'v'")
    replica.sync("public.t")

    assert counts(replica.verify("public.t")) == (0, 0, 0, 0)
    for _ in range(5):  # both sides must choose the same rows
        assert counts(replica.verify("public.t", sample=0.5)) == (0, 0, 0, 0)
    replica.target.execute("UPDATE t SET v = 'changed' WHERE k IN ('sad', 'zzz'); DELETE FROM t WHERE k = 'Ärger'")
    found = replica.verify("public.t")
    assert counts(found) == (1, 0, 2, 0)
    assert found.examples["missing"] == [{"k": "Ärger"}]


def test_soft_deleted_rows_take_no_part(items: Replica) -> None:
    soft: dict[str, Any] = {"source": "public.items", "deletes": "soft"}
    items.sync(soft)
    items.source.execute("DELETE FROM items WHERE id <= 10")
    assert counts(items.verify(soft)) == (0, 0, 0, 10)
    items.sync(soft)
    found = items.verify(soft)
    assert (counts(found), found.rows_target) == ((0, 0, 0, 0), ROWS - 10)

    items.source.execute("INSERT INTO items SELECT i, 'returned' FROM generate_series(1, 3) i")
    items.source.execute("DELETE FROM items WHERE id = 20")
    assert counts(items.verify(soft)) == (0, 0, 0, 4)

    items.target.execute("UPDATE items SET source_deleted_at = NULL WHERE id = 9")
    items.target.execute("UPDATE items SET source_deleted_at = now() WHERE id = 30")
    found = items.verify(soft)
    assert counts(found) == (1, 1, 0, 4)
    assert (ids(found)["missing"], ids(found)["extra"]) == ([30], [9])


def test_rows_that_are_kept_when_deletes_are_ignored_are_no_difference(items: Replica) -> None:
    ignore: dict[str, Any] = {"source": "public.items", "deletes": "ignore"}
    items.sync(ignore)
    items.source.execute("DELETE FROM items WHERE id <= 10; UPDATE items SET name = 'x' WHERE id = 20")
    assert counts(items.verify(ignore)) == (0, 0, 0, 1)
    items.sync(ignore)
    items.target.execute("INSERT INTO items (id) VALUES (-1); DELETE FROM items WHERE id = 30")

    assert counts(items.verify(ignore)) == (1, 0, 0, 0)


def test_only_rows_that_the_filter_lets_through_are_compared(items: Replica) -> None:
    few: dict[str, Any] = {"source": "public.items", "where": "id > 1000 -- the last two thirds"}
    items.sync(few)
    assert counts(items.verify(few)) == (0, 0, 0, 0)

    items.source.execute("UPDATE items SET id = -5 WHERE id = 2005; INSERT INTO items VALUES (0, 'out')")
    items.target.execute("INSERT INTO items SELECT 5, name, price, data, source_xmin FROM items WHERE id = 2006")

    found = items.verify(few)
    assert (counts(found), ids(found)) == ((0, 1, 0, 1), {"extra": [5], "pending": [2005]})


def test_only_columns_that_are_copied_are_compared(items: Replica) -> None:
    some: dict[str, Any] = {"source": "public.items", "exclude_columns": ["data"]}
    items.sync(some)
    items.source.execute("ALTER TABLE items ADD COLUMN more int DEFAULT 5")
    items.target.execute("UPDATE items SET data = NULL")

    assert counts(items.verify(some)) == (0, 0, 0, 0)
    items.target.execute("UPDATE items SET price = 7777 WHERE id = 1")
    assert counts(items.verify(some)) == (0, 0, 1, 0)


def test_a_column_renamed_at_the_source_is_found_by_its_new_name(items: Replica) -> None:
    items.source.execute("ALTER TABLE items RENAME COLUMN price TO cost; ALTER TABLE items RENAME COLUMN id TO nr")
    items.target.execute("UPDATE items SET price = 7777 WHERE id = 1")

    found = items.verify("public.items")

    assert (counts(found), ids(found), found.note) == ((0, 0, 1, 0), {"different": [1]}, None)


def test_a_column_that_the_target_lacks_is_noted(items: Replica) -> None:
    items.source.execute("ALTER TABLE items ADD later text; ALTER TABLE items ADD unwanted text")

    found = items.verify({"source": "public.items", "exclude_columns": ["unwanted"]})

    assert found.status == "match"
    assert "later is new at the source, and the target lacks it until the next sync" in (found.note or "")
    assert "unwanted" not in (found.note or "")


def test_columns_that_cannot_be_compared_are_named(items: Replica) -> None:
    items.source.execute("ALTER TABLE items DROP COLUMN data, ALTER COLUMN price TYPE text, DROP COLUMN name")
    items.source.execute("ALTER TABLE items ADD COLUMN name text")

    found = items.verify("public.items")

    assert counts(found) == (0, 0, 0, 0)
    assert found.note == (
        "not compared: name is gone at the source, price is text at the source now, and was numeric(10,2),"
        " data is gone at the source, name is new at the source, and the target lacks it until the next sync"
    )


def test_a_generated_column_with_another_expression_waits_for_the_next_sync(replica: Replica) -> None:
    if replica.source.connect().server_version < 180000:
        pytest.skip("virtual generated columns came with PostgreSQL 18")
    replica.source.execute("CREATE TABLE t (id int PRIMARY KEY, v int GENERATED ALWAYS AS (id * 2) VIRTUAL)")
    replica.source.execute("INSERT INTO t SELECT generate_series(1, 100)")
    replica.sync("public.t")
    assert counts(replica.verify("public.t")) == (0, 0, 0, 0)

    replica.source.execute("ALTER TABLE t ALTER COLUMN v SET EXPRESSION AS (id * 3)")
    found = replica.verify("public.t")

    assert (counts(found), found.note) == (
        (0, 0, 0, 0),
        "not compared: v is generated by another expression now",
    )


def test_a_key_that_changed_its_type_is_no_key_to_compare_by(items: Replica) -> None:
    items.source.execute("ALTER TABLE items ALTER COLUMN id TYPE text")

    found = items.verify("public.items")

    assert found.status == "failed"
    assert "the key's column id is text at the source now" in (found.error or "")


def test_a_target_that_lost_a_column_is_no_copy_any_more(items: Replica) -> None:
    items.target.execute("ALTER TABLE items DROP COLUMN price")

    found = items.verify("public.items")

    assert (found.status, "Run xmin-assets sync" in (found.error or "")) == ("failed", True)


PARTITIONED = """
CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (1000);
CREATE TABLE high PARTITION OF t FOR VALUES FROM (1000) TO (2000);
INSERT INTO t SELECT i, 'v' FROM generate_series(1, 1999) i;
"""


def test_partitions_are_compared_together(replica: Replica) -> None:
    replica.source.execute(PARTITIONED)
    replica.sync("public.t")
    replica.target.execute("UPDATE t SET v = 'x' WHERE id IN (1, 1500); DELETE FROM t WHERE id IN (2, 1600)")
    replica.source.execute("DELETE FROM t WHERE id = 3; UPDATE t SET id = 0 WHERE id = 1999")

    found = replica.verify("public.t")

    assert counts(found) == (2, 0, 2, 3)
    assert ids(found)["missing"] == [2, 1600]


def test_a_partition_attached_or_detached_since_the_sync_is_pending(replica: Replica) -> None:
    replica.source.execute(PARTITIONED)
    replica.source.execute("CREATE TABLE old (id int PRIMARY KEY, v text)")
    replica.source.execute("INSERT INTO old SELECT i, 'old' FROM generate_series(2000, 2099) i")
    replica.sync("public.t")

    replica.source.execute("ALTER TABLE t ATTACH PARTITION old FOR VALUES FROM (2000) TO (3000)")
    assert counts(replica.verify("public.t")) == (0, 0, 0, 100)
    replica.sync("public.t")
    assert counts(replica.verify("public.t")) == (0, 0, 0, 0)

    replica.source.execute("ALTER TABLE t DETACH PARTITION low")
    assert counts(replica.verify("public.t")) == (0, 0, 0, 999)


def test_a_target_that_is_partitioned_is_read_partition_by_partition(replica: Replica) -> None:
    replica.source.execute(PARTITIONED)
    replica.target.execute(PARTITIONED)
    adopted: dict[str, Any] = {"source": "public.t", "adopt": True}
    replica.sync(adopted)
    replica.target.execute("UPDATE t SET v = 'x' WHERE id IN (1, 1500)")

    found = replica.verify(adopted)

    assert (counts(found), found.rows_target) == ((0, 0, 2, 0), 1999)


def test_tables_that_others_inherit_from_are_compared_with_their_rows(replica: Replica) -> None:
    replica.source.execute("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE child () INHERITS (t)")
    replica.source.execute("INSERT INTO t VALUES (1, 'v'); INSERT INTO child VALUES (2, 'v')")
    replica.sync("public.t")
    replica.target.execute("UPDATE t SET v = 'x' WHERE id = 2")

    assert counts(replica.verify("public.t")) == (0, 0, 1, 0)


def test_what_belongs_to_a_table_is_told_by_its_name_and_not_by_the_list_that_an_extract_goes_by(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica.source.execute(PARTITIONED)
    listed = catalog.storage_of
    with monkeypatch.context() as patch:
        patch.setattr(catalog, "storage_of", lambda *args: listed(*args)[1:])
        replica.sync("public.t")

        # No sync reads these rows, so they are not to come.
        missed = replica.verify("public.t")
    assert (missed.status, "not among its partitions" in (missed.error or "")) == ("failed", True)
    replica.source.execute("CREATE TABLE log (n int); INSERT INTO log SELECT i FROM generate_series(1, 500) i")
    table = {"source": "public.log", "mode": "full_sync"}
    with monkeypatch.context() as patch:
        patch.setattr(catalog, "storage_of", lambda *args: listed(*args) * 2)
        replica.sync(table)

        found = replica.verify(table)
    assert (counts(found), found.rows_source, found.rows_target) == ((0, 500, 0, 0), 500, 1000)


def test_a_partition_attached_during_a_verify_is_pending(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    replica.source.execute(PARTITIONED)
    replica.source.execute("CREATE TABLE old (id int PRIMARY KEY, v text)")
    replica.source.execute("INSERT INTO old SELECT i, 'old' FROM generate_series(2000, 2099) i")
    replica.sync("public.t")
    counted = verify.count_both

    def attach_first(*args: Any) -> Any:
        if not retries:
            replica.source.execute("ALTER TABLE t ATTACH PARTITION old FOR VALUES FROM (2000) TO (3000)")
        return counted(*args)

    monkeypatch.setattr(verify, "count_both", attach_first)
    retries: list[Progress] = []

    found = replica.verify(
        "public.t", on_progress=lambda on_rows_read: retries.append(on_rows_read) if on_rows_read.is_retry else None
    )

    assert (counts(found), len(retries)) == ((0, 0, 0, 100), 1)


def test_an_empty_table_matches(replica: Replica) -> None:
    replica.source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    replica.sync("public.t")

    found = replica.verify("public.t")

    assert (counts(found), found.rows_source) == ((0, 0, 0, 0), 0)


def test_a_name_may_be_any(replica: Replica) -> None:
    replica.source.execute('CREATE TABLE "we""ird.%s" ("k%%s" int PRIMARY KEY, "v {}" text)')
    replica.source.execute('INSERT INTO "we""ird.%s" SELECT 1, NULL')
    name = '"we""ird.%s"'
    replica.sync(name)
    replica.target.execute('UPDATE "we""ird.%s" SET "v {}" = \'\'')

    found = replica.verify(name)

    assert (counts(found), found.examples["different"]) == ((0, 0, 1, 0), [{"k%%s": "1"}])


def test_databases_may_have_different_encodings(replica: Replica) -> None:
    latin = replica.source.name + "_latin"
    replica.source.execute(
        sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING LATIN1 LOCALE 'C'").format(sql.Identifier(latin))
    )
    source = Database(replica.source.cluster, latin)
    try:
        other = Replica(source, replica.target, replica.spool, replica.settings)
        source.execute("CREATE TABLE t (k text PRIMARY KEY, v text)")
        source.execute("INSERT INTO t SELECT chr(191 + i) || 'é', 'ü' FROM generate_series(1, 60) i")
        other.sync("public.t")
        assert counts(other.verify("public.t")) == (0, 0, 0, 0)

        replica.target.execute("UPDATE t SET v = 'u' WHERE k = 'Àé'; DELETE FROM t WHERE k = 'ßé'")
        found = other.verify("public.t")

        assert counts(found) == (1, 0, 1, 0)
        assert (found.examples["missing"], found.examples["different"]) == ([{"k": "ßé"}], [{"k": "Àé"}])
    finally:
        source.drop()


def test_a_row_that_is_on_both_sides_is_counted_once(replica: Replica) -> None:
    replica.source.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 300)")
    replica.sync("public.t")
    replica.target.execute("DELETE FROM t WHERE id = 7")
    steps: list[Progress] = []
    replica.verify("public.t", on_progress=steps.append)
    assert max(step.done for step in steps) == 300
    assert {step.total for step in steps} <= {0, 300}
    assert (steps[-1].done, steps[-1].total) == (300, 300)
