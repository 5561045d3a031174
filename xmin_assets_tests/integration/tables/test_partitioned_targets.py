"""Targets that are partitioned, or inherited from: what their parts have of their own is known to the plan, too."""

from __future__ import annotations

import pytest

from xmin_assets_tests.replica import Replica

COLUMNS = "id int, a int, b varchar(10), c int"
ITEMS = f"""
CREATE TABLE items ({COLUMNS}, PRIMARY KEY (id));
INSERT INTO items SELECT i, i, 'b' || i, i FROM generate_series(1, 20) i;
"""
PARTITIONED = f"""
CREATE TABLE items ({COLUMNS}, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE items_1 PARTITION OF items DEFAULT;
"""
OTHER = "CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other SELECT generate_series(1, 20);"
RETYPED = "ALTER TABLE items ALTER a TYPE bigint"
TO_JSON = "ALTER TABLE items ALTER b TYPE json USING to_json(b)"
REFILL = {"source": "public.items", "convert": "refill"}


def partitioned(replica: Replica, made: str = PARTITIONED, source: str = ITEMS) -> Replica:
    replica.source.execute(source)
    replica.target.execute(made)
    replica.sync("public.items")
    return replica


def assert_refused(items: Replica, *said: str, table: object = "public.items") -> None:
    assert isinstance(table, (str, dict))
    error = str(items.plan(table).error)
    for words in said:
        assert words in error
    assert "Nothing was changed." in error
    assert items.try_sync(table).error == error


OWN = {
    "index": ("CREATE INDEX i ON {part} (b)", TO_JSON, "Where an index of yours has the column b", "DROP INDEX i"),
    "check": (
        "ALTER TABLE {part} ADD CONSTRAINT k CHECK (int4eq(a, a))",
        RETYPED,
        "Where a check, an index or a default of yours uses the column a",
        "ALTER TABLE {part} DROP CONSTRAINT k",
    ),
    "default": (
        "ALTER TABLE {part} ALTER b SET DEFAULT 'x'",
        TO_JSON,
        "Run ALTER TABLE public.items ALTER COLUMN b DROP DEFAULT there",
        "ALTER TABLE public.items ALTER COLUMN b DROP DEFAULT",
    ),
    "foreign key": (
        OTHER + "ALTER TABLE {part} ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES other",
        "ALTER TABLE items ALTER a TYPE text",
        "foreign key constraint f on table public.{part} cannot be implemented",
        "ALTER TABLE {part} DROP CONSTRAINT f",
    ),
}


@pytest.mark.parametrize("part", ["items_1", "kid"])
@pytest.mark.parametrize(("made", "change", "said", "way_out"), OWN.values(), ids=[*OWN])
def test_what_a_part_has_of_its_own_is_named(
    replica: Replica, part: str, made: str, change: str, said: str, way_out: str
) -> None:
    heir = f"CREATE TABLE items ({COLUMNS}, PRIMARY KEY (id)); CREATE TABLE kid (extra text) INHERITS (items);"
    items = partitioned(replica, heir if part == "kid" else PARTITIONED)
    items.target.execute(made.format(part=part))
    items.source.execute(change)

    assert_refused(items, said.format(part=part), table=REFILL)
    items.target.execute(way_out.format(part=part))
    items.sync(REFILL)
    items.assert_equal("public.items")


def test_parts_with_something_of_their_own_follow_what_they_can(replica: Replica) -> None:
    items = partitioned(
        replica,
        "CREATE TABLE items (id int GENERATED ALWAYS AS IDENTITY, a int DEFAULT 1, b varchar(10) DEFAULT 'x', c int, "
        "PRIMARY KEY (id, a)) PARTITION BY RANGE (id); CREATE INDEX ON items (b); ALTER TABLE items ADD CHECK (c > 0);"
        "CREATE TABLE items_1 PARTITION OF items DEFAULT PARTITION BY HASH (a);"
        "CREATE TABLE items_2 PARTITION OF items_1 (CHECK (c > -1)) FOR VALUES WITH (MODULUS 1, REMAINDER 0);"
        "CREATE INDEX ON items_2 (c); CREATE STATISTICS s ON b, c FROM items_2;"
        "ALTER TABLE items_2 ALTER b DROP DEFAULT",
        ITEMS.replace("(id)", "(id, a)"),
    )
    items.source.execute(
        "ALTER TABLE items ALTER b TYPE text, ALTER c TYPE bigint; ALTER TABLE items ADD d int DEFAULT 4"
    )
    items.source.execute("ALTER TABLE items RENAME c TO e")

    items.sync("public.items")
    items.assert_equal("public.items")


def test_a_foreign_key_on_the_key_of_a_partition_is_named(replica: Replica) -> None:
    items = partitioned(replica)
    items.target.execute("CREATE TABLE mine (id int REFERENCES items_1)")
    items.source.execute("ALTER TABLE items DROP CONSTRAINT items_pkey; ALTER TABLE items ADD PRIMARY KEY (id, a)")

    assert_refused(items, "constraint mine_id_fkey on table public.mine in the target depends on the key items_pkey")
    items.target.execute("ALTER TABLE mine DROP CONSTRAINT mine_id_fkey")
    items.sync("public.items")
    items.assert_equal("public.items")


@pytest.mark.parametrize("published", ["items", "items_1"])
def test_a_key_that_a_publication_of_a_partition_needs(replica: Replica, published: str) -> None:
    items = partitioned(replica)
    items.target.execute(f"CREATE PUBLICATION p FOR TABLE {published}")
    items.source.execute("ALTER TABLE items DROP CONSTRAINT items_pkey; ALTER TABLE items ADD PRIMARY KEY (id, a)")

    assert_refused(items, "Run there: ALTER TABLE public.items_1 REPLICA IDENTITY FULL, and run the sync again")
    items.target.execute("ALTER TABLE public.items_1 REPLICA IDENTITY FULL")
    items.sync("public.items")
    items.assert_equal("public.items")


BY = {"column": "c", "expression": "(c + 1)"}


@pytest.mark.parametrize("by", BY.values(), ids=[*BY])
def test_a_target_that_is_partitioned_by_what_is_not_in_the_key(replica: Replica, by: str) -> None:
    replica.source.execute(ITEMS)
    replica.target.execute(f"CREATE TABLE items ({COLUMNS}) PARTITION BY RANGE ({by})")
    replica.target.execute("CREATE TABLE items_1 PARTITION OF items DEFAULT")

    assert_refused(replica, "Name the columns that it is partitioned by in key:")
    assert not list(replica.spool.rglob("*.csv"))
    if by == "c":
        table = {"source": "public.items", "key": ["id", "c"]}
        replica.sync(table)
        replica.source.execute("UPDATE items SET c = c + 100 WHERE id < 5; DELETE FROM items WHERE id = 7")
        replica.sync(table)
        replica.assert_equal("public.items")
    replica.sync({"source": "public.items", "target": "public.another"})
    replica.assert_equal("public.items", "public.another")


def test_a_column_that_is_in_an_expression_of_the_partitioning(replica: Replica) -> None:
    table = {"source": "public.items", "mode": "full_sync"}
    replica.source.execute(ITEMS.replace(", PRIMARY KEY (id)", ""))
    replica.target.execute(f"CREATE TABLE items ({COLUMNS}) PARTITION BY RANGE ((a + 1))")
    replica.target.execute("CREATE TABLE items_1 PARTITION OF items DEFAULT")
    replica.sync(table)
    replica.source.execute(RETYPED)

    assert_refused(
        replica,
        'cannot alter column "a" because it is part of the partition key of relation "public.items"',
        table=table,
    )


def test_a_column_that_partitions_are_divided_by(replica: Replica) -> None:
    items = partitioned(
        replica,
        f"CREATE TABLE items ({COLUMNS}, PRIMARY KEY (id, a)) PARTITION BY RANGE (id);"
        "CREATE TABLE items_1 PARTITION OF items DEFAULT PARTITION BY RANGE (a);"
        "CREATE TABLE items_2 PARTITION OF items_1 DEFAULT",
        ITEMS.replace("(id)", "(id, a)"),
    )
    items.source.execute(RETYPED)

    assert_refused(items, 'part of the partition key of relation "public.items_1"', "Create the table anew")


def test_a_partition_with_a_primary_key_of_its_own(replica: Replica) -> None:
    replica.source.execute(ITEMS.replace(", PRIMARY KEY (id)", ""))
    replica.target.execute(PARTITIONED.replace(", PRIMARY KEY (id)", "") + "ALTER TABLE items_1 ADD PRIMARY KEY (a)")

    table = {"source": "public.items", "key": ["id"]}
    assert_refused(replica, 'multiple primary keys for table "public.items_1"', table=table)


def test_an_heir_that_has_another_parent_too(replica: Replica) -> None:
    items = partitioned(
        replica,
        f"CREATE TABLE items ({COLUMNS}, PRIMARY KEY (id)); CREATE TABLE another (a int);"
        "CREATE TABLE kid () INHERITS (items, another)",
    )
    items.source.execute(RETYPED)

    assert_refused(items, 'cannot alter inherited column "a" of relation "public.kid"')


def test_a_row_that_no_partition_is_for(replica: Replica) -> None:
    items = partitioned(replica, PARTITIONED.replace("DEFAULT", "FOR VALUES FROM (0) TO (50)"))
    items.source.execute("INSERT INTO items VALUES (99, 1, 'x', 1)")

    assert str(items.try_sync("public.items").error).endswith(
        "Create a partition for it, or one that is DEFAULT, and run the sync again."
    )
    items.target.execute("CREATE TABLE items_2 PARTITION OF items DEFAULT")
    items.sync("public.items")
    items.assert_equal("public.items")


def test_partitions_that_have_nothing_of_their_own_are_not_imitated(replica: Replica) -> None:
    bounds = ";".join(
        f"CREATE TABLE items_{n} PARTITION OF items FOR VALUES WITH (MODULUS 300, REMAINDER {n})" for n in range(300)
    )
    items = partitioned(replica, f"CREATE TABLE items ({COLUMNS}, PRIMARY KEY (id)) PARTITION BY HASH (id); {bounds}")
    items.target.execute("CREATE INDEX ON items_7 (b)")
    items.source.execute(RETYPED)
    assert items.plan("public.items").error is None
    items.source.execute(TO_JSON)

    assert_refused(items, "Where an index of yours has the column b", table=REFILL)
