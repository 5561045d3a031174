"""A source whose changed blocks could be read, until a function for that is forbidden, is gone, or raises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets.replication.changed_blocks import block_map
from xmin_assets_tests.clusters import Database
from xmin_assets_tests.integration.platforms.conftest import PASSWORD, ROLE, Rented, RentedReplica
from xmin_assets_tests.waiting import wait_until

TABLE = {"source": "public.orders", "track_blocks": True}
FUNCTIONS = (
    "pg_available_wal_summaries()",
    "pg_wal_summary_contents(int8, pg_lsn, pg_lsn)",
    "pg_get_wal_summarizer_state()",
)
INSPECTOR = "public.pg_get_wal_block_info(pg_lsn, pg_lsn, boolean)"


@pytest.fixture
def summarized(
    summarizing_server: Cluster, target: Rented, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RentedReplica]:
    """A source that summarizes its WAL and lets a role read that, synced once."""
    monkeypatch.setattr(block_map, "MOST_SHARE", 1000)
    source = Rented(summarizing_server, Database.create(summarizing_server).name)
    source.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'; CREATE EXTENSION pg_walinspect")
    source.execute(f"GRANT EXECUTE ON FUNCTION {', '.join((*FUNCTIONS, INSPECTOR))} TO {ROLE}")
    source.execute("CREATE TABLE orders (id int PRIMARY KEY, item text)")
    source.execute("INSERT INTO orders SELECT i, repeat('x', 700) FROM generate_series(1, 1000) i")
    source.execute(f"GRANT SELECT ON orders TO {ROLE}")
    replica = RentedReplica(source, target, tmp_path / "spool", {"workers": 2})
    replica.sync(TABLE)
    yield replica
    source.execute(f"DROP OWNED BY {ROLE}; DROP ROLE {ROLE}")
    source.drop()


def change(replica: RentedReplica, number: int, *, is_summarized: bool = False) -> str:
    """Change a row, copy it, and return which blocks were read for that.

    Args:
        replica: of the table.
        number: of the row.
        is_summarized: whether to wait until a summary tells of it; else pg_walinspect may.
    """
    replica.source.execute(f"UPDATE orders SET item = 'changed' WHERE id = {number}")
    if is_summarized:
        ((position,),) = replica.source.fetch("SELECT pg_current_wal_insert_lsn()")
        replica.source.execute("CHECKPOINT")
        summaries = f"SELECT FROM pg_available_wal_summaries() WHERE end_lsn >= '{position}'"
        wait_until(lambda: replica.source.fetch(summaries) != [])
    result = replica.sync(TABLE)
    replica.assert_equal("public.orders")
    return str(result.path)


@pytest.mark.parametrize("how", ["forbidden", "lost", "raising"])
@pytest.mark.parametrize("function", [*FUNCTIONS, INSPECTOR])
def test_without_it_every_block_is_read(summarized: RentedReplica, function: str, how: str) -> None:
    assert "those changed since" in change(summarized, 1)
    source = summarized.source
    assert isinstance(source, Rented)
    if how == "forbidden":
        source.execute(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC, pg_monitor, {ROLE}")
    elif function == INSPECTOR:
        source.execute("DROP EXTENSION pg_walinspect")
    elif how == "lost":
        source.lose(function.partition("(")[0])
    else:
        source.let_raise("not on this platform", function.partition("(")[0])

    summaries_are_read = function.startswith("pg_wal_summary_contents")
    paths = [change(summarized, number, is_summarized=summaries_are_read) for number in (2, 3)]

    assert all("every block" in path for path in paths), paths
