"""Facts about a server: its version, its identity, where its WAL is, and what its snapshots say."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import psycopg2.extensions as ext
from psycopg2 import sql

from xmin_assets.errors import UnsupportedServer
from xmin_assets.postgres.connection import check_cancelled
from xmin_assets.postgres.rows import fetch_value
from xmin_assets.postgres.server_facts import Fact, ask, fetch, refused, refused_meanwhile

_IN_RECOVERY = "pg_catalog.pg_is_in_recovery()"

_TRANSACTIONS = Fact(
    "transaction_ids",
    "pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text",
    ("pg_current_snapshot()", "pg_snapshot_xmin(pg_snapshot)"),
    "shows which transactions have ended",
    "no change can be told from one that is not there yet",
    required=True,
)

FACTS = {
    fact.name: fact
    for fact in (
        _TRANSACTIONS,
        # What the plan calls itself is refused there; these are called only when rows are read.
        Fact(
            "plain_functions",
            "(pg_catalog.set_config('xmin_assets.asked', '', true), "
            "pg_catalog.to_regclass('pg_catalog.pg_class'))::text",
            ("set_config(text, text, boolean)", "to_regclass(text)"),
            "is called while rows are read",
            "no table can be read",
            required=True,
        ),
        Fact(
            "system_identifier",
            "(SELECT system_identifier::text FROM pg_catalog.pg_control_system())",
            ("pg_control_system()",),
            "tells another cluster from this one",
            "the time of the server's start stands in for it: after a restart everything is read",
        ),
        # The timeline of a primary is in the name of the WAL file it writes to; its control file learns of a promotion
        # only at the next checkpoint.
        Fact(
            "written_timeline",
            f"CASE WHEN NOT {_IN_RECOVERY} THEN ('x' || pg_catalog.left(pg_catalog.pg_walfile_name("
            "pg_catalog.pg_current_wal_lsn()), 8))::bit(32)::int END",
            ("pg_walfile_name(pg_lsn)", "pg_current_wal_lsn()"),
            "shows that a primary is another one since a failover",
            "the history is not proven: every sync checks the whole copy",
        ),
        # A standby has no insert position. The control file of one names the timeline that it had replayed at some
        # time; its WAL receiver knows of a new one at once, but shows it only to roles that may read all statistics.
        Fact(
            "checkpoint_timeline",
            f"CASE WHEN {_IN_RECOVERY} THEN (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()) END",
            ("pg_control_checkpoint()",),
            "shows that a standby follows another primary since a failover",
            "on a standby the history is not proven: every sync checks the whole copy",
        ),
        Fact(
            "recovery_timeline",
            f"CASE WHEN {_IN_RECOVERY} THEN "
            "(SELECT min_recovery_end_timeline FROM pg_catalog.pg_control_recovery()) END",
            ("pg_control_recovery()",),
            "shows a failover on a standby before its next restartpoint",
            "a standby may tell of a failover later",
        ),
        Fact(
            "receiver_timeline",
            f"CASE WHEN {_IN_RECOVERY} THEN (SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver) END",
            ("pg_stat_get_wal_receiver()",),
            "shows a failover on a standby at once",
            "a standby may tell of a failover later",
        ),
        Fact(
            "postmaster_start",
            "pg_catalog.pg_postmaster_start_time()::text",
            ("pg_postmaster_start_time()",),
            "shows that the server was restarted, perhaps from a copy of its data directory",
            "the history is not proven: every sync checks the whole copy",
        ),
        # A server that recovers from the crash of one of its processes keeps the time of its start, but throws all
        # cumulative statistics away, and notes when (pgstat_reset_after_failure() in
        # src/backend/utils/activity/pgstat.c; before 15 the statistics collector did so). Everybody may read that.
        # Whoever resets one kind of statistics leaves the other's time.
        Fact(
            "bgwriter_reset",
            "pg_catalog.pg_stat_get_bgwriter_stat_reset_time()::text",
            ("pg_stat_get_bgwriter_stat_reset_time()",),
            "shows that the server has recovered from a crash",
            "the archiver's statistics show it, too, if both are there",
        ),
        Fact(
            "archiver_reset",
            "(SELECT a.stats_reset::text FROM pg_catalog.pg_stat_archiver a)",
            ("pg_stat_get_archiver()",),
            "shows that the server has recovered from a crash",
            "the background writer's statistics show it, too, if both are there",
        ),
        Fact(
            "insert_position",
            f"CASE WHEN NOT {_IN_RECOVERY} THEN pg_catalog.pg_current_wal_insert_lsn() - '0/0'::pg_lsn END",
            ("pg_current_wal_insert_lsn()",),
            "shows that a primary went back in time, and from where blocks have changed",
            "the history is not proven: every sync checks the whole copy. No sync reads changed blocks only",
        ),
        Fact(
            "flush_position",
            f"CASE WHEN NOT {_IN_RECOVERY} THEN pg_catalog.pg_current_wal_flush_lsn() - '0/0'::pg_lsn END",
            ("pg_current_wal_flush_lsn()",),
            "shows what a crash of the primary cannot undo any more",
            "the history is not proven: every sync checks the whole copy. No sync reads changed blocks only",
        ),
        Fact(
            "replay_position",
            f"CASE WHEN {_IN_RECOVERY} THEN pg_catalog.pg_last_wal_replay_lsn() - '0/0'::pg_lsn END",
            ("pg_last_wal_replay_lsn()",),
            "shows how far a standby has got",
            "on a standby the history is not proven: every sync checks the whole copy",
        ),
    )
}
"""What is asked of a source, beside what no server refuses."""

IDENTITY_FACTS = ("system_identifier", "postmaster_start")
"""Of which a source must tell one, see `require_identity`."""

_START = {name: FACTS[name] for name in ("postmaster_start", "bgwriter_reset", "archiver_reset")}
_POSITION = {name: FACTS[name] for name in ("insert_position", "replay_position")}
_ON_DISK = {name: FACTS[name] for name in ("flush_position", "replay_position")}

TARGET_FACTS = {
    fact.name: fact
    for fact in (
        Fact(
            "plain_functions",
            """(pg_catalog.set_config('xmin_assets.asked', '', true),
                pg_catalog.to_regclass(pg_catalog.format('%I', 'pg_class')), pg_catalog.pg_size_bytes('1kB'),
                pg_catalog.jsonb_typeof(pg_catalog.jsonb_build_object()),
                (SELECT count(*) FROM pg_catalog.jsonb_array_elements('[]')))::text""",
            (
                "set_config(text, text, boolean)",
                "to_regclass(text)",
                'format(text, VARIADIC "any")',
                "pg_size_bytes(text)",
                "jsonb_typeof(jsonb)",
                "jsonb_build_object()",
                "jsonb_array_elements(jsonb)",
            ),
            "is called while rows are staged and merged",
            "no table can be written",
            required=True,
        ),
        # A lock that nobody else asks for, and that the transaction's end gives back.
        Fact(
            "merge_lock",
            "pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('xmin_assets facts'), pg_catalog.pg_backend_pid())"
            "::text",
            ("pg_advisory_xact_lock(int, int)",),
            "lets one merge of a table wait for the other",
            "nothing keeps two first syncs apart",
            required=True,
        ),
        replace(
            _TRANSACTIONS,
            purpose="shows which transaction has merged",
            without="no merge can be told from the changes that others make to the target",
        ),
        replace(
            FACTS["system_identifier"],
            purpose="tells another target from this one",
            without="the time of its start stands in for it: a sync that is under way when it restarts begins again",
        ),
        *(
            replace(fact, without="the rows that a sync has staged are counted again before they are merged")
            for fact in _START.values()
        ),
    )
}
"""What is asked of a target."""

_DATABASE = sql.SQL("""
     , pg_catalog.current_setting('server_version_num')::int AS version,
       d.oid::int8 AS database_oid,
       d.datname::text AS database,
       pg_catalog.pg_is_in_recovery() AS in_recovery,
       pg_catalog.pg_encoding_to_char(d.encoding)::text AS encoding,
       (SELECT max(pg_catalog.age(o.datfrozenxid))::int8 FROM pg_catalog.pg_database o) AS oldest_age
  FROM pg_catalog.pg_database d
 WHERE d.datname = pg_catalog.current_database()
""")

# In READ COMMITTED, too, a statement takes its snapshot before it calls a function.
_SNAPSHOT = sql.SQL("""
     , pg_catalog.pg_current_snapshot()::text AS snapshot,
       pg_catalog.current_setting('wal_block_size')::int AS page,
       pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')) AS segment
""")

EXPORT_FACTS = {
    "exported_snapshot": Fact(
        "exported_snapshot",
        "pg_catalog.pg_export_snapshot()",
        ("pg_export_snapshot()",),
        "lets several connections read one table",
        "one connection reads a table, not several",
    )
}
"""What is asked of a server before several connections read a table, by a statement outside of any transaction: none
exports a snapshot from within a savepoint."""

_EXPORT = "SELECT pg_catalog.pg_export_snapshot() AS snapshot"

_WHICH = sql.SQL("""
     , pg_catalog.pg_current_snapshot()::text AS snapshot,
       oid::int8 AS database_oid
  FROM pg_catalog.pg_database
 WHERE datname = pg_catalog.current_database()
""")

_FLUSHED = sql.SQL("""
     , pg_catalog.pg_is_in_recovery() AS in_recovery,
       extract(epoch FROM pg_catalog.current_setting('wal_writer_delay')::interval)::float8 AS delay
""")

UNKNOWN = "unknown"
"""The system identifier of a server that tells neither it nor what could stand in for it."""

STAND_IN = "started "
"""How a system identifier begins that is the time of the server's start."""

_PAGE_HEADER, _SEGMENT_HEADER = 24, 40
"""Bytes before the first record of a WAL page, and of a segment (src/include/access/xlog_internal.h)."""


@dataclass(frozen=True)
class Server:
    """Which server, database and history a connection leads to."""

    version: int
    """As server_version_num: 180006 is 18.6."""
    system_identifier: str
    """Of the cluster; what stands in for it where the server keeps it to itself."""
    database_oid: int
    database: str
    in_recovery: bool
    timeline: int | None
    """None where the server does not tell."""
    lsn: int | None
    """As `wal_position` gives it."""
    snapshot: str
    """pg_current_snapshot() right before `lsn` was read."""
    started: str | None
    """Which start of the server this is: another one after a restart, and after it has recovered from a crash. None
    where the server does not tell."""
    encoding: str = "UTF8"
    """Of the database."""
    oldest_age: int = 0
    """Age in transactions of the oldest one that may still be unfrozen, in any database."""
    missing: tuple[str, ...] = ()
    """The names of `FACTS` that the server does not tell, of those that it was asked for."""


def observe_server(cursor: ext.cursor) -> Server:
    """Read the facts of a source.

    To know that a snapshot is not older than a position, read the position first: a primary's commits are in WAL before
    they are visible, and a standby's are visible before its replay position passes them.

    Args:
        cursor: in a transaction.
    """
    facts = ask(cursor, FACTS, _DATABASE, then=(_POSITION, _SNAPSHOT))
    return _server(facts, refused(cursor), *_snapshot_and_lsn(cursor, fetch(cursor)))


def observe_target_server(cursor: ext.cursor) -> Server:
    """Read the facts of a target, of which nobody asks how its history went.

    Args:
        cursor: in a transaction.
    """
    return _server(ask(cursor, TARGET_FACTS, _DATABASE), refused(cursor) & {*TARGET_FACTS}, "", None)


def require_identity(server: Server, side: str) -> None:
    """Refuse a source that nothing tells from another one.

    Raises:
        UnsupportedServer: it tells neither its system identifier nor when it was started.
    """
    if server.system_identifier == UNKNOWN:
        raise UnsupportedServer(
            f"The {side} tells neither its system identifier nor when it was started, so nothing would show that "
            f"another server has taken its place. Run there: {FACTS['system_identifier'].grant}."
        )


def started(cursor: ext.cursor) -> str | None:
    """Read which start of the server answers, as of now, whatever the cursor's snapshot shows; see `Server.started`."""
    return _started(ask(cursor, _START, sql.SQL("")))


def which_snapshot(cursor: ext.cursor) -> tuple[str | None, str, int]:
    """Return which server, snapshot and database a connection sees."""
    row = ask(cursor, _START, _WHICH)
    return _started(row), row["snapshot"], row["database_oid"]


def may_export(cursor: ext.cursor) -> bool:
    """Return whether the role may export a snapshot; the cursor is in no transaction."""
    return ask(cursor, EXPORT_FACTS, sql.SQL(""))["exported_snapshot"] is not None


def export_snapshot(cursor: ext.cursor) -> str:
    """Export the snapshot of the cursor's transaction, and return its name.

    Raises:
        RefusedMeanwhile: see `may_export`, which was true a moment ago.
    """
    with refused_meanwhile(cursor, _EXPORT):
        cursor.execute(_EXPORT)
        return fetch_value(cursor, str)


def wal_position(cursor: ext.cursor) -> int | None:
    """Return the end of the last WAL record that a primary has inserted, or a standby has replayed, in bytes.

    None where the server does not tell, or does not tell what of it is on disk.
    """
    return snapshot_and_lsn(cursor)[1]


def snapshot_and_lsn(cursor: ext.cursor) -> tuple[str, int | None]:
    """Return the cursor's snapshot, as pg_current_snapshot() writes it, and the `wal_position` read after it."""
    return _snapshot_and_lsn(cursor, ask(cursor, _POSITION, _SNAPSHOT))


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


def flushed_lsn(cursor: ext.cursor, position: int | None) -> int | None:
    """Find a WAL position that covers what a snapshot shows, if no crash of the server can undo that any more.

    An asynchronous commit is visible before it is on disk. And so is any rollback: a crash undoes it, and the server
    assigns its id again, below a watermark. A standby replays only what it has on disk.

    Args:
        cursor: in any transaction, or in none: these functions do not look at its snapshot.
        position: `wal_position`, read after the snapshot was taken; None where the server does not tell.

    Returns:
        The position, or None if the WAL is not known to be on disk up to it.
    """
    if position is None:
        return None
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
    row = ask(cursor, _ON_DISK, _FLUSHED)
    on_disk = int(row["replay_position" if row["in_recovery"] else "flush_position"] or 0)
    if row["in_recovery"]:  # where a commit is visible before the replay position passes it
        on_disk = position = max(position, on_disk)
    return on_disk, position, row["delay"]


def _snapshot_and_lsn(cursor: ext.cursor, row: dict[str, Any]) -> tuple[str, int | None]:
    position = row["insert_position"] or row["replay_position"]
    if position is None and not refused(cursor) & {*_POSITION}:
        position = 0  # a standby that has replayed nothing yet
    if position is None or "flush_position" in refused(cursor):
        return row["snapshot"], None
    return row["snapshot"], record_end(int(position), row["page"], row["segment"])


def _started(facts: dict[str, Any]) -> str | None:
    resets = [facts[name] for name in ("bgwriter_reset", "archiver_reset") if facts[name] is not None]
    if facts["postmaster_start"] is None or not resets:
        return None
    # As texts in UTC they have the order of the times.
    return f"{facts['postmaster_start']} {min(resets)}"


def _server(facts: dict[str, Any], missing: frozenset[str], snapshot: str, lsn: int | None) -> Server:
    start = facts["postmaster_start"]
    timelines = [facts.get(name) for name in ("written_timeline", "recovery_timeline", "receiver_timeline")]
    if not missing & {"checkpoint_timeline"}:
        timelines.append(facts.get("checkpoint_timeline"))
    elif facts["in_recovery"]:
        timelines = []
    return Server(
        version=facts["version"],
        system_identifier=facts["system_identifier"] or (f"{STAND_IN}{start}" if start else UNKNOWN),
        database_oid=facts["database_oid"],
        database=facts["database"],
        in_recovery=facts["in_recovery"],
        timeline=max((timeline for timeline in timelines if timeline is not None), default=None),
        lsn=lsn,
        snapshot=snapshot,
        started=_started(facts),
        encoding=facts["encoding"],
        oldest_age=facts["oldest_age"],
        missing=tuple(sorted(missing)),
    )


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
