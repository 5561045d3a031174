"""Partitions, and tables that inherit, which are altered while they are detached: no row of them is written to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from xmin_assets_tests.replica import Replica

PARTED = """
CREATE TABLE items (id int PRIMARY KEY, a text, b text, f bool, g bool) PARTITION BY RANGE (id);
CREATE TABLE low PARTITION OF items FOR VALUES FROM (0) TO (100) PARTITION BY RANGE (id);
CREATE TABLE lowest PARTITION OF low FOR VALUES FROM (0) TO (100);
CREATE TABLE high PARTITION OF items FOR VALUES FROM (100) TO (200);
INSERT INTO items SELECT i, 'a' || i, 'b' || i, i % 2 = 0, i % 2 = 1 FROM generate_series(0, 199) i;
"""
HEIRS = """
CREATE TABLE items (id int PRIMARY KEY, a text, b text, f bool, g bool);
CREATE TABLE low (extra int) INHERITS (items);
INSERT INTO low SELECT i, 'a' || i, 'b' || i, i % 2 = 0, i % 2 = 1, 0 FROM generate_series(0, 99) i;
INSERT INTO items SELECT i, 'a' || i, 'b' || i, i % 2 = 0, i % 2 = 1 FROM generate_series(100, 199) i;
"""
SWAP = "ALTER TABLE low RENAME {0} TO x; ALTER TABLE low RENAME {1} TO {0}; ALTER TABLE low RENAME x TO {1};"
REMAKE = "ALTER TABLE low DROP COLUMN a; ALTER TABLE low ADD COLUMN a text DEFAULT 'new';"

APART = {
    "partition": (PARTED, "DETACH PARTITION low", "ATTACH PARTITION low FOR VALUES FROM (0) TO (100)"),
    "heir": (HEIRS, None, None),
}


@pytest.fixture(params=APART)
def altered(request: pytest.FixtureRequest, replica: Replica) -> Callable[[str], None]:
    """Alters a part of the table `items`, taken out of it meanwhile."""
    create, detach, attach = APART[request.param]
    replica.source.execute(create)

    def alter(statements: str) -> None:
        if detach:
            replica.source.execute(f"ALTER TABLE items {detach}; {statements} ALTER TABLE items {attach}")
        else:
            replica.source.execute(f"ALTER TABLE low NO INHERIT items; {statements} ALTER TABLE low INHERIT items")

    return alter


@pytest.mark.parametrize("statements", [SWAP.format("a", "b"), REMAKE], ids=["names swapped", "made anew"])
def test_a_column_that_is_another_one_in_a_partition_is_read_there(
    replica: Replica, altered: Callable[[str], None], statements: str
) -> None:
    items: dict[str, Any] = {"source": "public.items", "key": "id"}
    replica.sync(items)
    altered(statements)

    before = replica.verify(items)
    result = replica.sync(items)

    replica.assert_equal("public.items")
    assert (before.status, before.pending) == ("match", 100)
    assert (result.mode, result.rows_extracted, result.rows_updated) == ("xmin_incremental", 100, 100)
    assert "all rows of a partition detached, altered and attached again" in (result.reason or "")
    idle = replica.sync(items)
    assert (idle.rows_extracted, replica.verify(items).pending) == (0, 0)


def test_a_column_that_where_names_chooses_other_rows(replica: Replica, altered: Callable[[str], None]) -> None:
    items: dict[str, Any] = {"source": "public.items", "key": "id", "columns": ["id"], "where": "f"}
    replica.sync(items)
    altered(SWAP.format("f", "g"))

    result = replica.sync(items)

    assert (result.rows_inserted, result.rows_deleted) == (50, 50)
    wanted = [(i,) for i in range(200) if (i % 2 == 1 if i < 100 else i % 2 == 0)]
    assert replica.target.fetch("SELECT id FROM items ORDER BY id") == wanted


def test_what_is_not_copied_costs_nothing(replica: Replica, altered: Callable[[str], None]) -> None:
    items: dict[str, Any] = {"source": "public.items", "key": "id", "exclude_columns": ["f", "g"]}
    replica.sync(items)
    altered(SWAP.format("f", "g"))

    assert replica.sync(items).rows_extracted == 0
