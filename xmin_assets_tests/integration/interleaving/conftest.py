"""A small table to interleave with, and the end of what tests leave open at the source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from xmin_assets_tests.clusters import Database
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


@pytest.fixture
def empty(replica: Replica) -> Iterator[WatchedTable]:
    """The table `public.t`, which the test makes itself."""
    yield WatchedTable(replica)
    end_prepared(replica.source)


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


def end_prepared(source: Database) -> None:
    """Roll back what a failed test has left prepared: its database could not be dropped."""
    for (gid,) in source.fetch("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"):
        source.execute("ROLLBACK PREPARED %s", (gid,))
