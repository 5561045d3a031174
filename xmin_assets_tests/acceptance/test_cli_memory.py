"""Memory of the command and bytes in its spool, of a small table and of one that is many files long."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.watch import Watch, high_water_mark, size_of
from xmin_assets_tests.acceptance.conftest import Cli
from xmin_assets_tests.clusters import Database

MEGABYTE = 1_000_000
TABLE = "CREATE TABLE items (id int PRIMARY KEY, item text, changed int NOT NULL DEFAULT 0)"
FILL = "INSERT INTO items SELECT i, repeat(md5(i::text), 5) FROM generate_series(1, %s) i"
SMALL, LARGE = 1_000, 450_000


@pytest.fixture
def watched(cli: Cli) -> Callable[[], Watch]:
    """A sync that must succeed, and what it has needed."""
    if not high_water_mark():
        pytest.skip("this system does not tell the peak of a process's memory in /proc")
    cli.configure("public.items")

    def sync() -> Watch:
        running = cli.start("sync")
        with Watch(running, spool=Path(cli.environment["XMIN_SPOOL"])) as watch:
            _, errors = running.communicate(timeout=120)
        assert running.returncode == 0, errors
        return watch

    return sync


def test_memory_and_spool_do_not_grow_with_the_table(
    watched: Callable[[], Watch], cli: Cli, source_db: Database, target_db: Database
) -> None:
    source_db.execute(TABLE)
    source_db.execute(FILL, (SMALL,))
    small = watched().memory_bytes

    source_db.execute("TRUNCATE items")
    source_db.execute(FILL, (LARGE,))
    ((size,),) = source_db.fetch("SELECT pg_relation_size('items')")
    full = watched()
    source_db.execute("UPDATE items SET changed = 1; DELETE FROM items WHERE id % 3 = 0")
    changed = watched()

    ((rows,),) = target_db.fetch("SELECT count(*) FROM items WHERE changed = 1")
    assert rows == LARGE * 2 // 3
    assert 0 < small <= full.memory_bytes < small + 20 * MEGABYTE
    assert changed.memory_bytes < small + 20 * MEGABYTE
    assert full.memory_bytes < 120 * MEGABYTE
    assert 0.5 * size < full.spool_bytes < 1.3 * size
    assert size_of(Path(cli.environment["XMIN_SPOOL"])) == 0
