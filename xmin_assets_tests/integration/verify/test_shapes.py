"""Relations that are no plain table with a key: views, rows without a key, other types and names in the target."""

from __future__ import annotations

import pytest

from xmin_assets_tests.integration.verify.conftest import counts
from xmin_assets_tests.replica import Replica

ROWS = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 300) i;"


@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED VIEW"])
def test_a_view_is_compared_and_has_nothing_pending(replica: Replica, kind: str) -> None:
    replica.source.execute(ROWS + f"CREATE {kind} w AS SELECT id, upper(v) AS v FROM t")
    table = {"source": "public.w", "mode": "full_sync", "key": "id"}
    replica.sync(table)
    assert counts(replica.verify(table)) == (0, 0, 0, 0)
    replica.target.execute(
        "UPDATE w SET v = 'x' WHERE id = 1; DELETE FROM w WHERE id = 2; INSERT INTO w VALUES (0, 'y')"
    )

    found = replica.verify(table)

    assert counts(found) == (1, 1, 1, 0)
    assert "have no xmin" in (found.note or "")
    replica.sync(table)
    assert counts(replica.verify(table)) == (0, 0, 0, 0)


def test_rows_without_a_key_are_compared_as_often_as_they_are_there(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TABLE t (a int, b json); INSERT INTO t SELECT i % 10, NULL FROM generate_series(1, 100) i;"
        "INSERT INTO t VALUES (1, '{}'), (NULL, NULL), (NULL, NULL)"
    )
    table = {"source": "public.t", "mode": "full_sync"}
    replica.sync(table)
    assert counts(replica.verify(table)) == (0, 0, 0, 0)
    replica.target.execute(
        "DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t WHERE a = 3); INSERT INTO t (a) VALUES (3), (3), (77)"
    )
    replica.source.execute("INSERT INTO t VALUES (5, NULL)")

    found = replica.verify(table)

    assert counts(found) == (0, 2, 0, 1)
    assert {"row": "(77,)"} in found.examples["extra"]
    replica.sync(table)
    assert counts(replica.verify(table)) == (0, 0, 0, 0)


def test_types_that_are_overridden_or_of_a_moved_extension_are_compared(replica: Replica) -> None:
    if not replica.source.fetch("SELECT FROM pg_available_extensions WHERE name = 'hstore'"):
        pytest.skip("this server comes without the extension hstore")
    replica.target.execute("CREATE SCHEMA elsewhere; CREATE EXTENSION hstore SCHEMA elsewhere")
    replica.source.execute(
        "CREATE EXTENSION hstore; CREATE TYPE mood AS ENUM ('ok', 'sad');"
        "CREATE TABLE t (id int PRIMARY KEY, h hstore, m mood, j json);"
        """INSERT INTO t SELECT i, 'a=>1', 'ok', '{"b":  1}' FROM generate_series(1, 50) i"""
    )
    table = {"source": "public.t", "type_overrides": {"m": "text", "j": "jsonb"}}
    replica.sync(table)

    assert replica.verify(table).note is None
    assert counts(replica.verify(table)) == (0, 0, 0, 0)
    replica.target.execute("UPDATE t SET m = 'sad' WHERE id = 1; UPDATE t SET h = 'a=>2' WHERE id = 2")
    assert counts(replica.verify(table)) == (0, 0, 2, 0)


def test_our_columns_may_have_other_names(replica: Replica) -> None:
    replica.source.execute(ROWS + "ALTER TABLE t ADD COLUMN source_xmin int, ADD COLUMN source_deleted_at date")
    table = {
        "source": "public.t",
        "deletes": "soft",
        "xmin_column": "xmin of source",
        "deleted_at_column": "gone",
    }
    replica.sync(table)
    replica.source.execute("DELETE FROM t WHERE id = 1")
    replica.sync(table)
    assert counts(replica.verify(table)) == (0, 0, 0, 0)
    replica.target.execute("UPDATE t SET gone = NULL WHERE id = 1")

    assert counts(replica.verify(table)) == (0, 1, 0, 0)


def test_partitions_that_only_their_parent_lets_read_are_compared(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica.source.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);"
        "CREATE SCHEMA hidden; CREATE TABLE hidden.p PARTITION OF t DEFAULT;"
        "INSERT INTO t SELECT i, 'v' FROM generate_series(1, 300) i;"
        "CREATE ROLE parent_reader LOGIN PASSWORD 'reads'; GRANT SELECT ON t TO parent_reader"
    )
    try:
        monkeypatch.setenv("XMIN_SOURCE_URL", replica.source.url_as("parent_reader", "reads"))
        replica.sync("public.t")
        replica.source.execute("UPDATE t SET v = 'w' WHERE id = 1")
        replica.target.execute("DELETE FROM t WHERE id = 2")

        assert counts(replica.verify("public.t")) == (1, 0, 0, 1)
    finally:
        replica.source.execute("REVOKE ALL ON t FROM parent_reader; DROP ROLE parent_reader")


def test_a_table_read_by_a_cursor_is_compared_by_xmin_and_what_no_sync_reads_is_not_pending(replica: Replica) -> None:
    replica.source.execute(ROWS + "ALTER TABLE t ADD COLUMN at int; UPDATE t SET at = 10")
    table = {"source": "public.t", "mode": "incremental_sync", "cursor": "at", "cursor_lookback": 2}
    replica.sync(table)
    replica.source.execute("UPDATE t SET v = 'told', at = CASE id WHEN 1 THEN 11 WHEN 2 THEN 8 END WHERE id <= 3")
    replica.source.execute("INSERT INTO t VALUES (301, 'late', 7)")
    assert counts(replica.verify(table)) == (0, 0, 0, 4)
    # An update below the bound, which no sync by the cursor finds.
    replica.source.execute("UPDATE t SET v = 'silent', at = 7 WHERE id = 5")

    assert counts(replica.verify(table)) == (0, 0, 1, 4)

    replica.source.execute("DELETE FROM t WHERE id = 301")
    replica.sync(table)
    assert counts(replica.verify(table)) == (0, 0, 1, 0)
    replica.source.execute("INSERT INTO t VALUES (301, 'late', 7)")
    replica.sync(table)  # misses it by the numbers, and reads everything
    assert counts(replica.verify(table)) == (0, 0, 0, 0)


def test_by_a_cursor_a_row_that_comes_below_the_bound_is_pending_only_where_rows_are_counted(replica: Replica) -> None:
    replica.source.execute(ROWS)
    table = {"source": "public.t", "mode": "incremental_sync", "cursor": "id", "deletes": "ignore"}
    replica.sync(table)
    replica.source.execute("INSERT INTO t VALUES (0, 'below'), (301, 'above')")

    assert counts(replica.verify(table)) == (1, 0, 0, 1)

    replica.sync(table)
    assert counts(replica.verify(table)) == (1, 0, 0, 0)
