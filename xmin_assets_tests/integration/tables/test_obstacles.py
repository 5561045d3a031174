"""What a target's users have put on columns and keys that must change: found by the plan, before anything is read."""

from __future__ import annotations

import pytest

from xmin_assets_tests.replica import Replica

ITEMS = """
CREATE TABLE items (id int PRIMARY KEY, a int, b varchar(10), c int);
INSERT INTO items SELECT i, i, 'b' || i, i FROM generate_series(1, 50) i;
"""

FUNCTION = "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;"

RETYPED = "ALTER TABLE items ALTER a TYPE bigint"

OF_A_COLUMN = {
    "view": ("CREATE VIEW v AS SELECT a FROM items", "public.v in the target depends on the column a"),
    "materialized view": (
        "CREATE MATERIALIZED VIEW v AS SELECT a FROM items",
        "the materialized view public.v in the target depends on the column a",
    ),
    "policy": ("CREATE POLICY p ON items USING (a > 0)", "policy p on table public.items"),
    "trigger": (
        FUNCTION + "CREATE TRIGGER t BEFORE UPDATE OF a ON items FOR EACH ROW EXECUTE FUNCTION f()",
        "trigger t on table public.items",
    ),
    "trigger with a condition": (
        FUNCTION + "CREATE TRIGGER t BEFORE UPDATE ON items FOR EACH ROW WHEN (new.a = 5) EXECUTE FUNCTION f()",
        "trigger t on table public.items",
    ),
    "column list of a publication": (
        "CREATE PUBLICATION p FOR TABLE items (id, a)",
        "publication of table public.items in publication p",
    ),
    "row filter of a publication": (
        "ALTER TABLE items REPLICA IDENTITY FULL; CREATE PUBLICATION p FOR TABLE items WHERE (a > 0)",
        "publication of table public.items in publication p",
    ),
    "generated column": (
        "ALTER TABLE items ADD twice int GENERATED ALWAYS AS (a * 2) STORED",
        "the generated column twice in the target depends on the column a",
    ),
    "function": (
        "CREATE FUNCTION g() RETURNS bigint BEGIN ATOMIC SELECT sum(a) FROM items; END",
        "function public.g() in the target depends on the column a",
    ),
    "check that does not convert": (
        "ALTER TABLE items ADD CONSTRAINT even CHECK (int4eq(a, a))",
        "function int4eq(bigint, bigint) does not exist",
    ),
    "partition": (
        "CREATE TABLE parent (LIKE items) PARTITION BY RANGE (id); ALTER TABLE parent ATTACH PARTITION items DEFAULT",
        "has its columns from a table that it inherits from or is a partition of",
    ),
}


OF_ALL_COLUMNS = ("partition",)


@pytest.fixture
def items(replica: Replica) -> Replica:
    replica.source.execute(ITEMS)
    replica.sync("public.items")
    return replica


def assert_refused(items: Replica, said: str, table: object = "public.items") -> None:
    """By the plan and by the sync, which reads nothing."""
    assert isinstance(table, (str, dict))
    before = items.target.fetch("SELECT * FROM items ORDER BY id")
    error = str(items.plan(table).error)
    assert said in error
    assert "Nothing was changed." in error
    assert items.try_sync(table).error == error
    assert not list(items.spool.rglob("*.csv"))
    assert items.target.fetch("SELECT * FROM items ORDER BY id") == before


@pytest.mark.parametrize(("made", "said"), OF_A_COLUMN.values(), ids=[*OF_A_COLUMN])
def test_what_uses_a_column_that_gets_another_type_is_named(items: Replica, made: str, said: str) -> None:
    items.target.execute(made)
    items.source.execute(RETYPED)

    assert_refused(items, said)


@pytest.mark.parametrize("made", [made for name, (made, _) in OF_A_COLUMN.items() if name not in OF_ALL_COLUMNS])
def test_what_uses_another_column_is_not_in_the_way(items: Replica, made: str) -> None:
    items.target.execute(made)
    items.source.execute("ALTER TABLE items ALTER c TYPE bigint; ALTER TABLE items ADD d text")

    items.sync("public.items")
    items.assert_equal("public.items")


def test_an_index_without_an_operator_class_for_the_new_type_is_found(items: Replica) -> None:
    items.target.execute("CREATE INDEX ON items (b)")
    items.source.execute("ALTER TABLE items ALTER b TYPE json USING to_json(b)")

    assert_refused(items, "has no default operator class", {"source": "public.items", "convert": "refill"})


def test_a_default_that_does_not_convert_is_found(items: Replica) -> None:
    items.target.execute("ALTER TABLE items ALTER b SET DEFAULT 'x'")
    items.source.execute("CREATE TYPE kind AS ENUM ('b1'); ALTER TABLE items ALTER b TYPE kind USING 'b1'")

    table = {"source": "public.items", "convert": "refill"}
    assert_refused(items, "ALTER TABLE public.items ALTER COLUMN b DROP DEFAULT", table)
    items.target.execute("ALTER TABLE public.items ALTER COLUMN b DROP DEFAULT")
    items.sync(table)
    items.assert_equal("public.items")


def test_extended_statistics_and_indexes_are_carried_along(items: Replica) -> None:
    items.target.execute("CREATE STATISTICS s ON a, c FROM items; CREATE INDEX ON items ((a + c)) WHERE a > 5")
    items.source.execute(RETYPED)

    items.sync("public.items")
    items.assert_equal("public.items")


def test_what_goes_with_a_column_that_is_dropped_is_said_by_the_plan(items: Replica) -> None:
    items.target.execute("CREATE STATISTICS s ON a, c FROM items; CREATE INDEX i ON items (a, b)")
    items.target.execute("ALTER TABLE items ADD CONSTRAINT positive CHECK (a > 0)")
    items.source.execute("ALTER TABLE items DROP COLUMN a")
    table = {"source": "public.items", "dropped_columns": "drop"}

    planned = items.plan(table).snapshot

    assert planned is not None
    assert {*planned.plan.dropped_along} == {
        "index public.i",
        "statistics object public.s",
        "constraint positive on table public.items",
    }
    items.sync(table)
    items.assert_equal("public.items")


def test_a_foreign_key_on_a_key_that_is_dropped_is_named(items: Replica) -> None:
    items.target.execute("CREATE TABLE mine (item int REFERENCES items)")
    items.source.execute("ALTER TABLE items DROP CONSTRAINT items_pkey; ALTER TABLE items ADD PRIMARY KEY (a)")

    assert_refused(items, "constraint mine_item_fkey on table public.mine in the target depends on the key items_pkey")


def test_what_a_dropped_column_is_used_by_is_named(items: Replica) -> None:
    items.target.execute("CREATE PUBLICATION p FOR TABLE items (id, b)")
    items.source.execute("ALTER TABLE items DROP COLUMN b")

    assert_refused(
        items,
        "publication of table public.items in publication p",
        {"source": "public.items", "dropped_columns": "drop"},
    )


def test_a_column_that_the_target_is_partitioned_by_is_said_to_be_so(replica: Replica) -> None:
    replica.source.execute(ITEMS)
    replica.target.execute(
        "CREATE TABLE items (id int PRIMARY KEY, a int, b varchar(10), c int) PARTITION BY HASH (id)"
    )
    replica.target.execute("CREATE TABLE items_0 PARTITION OF items FOR VALUES WITH (MODULUS 1, REMAINDER 0)")
    replica.sync("public.items")
    replica.source.execute("ALTER TABLE items ALTER id TYPE bigint")

    assert_refused(replica, "is partitioned by the column id")


def test_a_view_of_a_partition_is_named(replica: Replica) -> None:
    replica.source.execute(ITEMS)
    replica.target.execute(
        "CREATE TABLE items (id int PRIMARY KEY, a int, b varchar(10), c int) PARTITION BY HASH (id)"
    )
    replica.target.execute("CREATE TABLE items_0 PARTITION OF items FOR VALUES WITH (MODULUS 1, REMAINDER 0)")
    replica.sync("public.items")
    replica.target.execute("CREATE VIEW v AS SELECT a FROM items_0")
    replica.source.execute(RETYPED)

    assert_refused(replica, "public.v in the target depends on the column a")


def test_a_column_of_a_replica_identity_that_is_no_longer_copied_is_named(items: Replica) -> None:
    items.target.execute("ALTER TABLE items ALTER a SET NOT NULL; CREATE UNIQUE INDEX u ON items (a)")
    items.target.execute("ALTER TABLE items REPLICA IDENTITY USING INDEX u")
    items.source.execute("ALTER TABLE items DROP COLUMN a")

    assert_refused(items, "is in the index that is its replica identity")


def test_a_table_of_a_composite_type_is_said_to_be_so(replica: Replica) -> None:
    replica.source.execute(ITEMS)
    replica.target.execute("CREATE TYPE item AS (id int, a int, b varchar(10), c int); CREATE TABLE items OF item")

    error = str(replica.plan("public.items").error)

    assert "is a table of a composite type, whose columns cannot be changed" in error
    replica.target.execute("ALTER TABLE items NOT OF")
    replica.sync("public.items")
    replica.assert_equal("public.items")


def test_a_plan_that_changes_nothing_looks_for_nothing(items: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("xmin_assets.replication.schema.alteration.require_unhindered", refuse)
    assert items.sync("public.items").rows_extracted == 0


OTHER = "CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other SELECT generate_series(1, 50);"

FOREIGN_KEYS = {
    "of another table": ("CREATE TABLE mine (item int REFERENCES items)", "id", "mine_item_fkey on table public.mine"),
    "of the copy": (
        OTHER + "ALTER TABLE items ADD FOREIGN KEY (a) REFERENCES other",
        "a",
        "items_a_fkey on table public.items",
    ),
    "of the copy to itself": (
        "ALTER TABLE items ADD FOREIGN KEY (a) REFERENCES items",
        "id",
        "items_a_fkey on table public.items",
    ),
}


@pytest.mark.parametrize(("made", "column", "name"), FOREIGN_KEYS.values(), ids=[*FOREIGN_KEYS])
def test_a_foreign_key_that_does_not_fit_the_new_type_is_named(
    items: Replica, made: str, column: str, name: str
) -> None:
    items.target.execute(made)
    items.source.execute(f"ALTER TABLE items ALTER {column} TYPE text")

    assert_refused(items, f"foreign key constraint {name} cannot be implemented")
    assert str(items.plan("public.items").error).count("Drop the foreign key, run the sync, and create it again") == 1
    constraint, table = name.split(" on table ")
    items.target.execute(f"ALTER TABLE {table} DROP CONSTRAINT {constraint}")
    items.sync("public.items")
    items.assert_equal("public.items")


@pytest.mark.parametrize(("made", "column"), [(made, column) for made, column, _ in FOREIGN_KEYS.values()])
def test_a_foreign_key_that_fits_the_new_type_is_carried_along(items: Replica, made: str, column: str) -> None:
    items.target.execute(made)
    items.source.execute(f"ALTER TABLE items ALTER {column} TYPE bigint")

    items.sync("public.items")
    items.assert_equal("public.items")


KEPT_BY = {
    "foreign key": (
        (
            "ALTER TABLE items ADD UNIQUE (a, c);"
            "CREATE TABLE mine (x int, y int, FOREIGN KEY (x, y) REFERENCES items (a, c))"
        ),
        "constraint mine_x_y_fkey on table public.mine",
        "ALTER TABLE mine DROP CONSTRAINT mine_x_y_fkey",
    ),
    "use of its sequence": (
        "CREATE SEQUENCE s OWNED BY items.c; CREATE TABLE mine (x int DEFAULT nextval('s'))",
        "default value for column x of table public.mine",
        "ALTER TABLE mine ALTER x DROP DEFAULT",
    ),
}


@pytest.mark.parametrize(("made", "name", "way_out"), KEPT_BY.values(), ids=[*KEPT_BY])
def test_what_keeps_a_column_from_being_dropped_is_named(items: Replica, made: str, name: str, way_out: str) -> None:
    items.target.execute(made)
    items.source.execute("ALTER TABLE items DROP c")
    table = {"source": "public.items", "dropped_columns": "drop"}

    assert_refused(items, f"{name} in the target depends on the column c", table)
    items.target.execute(way_out)
    items.sync(table)
    items.assert_equal("public.items")


OF_ROWS = {
    "table": ("CREATE TABLE mine (x items)", "public.mine.x"),
    "array": ("CREATE TABLE mine (x items[])", "public.mine.x"),
    "domain": ("CREATE DOMAIN d AS items; CREATE TABLE mine (y d)", "public.mine.y"),
    "composite": ("CREATE TYPE pair AS (x items); CREATE TABLE mine (y pair)", "public.mine.y"),
    "materialized view": ("CREATE MATERIALIZED VIEW mine AS SELECT items AS x FROM items", "public.mine.x"),
}


@pytest.mark.parametrize(("made", "name"), OF_ROWS.values(), ids=[*OF_ROWS])
def test_columns_that_have_rows_of_the_target_in_them_are_named(items: Replica, made: str, name: str) -> None:
    items.target.execute(made)
    items.source.execute(RETYPED)

    assert_refused(items, f'because column "{name}" uses its row type')


def test_rows_of_the_target_elsewhere_hinder_no_plain_column(items: Replica) -> None:
    items.target.execute("CREATE TYPE pair AS (x items); CREATE VIEW v AS SELECT items FROM items")
    items.target.execute("CREATE TABLE mine (x items)")
    items.source.execute("ALTER TABLE items ADD d text DEFAULT 'x'")

    items.sync("public.items")
    items.assert_equal("public.items")


def test_a_new_column_of_a_domain_with_a_check_is_hindered_by_rows_elsewhere(items: Replica) -> None:
    for side in (items.source, items.target):
        side.execute("CREATE DOMAIN positive AS int CHECK (value > 0)")
    items.target.execute("CREATE TABLE mine (x items)")
    items.source.execute("ALTER TABLE items ADD d positive DEFAULT 5")

    assert_refused(items, 'because column "public.mine.x" uses its row type')


OTHER_KEY = "ALTER TABLE items DROP CONSTRAINT items_pkey; ALTER TABLE items ADD PRIMARY KEY (id, a)"

PUBLISHED = {
    "all tables": "CREATE PUBLICATION p FOR ALL TABLES",
    "the table": "CREATE PUBLICATION p FOR TABLE items",
    "the schema": "CREATE PUBLICATION p FOR TABLES IN SCHEMA public",
    "its key's index": "ALTER TABLE items REPLICA IDENTITY USING INDEX items_pkey; CREATE PUBLICATION p FOR ALL TABLES",
}


@pytest.mark.parametrize("made", PUBLISHED.values(), ids=[*PUBLISHED])
def test_a_key_that_a_publication_needs_is_not_dropped(items: Replica, made: str) -> None:
    items.target.execute(made)
    items.source.execute(OTHER_KEY)

    assert_refused(items, "Run there: ALTER TABLE public.items REPLICA IDENTITY FULL, and run the sync again")
    items.target.execute("ALTER TABLE public.items REPLICA IDENTITY FULL")
    items.sync("public.items")
    items.assert_equal("public.items")


def test_a_column_that_a_publication_needs_is_not_dropped(items: Replica) -> None:
    items.target.execute("ALTER TABLE items ALTER c SET NOT NULL; CREATE UNIQUE INDEX u ON items (c)")
    items.target.execute("ALTER TABLE items REPLICA IDENTITY USING INDEX u; CREATE PUBLICATION p FOR TABLE items")
    items.source.execute("ALTER TABLE items DROP c; UPDATE items SET b = 'x' WHERE id = 1")
    table = {"source": "public.items", "dropped_columns": "drop"}

    assert_refused(items, "whose replica identity goes with what must be changed", table)
    items.target.execute("ALTER TABLE public.items REPLICA IDENTITY FULL")
    items.sync(table)
    items.assert_equal("public.items")


NOT_IN_NEED = {
    "inserts only": "CREATE PUBLICATION p FOR TABLE items WITH (publish = 'insert')",
    "the whole row": "ALTER TABLE items REPLICA IDENTITY FULL; CREATE PUBLICATION p FOR TABLE items",
    "another table": "CREATE TABLE mine (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE mine",
}


@pytest.mark.parametrize("made", NOT_IN_NEED.values(), ids=[*NOT_IN_NEED])
def test_a_publication_that_needs_no_key_hinders_nothing(items: Replica, made: str) -> None:
    items.target.execute(made)
    items.source.execute(OTHER_KEY)

    items.sync("public.items")
    items.assert_equal("public.items")


PARENTS = {
    "partition": "CREATE TABLE parent ({columns}) PARTITION BY HASH (id);"
    "CREATE TABLE items PARTITION OF parent FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
    "heir": "CREATE TABLE parent ({columns}); CREATE TABLE items (PRIMARY KEY (id)) INHERITS (parent)",
}
CHANGED_THERE = {
    "added": ("ALTER TABLE items ADD d int DEFAULT 5", "ALTER TABLE parent ADD d int"),
    "renamed": ("ALTER TABLE items RENAME a TO z", "ALTER TABLE parent RENAME a TO z"),
    "retyped": (RETYPED, RETYPED.replace("items", "parent")),
}


@pytest.mark.parametrize("parent", PARENTS.values(), ids=[*PARENTS])
@pytest.mark.parametrize(("change", "way_out"), CHANGED_THERE.values(), ids=[*CHANGED_THERE])
def test_a_target_whose_parent_is_changed_instead_is_followed(
    replica: Replica, parent: str, change: str, way_out: str
) -> None:
    replica.source.execute(ITEMS)
    columns = "id int PRIMARY KEY, a int, b varchar(10), c int, source_xmin bigint"
    replica.target.execute(parent.format(columns=columns))
    replica.sync("public.items")
    replica.source.execute(change)
    if not (parent == PARENTS["heir"] and "ADD" in change):  # an heir may have columns of its own
        assert "which must be changed instead" in str(replica.plan("public.items").error)

    replica.target.execute(way_out)

    replica.sync("public.items")
    replica.assert_equal("public.items")
