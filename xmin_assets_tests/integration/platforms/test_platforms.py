"""Stand-ins for what is rented: a plain server whose functions are forbidden, or raise, as a platform's do.

docs/platforms.md says where the errors were found, and what nobody has tried on the platform itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from xmin_assets.demo.cluster import Cluster
from xmin_assets_tests.clusters import Database, Workshop
from xmin_assets_tests.integration.platforms.conftest import (
    MORE_CHANGES,
    PASSWORD,
    ROLE,
    Rented,
    RentedReplica,
    live,
)
from xmin_assets_tests.pooler import pooler
from xmin_assets_tests.replica import Replica
from xmin_assets_tests.servers import await_replay, remove, restart, standby_of

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


def furnish(database: Rented, attributes: str = "") -> None:
    """Make a table of 100 rows, and the role that may read it."""
    database.execute(f"CREATE ROLE {ROLE} LOGIN {attributes} PASSWORD '{PASSWORD}'")
    database.execute("CREATE TABLE orders (id int PRIMARY KEY, item text)")
    database.execute("INSERT INTO orders SELECT i, 'item ' || i FROM generate_series(1, 100) i")
    database.execute(f"GRANT SELECT ON orders TO {ROLE}")


@pytest.fixture
def reader(workshop: Workshop, target: Rented, tmp_path: Path) -> Iterator[tuple[Replica, Cluster, Cluster]]:
    """A standby whose replay positions raise, and its primary, on which a table is written."""
    primary = workshop.start("aurora-writer")
    standby = standby_of(primary, workshop, "aurora-reader")
    try:
        written = Rented(primary, Database.create(primary).name)
        furnish(written)
        written.let_raise(NOT_FOR_AURORA, *REPLAY_FUNCTIONS)
        written.let_raise(NOT_LOGICAL, *WAL_FUNCTIONS)
        await_replay(standby, primary)
        yield RentedReplica(Rented(standby, written.name), target, tmp_path / "spool", {"workers": 2}), primary, standby
    finally:
        remove([standby, primary])


def test_an_aurora_reader_is_checked_as_a_whole_before_and_after_its_restart(
    reader: tuple[Replica, Cluster, Cluster],
) -> None:
    replica, primary, standby = reader

    def write(statement: str) -> None:
        with closing(primary.connect(replica.source.name)) as connected, connected.cursor() as cursor:
            cursor.execute(statement)
        await_replay(standby, primary)

    first, *others = live(replica, write=write)
    replica.source.disconnect()
    restart(standby)
    others += live(replica, changes=MORE_CHANGES, write=write)

    assert first == ("full_sync", "first sync")
    assert len(others) == 7
    for mode, reason in others:
        assert mode == "xmin_incremental"
        assert "checked against it by a checksum" in reason


@pytest.fixture
def hosted(workshop: Workshop, target: Rented, tmp_path: Path) -> Iterator[RentedReplica]:
    """A source on a server of its own, which may be restarted."""
    server = workshop.start("hosted")
    try:
        source = Rented(server, Database.create(server).name)
        furnish(source, "BYPASSRLS")
        yield RentedReplica(source, target, tmp_path / "spool", {"workers": 2, "batch_size": 10})
        target.disconnect()
    finally:
        remove([server])


def live_twice(hosted: RentedReplica, *, crash: bool = False) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """A whole life, and another one after a restart of the source."""
    before = live(hosted)
    hosted.source.disconnect()
    restart(hosted.source.cluster, crash=crash)
    return before, live(hosted, changes=MORE_CHANGES)


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_supabase_by_its_pooler_before_and_after_a_restart(
    hosted: RentedReplica, workshop: Workshop, mode: str
) -> None:
    """Nobody is a superuser, tables have policies, extensions a schema, and roles settings of their own."""
    hosted.source.execute(f"""
        CREATE SCHEMA extensions; GRANT USAGE ON SCHEMA extensions TO {ROLE};
        CREATE EXTENSION citext SCHEMA extensions;
        ALTER ROLE {ROLE} SET search_path = "$user", public, extensions;
        ALTER ROLE {ROLE} SET statement_timeout = '2min';
        ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
        CREATE POLICY nobody ON orders USING (false);
    """)
    passwords = {ROLE: PASSWORD}
    with (
        pooler(workshop, hosted.source.cluster, passwords, mode) as there,
        pooler(workshop, hosted.target.cluster, passwords, mode) as here,
    ):
        hosted.ports = (there, here)
        (first, *others), (after, *later) = live_twice(hosted)

    assert first == ("full_sync", "first sync")
    assert {mode for mode, _ in (*others, after, *later)} == {"xmin_incremental"}
    assert "the source server was restarted" in after[1]
    assert not any("checksum" in reason for _, reason in (*others, *later))


@pytest.mark.parametrize("crash", [False, True], ids=["suspended", "killed"])
@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "pooled"])
def test_neon_before_and_after_its_compute_was_away(
    hosted: RentedReplica, workshop: Workshop, crash: bool, pooled: bool
) -> None:
    passwords = {ROLE: PASSWORD}
    with ExitStack() as stack:
        if pooled:
            servers = (hosted.source.cluster, hosted.target.cluster)
            there, here = (stack.enter_context(pooler(workshop, server, passwords)) for server in servers)
            hosted.ports = (there, here)
        (first, *others), (after, *later) = live_twice(hosted, crash=crash)

    assert first == ("full_sync", "first sync")
    assert {mode for mode, _ in (*others, after, *later)} == {"xmin_incremental"}
    assert "the source server was restarted" in after[1] and "checksum" in after[1]
    assert not any("checksum" in reason for _, reason in (*others, *later))


@pytest.mark.parametrize("hidden", [False, True], ids=["told", "hidden"])
def test_a_server_that_hides_what_it_is_goes_on_after_a_restart(hosted: RentedReplica, hidden: bool) -> None:
    """Cloud SQL and Azure, if they hide the control file: its start stands in for it, and is another one."""
    if hidden:
        hosted.source.forbid(*CONTROL_FUNCTIONS)

    _, (after, *later) = live_twice(hosted)

    assert (after[0] == "full_sync") is hidden
    assert {mode for mode, _ in later} == {"xmin_incremental"}
