"""What a person tries in psql is what a sync does: there the search_path has the table's schema and the extension's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.integration.conftest import by_blocks
from xmin_assets_tests.replica import Replica

USERS = "crm.users"
CREATE = """
CREATE SCHEMA ext;
CREATE EXTENSION citext SCHEMA ext;
CREATE SCHEMA crm;
CREATE TABLE crm.users (id int PRIMARY KEY, email ext.citext NOT NULL, seen timestamptz NOT NULL DEFAULT '2024-02-29')
    WITH (autovacuum_enabled = off);
INSERT INTO crm.users VALUES (1, 'bob@x.com'), (2, 'Bob@X.com'), (3, 'eve@x.com');
INSERT INTO crm.users SELECT i, 'user' || i || '@x.com' FROM generate_series(4, 3000) i;
"""
CLAUSE = "email = 'bob@x.com'"


def psql(database: Database, path: str, query: str) -> list[Any]:
    """What a plain session answers whose search_path is this."""
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"SET search_path = {path}")
        cursor.execute(query)
        return cursor.fetchall()


@pytest.fixture
def users(replica: Replica) -> Replica:
    replica.source.execute(CREATE)
    return replica


def ids(replica: Replica, table: str = USERS) -> list[int]:
    return [number for (number,) in replica.target.fetch(f"SELECT id FROM {table} ORDER BY id")]


@pytest.mark.parametrize("options", [{}, {"mode": "full_sync"}, {"mode": "incremental_sync", "cursor": "seen"}])
def test_a_comparison_of_an_extensions_type_is_the_extensions(users: Replica, options: dict[str, Any]) -> None:
    table = {"source": USERS, "where": CLAUSE, **options}

    first = users.sync(table)
    assert (first.rows_inserted, ids(users)) == (2, [1, 2])
    users.source.execute("UPDATE crm.users SET email = 'BOB@x.com', seen = '2024-03-01' WHERE id = 3")
    users.source.execute("DELETE FROM crm.users WHERE id = 1")
    users.sync(table)

    assert ids(users) == [2, 3]
    assert psql(users.source, "public, crm, ext", f"SELECT id FROM users WHERE {CLAUSE} ORDER BY id") == [(2,), (3,)]
    verified = users.verify(table)
    assert (verified.status, verified.rows_source, verified.rows_target) == ("match", 2, 2)


@by_blocks
def test_it_is_so_where_changed_blocks_are_read(
    options: dict[str, Any], summarizing_server: Cluster, target_db: Database, tmp_path: Path
) -> None:
    for replica in _summarizing(summarizing_server, target_db, tmp_path):
        table = {"source": USERS, "where": CLAUSE, **options}
        replica.sync(table)
        replica.source.execute("UPDATE crm.users SET email = 'BOB@x.com' WHERE id = 3")
        replica.source.execute("DELETE FROM crm.users WHERE id = 1")

        result = replica.sync(table)

        assert result.blocks_changed is not None
        assert ids(replica) == [2, 3]


def _summarizing(server: Cluster, target: Database, folder: Path) -> Iterator[Replica]:
    source = Database.create(server)
    try:
        source.execute("CREATE EXTENSION pg_walinspect")
        source.execute(CREATE)
        yield Replica(source, target, folder / "spool", {"workers": 2})
    finally:
        source.drop()


def test_every_worker_evaluates_it_in_every_partition(replica: Replica) -> None:
    replica.source.execute(
        CREATE.replace("PRIMARY KEY", "NOT NULL").replace(
            "WITH (autovacuum_enabled = off)",
            "PARTITION BY RANGE (id); CREATE TABLE crm.low PARTITION OF crm.users FOR VALUES FROM (0) TO (2);"
            "CREATE TABLE crm.high PARTITION OF crm.users FOR VALUES FROM (2) TO (1000000)",
        )
    )
    # Enough for more ranges than one worker takes.
    replica.source.execute(
        "INSERT INTO crm.users SELECT i, CASE WHEN i % 1000 = 0 THEN 'BOB@X.com' ELSE repeat('x', 500) || i END"
        " FROM generate_series(10001, 30000) i"
    )
    table = {"source": USERS, "key": ["id"], "where": CLAUSE}

    result = replica.sync(table)

    assert ids(replica) == [1, 2, *range(11000, 30001, 1000)]
    assert result.rows_inserted == 22
    verified = replica.verify(table)
    assert (verified.status, verified.rows_source) == ("match", 22)


def test_operators_of_an_extension_are_found(replica: Replica) -> None:
    replica.source.execute(
        "CREATE EXTENSION hstore; CREATE SCHEMA shop;"
        "CREATE TABLE shop.items (id int PRIMARY KEY, h public.hstore);"
        "INSERT INTO shop.items VALUES (1, 'a=>1'), (2, 'a=>2'), (3, 'b=>1')"
    )
    table = {"source": "shop.items", "where": "h->'a' = '1' OR h ? 'b'"}

    replica.sync(table)

    assert ids(replica, "shop.items") == [1, 3]
    assert replica.verify(table).status == "match"


def test_operators_functions_and_types_of_the_tables_schema_are_found(replica: Replica) -> None:
    replica.source.execute(
        "CREATE SCHEMA shop; CREATE TYPE shop.mood AS ENUM ('sad', 'happy');"
        "CREATE FUNCTION shop.near(int, int) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT abs($1 - $2) < 3';"
        "CREATE OPERATOR shop.~~~ (LEFTARG = int, RIGHTARG = int, FUNCTION = shop.near);"
        "CREATE TABLE shop.items (id int PRIMARY KEY, said text);"
        "INSERT INTO shop.items SELECT i, CASE WHEN i % 2 = 0 THEN 'happy' ELSE 'sad' END FROM generate_series(1, 20) i"
    )
    table = {"source": "shop.items", "where": "id ~~~ 10 AND near(id, 9) AND said::mood > 'sad'"}

    replica.sync(table)

    assert ids(replica, "shop.items") == [8, 10]
    assert replica.verify(table).status == "match"


def test_nothing_is_found_in_public_or_in_the_roles_own_schema(replica: Replica) -> None:
    replica.source.execute(
        "CREATE SCHEMA shop; CREATE TABLE shop.items (id int PRIMARY KEY);"
        "CREATE FUNCTION public.wanted(int) RETURNS bool LANGUAGE sql AS 'SELECT true'"
    )
    replica.source.execute("DO $$ BEGIN EXECUTE format('CREATE SCHEMA %I', current_user); END $$")
    replica.source.execute(
        "DO $$ BEGIN EXECUTE format($f$CREATE FUNCTION %I.mine(int) RETURNS bool LANGUAGE sql AS 'SELECT true'$f$,"
        " current_user); END $$"
    )

    for function in ("wanted", "mine"):
        assert f"{function}(integer) does not exist" in str(
            replica.plan({"source": "shop.items", "where": f"{function}(id)"}).error
        )


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("nonesuch = 1", 'column "nonesuch" does not exist'),
        ("item = 1", "No operator matches the given name and argument type"),
        ("nonesuch(id)", "function nonesuch(integer) does not exist"),
        ("nowhere.f(id)", 'schema "nowhere" does not exist'),
        ("id", "argument of WHERE must be type boolean, not type integer"),
        ("id IN (SELECT id FROM nonesuch)", 'relation "nonesuch" does not exist'),
        ("others.id = 1", 'missing FROM-clause entry for table "others"'),
        ("id OR", 'syntax error at or near ")"'),
        ("id = 'x'", 'invalid input syntax for type integer: "x"'),
    ],
)
def test_what_the_server_refuses_is_told_by_the_plan_and_by_the_sync(replica: Replica, where: str, told: str) -> None:
    replica.source.execute("CREATE TABLE items (id int PRIMARY KEY, item text)")
    table = {"source": "public.items", "where": where}

    planned, synced = replica.plan(table), replica.try_sync(table)

    assert planned.error == synced.error
    assert str(planned.error).startswith("public.items: the source refuses the where clause: ")
    assert told in str(planned.error)


@pytest.fixture
def guest(replica: Replica) -> Iterator[Replica]:
    """As a role that may read one of two tables."""
    source = replica.source
    source.execute("CREATE TABLE items (id int PRIMARY KEY); CREATE TABLE closed (id int)")
    source.execute("CREATE ROLE reader LOGIN PASSWORD 'x'; GRANT SELECT ON items TO reader")
    yield Replica(AsReader(source.cluster, source.name), replica.target, replica.spool, replica.settings)
    source.execute("DROP OWNED BY reader; DROP ROLE reader")


class AsReader(Database):
    @property
    def url(self) -> str:
        return self.url_as("reader", "x")


def test_a_clause_that_reads_what_the_role_may_not_is_refused_by_the_plan(guest: Replica) -> None:
    planned = guest.plan({"source": "public.items", "where": "id IN (SELECT id FROM closed)"})

    assert "the source refuses the where clause: permission denied for table closed" in str(planned.error)


def test_a_table_that_the_role_may_not_read_is_no_fault_of_the_clause(guest: Replica) -> None:
    planned = guest.plan({"source": "public.closed", "key": ["id"], "where": "id > 0"})

    assert "permission denied for table closed" in str(planned.error)
    assert "where" not in str(planned.error)
