"""The whole passage of one table: what a sync says it did is what it did."""

from __future__ import annotations

import pytest

from xmin_assets_tests.replica import Replica

ITEMS = """
CREATE TABLE items (id int PRIMARY KEY, name text, price numeric(10, 2), data json);
INSERT INTO items SELECT i, 'item ' || i, i / 4.0, '{"n": 1}' FROM generate_series(1, 2000) i;
"""


@pytest.fixture
def items(replica: Replica) -> Replica:
    replica.source.execute(ITEMS)
    return replica


def test_first_sync_copies_everything_and_says_so(items: Replica) -> None:
    result = items.sync("public.items")

    assert (result.mode, result.reason) == ("full_sync", "first sync")
    assert (result.rows_extracted, result.rows_inserted) == (2000, 2000)
    assert (result.rows_updated, result.rows_deleted) == (0, 0)
    items.assert_equal("public.items")


def test_source_xmin_and_max_xmin_are_the_xid64_of_the_writing_transaction(items: Replica) -> None:
    writer = items.source.connect()
    writer.autocommit = False
    with writer.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id()::text::int8")
        (xid,) = cursor.fetchone()
        cursor.execute("UPDATE items SET price = 0 WHERE id = 7")
    writer.commit()

    result = items.sync("public.items")

    assert result.max_xmin == xid == items.source_xmins("public.items")[-1]
    assert result.watermark == xid + 1
    assert items.target.fetch("SELECT source_xmin FROM items WHERE id = 7") == [(xid,)]


def test_idle_sync_copies_nothing_and_keeps_max_xmin(items: Replica) -> None:
    first = items.sync("public.items")

    idle = items.sync("public.items")

    assert idle.mode == "xmin_incremental"
    counts = (idle.rows_extracted, idle.rows_inserted, idle.rows_updated, idle.rows_deleted)
    assert counts == (0, 0, 0, 0)
    assert idle.max_xmin == first.max_xmin
    assert idle.watermark >= first.watermark  # the server itself may take an id, to vacuum


def test_changes_are_counted_exactly(items: Replica) -> None:
    items.sync("public.items")
    items.source.execute("UPDATE items SET price = price + 1 WHERE id <= 100")
    items.source.execute(
        r"""INSERT INTO items VALUES (3001, E'q"uo''te,\n\\.\nx', 1, 'null'), (3002, '\N', 1.00, '[]')"""
    )
    items.source.execute("DELETE FROM items WHERE id = 2000")

    result = items.sync("public.items")

    counts = (result.rows_extracted, result.rows_inserted, result.rows_updated, result.rows_deleted)
    assert counts == (102, 2, 100, 1)
    assert result.max_xmin == items.source_xmins("public.items")[-1]
    items.assert_equal("public.items")


@pytest.mark.parametrize(
    "value", ["''", "NULL", r"'\N'", r"'\.'", r"E'\\.'", "E'a\nb'", "E'\\r'", "'\"'", "','", "' '"]
)
def test_a_value_arrives_as_the_same_value(replica: Replica, value: str) -> None:
    replica.source.execute(f"CREATE TABLE lone (value text, id int PRIMARY KEY); INSERT INTO lone VALUES ({value}, 1)")

    replica.sync("public.lone")

    assert replica.target.fetch("SELECT value FROM lone") == replica.source.fetch("SELECT value FROM lone")


def test_target_has_the_primary_key_and_a_bigint_source_xmin(items: Replica) -> None:
    items.sync("public.items")

    key = "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'items'::regclass"
    types = "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'items'::regclass"
    assert ("items_pkey", "PRIMARY KEY (id)") in items.target.fetch(key)
    assert set(items.target.fetch(types + " AND attnum > 0")) == {
        ("id", "integer"),
        ("name", "text"),
        ("price", "numeric(10,2)"),
        ("data", "json"),
        ("source_xmin", "bigint"),
    }


def test_full_sync_mode_reads_everything_and_writes_only_what_differs(items: Replica) -> None:
    table = {"source": "public.items", "mode": "full_sync"}
    items.sync(table)
    items.source.execute("UPDATE items SET name = 'x' WHERE id <= 3")
    items.source.execute("DELETE FROM items WHERE id > 1990")

    result = items.sync(table)

    assert (result.mode, result.rows_extracted) == ("full_sync", 1990)
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (0, 3, 10)
    items.assert_equal("public.items")


def test_many_tables_sync_side_by_side_and_one_failure_stops_no_other(replica: Replica) -> None:
    from xmin_assets import sync_tables

    names = [f"t{n}" for n in range(12)]
    for name in names:
        replica.source.execute(
            f"CREATE TABLE {name} (id int PRIMARY KEY); INSERT INTO {name} SELECT generate_series(1, 9)"
        )
    replica.source.execute("DROP TABLE t5")

    report = sync_tables(replica.config(*[f"public.{name}" for name in names]))

    failed = [table for table in report.tables if table.status == "failed"]
    assert [table.table for table in failed] == ["public.t5"], [table.error for table in failed]
    assert "no such table" in (failed[0].error or "")
    assert all(replica.target.fetch(f"SELECT count(*) FROM {name}") == [(9,)] for name in names if name != "t5")


def test_where_and_columns_narrow_the_copy_and_a_row_that_leaves_the_filter_is_deleted(items: Replica) -> None:
    table = {
        "source": "public.items",
        "target": "copies.cheap",
        "where": "price < 5 -- euro",
        "columns": ["id", "price"],
    }
    assert items.sync(table).rows_inserted == 19
    items.source.execute("UPDATE items SET price = 100 WHERE id = 1")
    items.source.execute("UPDATE items SET price = 1 WHERE id = 2000")

    result = items.sync(table)

    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (1, 0, 1)
    assert items.target.fetch("SELECT min(id), max(id), count(*) FROM copies.cheap") == [(2, 2000, 19)]
    assert items.columns(items.target, items.config(table).tables[0].target_name) == ["id", "price", "source_xmin"]


def test_nothing_is_left_in_spool_or_staging_after_a_sync(items: Replica) -> None:
    items.sync("public.items")
    items.source.execute("DELETE FROM items WHERE id < 10; UPDATE items SET price = 1 WHERE id = 500")
    items.sync("public.items")

    assert [path for path in items.spool.rglob("*") if path.is_file()] == []
    staged = "SELECT count(*) FROM pg_class WHERE relnamespace = 'xmin_assets'::regnamespace AND relname LIKE 'staged%'"
    assert items.target.fetch(staged) == [(0,)]


def test_a_partitioned_source_becomes_one_table(replica: Replica) -> None:
    replica.source.execute(
        """
        CREATE TABLE events (id int, day date, note text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
        CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
        CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
        INSERT INTO events SELECT i, date '2026-01-01' + i % 59, 'n' FROM generate_series(1, 500) i;
        """
    )
    replica.sync("public.events")
    replica.source.execute("UPDATE events SET day = day + 20 WHERE day < '2026-01-21' AND id < 100")

    replica.sync("public.events")

    replica.assert_equal("public.events")


def test_rows_of_inheriting_tables_come_with_their_parent(replica: Replica) -> None:
    replica.source.execute(
        """
        CREATE TABLE cities (id int PRIMARY KEY, name text);
        CREATE TABLE capitals (country text, PRIMARY KEY (id)) INHERITS (cities);
        INSERT INTO cities VALUES (1, 'Bern'), (2, 'Basel');
        INSERT INTO capitals VALUES (3, 'Wien', 'AT');
        """
    )
    replica.sync("public.cities")
    replica.source.execute("UPDATE capitals SET name = 'Vienna'; DELETE FROM ONLY cities WHERE id = 2")

    result = replica.sync("public.cities")

    assert (result.rows_updated, result.rows_deleted) == (1, 1)
    assert replica.target.fetch("SELECT id, name FROM cities ORDER BY id") == [(1, "Bern"), (3, "Vienna")]
