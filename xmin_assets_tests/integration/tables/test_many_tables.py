"""Seventy tables of all shapes in one sync, and what an idle one costs a table."""

from __future__ import annotations

import time
from typing import Any

import pytest

from xmin_assets import sync_tables
from xmin_assets_tests.integration.ledger import counts
from xmin_assets_tests.replica import Replica

EACH = 7
"""Tables of each shape."""

PARTITIONED = """
CREATE TABLE {0} (id int PRIMARY KEY, n int) PARTITION BY HASH (id);
CREATE TABLE {0}_0 PARTITION OF {0} FOR VALUES WITH (modulus 2, remainder 0);
CREATE TABLE {0}_1 PARTITION OF {0} FOR VALUES WITH (modulus 2, remainder 1);
"""

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("CREATE TABLE {0} (id int PRIMARY KEY, n int, note text)", {}),
    "soft": ("CREATE TABLE {0} (id bigint PRIMARY KEY, n int)", {"deletes": "soft"}),
    "composite": ("CREATE TABLE {0} (id int, n int NOT NULL, m text DEFAULT 'm', PRIMARY KEY (m, id))", {}),
    "filtered": ("CREATE TABLE {0} (id int PRIMARY KEY, n int, note json)", {"where": "n > 0", "columns": ["id", "n"]}),
    "keyless": ("CREATE TABLE {0} (id int, n int)", {"mode": "full_sync"}),
    "by_cursor": ("CREATE TABLE {0} (id int PRIMARY KEY, n int)", {"mode": "incremental_sync", "cursor": "n"}),
    "partitioned": (PARTITIONED, {}),
    "view": (
        "CREATE TABLE {0}_base (id int PRIMARY KEY, n int); CREATE VIEW {0} AS SELECT id, n FROM {0}_base",
        {"mode": "full_sync", "key": "id"},
    ),
    "enum": ("CREATE TYPE {0}_mood AS ENUM ('a'); CREATE TABLE {0} (id int PRIMARY KEY, n int, m {0}_mood)", {}),
    "wide": (
        "CREATE TABLE {0} (id uuid DEFAULT gen_random_uuid() PRIMARY KEY, n int, x bytea, y int[], z tsrange)",
        {},
    ),
}


@pytest.fixture
def tables(replica: Replica) -> list[dict[str, Any]]:
    """Twenty rows in each of the tables."""
    configured: list[dict[str, Any]] = []
    for shape, (create, options) in SHAPES.items():
        for number in range(EACH):
            name = f"{shape}_{number}"
            ids = "n" if shape == "wide" else "id, n"
            values = "i" if shape == "wide" else "i, i"
            replica.source.execute(create.format(name))
            replica.source.execute(f"INSERT INTO {name} ({ids}) SELECT {values} FROM generate_series(1, 20) i")
            configured.append({"source": f"public.{name}", **options})
    return configured


def test_seventy_tables_of_all_shapes_sync_and_are_idle_again(replica: Replica, tables: list[dict[str, Any]]) -> None:
    config = replica.config(*tables)
    first = sync_tables(config).tables
    took = []
    for _ in range(3):
        began = time.monotonic()
        idle = sync_tables(config).tables
        took.append((time.monotonic() - began) / len(tables))
    replica.source.execute(f"UPDATE plain_3 SET n = 0 WHERE id = 1; DELETE FROM partitioned_{EACH - 1} WHERE id = 2")
    changed = sync_tables(config).tables

    assert [result.error for result in (*first, *idle, *changed)] == [None] * 3 * len(tables)
    assert {counts(result) for result in first} == {(20, 20, 0, 0)}
    assert {counts(result)[1:] for result in idle} == {(0, 0, 0)}
    assert [(result.table, *counts(result)[1:]) for result in changed if any(counts(result)[1:])] == [
        ("public.plain_3", 0, 1, 0),
        (f"public.partitioned_{EACH - 1}", 0, 0, 1),
    ]
    for table in tables:
        if "columns" not in table:
            replica.assert_equal(table["source"])
    assert min(took) < 0.5, f"an idle sync takes {min(took):.3f} s a table"
