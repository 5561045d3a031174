"""What keeps a role from writing a target is found by the plan; rows may take each other's unique values."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from xmin_assets_tests.replica import Replica

ITEMS = """
CREATE TABLE items (id int PRIMARY KEY, code text, place int NOT NULL, note text);
INSERT INTO items SELECT i, 'c' || i, i, 'n' FROM generate_series(1, 20) i;
"""


@pytest.fixture
def items(replica: Replica) -> Replica:
    replica.source.execute(ITEMS)
    replica.sync("public.items")
    return replica


def assert_refused(items: Replica, *said: str) -> None:
    items.source.execute("UPDATE items SET note = 'later' WHERE id = 1")
    error = str(items.plan("public.items").error)
    for words in said:
        assert words in error
    assert items.try_sync("public.items").error == error
    assert not list(items.spool.rglob("*.csv"))


@pytest.mark.parametrize("publication", ["FOR ALL TABLES", "FOR TABLE items"])
def test_a_publication_of_a_table_without_replica_identity(replica: Replica, publication: str) -> None:
    replica.source.execute("CREATE TABLE items (note text); INSERT INTO items VALUES ('a'), ('b')")
    table = {"source": "public.items", "mode": "full_sync"}
    replica.sync(table)
    replica.target.execute(f"CREATE PUBLICATION p {publication}")
    replica.source.execute("DELETE FROM items WHERE note = 'a'")

    error = str(replica.plan(table).error)

    assert "does not have a replica identity and publishes" in error
    assert "ALTER TABLE public.items REPLICA IDENTITY FULL" in error
    replica.target.execute("ALTER TABLE items REPLICA IDENTITY FULL")
    replica.sync(table)
    replica.assert_equal("public.items")


def test_a_publication_that_lacks_columns_of_the_replica_identity(items: Replica) -> None:
    items.target.execute("ALTER TABLE items REPLICA IDENTITY FULL; CREATE PUBLICATION p FOR TABLE items (id, note)")

    assert_refused(items, "does not cover the replica identity", "take public.items out of it")


@pytest.fixture
def writer(items: Replica) -> Iterator[Replica]:
    """A role that may write the target, and owns nothing of it."""
    target = items.target
    target.execute(
        "CREATE ROLE writer LOGIN PASSWORD 'for this test'; GRANT ALL ON SCHEMA public, xmin_assets TO writer"
    )
    target.execute("GRANT ALL ON ALL TABLES IN SCHEMA public, xmin_assets TO writer")
    target.execute(f"GRANT CREATE ON DATABASE {target.name} TO writer")

    class Written(Replica):
        def config(self, *tables: object, **settings: object):  # type: ignore[no-untyped-def, override]
            config = super().config(*tables, **settings)  # type: ignore[arg-type]
            url = type(config.target)(target.url_as("writer", "for this test"))  # type: ignore[call-arg, misc]
            return config.model_copy(update={"target": url})

    yield Written(items.source, target, items.spool, items.settings)
    target.execute("DROP OWNED BY writer CASCADE; DROP ROLE writer")


@pytest.mark.parametrize("right", ["INSERT", "UPDATE", "DELETE", "SELECT"])
def test_a_right_that_is_missing(writer: Replica, right: str) -> None:
    writer.target.execute(f"REVOKE {right} ON items FROM writer")

    assert_refused(writer, "permission denied for table items", "GRANT SELECT, INSERT, UPDATE, DELETE ON public.items")


def test_row_level_security_that_applies_to_the_role(writer: Replica) -> None:
    writer.target.execute("ALTER TABLE items ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON items USING (id < 10)")

    assert_refused(writer, "row-level security policy for table", "BYPASSRLS")


def test_no_right_is_asked_for_what_is_not_written(writer: Replica) -> None:
    writer.target.execute("ALTER TABLE items ADD mine text; REVOKE ALL ON items FROM writer")
    columns = "id, code, place, note, source_xmin"
    writer.target.execute(
        f"GRANT SELECT ({columns}), INSERT ({columns}), UPDATE ({columns}), DELETE ON items TO writer"
    )
    writer.source.execute("UPDATE items SET note = 'later' WHERE id = 1; DELETE FROM items WHERE id = 2")

    assert writer.plan("public.items").error is None


ALTERED = {
    "a column": "ALTER TABLE items ADD more int",
    "a type": "ALTER TABLE items ALTER place TYPE bigint",
    "the key": "ALTER TABLE items DROP CONSTRAINT items_pkey; ALTER TABLE items ADD PRIMARY KEY (id, place)",
}


@pytest.mark.parametrize("change", ALTERED.values(), ids=[*ALTERED])
def test_a_table_that_belongs_to_another_role_is_not_altered(writer: Replica, change: str) -> None:
    writer.source.execute(change)

    assert_refused(
        writer,
        "public.items belongs to postgres: ALTER TABLE",
        "Run there, as a role that may: ALTER TABLE public.items",
    )
    writer.target.execute("ALTER TABLE public.items OWNER TO writer")
    writer.sync("public.items")
    writer.assert_equal("public.items")


def test_a_partition_that_belongs_to_another_role_is_named(writer: Replica) -> None:
    writer.target.execute("ALTER TABLE items OWNER TO writer; CREATE TABLE kid () INHERITS (items)")
    writer.source.execute("ALTER TABLE items ADD more int")

    assert_refused(writer, "public.kid belongs to postgres", "may: ALTER TABLE public.kid OWNER TO writer")


def test_an_index_that_the_role_may_not_make(writer: Replica) -> None:
    writer.target.execute("ALTER TABLE items OWNER TO writer; REVOKE CREATE ON SCHEMA public FROM writer")
    writer.source.execute(ALTERED["the key"])

    assert_refused(writer, "the index of ALTER TABLE", 'Run there: GRANT USAGE, CREATE ON SCHEMA "public" TO writer')
    writer.target.execute("GRANT USAGE, CREATE ON SCHEMA public TO writer")
    writer.sync("public.items")
    writer.assert_equal("public.items")


def test_an_index_of_blocks_that_the_role_may_not_make(writer: Replica) -> None:
    writer.target.execute("ALTER TABLE items OWNER TO writer; REVOKE CREATE ON SCHEMA public FROM writer")

    error = str(writer.plan({"source": "public.items", "track_blocks": True}).error)

    assert "the index of source_block" in error


def test_a_type_that_the_role_may_not_use(writer: Replica) -> None:
    for side in (writer.source, writer.target):
        side.execute("CREATE TYPE mood AS ENUM ('sad')")
    writer.target.execute("ALTER TABLE items OWNER TO writer; REVOKE USAGE ON TYPE mood FROM PUBLIC")
    writer.source.execute("ALTER TABLE items ADD mood mood DEFAULT 'sad'")

    assert_refused(writer, "permission denied for type public.mood", "Grant it to the role")


ROOM = {
    "the schema's": (
        "REVOKE CREATE ON SCHEMA public FROM writer",
        "public.copy",
        'GRANT USAGE, CREATE ON SCHEMA "public" TO writer',
    ),
    "the database's": (
        "REVOKE CREATE ON DATABASE {database} FROM writer",
        "absent.copy",
        'CREATE SCHEMA "absent" AUTHORIZATION writer',
    ),
    "the state's": (
        "REVOKE CREATE ON DATABASE {database} FROM writer; DROP SCHEMA xmin_assets CASCADE",
        "public.copy",
        'CREATE SCHEMA "xmin_assets" AUTHORIZATION writer',
    ),
}


@pytest.mark.parametrize(("revoked", "target", "way_out"), ROOM.values(), ids=[*ROOM])
def test_a_first_copy_that_the_role_may_not_make(writer: Replica, revoked: str, target: str, way_out: str) -> None:
    writer.target.execute(revoked.format(database=writer.target.name))
    table = {"source": "public.items", "target": target}

    error = str(writer.plan(table).error)

    assert f"Nothing was read. Run there: {way_out}" in error
    assert writer.try_sync(table).error == error
    writer.target.execute(way_out)
    writer.sync(table)
    writer.assert_equal("public.items", target)


SWAPS = {
    "two rows": "UPDATE items SET {c} = CASE id WHEN 1 THEN {two} ELSE {one} END WHERE id IN (1, 2)",
    "a circle": "UPDATE items SET {c} = CASE id WHEN 1 THEN {two} WHEN 2 THEN {three} ELSE {one} END WHERE id < 4",
    "a chain": "UPDATE items SET {c} = CASE id WHEN 1 THEN {two} WHEN 2 THEN {three} ELSE {new} END WHERE id < 4",
    "a deleted row's": "DELETE FROM items WHERE id = 2; UPDATE items SET {c} = {two} WHERE id = 1",
    "a new row's": "UPDATE items SET {c} = {new} WHERE id = 1; INSERT INTO items VALUES (99, 'c1', 1, 'n')",
}
VALUES = {
    "code": {"one": "'c1'", "two": "'c2'", "three": "'c3'", "new": "'new'"},
    "place": {"one": "1", "two": "2", "three": "3", "new": "77"},
}


@pytest.mark.parametrize("mode", ["xmin_incremental", "full_sync"])
@pytest.mark.parametrize("column", VALUES)
@pytest.mark.parametrize("swap", SWAPS.values(), ids=[*SWAPS])
def test_rows_that_take_each_others_unique_values_are_followed(
    items: Replica, swap: str, column: str, mode: str
) -> None:
    items.target.execute(f"ALTER TABLE items ADD UNIQUE ({column}), ALTER place SET NOT NULL")
    items.target.execute("ALTER TABLE items ADD mine text DEFAULT 'kept'")
    items.source.execute(swap.format(c=column, **VALUES[column]))

    items.sync({"source": "public.items", "mode": mode})

    items.assert_equal("public.items")
    assert items.target.fetch("SELECT DISTINCT mine FROM items") == [("kept",)]
    not_null = "SELECT attnotnull FROM pg_attribute WHERE attrelid = 'items'::regclass AND attname = 'place'"
    assert items.target.fetch(not_null) == [(True,)]
    assert items.verify("public.items").status == "match"


def test_a_unique_index_over_several_columns(items: Replica) -> None:
    items.target.execute("CREATE UNIQUE INDEX ON items (note, place)")
    items.source.execute("UPDATE items SET place = 3 - place WHERE id IN (1, 2)")

    items.sync("public.items")

    items.assert_equal("public.items")


@pytest.mark.parametrize("condition", ["", " WHERE note <> 'z'"])
def test_a_unique_index_over_a_part_of_the_key_and_a_condition(replica: Replica, condition: str) -> None:
    made = "CREATE TABLE seats (flight int, ticket int, seat int NOT NULL, note text, PRIMARY KEY (flight, ticket))"
    replica.source.execute(made)
    replica.source.execute("INSERT INTO seats SELECT i % 2, i, i, 'n' FROM generate_series(1, 20) i")
    replica.target.execute(f"{made}; CREATE UNIQUE INDEX ON seats (flight, seat){condition}")
    replica.sync("public.seats")
    replica.source.execute("UPDATE seats SET seat = 6 - seat WHERE ticket IN (2, 4)")

    replica.sync("public.seats")

    replica.assert_equal("public.seats")
    assert replica.verify("public.seats").status == "match"


def test_values_of_an_expression_that_rows_have_swapped(items: Replica) -> None:
    items.target.execute("CREATE UNIQUE INDEX u ON items ((place + 0))")
    items.source.execute("UPDATE items SET place = 3 - place WHERE id IN (1, 2)")

    assert str(items.try_sync("public.items").error).endswith("drop it, run the sync, and create it again.")
    items.target.execute("DROP INDEX u")
    items.sync("public.items")
    items.target.execute("CREATE UNIQUE INDEX u ON items ((place + 0))")
    items.assert_equal("public.items")


def test_a_value_that_stays_taken_is_an_error_that_says_so(items: Replica) -> None:
    items.target.execute("ALTER TABLE items ADD UNIQUE (code)")
    items.source.execute("UPDATE items SET code = 'c2' WHERE id = 1")
    before = items.target.fetch("SELECT * FROM items ORDER BY id")

    error = str(items.try_sync("public.items").error)

    assert "violates unique constraint" in error and "(code)=(c2)" in error
    assert items.target.fetch("SELECT * FROM items ORDER BY id") == before


@pytest.mark.parametrize("action", ["NO ACTION", "RESTRICT"])
def test_a_row_that_goes_and_is_still_referenced(items: Replica, action: str) -> None:
    items.target.execute(
        f"CREATE TABLE mine (item int REFERENCES items ON DELETE {action}); INSERT INTO mine VALUES (1)"
    )
    items.source.execute("DELETE FROM items WHERE id = 1")

    error = str(items.try_sync("public.items").error)

    assert 'foreign key constraint "mine_item_fkey" on table "mine"' in error
    assert "change its rows. Or drop the foreign key in the target, or set triggers: skip." in error
    items.target.execute("DELETE FROM mine")
    items.sync("public.items")
    items.assert_equal("public.items")
