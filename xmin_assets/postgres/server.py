"""Facts about a server: its version, its identity, where its WAL is, and what its snapshots say."""

from __future__ import annotations

import time
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import NamedTuple

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.errors import UnsupportedServer
from xmin_assets.postgres.connection import check_cancelled
from xmin_assets.postgres.rows import fetch_one_as, fetch_value

# A server that recovers from the crash of one of its processes keeps the time of its start, but throws all cumulative
# statistics away, and notes when (pgstat_reset_after_failure() in src/backend/utils/activity/pgstat.c; before 15 the
# statistics collector did so). Everybody may read that. Whoever resets one kind of statistics leaves the other's time.
STARTED = sql.SQL("""
pg_catalog.concat_ws(' ', pg_catalog.pg_postmaster_start_time(),
                     least(pg_catalog.pg_stat_get_bgwriter_stat_reset_time(),
                           (SELECT a.stats_reset FROM pg_catalog.pg_stat_archiver a)))
""")
"""What `Server.started` is read by."""

# The timeline of a primary is in the name of the WAL file it writes to; a control file learns of a promotion only at
# the next checkpoint. A standby has no insert position. The control file of one names the timeline that it had replayed
# at some time; its WAL receiver knows of a new one at once, but shows it only to roles that may read all statistics.
_FACTS = sql.SQL("""
SELECT pg_catalog.current_setting('server_version_num')::int AS version,
       (SELECT system_identifier::text FROM pg_catalog.pg_control_system()) AS system_identifier,
       d.oid::int8 AS database_oid,
       d.datname::text AS database,
       r.in_recovery,
       CASE WHEN r.in_recovery
            THEN greatest(c.timeline_id,
                          (SELECT min_recovery_end_timeline FROM pg_catalog.pg_control_recovery()),
                          (SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver))
            ELSE ('x' || pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8))::bit(32)::int
       END AS timeline,
       {started} AS started,
       pg_catalog.pg_encoding_to_char(d.encoding)::text AS encoding,
       (SELECT max(pg_catalog.age(o.datfrozenxid))::int8 FROM pg_catalog.pg_database o) AS oldest_age
  FROM (SELECT pg_catalog.pg_is_in_recovery() AS in_recovery) r,
       pg_catalog.pg_control_checkpoint() c,
       pg_catalog.pg_database d
 WHERE d.datname = pg_catalog.current_database()
""").format(started=STARTED)

# In READ COMMITTED, too, a statement takes its snapshot before it calls a function.
_SNAPSHOT_AND_LSN = """
SELECT pg_catalog.pg_current_snapshot()::text AS snapshot,
       CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
            ELSE pg_catalog.pg_current_wal_insert_lsn() END - '0/0'::pg_lsn AS position,
       pg_catalog.current_setting('wal_block_size')::int AS page,
       pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')) AS segment
"""

_FLUSHED = """
SELECT pg_catalog.pg_is_in_recovery() AS in_recovery,
       CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
            ELSE pg_catalog.pg_current_wal_flush_lsn() END - '0/0'::pg_lsn AS on_disk,
       extract(epoch FROM pg_catalog.current_setting('wal_writer_delay')::interval)::float8 AS delay
"""

_PAGE_HEADER, _SEGMENT_HEADER = 24, 40
"""Bytes before the first record of a WAL page, and of a segment (src/include/access/xlog_internal.h)."""


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
    """As `wal_position` gives it."""
    snapshot: str
    """pg_current_snapshot() right before `lsn` was read."""
    started: str
    """Which start of the server this is: another one after a restart, and after it has recovered from a crash."""
    encoding: str = "UTF8"
    """Of the database."""
    oldest_age: int = 0
    """Age in transactions of the oldest one that may still be unfrozen, in any database."""


class _WalEnd(NamedTuple):
    """A snapshot, and where the WAL ended right after it was taken."""

    snapshot: str
    position: Decimal | None
    """In bytes; None on a standby that has replayed nothing yet."""
    page: int
    segment: int


class _Flushed(NamedTuple):
    """How far WAL is on disk."""

    in_recovery: bool
    on_disk: Decimal | None
    """In bytes; None on a standby that has replayed nothing yet."""
    delay: float
    """wal_writer_delay, in seconds."""


def observe_server(cursor: ext.cursor) -> Server:
    """Read the facts.

    To know that a snapshot is not older than a position, read the position first: a primary's commits are in WAL before
    they are visible, and a standby's are visible before its replay position passes them.
    """
    snapshot, lsn = snapshot_and_lsn(cursor)
    cursor.execute(_FACTS)
    return fetch_one_as(cursor, partial(Server, lsn=lsn, snapshot=snapshot))


def started(cursor: ext.cursor) -> str:
    """Read which start of the server answers, as of now, whatever the cursor's snapshot shows; see `Server.started`."""
    cursor.execute(sql.SQL("SELECT {started} AS started").format(started=STARTED))
    return fetch_value(cursor, str)


def wal_position(cursor: ext.cursor) -> int:
    """Return the end of the last WAL record that a primary has inserted, or a standby has replayed, in bytes."""
    return snapshot_and_lsn(cursor)[1]


def snapshot_and_lsn(cursor: ext.cursor) -> tuple[str, int]:
    """Return the cursor's snapshot, as pg_current_snapshot() writes it, and the `wal_position` read after it."""
    cursor.execute(_SNAPSHOT_AND_LSN)
    now = fetch_one_as(cursor, _WalEnd)
    return now.snapshot, record_end(int(now.position or 0), now.page, now.segment)


def record_end(position: int, page: int, segment: int) -> int:
    """Return where a WAL record ends, if the next one begins at this position.

    At the beginning of a page the two differ by a header. A standby that has replayed everything is at the end of the
    last record, an idle primary where the next one will begin.
    """
    if position % segment == _SEGMENT_HEADER:
        return position - _SEGMENT_HEADER
    if position % page == _PAGE_HEADER:
        return position - _PAGE_HEADER
    return position


def flushed_lsn(cursor: ext.cursor, position: int) -> int | None:
    """Find a WAL position that covers what a snapshot shows, if no crash of the server can undo that any more.

    An asynchronous commit is visible before it is on disk. And so is any rollback: a crash undoes it, and the server
    assigns its id again, below a watermark. A standby replays only what it has on disk.

    Args:
        cursor: in any transaction, or in none: these functions do not look at its snapshot.
        position: `wal_position`, read after the snapshot was taken.

    Returns:
        The position, or None if the WAL is not known to be on disk up to it.
    """
    on_disk, needed, _ = _flushed(cursor, position)
    return needed if on_disk >= needed else None


def wait_for_flush(cursor: ext.cursor, position: int, timeout: float) -> int | None:
    """Wait for `flushed_lsn`, as long as the server goes on writing its WAL to disk.

    The WAL writer begins to flush whatever has ended within three times wal_writer_delay
    (https://www.postgresql.org/docs/current/wal-async-commit.html), but a disk may take longer. What a transaction has
    logged that is still open may stay in memory, too: until anybody commits, or the background writer logs which
    transactions are running, every 15 seconds (LOG_SNAPSHOT_INTERVAL_MS in bgwriter.c). Nothing that every role may see
    tells the one case from the other, so a caller that gets None must do without.

    Args:
        cursor: as for `flushed_lsn`.
        position: `wal_position`, read after the snapshot was taken.
        timeout: seconds without any progress that waiting is worth; three times wal_writer_delay at least.

    Returns:
        As `flushed_lsn` does.

    Raises:
        Cancelled: `cancel_all` was called.
    """
    reached, moved = 0, 0.0
    while True:
        on_disk, needed, delay = _flushed(cursor, position)
        if on_disk >= needed:
            return needed
        now = time.monotonic()
        if on_disk > reached:
            reached, moved = on_disk, now
        elif now - moved > max(3 * delay, timeout):
            return None
        check_cancelled()
        time.sleep(0.005)


def _flushed(cursor: ext.cursor, position: int) -> tuple[int, int, float]:
    """Return how far WAL is on disk, how far it has to be, and wal_writer_delay in seconds."""
    cursor.execute(_FLUSHED)
    flushed = fetch_one_as(cursor, _Flushed)
    on_disk = int(flushed.on_disk or 0)
    if flushed.in_recovery:  # where a commit is visible before the replay position passes it
        on_disk = position = max(position, on_disk)
    return on_disk, position, flushed.delay


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
    """Return the xid64 below which every transaction is finished, in the snapshot of the cursor's transaction."""
    cursor.execute("SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::int8 AS xmin")
    return fetch_value(cursor, int)
