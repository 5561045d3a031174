"""Tables of unusual shape: wide, sparse, heavy, volatile, inherited; and what is no table."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from xmin_assets import sync_tables
from xmin_assets.replication.runtime.progress import Progress
from xmin_assets_tests.integration.ledger import counts
from xmin_assets_tests.replica import Replica

MIB = 1 << 20


def test_a_table_of_many_blocks_and_few_rows(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text) WITH (autovacuum_enabled = false);"
        "INSERT INTO t SELECT i, repeat('x', 400) FROM generate_series(1, 20000) i"
    )
    replica.sync("public.t")
    replica.source.execute("DELETE FROM t WHERE id % 100 <> 0")

    emptied = replica.sync("public.t", allow_mass_delete=True)
    replica.source.execute("VACUUM t")
    replica.source.execute(
        "UPDATE t SET v = 'y' WHERE id = 20000; INSERT INTO t SELECT -i FROM generate_series(1, 50) i"
    )
    after = replica.sync("public.t")

    assert counts(emptied) == (0, 0, 0, 19800)
    assert counts(after) == (51, 50, 1, 0)
    replica.assert_equal("public.t")


def test_a_table_of_many_rows_in_a_block(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TABLE t (id smallint PRIMARY KEY); INSERT INTO t SELECT generate_series(-15000, 15000)"
    )
    replica.sync("public.t")
    replica.source.execute("DELETE FROM t WHERE id = 0; UPDATE t SET id = 15001 WHERE id = 1")

    assert counts(replica.sync("public.t")) == (1, 1, 0, 2)
    replica.assert_equal("public.t")


def test_batches_of_a_table_with_large_values_are_cut_by_all_their_bytes(replica: Replica) -> None:
    """The heap is of a few blocks; what its rows point to is of 150 MiB."""
    replica.source.execute("CREATE TABLE t (id int PRIMARY KEY, filler text, v bytea)")
    replica.source.execute("ALTER TABLE t ALTER v SET STORAGE EXTERNAL, ALTER filler SET STORAGE PLAIN")
    replica.source.execute(
        "INSERT INTO t SELECT i, repeat('f', 2000), decode(repeat(to_hex(i % 10), 2 << 20), 'hex')"
        " FROM generate_series(10, 159) i"
    )
    batches: list[int] = []

    def listen(progress: Progress) -> None:
        if progress.station == "extract":
            batches.append(progress.done)

    with replica.stations("public.t") as stations:
        extracted = stations.extract(stations.snapshot(), listen)

    steps = sorted(set(batches))
    largest = max(after - before for before, after in pairwise(steps))
    assert extracted.rows == 150
    assert largest * MIB < 96 * MIB, f"{largest} rows of 1 MiB were read by one statement"


def test_large_values_arrive_and_are_left_alone_when_the_row_changes(replica: Replica) -> None:
    replica.source.execute("CREATE TABLE t (id int PRIMARY KEY, n int, v text, w jsonb)")
    replica.source.execute(
        "INSERT INTO t SELECT i, i, string_agg(md5(j::text), ''), jsonb_build_object('a', repeat('ä\"', 50000))"
        " FROM generate_series(1, 12) i, generate_series(1, 32768) j GROUP BY i"
    )
    replica.sync("public.t")
    replica.source.execute(
        "UPDATE t SET n = 0 WHERE id = 1; UPDATE t SET v = v || 'end' WHERE id = 2; DELETE FROM t WHERE id = 3"
    )

    assert counts(replica.sync("public.t")) == (2, 0, 2, 1)
    digest = "SELECT id, n, md5(v), md5(w::text) FROM t ORDER BY id"
    assert replica.target.fetch(digest) == replica.source.fetch(digest)


def test_a_table_of_as_many_columns_as_a_row_holds(replica: Replica) -> None:
    columns = ", ".join(f"c{n} smallint DEFAULT {n}" for n in range(1598))
    replica.source.execute(f"CREATE TABLE t (id int PRIMARY KEY, {columns}); INSERT INTO t VALUES (1), (2), (3)")
    replica.sync("public.t")
    replica.source.execute("UPDATE t SET c1597 = 0 WHERE id = 1; DELETE FROM t WHERE id = 2")

    assert counts(replica.sync("public.t")) == (1, 0, 1, 1)
    replica.assert_equal("public.t")


@pytest.mark.parametrize(("before", "after"), [("UNLOGGED", "LOGGED"), ("LOGGED", "UNLOGGED")])
def test_a_table_that_becomes_logged_or_unlogged_keeps_its_rows(replica: Replica, before: str, after: str) -> None:
    kind = "" if before == "LOGGED" else before
    replica.source.execute(f"CREATE {kind} TABLE t (id int PRIMARY KEY, n int)")
    replica.source.execute("INSERT INTO t SELECT i, i FROM generate_series(1, 100) i")
    replica.sync("public.t")
    replica.source.execute(f"ALTER TABLE t SET {after}; UPDATE t SET n = 0 WHERE id < 4; DELETE FROM t WHERE id = 9")

    result = replica.sync("public.t")

    # The table is written anew, so every row may have a new xmin; its values count.
    assert (result.rows_inserted, result.rows_deleted) == (0, 1)
    replica.assert_equal("public.t")
    assert replica.target.fetch("SELECT relpersistence FROM pg_class WHERE relname = 't'") == [("p",)]


def test_an_inheriting_table_comes_later_and_goes(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TABLE cities (id int PRIMARY KEY, name text); INSERT INTO cities VALUES (1, 'Basel');"
        "CREATE TABLE capitals (id int PRIMARY KEY, land text, name text);"
        "INSERT INTO capitals VALUES (2, 'CH', 'Bern')"
    )
    replica.sync("public.cities")
    replica.source.execute("ALTER TABLE capitals INHERIT cities")
    joined = replica.sync("public.cities")
    replica.source.execute("ALTER TABLE capitals NO INHERIT cities")
    left = replica.sync("public.cities")

    assert counts(joined) == (1, 1, 0, 0)
    assert counts(left) == (0, 0, 0, 1)


DIAMOND = """
CREATE TABLE a (id int, v text);
CREATE TABLE b () INHERITS (a);
CREATE TABLE c () INHERITS (a);
CREATE TABLE d (more int) INHERITS (b, c);
INSERT INTO a SELECT i, 'a' FROM generate_series(1, 10) i;
INSERT INTO b SELECT i, 'b' FROM generate_series(11, 20) i;
INSERT INTO c SELECT i, 'c' FROM generate_series(21, 30) i;
INSERT INTO d SELECT i, 'd' FROM generate_series(31, 40) i;
"""


@pytest.mark.parametrize("table", [{"key": "id"}, {"mode": "full_sync"}], ids=["with a key", "without"])
def test_a_table_that_inherits_along_two_ways_has_its_rows_once(replica: Replica, table: dict[str, str]) -> None:
    replica.source.execute(DIAMOND)
    configured = {"source": "public.a", **table}

    first = replica.sync(configured)
    replica.source.execute("UPDATE d SET v = 'changed' WHERE id < 34; INSERT INTO d VALUES (41, 'd'), (42, 'd')")
    changed = replica.sync(configured)

    # Without a key a row that changes is one that goes and one that comes.
    by_key = (42, 5, 0, 3) if "mode" in table else (5, 2, 3, 0)
    assert (counts(first), counts(changed)) == ((40, 40, 0, 0), by_key)
    assert replica.target.fetch("SELECT count(*), count(DISTINCT id) FROM a") == [(42, 42)]
    replica.assert_equal("public.a")
    assert replica.verify(configured).status == "match"


def test_a_key_that_repeats_in_an_inheriting_table_is_refused_with_an_example(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TABLE cities (id int PRIMARY KEY); CREATE TABLE capitals () INHERITS (cities);"
        "INSERT INTO cities VALUES (7); INSERT INTO capitals VALUES (7)"
    )

    assert "(id)=(7)" in (replica.try_sync("public.cities").error or "")


def test_two_targets_of_one_source_in_schemas_that_do_not_exist_yet(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT i, i FROM generate_series(1, 9) i"
    )
    tables: list[dict[str, Any]] = [
        {"source": "public.t", "target": "one.all"},
        {"source": "public.t", "target": "one.odd", "where": "n % 2 = 1", "exclude_columns": "n"},
        {"source": "public.t", "target": "Two.some", "columns": ["id"], "deletes": "soft"},
    ]
    first = sync_tables(replica.config(*tables)).tables
    replica.source.execute("UPDATE t SET n = 10 WHERE id = 1; DELETE FROM t WHERE id IN (2, 3)")

    second = sync_tables(replica.config(*tables)).tables

    assert [result.error for result in (*first, *second)] == [None] * 6
    assert [counts(result) for result in second] == [(1, 0, 1, 2), (0, 0, 0, 2), (1, 0, 1, 2)]
    replica.assert_equal("public.t", "one.all")
    assert replica.target.fetch('SELECT count(*), count(source_deleted_at) FROM "Two".some') == [(9, 2)]


def test_a_row_that_leaves_the_filter_is_deleted_and_comes_back_with_it(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TABLE t (id int PRIMARY KEY, open bool); INSERT INTO t SELECT i, true FROM generate_series(1, 9) i"
    )
    table = {"source": "public.t", "where": "open"}
    replica.sync(table)
    replica.source.execute("UPDATE t SET open = NULL WHERE id < 3")
    left = replica.sync(table)
    replica.source.execute("UPDATE t SET open = true WHERE id = 1")
    back = replica.sync(table)
    narrower = replica.sync({**table, "where": "open AND id > 4"})

    assert counts(left) == (0, 0, 0, 2)
    assert counts(back) == (1, 1, 0, 0)
    assert (narrower.reason, counts(narrower)) == ("the where clause was changed", (5, 0, 0, 3))


def test_a_where_clause_that_is_none_is_an_error_and_makes_nothing(replica: Replica) -> None:
    replica.source.execute("CREATE TABLE t (id int PRIMARY KEY)")

    for where in ("id >", "nowhere = 1", "id", "id > 1, id < 5", "SELECT"):
        result = replica.try_sync({"source": "public.t", "where": where})
        assert result.status == "failed" and "unexpected" not in (result.error or "")
    assert replica.target.fetch("SELECT to_regclass('t')") == [(None,)]


FDW = "CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER far FOREIGN DATA WRAPPER nowhere;"

NO_TABLES = {
    "a foreign table": FDW + "CREATE FOREIGN TABLE thing (id int) SERVER far",
    "a sequence": "CREATE SEQUENCE thing",
    "no such table": "CREATE TYPE thing AS (id int); CREATE TABLE i (id int); CREATE INDEX thing2 ON i (id)",
    "its partition public.far_1 is a foreign table": FDW
    + "CREATE TABLE thing (id int) PARTITION BY LIST (id);"
    + "CREATE FOREIGN TABLE far_1 PARTITION OF thing FOR VALUES IN (1) SERVER far",
}


@pytest.mark.parametrize("why", NO_TABLES)
def test_what_is_no_table_is_refused_by_what_it_is(replica: Replica, why: str) -> None:
    replica.source.execute(NO_TABLES[why])

    for mode in ("xmin_incremental", "full_sync"):
        assert why in (replica.try_sync({"source": "public.thing", "mode": mode}).error or "")
    assert replica.target.fetch("SELECT to_regclass('thing')") == [(None,)]


def test_a_foreign_partition_that_comes_later_stops_the_sync(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TABLE t (id int NOT NULL) PARTITION BY LIST (id); CREATE TABLE t_1 PARTITION OF t FOR VALUES IN (1);"
        "INSERT INTO t VALUES (1)"
    )
    table = {"source": "public.t", "key": "id"}
    replica.sync(table)
    replica.source.execute(FDW + "CREATE FOREIGN TABLE far_1 PARTITION OF t FOR VALUES IN (2) SERVER far")

    assert "far_1 is a foreign table" in (replica.try_sync(table).error or "")
    assert replica.target.fetch("SELECT id FROM t") == [(1,)]
