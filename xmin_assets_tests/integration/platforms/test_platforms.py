"""Stand-ins for what is rented: a plain server whose functions are forbidden, or raise, as a platform's do.

docs/platforms.md says where the errors were found, and what nobody has tried on the platform itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets_tests.clusters import Database, Workshop
from xmin_assets_tests.integration.platforms.conftest import PASSWORD, ROLE, Rented, RentedReplica, live
from xmin_assets_tests.replica import Replica
from xmin_assets_tests.servers import await_replay, remove, standby_of

NOT_LOGICAL = "wal_level must be set to ''logical''"
NOT_FOR_AURORA = "Function is currently not supported for Aurora"

WAL_FUNCTIONS = (
    "pg_current_wal_lsn",
    "pg_current_wal_insert_lsn",
    "pg_current_wal_flush_lsn",
    "pg_walfile_name",
    "pg_control_checkpoint",
)
REPLAY_FUNCTIONS = ("pg_last_wal_replay_lsn", "pg_last_wal_receive_lsn", "pg_last_xact_replay_timestamp")
CONTROL_FUNCTIONS = ("pg_control_system", "pg_control_checkpoint", "pg_control_recovery", "pg_control_init")


def test_a_platform_without_superusers(rented: Replica) -> None:
    """RDS and Supabase: the functions are PostgreSQL's own, and nobody is a superuser."""
    first, *others = live(rented)

    assert first[0] == "full_sync"
    assert not any("checksum" in reason for _, reason in others)


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_platform_that_keeps_the_control_file_to_itself(
    rented: Replica, source: Rented, target: Rented, side: str
) -> None:
    """Cloud SQL and Azure restrict system functions; which ones is not documented, so it may be all of these."""
    {"source": source, "target": target}[side].forbid(*CONTROL_FUNCTIONS)

    _, *others = live(rented)

    assert not any("checksum" in reason for _, reason in others)


def test_an_aurora_writer_as_the_source_is_checked_as_a_whole(rented: Replica, source: Rented) -> None:
    source.let_raise(NOT_LOGICAL, *WAL_FUNCTIONS)

    _, *others = live(rented)

    assert all("the source does not tell its timeline or where its WAL ends" in reason for _, reason in others)


def test_an_aurora_writer_as_the_target_is_written_as_any_other(rented: Replica, target: Rented) -> None:
    target.let_raise(NOT_LOGICAL, *WAL_FUNCTIONS)

    _, *others = live(rented)

    assert not any("checksum" in reason for _, reason in others)


@pytest.fixture
def reader(workshop: Workshop, target: Rented, tmp_path: Path) -> Iterator[tuple[Replica, Cluster, Cluster]]:
    """A standby whose replay positions raise, and its primary, on which a table is written."""
    primary = workshop.start("aurora-writer")
    standby = standby_of(primary, workshop, "aurora-reader")
    try:
        written = Rented(primary, Database.create(primary).name)
        written.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
        written.execute("CREATE TABLE orders (id int PRIMARY KEY, item text)")
        written.execute("INSERT INTO orders SELECT i, 'item ' || i FROM generate_series(1, 100) i")
        written.execute(f"GRANT SELECT ON orders TO {ROLE}")
        written.let_raise(NOT_FOR_AURORA, *REPLAY_FUNCTIONS)
        written.let_raise(NOT_LOGICAL, *WAL_FUNCTIONS)
        await_replay(standby, primary)
        yield RentedReplica(Rented(standby, written.name), target, tmp_path / "spool", {"workers": 2}), primary, standby
    finally:
        remove([standby, primary])


def test_an_aurora_reader_as_the_source_is_checked_as_a_whole(reader: tuple[Replica, Cluster, Cluster]) -> None:
    replica, primary, standby = reader
    assert replica.sync("public.orders").rows_inserted == 100
    for change in ("UPDATE orders SET item = 'x' WHERE id = 5", "DELETE FROM orders WHERE id = 6"):
        with closing(primary.connect(replica.source.name)) as connected, connected, connected.cursor() as cursor:
            cursor.execute(change)
        await_replay(standby, primary)

        result = replica.sync("public.orders")

        assert (str(result.mode), "checked against it by a checksum" in result.reason) == ("xmin_incremental", True)
        replica.assert_equal("public.orders")
    assert replica.verify("public.orders").status == "match"
