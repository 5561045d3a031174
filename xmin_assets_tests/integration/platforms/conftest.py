"""A source and a target that a role without any privilege of a superuser uses, and ways to take functions from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from psycopg2 import sql

from xmin_assets.config import ReplicationConfig, parse_config
from xmin_assets.postgres import server_facts
from xmin_assets.replication.doctor import diagnose, diagnose_servers
from xmin_assets.replication.status import source_status, table_statuses
from xmin_assets.replication.table_fingerprints import probe
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.pooler import by_port
from xmin_assets_tests.replica import Replica

ROLE, PASSWORD = "renter", "only for this test"


@dataclass
class Rented(Database):
    """A database whose functions can be taken away from everybody but superusers."""

    def forbid(self, *functions: str) -> None:
        """Let only superusers execute these, whatever their arguments are."""
        for oid in self._overloads(functions):
            self.execute(f"REVOKE EXECUTE ON FUNCTION {oid} FROM PUBLIC, pg_monitor, pg_read_all_stats")

    def hide(self, *views: str) -> None:
        """Let only superusers read these views."""
        for view in views:
            self.execute(f"REVOKE SELECT ON pg_catalog.{view} FROM PUBLIC, pg_monitor, pg_read_all_stats")

    def lose(self, *functions: str) -> None:
        """Let there be no such functions. Views still call them."""
        self.execute("SET allow_system_table_mods = on")
        for oid in self._overloads(functions):
            self.execute(f"UPDATE pg_proc SET proname = 'lost_' || proname WHERE oid = '{oid}'::regprocedure")

    def let_raise(self, error: str, *functions: str) -> None:
        """Put functions in the place of these that raise an error, as a fork of PostgreSQL has them.

        A built-in one is pinned and cannot be replaced, but it can be renamed, and its name is free then.
        """
        for oid in self._overloads(functions):
            ((name, arguments, result),) = self.fetch(
                f"SELECT proname::text, pg_get_function_identity_arguments(oid), pg_get_function_result(oid) "
                f"FROM pg_proc WHERE oid = '{oid}'::regprocedure"
            )
            self.execute("SET allow_system_table_mods = on")
            self.execute(f"UPDATE pg_proc SET proname = 'builtin_{name}' WHERE oid = '{oid}'::regprocedure")
            self.execute(
                f"CREATE FUNCTION pg_catalog.{name}({arguments}) RETURNS {result} LANGUAGE plpgsql STABLE AS "
                f"$$ BEGIN RAISE EXCEPTION '{error}' USING ERRCODE = '55000'; END $$"
            )

    def _overloads(self, functions: tuple[str, ...]) -> list[str]:
        found = self.fetch(
            f"SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace "
            f"AND proname = ANY (ARRAY[{', '.join(repr(name) for name in functions)}])"
        )
        assert found, functions
        return [oid for (oid,) in found]


@dataclass
class RentedReplica(Replica):
    """A replica whose databases are used by the role."""

    ports: tuple[int, int] | None = None
    """Of the poolers by which the role reaches source and target, if it does."""

    def config(self, *tables: str | dict[str, Any], **settings: Any) -> ReplicationConfig:
        source, target = (database.url_as(ROLE, PASSWORD) for database in (self.source, self.target))
        if self.ports is not None:
            source, target = by_port(source, self.ports[0]), by_port(target, self.ports[1])
        said = {"spool": str(self.spool), **self.settings, **settings}
        return parse_config({"source": source, "target": target, "settings": said, "tables": list(tables)})


@pytest.fixture(autouse=True)
def nothing_is_remembered() -> None:
    """Another process would know nothing of what a server refuses."""
    server_facts.forget()


@pytest.fixture
def renter(source_server: Any, target_server: Any) -> Iterator[None]:
    """The role, on both servers."""
    for server in (source_server, target_server):
        with server.connect() as connected, connected.cursor() as cursor:
            cursor.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(ROLE), sql.Literal(PASSWORD))
            )
    yield
    for server in (source_server, target_server):
        with server.connect() as connected, connected.cursor() as cursor:
            cursor.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(ROLE)))


@pytest.fixture
def source(source_db: Database, renter: None) -> Iterator[Rented]:
    """A source that the role may read."""
    rented = Rented(source_db.cluster, source_db.name)
    rented.execute("CREATE TABLE orders (id int PRIMARY KEY, item text); CREATE TABLE others (id int PRIMARY KEY)")
    rented.execute("INSERT INTO orders SELECT i, 'item ' || i FROM generate_series(1, 100) i")
    rented.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {ROLE}")
    yield rented
    rented.execute(f"DROP OWNED BY {ROLE}")


@pytest.fixture
def target(target_db: Database, renter: None) -> Iterator[Rented]:
    """A target that the role may create schemas in."""
    rented = Rented(target_db.cluster, target_db.name)
    rented.execute(f"GRANT CREATE ON DATABASE {rented.name} TO {ROLE}; GRANT ALL ON SCHEMA public TO {ROLE}")
    yield rented
    rented.execute(f"DROP OWNED BY {ROLE} CASCADE")


@pytest.fixture
def rented(source: Rented, target: Rented, tmp_path: Any) -> Replica:
    """Both, and a table of 100 rows that was never synced."""
    return RentedReplica(source, target, tmp_path / "spool", {"workers": 2, "batch_size": 10})


CHANGES = (
    "UPDATE orders SET item = 'changed' WHERE id = 7; INSERT INTO orders VALUES (1000, 'new')",
    "DELETE FROM orders WHERE id = 8",
    "SELECT",
)
"""Rows that come, change and go; there are 100 in the end."""

MORE_CHANGES = (
    "UPDATE orders SET item = 'changed again' WHERE id IN (7, 9); DELETE FROM orders WHERE id = 10",
    "ALTER TABLE orders ADD note text; INSERT INTO orders VALUES (1001, 'newer', 'with a note')",
    "SELECT",
)
"""Likewise, for the time after a restart."""


def live(
    rented: Replica,
    table: str = "public.orders",
    changes: tuple[str, ...] = CHANGES,
    write: Callable[[str], object] | None = None,
) -> list[tuple[str, str]]:
    """Go through the life of a copy: every command, as it is found and after each change.

    Args:
        rented: with a table of 100 rows.
        table: its name.
        changes: statements.
        write: runs one of them; at the source, where it is not given.

    Returns:
        The mode and reason of each sync.
    """
    results = []
    for change in ("SELECT", *changes):
        (write or rented.source.execute)(change)
        assert rented.plan(table).error is None
        result = rented.sync(table)
        results.append((str(result.mode), result.reason))
        rented.assert_equal(table)
        found = rented.verify(table)
        assert (found.status, found.pending) == ("match", 0), found
    config = rented.config(table)
    (diagnosis,) = diagnose(config)
    assert diagnosis.error is None
    assert all(server.error is None for server in diagnose_servers(config))
    (status,) = table_statuses(config)
    assert status.state is not None
    assert status.state.rows == 100
    assert source_status(config)
    assert probe(config).fingerprints
    return results
