"""A clause is evaluated for a row as the table shows it, not as its partition would."""

from __future__ import annotations

import pytest

from xmin_assets.replication.changed_blocks.prerequisites import UNLIKE_PARTITIONS
from xmin_assets.replication.doctor import diagnose
from xmin_assets_tests.clusters import Workshop
from xmin_assets_tests.replica import Replica

PARENT = """
CREATE TABLE items (id int NOT NULL, kept bool NOT NULL, note text) PARTITION BY RANGE (id);
CREATE TABLE low PARTITION OF items FOR VALUES FROM (0) TO (100);
CREATE TABLE high (note text, gone int, id int NOT NULL, kept bool NOT NULL);
ALTER TABLE high DROP gone;
ALTER TABLE items ATTACH PARTITION high FOR VALUES FROM (100) TO (200);
INSERT INTO items SELECT i, i % 2 = 0, 'n' FROM generate_series(90, 109) i;
"""
KEPT = [i for i in range(90, 110) if i % 2 == 0]


def ids(replica: Replica) -> list[int]:
    return [number for (number,) in replica.target.fetch("SELECT id FROM items ORDER BY id")]


@pytest.mark.parametrize("where", ["items.kept", "public.items.kept", "items::text LIKE '%,t,n)'", "(items.*).kept"])
def test_it_may_name_a_partitioned_table_itself(replica: Replica, where: str) -> None:
    replica.source.execute(PARENT)
    table = {"source": "public.items", "key": ["id"], "where": where}
    replica.sync(table)
    assert ids(replica) == KEPT
    replica.source.execute("UPDATE items SET kept = NOT kept WHERE id IN (90, 101)")

    replica.sync(table)

    assert ids(replica) == sorted({*KEPT, 101} - {90})
    assert replica.verify(table).status == "match"


def test_the_doctor_says_what_the_tables_name_in_it_costs(replica: Replica) -> None:
    replica.source.execute(PARENT)

    (named,) = diagnose(replica.config({"source": "public.items", "key": ["id"], "where": "items.kept"}))
    (bare,) = diagnose(replica.config({"source": "public.items", "key": ["id"], "where": "kept"}))

    assert [missing for missing in named.missing if missing not in bare.missing] == [UNLIKE_PARTITIONS]


def test_a_row_of_a_table_that_inherits_is_one_of_its_parent(replica: Replica) -> None:
    replica.source.execute(
        "CREATE TABLE items (id int, n int); CREATE TABLE more (extra text) INHERITS (items);"
        "INSERT INTO items VALUES (1, 5), (2, 6); INSERT INTO more VALUES (3, 5, 'x'), (4, 6, 'x')"
    )
    table = {"source": "public.items", "key": ["id"], "where": "items::text LIKE '%,5)'"}

    replica.sync(table)

    assert ids(replica) == [1, 3]
    assert replica.verify(table).status == "match"


def test_columns_of_partitions_may_be_in_another_order(replica: Replica) -> None:
    replica.source.execute(PARENT)
    table = {"source": "public.items", "key": ["id"], "where": "kept", "columns": ["id"], "max_delete_share": 1}
    replica.sync(table)
    assert ids(replica) == KEPT
    replica.source.execute("ALTER TABLE items RENAME kept TO old; ALTER TABLE items ADD kept bool DEFAULT true")

    replica.sync(table)

    assert ids(replica) == [*range(90, 110)]
    assert replica.verify(table).status == "match"


@pytest.mark.parametrize("options", [{}, {"where": "v < 0", "columns": ["id"]}])
def test_a_virtual_column_is_computed_as_the_table_has_it(
    replica: Replica, workshop: Workshop, options: dict[str, object]
) -> None:
    if workshop.version < 18:
        pytest.skip("virtual columns came with PostgreSQL 18")
    replica.source.execute(
        "CREATE TABLE items (id int NOT NULL, n int, v int GENERATED ALWAYS AS (n) VIRTUAL) PARTITION BY RANGE (id);"
        "CREATE TABLE low PARTITION OF items FOR VALUES FROM (0) TO (100);"
        "CREATE TABLE high (id int NOT NULL, n int, v int GENERATED ALWAYS AS (-n) VIRTUAL);"
        "ALTER TABLE items ATTACH PARTITION high FOR VALUES FROM (100) TO (200);"
        "INSERT INTO items VALUES (1, 1), (2, -2), (101, 1), (102, -2)"
    )
    table = {"source": "public.items", "key": ["id"], **options}

    replica.sync(table)

    if options:
        assert ids(replica) == [2, 102]
    else:
        assert replica.target.fetch("SELECT id, v FROM items ORDER BY id") == [(1, 1), (2, -2), (101, 1), (102, -2)]
    assert replica.verify(table).status == "match"
