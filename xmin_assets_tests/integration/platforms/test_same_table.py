"""A table is never its own target, though the two roles are not told the same of their server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from psycopg2 import sql

from xmin_assets.config import parse_config
from xmin_assets.demo.cluster import Cluster
from xmin_assets.errors import ConfigError, UnsupportedServer, XminAssetsError
from xmin_assets.postgres.server import Server
from xmin_assets.replication.manifests.state import State
from xmin_assets.replication.planning.same_table import require_another_table
from xmin_assets.replication.sync import plan_tables, sync_tables
from xmin_assets_tests.integration.platforms.conftest import PASSWORD, ROLE, Rented
from xmin_assets_tests.replica import Replica

OTHER = "another_renter"


@pytest.fixture
def other_renter(target_server: Cluster) -> Iterator[None]:
    """Another role."""
    with target_server.connect() as connected, connected.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {OTHER} LOGIN PASSWORD '{PASSWORD}'")
    yield
    with target_server.connect() as connected, connected.cursor() as cursor:
        cursor.execute(f"DROP ROLE {OTHER}")


@pytest.fixture
def own_target(target: Rented, other_renter: None, tmp_path: object) -> Iterator[Callable[[], str]]:
    """A database with an empty table, which is the source of one role and the target of the other; plan and sync it."""
    target.execute("CREATE TABLE orders (id int PRIMARY KEY, item text)")
    target.execute(f"GRANT ALL ON orders TO {ROLE}, {OTHER}; ALTER TABLE orders OWNER TO {ROLE}")
    config = parse_config(
        {
            "source": target.url_as(OTHER, PASSWORD),
            "target": target.url_as(ROLE, PASSWORD),
            "settings": {"spool": f"{tmp_path}/spool"},
            "tables": ["public.orders"],
        }
    )

    def refusal() -> str:
        (planned,) = plan_tables(config)
        (synced,) = sync_tables(config).tables
        assert synced.error == planned.error
        return str(planned.error)

    yield refusal
    target.execute(f"DROP OWNED BY {OTHER}")
    assert "source_xmin" not in {name for (name,) in target.fetch("SELECT attname FROM pg_attribute")}


def take(database: Rented, function: str, role: str) -> None:
    """Let all but one role execute a function."""
    database.forbid(function)
    for (oid,) in database.fetch("SELECT oid::regprocedure::text FROM pg_proc WHERE proname = %s", (function,)):
        database.execute(sql.SQL(f"GRANT EXECUTE ON FUNCTION {oid} TO {({ROLE, OTHER} - {role}).pop()}"))


@pytest.mark.parametrize("hidden_from", [[], [ROLE], [OTHER], [ROLE, OTHER]])
def test_a_table_is_not_its_own_target(target: Rented, own_target: Callable[[], str], hidden_from: list[str]) -> None:
    target.forbid("pg_control_system")
    for role in {ROLE, OTHER} - {*hidden_from}:
        target.execute(f"GRANT EXECUTE ON FUNCTION pg_control_system() TO {role}")

    assert "source and target are the same table" in own_target()


@pytest.mark.parametrize("role", [ROLE, OTHER])
def test_where_no_lock_tells_either_the_grant_is_named(
    target: Rented, own_target: Callable[[], str], role: str
) -> None:
    take(target, "pg_control_system", role)
    take(target, "pg_try_advisory_xact_lock", role)

    assert "GRANT EXECUTE ON FUNCTION pg_control_system() TO the role" in own_target()


def test_tables_of_two_servers_with_the_same_oids_are_told_apart_by_a_lock(
    rented: Replica, source: Rented, target: Rented
) -> None:
    rented.sync("public.orders")
    with rented.stations("public.orders") as stations:
        state = stations.snapshot().state
        assert state is not None
        copied = replace(state, identity=replace(state.identity, database_oid=5, relation_oid=7), target_oid=7)

        def judge(state: State | None = None, **facts: object) -> type[XminAssetsError] | None:
            known = {"version": 180000, "system_identifier": "1", "timeline": 1, "lsn": 1, "snapshot": ""}
            where = {"database_oid": 5, "database": "d", "in_recovery": False, "started": None}
            server = Server(**{**known, **where, **facts})  # type: ignore[arg-type]
            try:
                require_another_table(stations.table, (stations.source, server, 7), (stations.target, server, 7), state)
            except XminAssetsError as error:
                return type(error)
            return None

        hidden = {"missing": ("system_identifier",)}
        assert judge() is ConfigError
        assert judge(**hidden) is None
        assert judge(**hidden, in_recovery=True) is UnsupportedServer
        source.forbid("pg_try_advisory_xact_lock")
        assert judge(**hidden) is UnsupportedServer
        assert judge(state, **hidden) is UnsupportedServer
        assert judge(copied, **hidden) is None
        assert judge(copied) is ConfigError
