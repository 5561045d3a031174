"""A small table to interleave with.

The tests of this package share two databases and leave them empty: to make fresh ones for each of so many tests would
take longer than the tests do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.integration.conftest import CHANGED, EVERY
from xmin_assets_tests.integration.interleaving.harness import WatchedTable
from xmin_assets_tests.replica import Replica

# So few rows that an analyze by autovacuum, a transaction that no test has stated, finds nothing to do.
TABLE = """
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t SELECT i, 'first' FROM generate_series(1, 8) i;
"""

# One row a block, in several of the ranges that workers share.
WIDE = """
CREATE TABLE t (id int PRIMARY KEY, v text, filler text) WITH (fillfactor = 10, autovacuum_enabled = off);
ALTER TABLE t ALTER filler SET STORAGE PLAIN;
INSERT INTO t SELECT i, 'first', repeat('x', 800) FROM generate_series(1, 600) i;
"""


@pytest.fixture(scope="package", params=[EVERY, CHANGED])
def blocks(request: pytest.FixtureRequest) -> str:
    """Which blocks the syncs read; of the whole package, as its databases are."""
    return str(request.param)


@pytest.fixture(scope="package")
def databases(
    blocks: str, request: pytest.FixtureRequest, target_server: Cluster
) -> Iterator[tuple[Database, Database]]:
    server = request.getfixturevalue("source_server" if blocks == EVERY else "summarizing_server")
    pair = Database.create(server), Database.create(target_server)
    yield pair
    for database in pair:
        database.drop()


@pytest.fixture
def source_db(databases: tuple[Database, Database]) -> Iterator[Database]:
    yield databases[0]
    empty_out(databases[0])


@pytest.fixture
def target_db(databases: tuple[Database, Database]) -> Iterator[Database]:
    yield databases[1]
    empty_out(databases[1])


@pytest.fixture
def empty(replica: Replica, blocks: str, options: dict[str, Any]) -> WatchedTable:
    """The table `public.t`, which the test makes itself."""
    if blocks == CHANGED:
        replica.source.execute("CREATE EXTENSION IF NOT EXISTS pg_walinspect")
    return WatchedTable(replica, options=options)


@pytest.fixture
def table(empty: WatchedTable) -> WatchedTable:
    """`public.t (id, v)` with the ids 1 to 8, never synced."""
    empty.source.execute(TABLE)
    return empty


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def wide(empty: WatchedTable, request: pytest.FixtureRequest) -> WatchedTable:
    """A table of 600 blocks with the ids 1 to 600, never synced."""
    empty.source.execute(WIDE)
    empty.replica = replace(empty.replica, settings={"workers": request.param, "batch_size": 50})
    return empty


def empty_out(database: Database) -> None:
    """End what a test has left open, and drop what it has made."""
    database.disconnect()
    for (gid,) in database.fetch("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"):
        database.execute("ROLLBACK PREPARED %s", (gid,))
    database.execute("DROP EXTENSION IF EXISTS pg_walinspect")
    database.execute("DROP SCHEMA public CASCADE; DROP SCHEMA IF EXISTS xmin_assets CASCADE; CREATE SCHEMA public")
    database.disconnect()
