"""A row's answer to the clause can change with the columns and types that it names: then everything is read again."""

from __future__ import annotations

import pytest

from xmin_assets.config import Mode
from xmin_assets_tests.clusters import Workshop
from xmin_assets_tests.replica import Replica

ITEMS = "public.items"
CREATE = """
CREATE TYPE mood AS ENUM ('paid', 'open');
CREATE TYPE place AS (street text, town text);
CREATE DOMAIN state AS mood;
CREATE TABLE items (
    id int PRIMARY KEY, x int NOT NULL, a bool NOT NULL, b bool NOT NULL, status mood NOT NULL, held state NOT NULL,
    said text NOT NULL, addr place NOT NULL, "odd ""name" bool NOT NULL DEFAULT true
);
INSERT INTO items VALUES
    (1, 1, true, false, 'paid', 'paid', 'open', ('s', 't')), (2, 2, false, true, 'open', 'open', 'paid', ('t', 's'));
"""


@pytest.fixture
def items(replica: Replica) -> Replica:
    replica.source.execute(CREATE)
    return replica


def ids(replica: Replica) -> list[int]:
    return [number for (number,) in replica.target.fetch("SELECT id FROM items ORDER BY id")]


SWAP = "ALTER TABLE items RENAME {0} TO c; ALTER TABLE items RENAME {1} TO {0}; ALTER TABLE items RENAME c TO {1}"


RELABEL = (
    "ALTER TYPE mood RENAME VALUE 'paid' TO 'x'; ALTER TYPE mood RENAME VALUE 'open' TO 'paid';"
    "ALTER TYPE mood RENAME VALUE 'x' TO 'open'"
)
ODD = 'ALTER TABLE items DROP "odd ""name"; ALTER TABLE items ADD "odd ""name" bool NOT NULL DEFAULT false'
ANEW = "ALTER TABLE items DROP a; ALTER TABLE items ADD a bool NOT NULL DEFAULT true"
ATTRIBUTES = "ALTER TYPE place RENAME ATTRIBUTE street TO x; ALTER TYPE place RENAME ATTRIBUTE town TO street"


@pytest.mark.parametrize(
    ("where", "change", "before", "after", "told"),
    [
        ("a", SWAP.format("a", "b"), [1], [2], "another column has the name a"),
        ('"a" AND A', SWAP.format("a", "b"), [1], [2], "another column has the name a"),
        ("a", ANEW, [1], [1, 2], "another column has the name a"),
        ('"odd ""name"', ODD, [1, 2], [], 'another column has the name odd "name'),
        ("status = 'paid'", RELABEL, [1], [2], "the type public.mood, which"),
        ("held::text = 'paid'", RELABEL, [1], [2], "the type public.mood, which"),
        # Of a type, only its order matters here: open came after paid.
        ("said::mood > 'paid'", RELABEL, [1], [], "the type public.mood, which"),
        ("(addr).street = 's'", ATTRIBUTES, [1], [2], "the type public.place, which"),
        ("items::text LIKE '%y)'", "ALTER TABLE items ADD z text DEFAULT 'y'", [], [1, 2], "has the name z"),
        ("U&\"!0061\" UESCAPE '!'", SWAP.format("a", "b"), [1], [2], "is now called"),
    ],
)
def test_where_what_it_names_was_changed_everything_is_read_and_compared(
    items: Replica, where: str, change: str, before: list[int], after: list[int], told: str
) -> None:
    table = {"source": ITEMS, "where": where, "columns": ["id", "x"], "max_delete_share": 1}
    items.sync(table)
    assert ids(items) == before
    items.source.execute(change)

    result = items.sync(table)

    assert result.mode == Mode.FULL_SYNC.value
    assert told in str(result.reason)
    assert ids(items) == after
    assert items.verify(table).status == "match"
    assert items.sync(table).mode == Mode.XMIN_INCREMENTAL.value


def test_a_copied_column_that_it_names_is_told_apart_likewise(items: Replica) -> None:
    table = {"source": ITEMS, "where": "a", "columns": ["id", "a", "b"], "max_delete_share": 1}
    items.sync(table)
    items.source.execute(SWAP.format("a", "b"))

    items.sync(table)

    assert items.target.fetch("SELECT id, a, b FROM items") == [(2, True, False)]


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE items ADD z int DEFAULT 7",
        "ALTER TABLE items RENAME b TO z",
        "ALTER TABLE items DROP addr",
        "ALTER TYPE mood ADD VALUE 'lost' BEFORE 'paid'",
        "CREATE TYPE other AS ENUM ('a')",
        "CREATE TABLE paid (id int)",
        "CREATE SCHEMA elsewhere; CREATE TYPE elsewhere.paid AS ENUM ('a')",
        "ALTER TYPE place RENAME ATTRIBUTE street TO road",
    ],
)
def test_what_it_cannot_name_costs_nothing(items: Replica, change: str) -> None:
    table = {"source": ITEMS, "where": "a AND status = 'paid'", "columns": ["id", "x"]}
    items.sync(table)
    items.source.execute(change)

    assert items.sync(table).mode == Mode.XMIN_INCREMENTAL.value


def test_verify_says_why_rows_differ_that_the_next_sync_brings(items: Replica) -> None:
    table = {"source": ITEMS, "where": "a", "columns": ["id", "x"]}
    items.sync(table)
    items.source.execute(SWAP.format("a", "b"))

    verified = items.verify(table)

    assert (verified.status, verified.missing, verified.extra) == ("mismatch", 1, 1)
    assert "another column has the name a, which the where clause or a generated column may use" in str(verified.note)


def test_an_extension_that_comes_later_may_bring_another_meaning(items: Replica) -> None:
    table = {"source": ITEMS, "where": "x = 2", "columns": ["id"]}
    items.sync(table)
    assert ids(items) == [2]
    items.source.execute("CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext")

    result = items.sync(table)

    assert (result.mode, result.rows_updated) == (Mode.FULL_SYNC.value, 0)
    assert "the where clause finds functions and operators in other schemas" in str(result.reason)


@pytest.fixture
def virtual(workshop: Workshop, items: Replica) -> Replica:
    if workshop.version < 18:
        pytest.skip("virtual columns came with PostgreSQL 18")
    items.source.execute("ALTER TABLE items ADD y int; UPDATE items SET y = -10 * x")
    items.source.execute("ALTER TABLE items ADD v int GENERATED ALWAYS AS (x + 2 * y) VIRTUAL")
    return items


def test_a_virtual_column_that_is_not_copied_may_change_its_expression(virtual: Replica) -> None:
    table = {"source": ITEMS, "where": "v = -19", "columns": ["id"], "max_delete_share": 1}
    virtual.sync(table)
    assert ids(virtual) == [1]
    virtual.source.execute("ALTER TABLE items ALTER v SET EXPRESSION AS (1 - x * 10)")

    virtual.sync(table)

    assert ids(virtual) == [2]


@pytest.mark.parametrize("options", [{"where": "v < 0", "columns": ["id"]}, {"columns": ["id", "v"]}])
def test_the_columns_of_an_expression_that_is_the_same_may_be_others(
    virtual: Replica, options: dict[str, object]
) -> None:
    table = {"source": ITEMS, "max_delete_share": 1, **options}
    virtual.sync(table)
    virtual.source.execute(SWAP.format("x", "y"))
    virtual.source.execute("ALTER TABLE items ALTER v SET EXPRESSION AS (x + 2 * y)")

    virtual.sync(table)

    if "where" in options:
        assert ids(virtual) == [1, 2] == [i for (i,) in virtual.source.fetch("SELECT id FROM items WHERE v < 0")]
    else:
        assert virtual.target.fetch("SELECT id, v FROM items ORDER BY id") == [(1, -8), (2, -16)]
    assert virtual.verify(table).status == "match"
