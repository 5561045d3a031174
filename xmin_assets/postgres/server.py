"""Facts about a server: its version, its identity, where its WAL is, and what its snapshots say."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg2.extensions as ext

from xmin_assets.errors import UnsupportedServer

# The timeline of a primary is in the name of the WAL file it writes to; a control file learns of a promotion only at
# the next checkpoint. A standby has no insert position, and its control file names the timeline it has replayed.
_FACTS = """
SELECT pg_catalog.current_setting('server_version_num')::int,
       (SELECT system_identifier::text FROM pg_catalog.pg_control_system()),
       d.oid::int8,
       d.datname::text,
       r.in_recovery,
       CASE WHEN r.in_recovery
            THEN (SELECT greatest(c.timeline_id, m.min_recovery_end_timeline)
                    FROM pg_catalog.pg_control_checkpoint() c, pg_catalog.pg_control_recovery() m)
            ELSE ('x' || pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8))::bit(32)::int
       END,
       CASE WHEN r.in_recovery THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_insert_lsn() END
           - '0/0'::pg_lsn
  FROM (SELECT pg_catalog.pg_is_in_recovery() AS in_recovery) r,
       pg_catalog.pg_database d
 WHERE d.datname = pg_catalog.current_database()
"""

_LSN = """
SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
            ELSE pg_catalog.pg_current_wal_insert_lsn() END - '0/0'::pg_lsn
"""


@dataclass(frozen=True)
class Server:
    """Which server, database and history a connection leads to."""

    version: int
    """As server_version_num: 180006 is 18.6."""
    system_identifier: str
    database_oid: int
    database: str
    in_recovery: bool
    timeline: int
    lsn: int
    """Bytes of WAL: the insert position of a primary, the replay position of a standby."""


def observe_server(cursor: ext.cursor) -> Server:
    """Read the facts.

    To know that a snapshot is not older than a position, read the position first: a primary's commits are in WAL before
    they are visible, and a standby's are visible before its replay position passes them.
    """
    cursor.execute(_FACTS)
    version, system, database_oid, database, in_recovery, timeline, lsn = cursor.fetchone() or ()
    return Server(version, system, database_oid, database, in_recovery, timeline, int(lsn or 0))


def wal_position(cursor: ext.cursor) -> int:
    """The server's WAL position in bytes, as in `Server.lsn`."""
    cursor.execute(_LSN)
    (lsn,) = cursor.fetchone() or (0,)
    return int(lsn or 0)


def require_version(server: Server, side: str, minimum: int) -> None:
    """Refuse a server of a major version below `minimum`.

    Raises:
        UnsupportedServer: it is older.
    """
    if server.version // 10000 < minimum:
        raise UnsupportedServer(
            f"The {side} is PostgreSQL {server.version // 10000}; {minimum} or newer is needed. Upgrade that server."
        )


def horizon(cursor: ext.cursor) -> int:
    """The xid64 below which every transaction is finished, in the snapshot of the cursor's transaction."""
    cursor.execute("SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::int8")
    (xmin,) = cursor.fetchone() or (0,)
    return int(xmin)
