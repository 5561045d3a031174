"""Views and materialized views: read by their query's result, since their rows have no xmin that tells of changes."""

from __future__ import annotations

from typing import Any

import pytest

from xmin_assets_tests.integration.ledger import counts
from xmin_assets_tests.replica import Replica

FULL: dict[str, Any] = {"source": "public.shown", "mode": "full_sync", "key": "id"}
BY_CURSOR: dict[str, Any] = {"source": "public.shown", "mode": "incremental_sync", "key": "id", "cursor": "version"}


@pytest.fixture
def base(replica: Replica) -> Replica:
    """Customers 1 to 3 and their orders 1 to 30."""
    replica.source.execute(
        """
        CREATE TABLE customers (id int PRIMARY KEY, name text);
        CREATE TABLE orders (id int PRIMARY KEY, customer int, version int);
        INSERT INTO customers VALUES (1, 'Ann'), (2, 'Ben'), (3, 'Cem');
        INSERT INTO orders SELECT i, 1 + i % 3, i FROM generate_series(1, 30) i;
        """
    )
    return replica


QUERY = "SELECT o.id, c.name, o.version FROM orders o JOIN customers c ON c.id = o.customer"


@pytest.fixture(params=["VIEW", "MATERIALIZED VIEW"])
def shown(base: Replica, request: pytest.FixtureRequest) -> Replica:
    """A view over both, in each of the two kinds; `refresh` makes it show what its tables have."""
    base.source.execute(f"CREATE {request.param} shown AS {QUERY}")
    return base


def refresh(replica: Replica, how: str = "") -> None:
    if replica.source.fetch("SELECT relkind FROM pg_class WHERE relname = 'shown'") == [("m",)]:
        replica.source.execute(f"REFRESH MATERIALIZED VIEW {how} shown")


CHANGES = """
UPDATE customers SET name = 'Bob' WHERE id = 2;
DELETE FROM orders WHERE id IN (1, 2);
INSERT INTO orders VALUES (31, 3, 31);
"""


def test_xmin_incremental_is_refused_with_the_choices(shown: Replica) -> None:
    error = shown.try_sync("public.shown").error or ""

    assert "view, whose rows have no xmin" in error
    assert "mode: full_sync" in error and "incremental_sync with cursor: and key:" in error


def test_full_sync_without_a_key_replaces_what_differs(shown: Replica) -> None:
    table = {"source": "public.shown", "mode": "full_sync"}
    first = shown.sync(table)
    shown.source.execute(CHANGES)
    refresh(shown)

    changed = shown.sync(table)

    assert counts(first) == (30, 30, 0, 0)
    assert counts(changed) == (
        29,
        10,
        0,
        11,
    )  # nine orders of Ben's are replaced, one of them is gone, and one of Cem's
    assert counts(shown.sync(table)) == (29, 0, 0, 0)
    shown.assert_equal("public.shown")


def test_full_sync_with_a_key_updates_what_differs(shown: Replica) -> None:
    shown.sync(FULL)
    shown.source.execute(CHANGES)
    refresh(shown)

    assert counts(shown.sync(FULL)) == (29, 1, 9, 2)
    assert counts(shown.sync(FULL)) == (29, 0, 0, 0)
    shown.assert_equal("public.shown")
    assert shown.source_xmins("public.shown") == [None] * 29


def test_incremental_sync_reads_what_its_cursor_tells(shown: Replica) -> None:
    first = shown.sync(BY_CURSOR)
    shown.source.execute("UPDATE orders SET customer = 1, version = 40 WHERE id = 5; DELETE FROM orders WHERE id = 7")
    refresh(shown)

    changed = shown.sync(BY_CURSOR)
    idle = shown.sync(BY_CURSOR)

    assert (first.mode, counts(first)) == ("full_sync", (30, 30, 0, 0))
    # Row 30 has the highest cursor of the first sync.
    assert (changed.mode, counts(changed)) == ("incremental_sync", (2, 0, 1, 1))
    assert counts(idle) == (1, 0, 0, 0)
    shown.assert_equal("public.shown")


def test_a_view_before_and_after_it_was_refreshed(base: Replica) -> None:
    base.source.execute(f"CREATE MATERIALIZED VIEW shown AS {QUERY}; CREATE UNIQUE INDEX ON shown (id)")
    base.sync(FULL)
    base.source.execute(CHANGES)
    not_yet = base.sync(FULL)
    refresh(base, "CONCURRENTLY")
    concurrently = base.sync(FULL)
    base.source.execute("UPDATE customers SET name = 'Zoe' WHERE id = 1")
    refresh(base)
    anew = base.sync(FULL)

    assert counts(not_yet) == (30, 0, 0, 0)
    assert counts(concurrently) == (29, 1, 9, 2)
    assert counts(anew)[1:] == (0, 10, 0)
    base.assert_equal("public.shown")


def test_a_unique_index_of_a_materialized_view_is_no_key_as_its_columns_may_be_null(base: Replica) -> None:
    base.source.execute(f"CREATE MATERIALIZED VIEW shown AS {QUERY}; CREATE UNIQUE INDEX ON shown (id)")

    error = base.try_sync({**BY_CURSOR, "key": None}).error or ""

    assert "key: [a, b]" in error


@pytest.mark.parametrize("table", [FULL, BY_CURSOR], ids=["full", "cursor"])
def test_a_view_whose_query_is_replaced_is_read_anew(base: Replica, table: dict[str, Any]) -> None:
    base.source.execute(f"CREATE VIEW shown AS {QUERY}")
    base.sync(table)
    base.source.execute(
        "CREATE OR REPLACE VIEW shown AS SELECT o.id, upper(c.name) AS name, o.version, 'more' AS extra"
        " FROM orders o JOIN customers c ON c.id = o.customer"
    )

    result = base.sync(table)

    assert (result.mode, result.reason) == ("full_sync", "the view's query was changed")
    assert counts(result) == (30, 0, 30, 0)
    base.assert_equal("public.shown")


@pytest.mark.parametrize("table", [FULL, BY_CURSOR], ids=["full", "cursor"])
def test_a_view_of_a_view_whose_query_is_replaced_is_read_anew(base: Replica, table: dict[str, Any]) -> None:
    base.source.execute("CREATE VIEW names AS SELECT id, name FROM customers")
    base.source.execute("CREATE VIEW middle AS SELECT * FROM names; CREATE VIEW big AS SELECT * FROM orders")
    base.source.execute(
        "CREATE VIEW shown AS SELECT o.id, c.name, o.version FROM big o JOIN middle c ON c.id = o.customer"
    )
    base.sync(table)
    assert base.sync(table).reason != "the view's query was changed"
    base.source.execute("CREATE OR REPLACE VIEW names AS SELECT id, upper(name) AS name FROM customers")

    result = base.sync(table)

    assert (result.mode, result.reason) == ("full_sync", "the view's query was changed")
    assert counts(result) == (30, 0, 30, 0)
    base.assert_equal("public.shown")


def test_a_view_that_was_dropped_and_recreated_is_another_one(shown: Replica) -> None:
    shown.sync(FULL)
    (kind,) = shown.source.fetch("SELECT relkind FROM pg_class WHERE relname = 'shown'")[0]
    word = "MATERIALIZED VIEW" if kind == "m" else "VIEW"
    shown.source.execute(f"DROP {word} shown; CREATE {word} shown AS {QUERY} WHERE o.id <= 20")

    result = shown.sync(FULL)

    assert (result.reason or "").startswith("another table")
    assert counts(result) == (20, 0, 0, 10)


def test_a_table_that_becomes_a_view_and_back(base: Replica) -> None:
    """The name stays and the rows, too: what changes is how they are read."""
    table = {"source": "public.orders"}
    base.sync(table)
    base.source.execute("ALTER TABLE orders RENAME TO stored; CREATE VIEW orders AS SELECT * FROM stored")

    refused = base.try_sync(table)
    as_view = base.sync({**table, "mode": "full_sync", "key": "id"})
    base.source.execute("DROP VIEW orders; ALTER TABLE stored RENAME TO orders; DELETE FROM orders WHERE id = 1")
    as_table = base.sync(table)

    assert "is a view" in (refused.error or "")
    assert counts(as_view) == (30, 0, 30, 0)  # the rows of a view have no xmin, so theirs goes
    assert counts(as_table) == (29, 0, 29, 1)
    base.assert_equal("public.orders")
    assert None not in base.source_xmins("public.orders")


def test_where_columns_and_soft_deletes_of_a_view(shown: Replica) -> None:
    table = {**FULL, "where": "name <> 'Cem'", "exclude_columns": "version", "deletes": "soft"}
    shown.sync(table)
    shown.source.execute("UPDATE customers SET name = 'Cem' WHERE id = 1")
    refresh(shown)

    assert counts(shown.sync(table)) == (10, 0, 0, 10)
    shown.source.execute("UPDATE customers SET name = 'Ann' WHERE id = 1")
    refresh(shown)
    assert counts(shown.sync(table)) == (20, 0, 10, 0)


def test_select_on_the_view_is_enough(shown: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    shown.source.execute("CREATE ROLE viewer LOGIN PASSWORD 'secret'; GRANT SELECT ON shown TO viewer")
    monkeypatch.setenv("XMIN_SOURCE_URL", shown.source.url_as("viewer", "secret"))
    try:
        shown.sync(FULL)
        shown.sync(BY_CURSOR)
    finally:
        shown.source.execute("DROP OWNED BY viewer; DROP ROLE viewer")
    shown.assert_equal("public.shown")


def test_a_view_that_repeats_its_named_key_is_refused_with_an_example(shown: Replica) -> None:
    error = shown.try_sync({**FULL, "key": "name"}).error or ""

    assert "the key (name) does not identify its rows" in error and "(name)=(" in error


def test_a_materialized_view_that_was_never_filled_is_an_error(base: Replica) -> None:
    base.source.execute(f"CREATE MATERIALIZED VIEW shown AS {QUERY} WITH NO DATA")

    assert "has not been populated" in (base.try_sync(FULL).error or "")


def test_a_views_query_knows_its_tables_and_a_functions_own_query_must_name_their_schema(base: Replica) -> None:
    base.source.execute(f"CREATE VIEW shown AS {QUERY}")
    base.source.execute("CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT count(*)::int FROM customers'")
    base.source.execute("CREATE VIEW called AS SELECT 1 AS id, one() AS n")

    base.sync(FULL)

    error = base.try_sync({"source": "public.called", "mode": "full_sync"}).error or ""
    assert 'relation "customers" does not exist' in error


def test_a_table_that_an_extension_has_made_is_refused_and_a_view_of_it_is_copied(replica: Replica) -> None:
    replica.source.execute("CREATE TABLE mine (id int PRIMARY KEY); INSERT INTO mine VALUES (1)")
    replica.source.execute("CREATE EXTENSION pg_trgm; ALTER EXTENSION pg_trgm ADD TABLE mine")

    error = str(replica.plan("public.mine").error)

    assert "belongs to the extension pg_trgm, which brings its own rows" in error
    replica.source.execute("CREATE VIEW seen AS SELECT * FROM mine")
    replica.sync({"source": "public.seen", "mode": "full_sync", "key": "id"})
    replica.assert_equal("public.seen")
