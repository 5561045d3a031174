"""What is done to a whole server: moved to another transaction id, copied, followed by a standby, crashed.

Servers restart on the port that they had, so that URLs stay true. Connections do not survive a restart.
"""

from __future__ import annotations

import shutil
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from xmin_assets.demo.cluster import Cluster
from xmin_assets_tests.clusters import Database, Workshop

CYCLE = 2**32
DEADLINE = 30
"""Seconds within which a fact that is waited for must come true."""

JUMP = 1_900_000_000
"""Transactions that a server can be moved by before it must be vacuumed again: below autovacuum_freeze_max_age."""

TRAVELLER = {"autovacuum": "off", "autovacuum_freeze_max_age": "2000000000"}
"""Settings of a server that is moved: no anti-wraparound vacuum takes transaction ids of its own."""

_XACT_SEGMENT = 1 << 20
"""Transactions in a segment file of pg_xact (src/include/access/clog.h: 4 a byte, 32 pages of 8 KiB)."""


def wait_until(fact: Callable[[], Any], what: str) -> None:
    """Poll a fact of a server until it is true."""
    deadline = time.monotonic() + DEADLINE
    while not fact():
        assert time.monotonic() < deadline, f"not within {DEADLINE} s: {what}"
        time.sleep(0.01)


def ask(server: Cluster, query: str, dbname: str = "postgres") -> Any:
    """The one value that a query gives."""
    with closing(server.connect(dbname)) as connected, connected.cursor() as cursor:
        cursor.execute(query)
        (value,) = cursor.fetchone()
        return value


def command(server: Cluster, statement: str, dbname: str = "postgres") -> None:
    """Run a statement."""
    with closing(server.connect(dbname)) as connected, connected.cursor() as cursor:
        cursor.execute(statement)


def create_database(server: Cluster, name: str) -> Database:
    """A database of this name."""
    command(server, f"CREATE DATABASE {name}")
    return Database(server, name)


def have_counted(database: Database, session: Connection) -> None:
    """Have the server count now what a session has done that is idle; before PostgreSQL 15 that ends the session."""
    if session.server_version >= 150000:
        with session.cursor() as cursor:
            cursor.execute("SELECT pg_stat_force_next_flush()")
        return
    # A session reports the rest when it ends, and then goes. A look is at a file of the statistics collector that may
    # be half a second old (PGSTAT_STAT_INTERVAL in src/backend/postmaster/pgstat.c).
    pid = session.info.backend_pid
    session.close()
    wait_until(lambda: not database.fetch("SELECT FROM pg_stat_activity WHERE pid = %s", (pid,)), "the session ended")
    ((ended,),) = database.fetch("SELECT clock_timestamp()")
    wait_until(lambda: database.fetch("SELECT pg_stat_get_snapshot_timestamp() > %s", (ended,)) == [(True,)], "counted")


def next_xid(server: Cluster) -> int:
    """The xid64 that the next transaction gets."""
    # Transactions that are open may lie above the snapshot; they are few.
    return int(
        ask(
            server,
            "SELECT xmax + age((xmax % 4294967296)::text::xid)"
            " FROM (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8 AS xmax) s",
        )
    )


_BURN = """
DO $$
DECLARE used int8 := 0;
BEGIN
    WHILE used < {last} LOOP
        used := pg_current_xact_id()::text::int8;
        COMMIT;
    END LOOP;
END $$
"""


def burn_to(server: Cluster, xid64: int) -> None:
    """Use up all transaction ids below this one."""
    wanted = xid64 - next_xid(server)
    assert 0 <= wanted < 100_000, "too far to burn"
    if wanted:
        command(server, _BURN.format(last=xid64 - 1))


def travel(server: Cluster, xid64: int) -> None:
    """Move the server on until this xid64 is the next one; every row that it has is frozen before each jump."""
    now = next_xid(server)
    assert now <= xid64
    while now < xid64:
        now = min(xid64, now + JUMP)
        vacuum_freeze(server)
        reset_xid(server, now)
    assert next_xid(server) == xid64


def vacuum_freeze(server: Cluster) -> None:
    """Freeze all rows of all databases, so that the server may be moved by another `JUMP`."""
    command(server, "ALTER DATABASE template0 ALLOW_CONNECTIONS true")
    names = ask(server, "SELECT array_agg(datname::text) FROM pg_database")
    for name in names:
        command(server, "VACUUM (FREEZE)", name)


def reset_xid(server: Cluster, xid64: int) -> None:
    """Restart the server with another next xid64, by pg_resetwal."""
    epoch, xid = divmod(xid64, CYCLE)
    port = server.port
    server.stop()
    segment = server.data_dir / "pg_xact" / f"{xid // _XACT_SEGMENT:04X}"
    if not segment.exists():
        # The server would make it when it gets there in steps.
        made = server.programs.user.run("/bin/sh", "-c", 'head -c 262144 /dev/zero > "$1"', "sh", segment)
        assert made.returncode == 0
    moved = server.programs.run("pg_resetwal", "-e", str(epoch), "-x", str(xid), server.data_dir, capture_output=True)
    assert moved.returncode == 0, moved.stderr
    server.start(port)


def write_xmins(database: Database, table: str, xmins: Mapping[int, int]) -> None:
    """Give rows other raw xmins, as only a server of another age could have written them.

    Args:
        database: where the table is; its server is stopped meanwhile.
        table: a table whose rows are all in its first block.
        xmins: the raw xmin by the line number of the row, from 1 on.
    """
    server = database.cluster
    database.execute("CREATE EXTENSION IF NOT EXISTS pageinspect")
    items = dict(database.fetch("SELECT lp, lp_off FROM heap_page_items(get_raw_page(%s, 0))", (table,)))
    ((path,),) = database.fetch("SELECT pg_relation_filepath(%s)", (table,))
    database.disconnect()
    port = server.port
    server.stop()
    # A page's checksum would no longer be true.
    server.programs.run("pg_checksums", "--disable", "--no-sync", "-D", server.data_dir, capture_output=True)
    with (server.data_dir / path).open("r+b") as file:
        for line, xmin in xmins.items():
            file.seek(items[line])  # t_xmin comes first (src/include/access/htup_details.h)
            file.write(struct.pack("=I", xmin))
    server.start(port)


def restart(server: Cluster, *, crash: bool = False) -> None:
    """Stop the server, or crash it, and start it again."""
    port = server.port
    server.stop(immediate=crash)
    server.start(port)


def clone(server: Cluster, workshop: Workshop, name: str) -> Cluster:
    """A copy of the data directory of a server that is stopped, not started."""
    copy = _empty_place(server, workshop, name)
    # The dot copies the contents into the directory that is there.
    copied = server.programs.user.run("cp", "-a", f"{server.data_dir}/.", copy.data_dir, capture_output=True)
    assert copied.returncode == 0, copied.stderr
    return copy


def cold_copy(server: Cluster, workshop: Workshop, name: str) -> Cluster:
    """A `clone` of a server that is stopped for it and started again."""
    port = server.port
    server.stop()
    copy = clone(server, workshop, name)
    server.start(port)
    return copy


def standby_of(primary: Cluster, workshop: Workshop, name: str, **settings: str) -> Cluster:
    """A running hot standby that streams from `primary`, which may be a standby itself."""
    if not (primary.programs.bin_dir / "pg_basebackup").exists():
        pytest.skip("among the programs of these servers there is no pg_basebackup")
    standby = _empty_place(primary, workshop, name)
    options = ["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"]
    made = primary.programs.run(
        "pg_basebackup", "-D", standby.data_dir, "-d", primary.url(), *options, capture_output=True
    )
    assert made.returncode == 0, made.stderr
    # A setting in postgresql.auto.conf goes before the primary's own, which was copied.
    write_settings(standby, settings)
    standby.start()
    return standby


def write_settings(server: Cluster, settings: dict[str, str]) -> None:
    """Add settings to a server that is stopped."""
    lines = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
    file = server.data_dir / "postgresql.auto.conf"
    written = server.programs.user.run("/bin/sh", "-c", 'cat >> "$1"', "sh", file, input=lines)
    assert written.returncode == 0


def await_replay(standby: Cluster, primary: Cluster) -> None:
    """Wait until the standby has replayed all that was done on the primary so far."""
    # Vacuum and rolled back transactions leave their WAL to be flushed later; the commit of this one flushes it now.
    command(primary, "SELECT pg_logical_emit_message(true, 'test', 'flush')")
    await_flushed(standby, primary)


def await_flushed(standby: Cluster, primary: Cluster) -> None:
    """Wait until the standby has replayed what the primary has flushed; the primary is left idle."""
    lsn = ask(primary, "SELECT pg_current_wal_flush_lsn()")
    wait_until(lambda: ask(standby, f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'"), f"{standby.name} replays {lsn}")


def remove(servers: Iterable[Cluster]) -> None:
    """Stop servers that no other test needs and free their disk."""
    for server in servers:
        server.stop(immediate=True)
        shutil.rmtree(server.data_dir, ignore_errors=True)


def _empty_place(like: Cluster, workshop: Workshop, name: str) -> Cluster:
    place = Cluster(workshop.folder / name, like.programs, like.password)
    place.data_dir.mkdir(mode=0o700)
    like.programs.user.own(place.data_dir)
    return place
